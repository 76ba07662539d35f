"""What a global index holds after its table's items have come, changed and gone; and what a new one finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.api.service import Item, Service, schema

FOLLOWS_S_MAX = 20.0
GLOBAL_INDEXES_MAX = 20


def an_index(name: str, hash_key: str = "v", range_key: str | None = None, **projection: object) -> Item:
    keys = [{"AttributeName": hash_key, "KeyType": "HASH"}]
    if range_key is not None:
        keys.append({"AttributeName": range_key, "KeyType": "RANGE"})
    return {"IndexName": name, "KeySchema": keys, "Projection": {"ProjectionType": "ALL", **projection}}


def typed(**types: str) -> list[Item]:
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]


@pytest.fixture(scope="module")
def indexed(service: Service) -> Iterator[str]:
    """Indexes by the string v, whole, and by the number n and the string v, with x."""
    keys, types = schema("S")
    name = service.unique("maintained")
    service.do(
        "CreateTable",
        TableName=name,
        KeySchema=keys,
        AttributeDefinitions=[*types, *typed(v="S", n="N")],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            an_index("by-v"),
            an_index("by-n", "n", "v", ProjectionType="INCLUDE", NonKeyAttributes=["x"]),
        ],
    )
    service.wait_active(name)
    yield name
    service.call("DeleteTable", {"TableName": name})


def found(service: Service, table: str, index: str, pk: str) -> list[Item]:
    """The entries of an index that stand for an item."""
    answer = service.do(
        "Scan",
        TableName=table,
        IndexName=index,
        FilterExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": pk}},
    )
    items: list[Item] = answer["Items"]
    return items


def until(condition: Callable[[], object], what: str) -> None:
    """Asks as fast as answers come: an index follows in milliseconds."""
    end = time.monotonic() + FOLLOWS_S_MAX
    while not condition():
        assert time.monotonic() < end, what


def test_an_entry_moves_changes_and_goes_with_its_item(service: Service, indexed: str) -> None:
    pk = service.unique()
    key = {"pk": {"S": pk}}
    item = {**key, "v": {"S": "a"}, "n": {"N": "1"}, "x": {"S": "x"}, "y": {"S": "y"}}
    service.do("PutItem", TableName=indexed, Item=item)
    until(lambda: found(service, indexed, "by-v", pk) == [item], "the item is in the index")
    kept = {name: item[name] for name in ("pk", "v", "n", "x")}
    until(lambda: found(service, indexed, "by-n", pk) == [kept], "the index keeps what it includes")

    def update(expression: str, values: Item | None = None) -> None:
        more = {"ExpressionAttributeValues": values} if values else {}
        service.do("UpdateItem", TableName=indexed, Key=key, UpdateExpression=expression, **more)

    update("SET v = :v, n = :n", {":v": {"S": "b"}, ":n": {"N": "2.50"}})
    moved = {**kept, "v": {"S": "b"}, "n": {"N": "2.5"}}
    until(lambda: found(service, indexed, "by-n", pk) == [moved], "the entry has moved, and is there once")
    update("REMOVE n")
    until(lambda: found(service, indexed, "by-n", pk) == [], "an item without the index's key is left out")
    until(lambda: [e["v"] for e in found(service, indexed, "by-v", pk)] == [{"S": "b"}], "the other index keeps it")
    service.do("DeleteItem", TableName=indexed, Key=key)
    until(lambda: found(service, indexed, "by-v", pk) == [], "the entry goes with the item")


def test_batches_and_replacements_reach_the_indexes(service: Service, indexed: str) -> None:
    pks = [service.unique() for _ in range(25)]
    for turn in range(2):
        items = [{"pk": {"S": pk}, "v": {"S": pks[0]}, "n": {"N": str(turn)}} for pk in pks]
        service.do("BatchWriteItem", RequestItems={indexed: [{"PutRequest": {"Item": item}} for item in items]})

    def numbers() -> set[str]:
        answer = service.do(
            "Query",
            TableName=indexed,
            IndexName="by-v",
            KeyConditionExpression="v = :v",
            ExpressionAttributeValues={":v": {"S": pks[0]}},
        )
        assert answer["Count"] <= len(pks)
        return {item["n"]["N"] for item in answer["Items"]} if answer["Count"] == len(pks) else set()

    until(lambda: numbers() == {"1"}, "every item is there once, as it was last put")


def test_a_backfill_leaves_out_what_the_index_cannot_hold(service: Service) -> None:
    keys, types = schema("S")
    table = service.unique("backfilled")
    service.do(
        "CreateTable", TableName=table, KeySchema=keys, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
    )
    service.wait_active(table)
    good = {"pk": {"S": "good"}, "w": {"S": "w"}, "m": {"N": "1"}}
    for item in (
        good,
        {**good, "pk": {"S": "number"}, "w": {"N": "1"}},
        {**good, "pk": {"S": "empty"}, "w": {"S": ""}},
        {**good, "pk": {"S": "long"}, "w": {"S": "w" * 2_049}},
        {**good, "pk": {"S": "text"}, "m": {"S": "1"}},
        {"pk": {"S": "none"}},
    ):
        service.do("PutItem", TableName=table, Item=item)
    create = {"Create": an_index("late", "w", "m", ProjectionType="KEYS_ONLY")}
    service.do(
        "UpdateTable",
        TableName=table,
        AttributeDefinitions=typed(w="S", m="N"),
        GlobalSecondaryIndexUpdates=[create],
    )

    def status() -> str:
        description = service.do("DescribeTable", TableName=table)["Table"]
        return str(description["GlobalSecondaryIndexes"][0]["IndexStatus"])

    until(lambda: status() == "ACTIVE", "the index is filled")
    until(lambda: service.do("Scan", TableName=table, IndexName="late")["Items"] == [good], "the good item is there")
    service.do("DeleteTable", TableName=table)
    service.wait_gone(table)


def test_a_table_keeps_twenty_indexes(service: Service) -> None:
    keys, types = schema("S")
    table = service.unique("twenty")
    names = [f"a{number}" for number in range(GLOBAL_INDEXES_MAX)]
    service.do(
        "CreateTable",
        TableName=table,
        KeySchema=keys,
        AttributeDefinitions=[*types, *typed(**dict.fromkeys(names, "S"))],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[an_index(f"by-{name}", name) for name in names],
    )
    service.wait_active(table)
    item = {"pk": {"S": "p"}, **{name: {"S": name} for name in names}}
    service.do("PutItem", TableName=table, Item=item)
    for name in names:
        until(lambda name=name: found(service, table, f"by-{name}", "p") == [item], f"the index by {name} has it")
    service.do("DeleteTable", TableName=table)
    service.wait_gone(table)
