"""Consumed capacity by the documented arithmetic: 4 KB a read unit, half for eventual reads, 1 KB a write unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.api.service import Item, Service

KB = 1024


def units(answer: dict[str, Any]) -> float:
    return float(answer["ConsumedCapacity"]["CapacityUnits"])


def sized(service: Service, size: int) -> Item:
    """An item of exactly so many bytes."""
    pk = service.unique("cap")
    return {"pk": {"S": pk}, "v": {"S": "x" * (size - len("pk") - len(pk) - len("v"))}}


@pytest.mark.parametrize(
    ("size", "read", "write"),
    [(100, 1, 1), (KB, 1, 1), (KB + 1, 1, 2), (4 * KB, 1, 4), (4 * KB + 1, 2, 5), (8 * KB, 2, 8), (9 * KB, 3, 9)],
)
def test_sizes_round_up(service: Service, table: str, size: int, read: int, write: int) -> None:
    item = sized(service, size)
    key = {"pk": item["pk"]}
    common: Item = {"TableName": table, "ReturnConsumedCapacity": "TOTAL"}
    assert units(service.do("PutItem", Item=item, **common)) == write
    assert units(service.do("GetItem", Key=key, ConsistentRead=True, **common)) == read
    assert units(service.do("GetItem", Key=key, **common)) == read / 2
    assert units(service.do("GetItem", Key=key, ProjectionExpression="pk", **common)) == read / 2
    assert units(service.do("UpdateItem", Key=key, **common)) == write
    assert units(service.do("PutItem", Item=key, **common)) == write  # the larger of the two images
    assert units(service.do("PutItem", Item=item, **common)) == write
    assert units(service.do("DeleteItem", Key=key, **common)) == write
    assert units(service.do("DeleteItem", Key=key, **common)) == 1


def test_reading_nothing_costs_the_minimum(service: Service, table: str, key: Item) -> None:
    common: Item = {"TableName": table, "ReturnConsumedCapacity": "TOTAL"}
    assert units(service.do("GetItem", Key=key, **common)) == 0.5
    assert units(service.do("GetItem", Key=key, ConsistentRead=True, **common)) == 1
    condition: Item = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": key["pk"]}}
    assert units(service.do("Query", **condition, **common)) == 0.5
    assert units(service.do("Query", **condition, **common, ConsistentRead=True)) == 1


@pytest.mark.parametrize(
    ("detail", "members"), [("TOTAL", set()), ("INDEXES", {"Table"}), ("NONE", None), (None, None)]
)
def test_the_form_of_consumed_capacity(
    service: Service, table: str, key: Item, detail: str | None, members: set[str] | None
) -> None:
    body: Item = {"TableName": table, "Item": key}
    if detail is not None:
        body["ReturnConsumedCapacity"] = detail
    answer = service.do("PutItem", **body)
    if members is None:
        assert answer == {}
        return
    capacity = answer["ConsumedCapacity"]
    assert set(capacity) == {"TableName", "CapacityUnits"} | members
    assert capacity["TableName"] == table
    if "Table" in capacity:
        assert capacity["Table"] == {"CapacityUnits": 1}


def test_a_page_is_summed_before_it_is_rounded(service: Service, make_table: Callable[..., str]) -> None:
    name = make_table("S", "N")
    pk = {"S": "p"}
    items = [{"pk": pk, "sk": {"N": str(n)}, "v": {"S": "x" * 500}} for n in range(20)]
    for item in items:
        service.do("PutItem", TableName=name, Item=item)
    # pk 2 + 1, sk 2 + 1 digit pair + 1 (zero and twenty-odd alike take 1 to 2), v 1 + 500: 508 or 507 bytes each
    total = 20 * 508
    condition: Item = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": pk}}
    common: Item = {"TableName": name, "ReturnConsumedCapacity": "TOTAL"}
    expected = -(-total // (4 * KB))
    assert units(service.do("Query", **condition, **common, ConsistentRead=True)) == expected
    assert units(service.do("Query", **condition, **common)) == expected / 2
    assert units(service.do("Query", **condition, **common, Select="COUNT")) == expected / 2
    assert units(service.do("Query", **condition, **common, ProjectionExpression="sk")) == expected / 2
    assert units(service.do("Query", **condition, **common, Limit=1)) == 0.5
    assert units(service.do("Scan", **common, ConsistentRead=True)) == expected


def test_a_batch_rounds_each_item(service: Service, table: str, sorted_table: str) -> None:
    small, large = sized(service, 100), sized(service, 4 * KB + 1)
    other = {"pk": {"S": service.unique("cap")}, "sk": {"S": "s"}}
    answer = service.do(
        "BatchWriteItem",
        RequestItems={
            table: [{"PutRequest": {"Item": small}}, {"PutRequest": {"Item": large}}],
            sorted_table: [{"PutRequest": {"Item": other}}],
        },
        ReturnConsumedCapacity="TOTAL",
    )
    costs = {each["TableName"]: each["CapacityUnits"] for each in answer["ConsumedCapacity"]}
    assert costs == {table: 6, sorted_table: 1}
    absent = {"pk": {"S": service.unique("cap")}}
    keys = [{"pk": small["pk"]}, {"pk": large["pk"]}, absent]
    read = service.do("BatchGetItem", RequestItems={table: {"Keys": keys}}, ReturnConsumedCapacity="INDEXES")
    assert read["ConsumedCapacity"] == [{"TableName": table, "CapacityUnits": 2, "Table": {"CapacityUnits": 2}}]
    strong = {table: {"Keys": keys, "ConsistentRead": True}}
    read = service.do("BatchGetItem", RequestItems=strong, ReturnConsumedCapacity="TOTAL")
    assert read["ConsumedCapacity"] == [{"TableName": table, "CapacityUnits": 4}]


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"shirt-color": {"S": "R"}, "shirt-size": {"S": "M"}}, 23),  # the guide's own example
        ({"b": {"B": "AQID"}}, 4),
        ({"t": {"BOOL": True}, "z": {"NULL": True}}, 4),
        ({"é": {"S": "é"}}, 4),
        ({"l": {"L": []}}, 4),
        ({"l": {"L": [{"S": "ab"}, {"BOOL": True}]}}, 1 + 3 + 2 + 1 + 2),
        ({"m": {"M": {}}}, 4),
        ({"m": {"M": {"ab": {"S": "c"}}}}, 1 + 3 + 1 + 3),
        ({"s": {"SS": ["ab", "c"]}}, 4),
    ],
)
def test_the_size_of_an_item_follows_the_guide(service: Service, table: str, attributes: Item, size: int) -> None:
    """Padded to exactly one write unit, and with one byte more to two."""
    pk = service.unique("cap")
    used = len("pk") + len(pk) + len("pad") + size
    common: Item = {"TableName": table, "ReturnConsumedCapacity": "TOTAL"}
    for excess, expected in ((0, 1), (1, 2)):
        item = {"pk": {"S": pk}, **attributes, "pad": {"S": "x" * (KB - used + excess)}}
        assert units(service.do("PutItem", Item=item, **common)) == expected
        service.do("DeleteItem", TableName=table, Key={"pk": {"S": pk}})


def test_item_collection_metrics_are_absent_without_local_indexes(service: Service, table: str, key: Item) -> None:
    assert service.do("PutItem", TableName=table, Item=key, ReturnItemCollectionMetrics="SIZE") == {}
