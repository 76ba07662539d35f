"""Scan: every item once, whole or in segments, in pages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.api.service import Item, Service

ITEMS = 60


@pytest.fixture(scope="session")
def scanned(service: Service, make_table: Callable[..., str]) -> str:
    """A table with sixty items: "n" counts them."""
    name = make_table("S", "N")
    for start in range(0, ITEMS, 20):
        items = [
            {"pk": {"S": f"p{number % 7}"}, "sk": {"N": str(number)}, "n": {"N": str(number)}}
            for number in range(start, start + 20)
        ]
        service.do("BatchWriteItem", RequestItems={name: [{"PutRequest": {"Item": item}} for item in items]})
    return name


def pages(service: Service, table: str, **more: Any) -> list[dict[str, Any]]:
    found = [service.do("Scan", TableName=table, ConsistentRead=True, **more)]
    while "LastEvaluatedKey" in found[-1]:
        start = found[-1]["LastEvaluatedKey"]
        found.append(service.do("Scan", TableName=table, ConsistentRead=True, ExclusiveStartKey=start, **more))
    return found


def numbers(found: list[dict[str, Any]]) -> list[int]:
    return [int(item["n"]["N"]) for page in found for item in page["Items"]]


@pytest.mark.parametrize("limit", [None, 1, 7, 59, 60, 61])
def test_a_scan_finds_every_item_once(service: Service, scanned: str, limit: int | None) -> None:
    found = pages(service, scanned, **({"Limit": limit} if limit else {}))
    assert sorted(numbers(found)) == list(range(ITEMS))
    if limit:
        assert len(found) == ITEMS // limit + 1  # a last page may be empty
        assert all(page["ScannedCount"] == limit for page in found[:-1])


@pytest.mark.parametrize("segments", [1, 2, 3, 8, 100])
def test_segments_together_find_every_item_once(service: Service, scanned: str, segments: int) -> None:
    found = [
        number
        for segment in range(segments)
        for number in numbers(pages(service, scanned, Segment=segment, TotalSegments=segments, Limit=5))
    ]
    assert sorted(found) == list(range(ITEMS))


def test_items_of_one_partition_key_come_together_and_in_order(service: Service, scanned: str) -> None:
    items = [item for page in pages(service, scanned, Limit=9) for item in page["Items"]]
    keys = [item["pk"]["S"] for item in items]
    assert len(set(keys)) == 1 + sum(one != two for one, two in pairwise(keys))
    for key in set(keys):
        own = [int(item["sk"]["N"]) for item in items if item["pk"]["S"] == key]
        assert own == sorted(own)


def test_filter_projection_and_count(service: Service, scanned: str) -> None:
    less: Item = {"FilterExpression": "n < :n", "ExpressionAttributeValues": {":n": {"N": "10"}}}
    found = service.do("Scan", TableName=scanned, **less, ProjectionExpression="n")
    assert (found["Count"], found["ScannedCount"]) == (10, ITEMS)
    assert all(set(item) == {"n"} for item in found["Items"])
    count = service.do("Scan", TableName=scanned, **less, Select="COUNT")
    assert (count["Count"], count["ScannedCount"], "Items" in count) == (10, ITEMS, False)
    on_key = {"FilterExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "p0"}}}
    assert service.do("Scan", TableName=scanned, **on_key)["Count"] == 9  # a Scan may filter on keys


def test_a_start_key_need_not_exist(service: Service, scanned: str) -> None:
    everything = [item for page in pages(service, scanned) for item in page["Items"]]
    middle = everything[30]
    start = {"pk": middle["pk"], "sk": {"N": middle["sk"]["N"] + ".5"}}
    assert service.do("Scan", TableName=scanned, ExclusiveStartKey=start)["Items"] == everything[31:]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"Segment": 0},
         "The TotalSegments parameter is required but was not present in the request when Segment parameter is "
         "present"),
        ({"TotalSegments": 1},
         "The Segment parameter is required but was not present in the request when parameter TotalSegments is "
         "present"),
        ({"Segment": 4, "TotalSegments": 4},
         "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: 4 is not less "
         "than TotalSegments: 4"),
        ({"Segment": -1, "TotalSegments": 4},
         "1 validation error detected: Value '-1' at 'segment' failed to satisfy constraint: Member must have value "
         "greater than or equal to 0"),
        ({"Segment": 0, "TotalSegments": 0},
         "1 validation error detected: Value '0' at 'totalSegments' failed to satisfy constraint: Member must have "
         "value greater than or equal to 1"),
        ({"Segment": 0, "TotalSegments": 1000001},
         "1 validation error detected: Value '1000001' at 'totalSegments' failed to satisfy constraint: Member must "
         "have value less than or equal to 1000000"),
        ({"ExclusiveStartKey": {}},
         "The provided starting key is invalid: The provided key element does not match the schema"),
        ({"ExclusiveStartKey": {"pk": {"S": "x"}}},
         "The provided starting key is invalid: The provided key element does not match the schema"),
        ({"ExclusiveStartKey": {"pk": {"S": "x"}, "sk": {"N": "1"}, "n": {"N": "1"}}},
         "The provided starting key is invalid: The provided key element does not match the schema"),
        ({"ExclusiveStartKey": {"pk": {"N": "1"}, "sk": {"N": "1"}}},
         "The provided starting key is invalid: The provided key element does not match the schema"),
        ({"FilterExpression": "n = :n", "ExpressionAttributeValues": {":m": {"N": "1"}}},
         "Invalid FilterExpression: An expression attribute value used in expression is not defined; "
         "attribute value: :n"),
        ({"ExpressionAttributeValues": {":m": {"N": "1"}}},
         "ExpressionAttributeValues can only be specified when using expressions: FilterExpression is null"),
        ({"Select": "ALL_PROJECTED_ATTRIBUTES"},
         "One or more parameter values were invalid: ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an "
         "IndexName"),
    ],
)  # fmt: skip
def test_a_wrong_scan_is_refused(service: Service, scanned: str, more: Item, message: str) -> None:
    assert service.invalid("Scan", TableName=scanned, **more) == message


def test_a_start_key_must_belong_to_the_segment(service: Service, scanned: str) -> None:
    first = pages(service, scanned, Segment=0, TotalSegments=2, Limit=1)[0]
    last = pages(service, scanned, Segment=1, TotalSegments=2)[-1]["Items"][-1]
    start = {"pk": last["pk"], "sk": last["sk"]}
    assert "LastEvaluatedKey" in first
    service.invalid("Scan", TableName=scanned, Segment=0, TotalSegments=2, ExclusiveStartKey=start)
    service.do("Scan", TableName=scanned, Segment=1, TotalSegments=2, ExclusiveStartKey=start)


def test_a_page_holds_one_megabyte(service: Service, make_table: Callable[..., str]) -> None:
    name = make_table()
    blob = "x" * (300 * 1024)
    for number in range(8):
        service.do(
            "PutItem", TableName=name, Item={"pk": {"S": str(number)}, "n": {"N": str(number)}, "v": {"S": blob}}
        )
    found = pages(service, name)
    assert sorted(numbers(found)) == list(range(8))
    assert [page["Count"] for page in found] in ([4, 4], [4, 4, 0], [3, 3, 2])
    assert sum(page["Count"] for page in pages(service, name, Select="COUNT")) == 8
