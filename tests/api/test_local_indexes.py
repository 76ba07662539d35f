"""Local secondary indexes as a client sees them: consistent at once, in order, sparse, projected, and paid for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.service import Answer, Item, Service, schema

HASH = {"AttributeName": "pk", "KeyType": "HASH"}


def index(name: str, attribute: str, projection: str, *included: str) -> dict[str, Any]:
    return {
        "IndexName": name,
        "KeySchema": [HASH, {"AttributeName": attribute, "KeyType": "RANGE"}],
        "Projection": {"ProjectionType": projection} | ({"NonKeyAttributes": [*included]} if included else {}),
    }


def created(service: Service, attributes: str, *indexes: dict[str, Any]) -> Iterator[str]:
    """A table with keys "pk" and "sk"; `attributes`: name and type of each indexed one, such as "n:N"."""
    keys, types = schema("S", "S")
    for attribute in attributes.split():
        name, _, kind = attribute.partition(":")
        types.append({"AttributeName": name, "AttributeType": kind})
    name = service.unique("local")
    definition = {"KeySchema": keys, "AttributeDefinitions": types, "LocalSecondaryIndexes": [*indexes]}
    service.do("CreateTable", TableName=name, BillingMode="PAY_PER_REQUEST", **definition)
    service.wait_active(name)
    yield name
    service.call("DeleteTable", {"TableName": name})


@pytest.fixture(scope="module")
def indexed(service: Service) -> Iterator[str]:
    """Indexes by number "n" that keep keys, color or everything, and one by binary "b"."""
    yield from created(
        service,
        "n:N b:B",
        index("keys", "n", "KEYS_ONLY"),
        index("color", "n", "INCLUDE", "color"),
        index("all", "n", "ALL"),
        index("binary", "b", "KEYS_ONLY"),
    )


@pytest.fixture(scope="module")
def scanned(service: Service) -> Iterator[str]:
    """One index, by string "x"."""
    yield from created(service, "x:S", index("by_x", "x", "KEYS_ONLY"))


@pytest.fixture
def pk(service: Service) -> str:
    return service.unique()


def item(pk: str, sk: str, **attributes: Any) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}, **attributes}


def number(value: object) -> dict[str, str]:
    return {"N": str(value)}


class Table:
    def __init__(self, service: Service, name: str, pk: str) -> None:
        self.service = service
        self.name = name
        self.pk = pk

    def do(self, operation: str, **members: Any) -> Answer:
        return self.service.call(operation, {"TableName": self.name, **members})

    def ok(self, operation: str, **members: Any) -> Any:
        answer = self.do(operation, **members)
        assert answer.status == 200, answer.body
        return answer.body

    def put(self, sk: str, **attributes: Any) -> Any:
        return self.ok("PutItem", Item=item(self.pk, sk, **attributes))

    def query(self, name: str, condition: str = "", values: Any = (), **members: Any) -> Any:
        return self.ok(
            "Query",
            **{
                "IndexName": name,
                "KeyConditionExpression": "pk = :pk" + (f" AND {condition}" if condition else ""),
                "ExpressionAttributeValues": {":pk": {"S": self.pk}, **dict(values)},
                "ConsistentRead": True,
                **members,
            },
        )

    def order(self, name: str, condition: str = "", values: Any = (), **members: Any) -> list[str]:
        return [one["sk"]["S"] for one in self.query(name, condition, values, **members)["Items"]]


@pytest.fixture
def table(service: Service, indexed: str, pk: str) -> Table:
    return Table(service, indexed, pk)


# --- what is in an index ---------------------------------------------------------------------------------


def test_a_consistent_query_follows_every_write_at_once(table: Table) -> None:
    key = item(table.pk, "s")
    table.put("s", n=number(1))
    assert table.query("keys")["Items"] == [item(table.pk, "s", n=number(1))]
    table.ok("UpdateItem", Key=key, UpdateExpression="SET n = :n", ExpressionAttributeValues={":n": number(2)})
    assert table.query("keys")["Items"] == [item(table.pk, "s", n=number(2))]
    table.ok("UpdateItem", Key=key, UpdateExpression="REMOVE n")
    assert table.query("keys")["Count"] == 0
    table.ok("UpdateItem", Key=key, UpdateExpression="ADD n :n", ExpressionAttributeValues={":n": number(5)})
    assert table.query("all", "n = :n", {":n": number(5)})["Count"] == 1
    table.ok("DeleteItem", Key=key)
    assert table.query("all")["Count"] == 0
    assert table.query("keys")["Count"] == 0


def test_entries_come_in_the_order_of_the_index_and_pages_go_on_in_it(table: Table) -> None:
    for sk, n in (("a", 7), ("b", -3), ("c", "1.5"), ("d", 7), ("e", "1E+20")):
        table.put(sk, n=number(n), b={"B": "AA=="} if sk in "ce" else {"B": "/w=="})
    table.put("unindexed")
    assert table.order("all") == ["b", "c", "a", "d", "e"]
    assert table.order("keys", ScanIndexForward=False) == ["e", "d", "a", "c", "b"]
    assert table.order("keys", "n BETWEEN :low AND :high", {":low": number(1), ":high": number(7)}) == ["c", "a", "d"]
    assert table.order("binary", "begins_with(b, :b)", {":b": {"B": "/w=="}}) == ["a", "b", "d"]
    seen: list[str] = []
    more: dict[str, Any] = {}
    while True:
        page = table.query("color", Limit=2, **more)
        seen += [one["sk"]["S"] for one in page["Items"]]
        if "LastEvaluatedKey" not in page:
            break
        assert set(page["LastEvaluatedKey"]) == {"pk", "sk", "n"}
        more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    assert seen == ["b", "c", "a", "d", "e"]


def test_each_projection_keeps_what_it_says_and_the_rest_is_fetched(table: Table) -> None:
    whole = item(table.pk, "s", n=number(1), color={"S": "red"}, note={"S": "n"})
    table.ok("PutItem", Item=whole)
    assert set(table.query("keys")["Items"][0]) == {"pk", "sk", "n"}
    assert set(table.query("color")["Items"][0]) == {"pk", "sk", "n", "color"}
    assert table.query("all")["Items"] == [whole]
    assert table.query("keys", Select="ALL_ATTRIBUTES")["Items"] == [whole]
    assert table.query("keys", ProjectionExpression="note, n")["Items"] == [{"note": {"S": "n"}, "n": number(1)}]
    assert table.query("color", Select="COUNT")["Count"] == 1


def test_a_change_of_what_is_kept_shows_in_the_entry_and_one_of_the_rest_in_what_is_fetched(table: Table) -> None:
    table.put("s", n=number(1), color={"S": "red"}, note={"S": "old"})
    update = {"Key": item(table.pk, "s"), "ExpressionAttributeValues": {":v": {"S": "new"}}}
    table.ok("UpdateItem", UpdateExpression="SET note = :v", **update)
    table.ok("UpdateItem", UpdateExpression="SET color = :v", **update)
    assert table.query("color")["Items"][0]["color"] == {"S": "new"}
    assert table.query("keys", Select="ALL_ATTRIBUTES")["Items"][0]["note"] == {"S": "new"}
    assert table.query("all")["Items"][0]["note"] == {"S": "new"}


def test_batches_and_transactions_keep_the_indexes_too(table: Table) -> None:
    writes = [{"PutRequest": {"Item": item(table.pk, f"s{n}", n=number(9 - n))}} for n in range(3)]
    answer = table.service.call("BatchWriteItem", {"RequestItems": {table.name: writes}})
    assert answer.status == 200, answer.body
    assert table.order("keys") == ["s2", "s1", "s0"]
    transaction = [
        {"Delete": {"TableName": table.name, "Key": item(table.pk, "s1")}},
        {"Put": {"TableName": table.name, "Item": item(table.pk, "s3", n=number(100))}},
    ]
    answer = table.service.call("TransactWriteItems", {"TransactItems": transaction})
    assert answer.status == 200, answer.body
    assert table.order("keys") == ["s2", "s0", "s3"]


def test_a_scan_of_an_index_finds_its_items_in_all_segments(service: Service, scanned: str) -> None:
    expected = set()
    for n in range(24):
        indexed = {"x": {"S": "x"}} if n % 2 else {}
        answer = service.call("PutItem", {"TableName": scanned, "Item": item(f"p{n}", "s", **indexed)})
        assert answer.status == 200
        expected |= {f"p{n}"} if indexed else set()
    found: list[str] = []
    for segment in range(3):
        members = {"Segment": segment, "TotalSegments": 3, "ConsistentRead": True}
        page = service.call("Scan", {"TableName": scanned, "IndexName": "by_x", **members}).body
        found += [one["pk"]["S"] for one in page["Items"]]
    assert sorted(found) == sorted(expected)


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["PutItem", "BatchWriteItem"])
def test_a_put_whose_index_key_has_another_type_is_refused(table: Table, operation: str) -> None:
    one = item(table.pk, "s", n={"S": "1"})
    if operation == "PutItem":
        answer = table.do("PutItem", Item=one)
    else:
        body = {"RequestItems": {table.name: [{"PutRequest": {"Item": one}}]}}
        answer = table.service.call("BatchWriteItem", body)
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert answer.message == (
        "One or more parameter values were invalid: Type mismatch for Index Key n Expected: N Actual: S IndexName: keys"
    )


def test_an_update_that_makes_an_index_key_of_another_type_is_refused(table: Table) -> None:
    update = {"UpdateExpression": "SET n = :n", "ExpressionAttributeValues": {":n": {"S": "1"}}}
    answer = table.do("UpdateItem", Key=item(table.pk, "s"), **update)
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert answer.message == "The update expression attempted to update the secondary index key to unsupported type"
    assert table.query("keys")["Count"] == 0


def test_an_item_that_is_too_large_with_its_entry_is_refused(table: Table) -> None:
    blob = {"S": "x" * (210 * 1024)}
    answer = table.do("PutItem", Item=item(table.pk, "s", n=number(1), blob=blob))
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert answer.message == "Item size has exceeded the maximum allowed size"
    table.put("s", blob=blob)
    update = {"UpdateExpression": "SET n = :n", "ExpressionAttributeValues": {":n": number(1)}}
    answer = table.do("UpdateItem", Key=item(table.pk, "s"), **update)
    assert answer.message == "Item size to update has exceeded the maximum allowed size"


# --- what it costs and how much there is -----------------------------------------------------------------


def test_writes_are_charged_for_the_entries_that_they_touch(table: Table) -> None:
    def units(operation: str, **members: Any) -> dict[str, float]:
        consumed = table.ok(operation, ReturnConsumedCapacity="INDEXES", **members)["ConsumedCapacity"]
        charged = {name: each["CapacityUnits"] for name, each in consumed.get("LocalSecondaryIndexes", {}).items()}
        assert consumed["CapacityUnits"] == consumed["Table"]["CapacityUnits"] + sum(charged.values())
        return charged

    def change(expression: str, **values: Any) -> dict[str, float]:
        values = {f":{name}": value for name, value in values.items()}
        return units(
            "UpdateItem", Key=item(table.pk, "s"), UpdateExpression=expression, ExpressionAttributeValues=values
        )

    assert units("PutItem", Item=item(table.pk, "s", n=number(1))) == {"keys": 1, "color": 1, "all": 1}
    assert change("SET n = :n", n=number(2)) == {"keys": 2, "color": 2, "all": 2}
    assert change("SET color = :c", c={"S": "red"}) == {"color": 1, "all": 1}
    assert change("SET note = :v", v={"S": "x" * 1500}) == {"all": 2}
    assert units("DeleteItem", Key=item(table.pk, "s")) == {"keys": 1, "color": 1, "all": 2}


def test_a_fetch_is_charged_to_the_table_item_by_item(table: Table) -> None:
    for n in range(3):
        table.put(f"s{n}", n=number(n), note={"S": "x" * 5000})
    plain = table.query("keys", ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
    assert (plain["CapacityUnits"], plain["LocalSecondaryIndexes"]) == (1.0, {"keys": {"CapacityUnits": 1.0}})
    fetched = table.query("keys", Select="ALL_ATTRIBUTES", ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
    assert fetched["CapacityUnits"] == 7.0  # 1 of the index, 2 for each item
    assert fetched["Table"] == {"CapacityUnits": 6.0}


def test_writes_tell_the_size_of_their_item_collection_when_asked(table: Table) -> None:
    answer = table.ok("PutItem", Item=item(table.pk, "s", n=number(1)), ReturnItemCollectionMetrics="SIZE")
    assert answer["ItemCollectionMetrics"] == {
        "ItemCollectionKey": {"pk": {"S": table.pk}},
        "SizeEstimateRangeGB": [0.0, 1.0],
    }
    assert "ItemCollectionMetrics" not in table.put("s", n=number(2))
