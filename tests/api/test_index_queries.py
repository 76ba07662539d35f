"""Query and Scan of secondary indexes, and what reading and writing them costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.service import Item, Service

INVALID = "One or more parameter values were invalid: "
INVALID_START = "The provided starting key is invalid"
PROPAGATED_S_MAX = 20.0
BIG = "x" * 5000  # two read units each, five write units
TYPES = {"pk": "S", "sk": "S", "team": "S", "rank": "N"}


def index(name: str, keys: list[tuple[str, str]], **projection: Any) -> Item:
    schema = [{"AttributeName": attribute, "KeyType": kind} for attribute, kind in keys]
    return {"IndexName": name, "KeySchema": schema, "Projection": projection}


@pytest.fixture(scope="module")
def indexed(service: Service) -> Iterator[str]:
    """A table with local and global indexes of each projection."""
    name = service.unique("indexed")
    service.do(
        "CreateTable",
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind in TYPES.items()],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        LocalSecondaryIndexes=[
            index("by-rank", [("pk", "HASH"), ("rank", "RANGE")], ProjectionType="KEYS_ONLY"),
        ],
        GlobalSecondaryIndexes=[
            index("by-team", [("team", "HASH"), ("rank", "RANGE")],
                  ProjectionType="INCLUDE", NonKeyAttributes=["note"]),
            index("whole", [("team", "HASH")], ProjectionType="ALL"),
            index("many", [("team", "HASH"), ("pk", "HASH"), ("rank", "RANGE"), ("sk", "RANGE")],
                  ProjectionType="KEYS_ONLY"),
        ],
    )  # fmt: skip
    service.wait_active(name)
    yield name
    service.call("DeleteTable", {"TableName": name})


@pytest.fixture(scope="module")
def pk(service: Service, indexed: str) -> str:
    """The partition key of six items; the team has the same name. The last has no rank, the one before no team."""
    pk = service.unique("idx")
    for n in range(6):
        item: Item = {"pk": {"S": pk}, "sk": {"S": f"s{n}"}, "note": {"S": f"note {n}"}, "big": {"S": BIG}}
        item |= {} if n == 4 else {"team": {"S": pk}}
        item |= {} if n == 5 else {"rank": {"N": str(10 - n)}}
        service.do("PutItem", TableName=indexed, Item=item)
    wait_count(service, team(indexed, "by-team", pk), 4)
    wait_count(service, team(indexed, "whole", pk), 5)
    wait_count(service, {**team(indexed, "many", pk), **MANY}, 4)
    return pk


MANY: Item = {"KeyConditionExpression": "team = :t AND pk = :t"}


def team(table: str, name: str, pk: str) -> Item:
    return {
        "TableName": table,
        "IndexName": name,
        "KeyConditionExpression": "team = :t",
        "ExpressionAttributeValues": {":t": {"S": pk}},
    }


def rank(table: str, pk: str) -> Item:
    return {
        "TableName": table,
        "IndexName": "by-rank",
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": {"S": pk}},
        "ConsistentRead": True,
    }


def wait_count(service: Service, query: Item, count: int) -> None:
    """Global indexes follow in their own time: asks until there are so many entries."""
    end = time.monotonic() + PROPAGATED_S_MAX
    while time.monotonic() < end:
        if service.do("Query", **query, Select="COUNT")["Count"] == count:
            return
    raise AssertionError(f"the index has not {count} entries")


def names(answer: dict[str, Any]) -> list[str]:
    return [item["sk"]["S"] for item in answer["Items"]]


def test_indexes_have_their_own_order_and_what_they_keep(service: Service, indexed: str, pk: str) -> None:
    by_team = service.do("Query", **team(indexed, "by-team", pk))
    assert names(by_team) == ["s3", "s2", "s1", "s0"]
    assert by_team["Items"][0] == {
        "pk": {"S": pk}, "sk": {"S": "s3"}, "team": {"S": pk}, "rank": {"N": "7"}, "note": {"S": "note 3"},
    }  # fmt: skip
    by_rank = service.do("Query", **rank(indexed, pk), ScanIndexForward=False)
    assert names(by_rank) == ["s0", "s1", "s2", "s3", "s4"]
    assert by_rank["Items"][0] == {"pk": {"S": pk}, "sk": {"S": "s0"}, "rank": {"N": "10"}}
    whole = service.do("Query", **team(indexed, "whole", pk), Select="ALL_ATTRIBUTES")
    assert sorted(names(whole)) == ["s0", "s1", "s2", "s3", "s5"]
    assert all(item["big"] == {"S": BIG} for item in whole["Items"])


def test_sort_attributes_are_read_from_the_left(service: Service, indexed: str, pk: str) -> None:
    query = {**team(indexed, "many", pk), **MANY}
    values = {":t": {"S": pk}, ":r": {"N": "8"}}
    more = {"ExpressionAttributeNames": {"#r": "rank"}, "ExpressionAttributeValues": values}
    condition = MANY["KeyConditionExpression"]
    for operator, found in (("=", ["s2"]), ("<", ["s3"]), ("<=", ["s3", "s2"]), (">", ["s1", "s0"])):
        body = {**query, **more, "KeyConditionExpression": f"{condition} AND #r {operator} :r"}
        assert names(service.do("Query", **body)) == found
    values[":s"] = {"S": "s"}
    body = {**query, **more, "KeyConditionExpression": f"{condition} AND #r = :r AND begins_with(sk, :s)"}
    assert names(service.do("Query", **body)) == ["s2"]
    del values[":r"], more["ExpressionAttributeNames"]
    body = {**query, **more, "KeyConditionExpression": f"{condition} AND sk = :s"}
    assert service.invalid("Query", **body) == "Query key condition not supported"
    del values[":s"]
    assert service.invalid("Query", **team(indexed, "many", pk)) == "Query condition missed key schema element: pk"


@pytest.mark.parametrize("make", [lambda t, pk: team(t, "by-team", pk), rank], ids=["global", "local"])
@pytest.mark.parametrize("forward", [True, False])
def test_pages_of_an_index_join_to_the_whole(
    service: Service, indexed: str, pk: str, make: Callable[[str, str], Item], forward: bool
) -> None:
    query = {**make(indexed, pk), "ScanIndexForward": forward}
    pages: list[str] = []
    start: Item = {}
    while True:
        page = service.do("Query", **query, **start, Limit=1)
        pages += names(page)
        if "LastEvaluatedKey" not in page:
            break
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    assert pages == names(service.do("Query", **query))


def test_segments_of_an_index_join_to_the_whole(service: Service, indexed: str, pk: str) -> None:
    for name in ("by-rank", "whole"):
        scan: Item = {"TableName": indexed, "IndexName": name}
        found = [name for n in range(4) for name in names(service.do("Scan", **scan, Segment=n, TotalSegments=4))]
        assert sorted(found) == sorted(names(service.do("Scan", **scan)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"team": None}, INVALID_START),
        ({"pk": None}, INVALID_START),
        ({"note": {"S": "x"}}, INVALID_START),
        ({"rank": {"S": "7"}}, INVALID_START),
        ({"team": {"S": "x"}}, "The provided starting key is outside query boundaries based on provided conditions"),
    ],
)
def test_a_start_key_must_fit(service: Service, indexed: str, pk: str, change: Item, message: str) -> None:
    start = {"pk": {"S": pk}, "sk": {"S": "s3"}, "team": {"S": pk}, "rank": {"N": "7"}, **change}
    start = {name: value for name, value in start.items() if value is not None}
    assert service.invalid("Query", **team(indexed, "by-team", pk), ExclusiveStartKey=start) == message


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"IndexName": "other"}, "The table does not have the specified index: other"),
        ({"ConsistentRead": True}, "Consistent reads are not supported on global secondary indexes"),
        (
            {"Select": "ALL_ATTRIBUTES"},
            f"{INVALID}Select type ALL_ATTRIBUTES is not supported for global secondary index by-team because its "
            "projection type is not ALL",
        ),
        (
            {"ProjectionExpression": "big, note, gone"},
            f"{INVALID}Global secondary index by-team does not project [big, gone]",
        ),
        (
            {"Select": "ALL_PROJECTED_ATTRIBUTES", "ProjectionExpression": "note"},
            "Cannot specify the ProjectionExpression when choosing to get ALL_PROJECTED_ATTRIBUTES",
        ),
    ],
)
def test_what_an_index_cannot_do_is_refused(service: Service, indexed: str, pk: str, more: Item, message: str) -> None:
    assert service.invalid("Query", **{**team(indexed, "by-team", pk), **more}) == message
    assert service.invalid("Scan", **{"TableName": indexed, "IndexName": "by-team", **more}) == message


def test_filters_leave_alone_the_keys_of_the_index(service: Service, indexed: str, pk: str) -> None:
    query = team(indexed, "by-team", pk)
    query["ExpressionAttributeValues"] = {":t": {"S": pk}, ":s": {"S": "s1"}}
    assert names(service.do("Query", **query, FilterExpression="sk = :s")) == ["s1"]
    assert service.invalid("Query", **query, FilterExpression="team = :s") == (
        "Filter Expression can only contain non-primary key attributes: Primary key attribute: team"
    )


def test_a_local_index_fetches_the_rest_at_its_price(service: Service, indexed: str, pk: str) -> None:
    asked = {**rank(indexed, pk), "ReturnConsumedCapacity": "INDEXES"}
    kept = service.do("Query", **asked)["ConsumedCapacity"]
    assert kept == {
        "TableName": indexed,
        "CapacityUnits": 1.0,
        "Table": {"CapacityUnits": 0.0},
        "LocalSecondaryIndexes": {"by-rank": {"CapacityUnits": 1.0}},
    }
    for more in ({"Select": "ALL_ATTRIBUTES"}, {"ProjectionExpression": "big"}):
        fetched = service.do("Query", **asked, **more)
        assert [item["big"]["S"] for item in fetched["Items"]] == [BIG] * 5
        assert fetched["ConsumedCapacity"]["Table"] == {"CapacityUnits": 10.0}
        assert fetched["ConsumedCapacity"]["CapacityUnits"] == 11.0
    asked["ExpressionAttributeValues"] = {":p": {"S": pk}, ":n": {"S": "note 3"}}
    filtered = service.do("Query", **asked, FilterExpression="note = :n")
    assert (names(filtered), filtered["ScannedCount"]) == (["s3"], 5)
    scan = service.do("Scan", TableName=indexed, IndexName="by-rank", ProjectionExpression="note")
    assert {"note": {"S": "note 0"}} in scan["Items"]


def test_a_global_index_pays_for_what_it_keeps(service: Service, indexed: str, pk: str) -> None:
    for name, units in (("by-team", 0.5), ("whole", 3.5)):
        answer = service.do("Query", **team(indexed, name, pk), ReturnConsumedCapacity="INDEXES")
        assert answer["ConsumedCapacity"] == {
            "TableName": indexed,
            "CapacityUnits": units,
            "Table": {"CapacityUnits": 0.0},
            "GlobalSecondaryIndexes": {name: {"CapacityUnits": units}},
        }


def test_writes_pay_for_the_entries_they_change(service: Service, indexed: str) -> None:
    pk = service.unique("paid")
    key: Item = {"pk": {"S": pk}, "sk": {"S": "s"}}
    full = {**key, "team": {"S": pk}, "rank": {"N": "1"}, "note": {"S": "a"}}

    def charged(operation: str, **more: Any) -> tuple[dict[str, float], dict[str, float]]:
        answer = service.do(operation, TableName=indexed, ReturnConsumedCapacity="INDEXES", **more)
        capacity = answer["ConsumedCapacity"]
        local, global_ = (
            {name: part["CapacityUnits"] for name, part in capacity.get(f"{kind}SecondaryIndexes", {}).items()}
            for kind in ("Local", "Global")
        )
        total = capacity["Table"]["CapacityUnits"] + sum(local.values()) + sum(global_.values())
        assert capacity["CapacityUnits"] == total
        return local, global_

    assert charged("PutItem", Item=key) == ({}, {})
    assert charged("PutItem", Item=full) == ({"by-rank": 1}, {"by-team": 1, "whole": 1, "many": 1})
    rank = {"UpdateExpression": "SET #r = :r", "ExpressionAttributeNames": {"#r": "rank"}}
    rank["ExpressionAttributeValues"] = {":r": {"N": "2"}}
    assert charged("UpdateItem", Key=key, **rank) == ({"by-rank": 2}, {"by-team": 2, "whole": 1, "many": 2})
    assert charged("UpdateItem", Key=key, **rank) == ({}, {})
    note = {"AttributeUpdates": {"note": {"Value": {"S": "b"}}}}
    assert charged("UpdateItem", Key=key, **note) == ({}, {"by-team": 1, "whole": 1})
    assert charged("DeleteItem", Key=key) == ({"by-rank": 1}, {"by-team": 1, "whole": 1, "many": 1})
    assert charged("DeleteItem", Key=key) == ({}, {})


def test_writes_tell_the_size_of_the_item_collection(service: Service, indexed: str, table: str, key: Item) -> None:
    pk = {"S": service.unique("collection")}
    metrics = {"ItemCollectionKey": {"pk": pk}, "SizeEstimateRangeGB": [0.0, 1.0]}
    asked: Item = {"TableName": indexed, "ReturnItemCollectionMetrics": "SIZE"}
    item = {"pk": pk, "sk": {"S": "s"}}
    assert service.do("PutItem", **asked, Item=item) == {"ItemCollectionMetrics": metrics}
    assert service.do("UpdateItem", **asked, Key=item) == {"ItemCollectionMetrics": metrics}
    assert service.do("DeleteItem", **asked, Key=item) == {"ItemCollectionMetrics": metrics}
    request = {indexed: [{"PutRequest": {"Item": item}}], table: [{"PutRequest": {"Item": key}}]}
    batch = service.do("BatchWriteItem", RequestItems=request, ReturnItemCollectionMetrics="SIZE")
    assert batch["ItemCollectionMetrics"] == {indexed: [metrics]}
    assert service.do("PutItem", TableName=table, Item=key, ReturnItemCollectionMetrics="SIZE") == {}
