"""Query and Scan on local and global secondary indexes, and what writes and reads of indexed tables cost."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.catalog import IndexStatus
from geodyne.messages import Get, Moved, Range
from tests.unit.router.fake_region import Client, table

INVALID = "One or more parameter values were invalid: "
INVALID_START = "The provided starting key is invalid"
Value = dict[str, str]


def S(text: str) -> Value:
    return {"S": text}


def N(number: int) -> Value:
    return {"N": str(number)}


def index(name: str, keys: dict[str, str], projection: str = "ALL", *included: str) -> dict[str, Any]:
    """`keys`: HASH and RANGE by attribute."""
    kept: dict[str, Any] = {"ProjectionType": projection}
    if included:
        kept["NonKeyAttributes"] = list(included)
    schema = [{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()]
    return {"IndexName": name, "KeySchema": schema, "Projection": kept}


TYPES = {"pk": "S", "sk": "S", "color": "S", "rank": "N", "size": "N"}


def indexed(client: Client) -> None:
    client(
        "CreateTable",
        TableName="things",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in TYPES.items()],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        LocalSecondaryIndexes=[
            index("by-rank", {"pk": "HASH", "rank": "RANGE"}, "KEYS_ONLY"),
            index("by-size", {"pk": "HASH", "size": "RANGE"}),
        ],
        GlobalSecondaryIndexes=[
            index("by-color", {"color": "HASH", "rank": "RANGE"}, "INCLUDE", "note"),
            index("all-by-color", {"color": "HASH"}),
            index("many", {"color": "HASH", "pk": "HASH", "rank": "RANGE", "size": "RANGE"}, "KEYS_ONLY"),
        ],
    )


@pytest.fixture
def client() -> Client:
    client = Client()
    indexed(client)
    table(client, "plain")
    for number in range(6):
        item: dict[str, Any] = {"pk": S("a"), "sk": S(f"s{number}"), "note": S("x"), "more": S("y" * 100)}
        if number != 5:
            item |= {"color": S("red" if number % 2 else "blue"), "rank": N(10 - number), "size": N(number % 2)}
        client("PutItem", TableName="things", Item=item)
    return client


def query(client: Client, name: str, condition: str, values: dict[str, Value], **more: Any) -> dict[str, Any]:
    """A Query of an index; `#` names are those of the attributes."""
    return client(
        "Query", TableName="things", IndexName=name, KeyConditionExpression=condition,
        ExpressionAttributeValues=values, **more,
    )  # fmt: skip


def sort_keys(answer: dict[str, Any]) -> list[str]:
    return [item["sk"]["S"] for item in answer["Items"]]


# --- what is read ---------------------------------------------------------------------------------------


def test_a_global_index_is_sparse_and_in_its_own_order(client: Client) -> None:
    blue = query(client, "by-color", "color = :c", {":c": S("blue")})
    assert sort_keys(blue) == ["s4", "s2", "s0"]
    assert blue["Items"][0] == {
        "pk": S("a"), "sk": S("s4"), "color": S("blue"), "rank": N(6), "note": S("x"),
    }  # fmt: skip
    backward = query(client, "by-color", "color = :c", {":c": S("blue")}, ScanIndexForward=False)
    assert sort_keys(backward) == ["s0", "s2", "s4"]
    some = query(client, "by-color", "color = :c AND #r BETWEEN :l AND :h", {":c": S("blue"), ":l": N(7), ":h": N(9)},
                 ExpressionAttributeNames={"#r": "rank"})  # fmt: skip
    assert sort_keys(some) == ["s2"]
    assert client("Scan", TableName="things", IndexName="by-color")["Count"] == 5
    segments = [
        client("Scan", TableName="things", IndexName="by-color", Segment=n, TotalSegments=3)["Count"] for n in range(3)
    ]
    assert sum(segments) == 5


def test_a_local_index_is_in_its_own_order(client: Client) -> None:
    answer = query(client, "by-rank", "pk = :p", {":p": S("a")}, ConsistentRead=True)
    assert sort_keys(answer) == ["s4", "s3", "s2", "s1", "s0"]
    assert answer["Items"][0] == {"pk": S("a"), "sk": S("s4"), "rank": N(6)}
    assert client("Scan", TableName="things", IndexName="by-rank", ConsistentRead=True)["Count"] == 5


def test_keys_of_several_attributes_are_read_from_the_left(client: Client) -> None:
    values = {":c": S("blue"), ":p": S("a"), ":r": N(8)}
    names = {"#r": "rank", "#s": "size"}
    both = "color = :c AND pk = :p"
    assert sort_keys(query(client, "many", both, {":c": S("blue"), ":p": S("a")})) == ["s4", "s2", "s0"]
    more = {"ExpressionAttributeNames": {"#r": "rank"}}
    assert sort_keys(query(client, "many", f"{both} AND #r = :r", values, **more)) == ["s2"]
    assert sort_keys(query(client, "many", f"{both} AND #r > :r", values, **more)) == ["s0"]
    values[":s"] = N(0)
    answer = query(client, "many", f"{both} AND #r = :r AND #s >= :s", values, ExpressionAttributeNames=names)
    assert sort_keys(answer) == ["s2"]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("color = :s", "Query condition missed key schema element: pk"),
        ("color = :s AND pk > :s", "Query key condition not supported"),
        ("color = :s AND pk = :s AND #s = :n", "Query key condition not supported"),
        ("color = :s AND pk = :s AND #r > :n AND #s = :n", "Query key condition not supported"),
        ("color = :s AND pk = :s AND #r = :n AND #s = :n AND note = :s", "Conditions can be of length 1 or 2 only"),
        (
            "color = :s AND pk = :s AND #r = :s",
            f"{INVALID}Condition parameter type does not match schema type",
        ),
    ],
)
def test_key_conditions_of_several_attributes_have_an_order(client: Client, condition: str, message: str) -> None:
    body: dict[str, Any] = {"TableName": "things", "IndexName": "many", "KeyConditionExpression": condition}
    body["ExpressionAttributeValues"] = {
        name: value for name, value in {":s": S("a"), ":n": N(1)}.items() if name in condition
    }
    names = {name: full for name, full in {"#r": "rank", "#s": "size"}.items() if name in condition}
    if names:
        body["ExpressionAttributeNames"] = names
    assert client.refused("Query", **body) == ("ValidationException", message)


def test_pages_of_an_index_follow_each_other(client: Client) -> None:
    for name, condition, values in (
        ("by-color", "color = :c", {":c": S("blue")}),
        ("by-rank", "pk = :p", {":p": S("a")}),
        ("many", "color = :c AND pk = :p", {":c": S("blue"), ":p": S("a")}),
    ):
        whole = query(client, name, condition, values)
        pages: list[str] = []
        more: dict[str, Any] = {}
        while True:
            page = query(client, name, condition, values, Limit=1, **more)
            pages += sort_keys(page)
            if "LastEvaluatedKey" not in page:
                break
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        assert pages == sort_keys(whole)
    assert query(client, "by-color", "color = :c", {":c": S("blue")}, Limit=1)["LastEvaluatedKey"] == {
        "pk": S("a"), "sk": S("s4"), "color": S("blue"), "rank": N(6),
    }  # fmt: skip


START = {"pk": S("a"), "sk": S("s4"), "color": S("blue"), "rank": N(6)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": None}, INVALID_START),
        ({"pk": None}, INVALID_START),
        ({"extra": S("x")}, INVALID_START),
        ({"rank": S("6")}, INVALID_START),
        ({"sk": N(1)}, INVALID_START),
        ({"color": S("red")}, "The provided starting key is outside query boundaries based on provided conditions"),
        ({"rank": N(1)}, "The provided starting key does not match the range key predicate"),
    ],
)
def test_a_start_key_of_an_index_has_all_its_attributes(
    client: Client, change: dict[str, Value | None], message: str
) -> None:
    start = {name: value for name, value in {**START, **change}.items() if value is not None}
    body: dict[str, Any] = {
        "TableName": "things", "IndexName": "by-color", "KeyConditionExpression": "color = :c AND #r > :r",
        "ExpressionAttributeNames": {"#r": "rank"}, "ExpressionAttributeValues": {":c": S("blue"), ":r": N(5)},
    }  # fmt: skip
    assert client.refused("Query", **body, ExclusiveStartKey=start) == ("ValidationException", message)
    if message == INVALID_START:
        scan = {"TableName": "things", "IndexName": "by-color", "ExclusiveStartKey": start}
        assert client.refused("Scan", **scan) == (
            "ValidationException",
            f"{message}: The provided key element does not match the schema",
        )


# --- what is refused ------------------------------------------------------------------------------------


def refused(client: Client, name: str, **more: Any) -> str | None:
    body: dict[str, Any] = {"TableName": "things", "IndexName": name}
    code, message = client.refused("Scan", **body, **more)
    assert code == "ValidationException"
    values = {"ExpressionAttributeValues": {":c": S("blue")}, "KeyConditionExpression": "color = :c"}
    assert client.refused("Query", **body, **values, **more) == (code, message)
    return message


def test_an_index_that_is_not_there_is_refused(client: Client) -> None:
    assert refused(client, "other") == "The table does not have the specified index: other"
    scan = {"TableName": "plain", "IndexName": "by-color"}
    assert client.refused("Scan", **scan)[1] == "The table does not have the specified index: by-color"
    assert client.refused("Scan", **(scan | {"TableName": "missing"}))[0] == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (IndexStatus.CREATING, "Cannot read from backfilling global secondary index: by-color"),
        (IndexStatus.DELETING, "The table does not have the specified index: by-color"),
        (IndexStatus.UPDATING, None),
    ],
)
def test_an_index_that_is_not_ready_is_refused(client: Client, status: IndexStatus, message: str | None) -> None:
    client.region.set_index_status("things", "by-color", status)
    if message is None:
        assert client("Scan", TableName="things", IndexName="by-color")["Count"] == 5
    else:
        assert refused(client, "by-color") == message


def test_global_indexes_are_never_read_strongly(client: Client) -> None:
    message = "Consistent reads are not supported on global secondary indexes"
    assert refused(client, "by-color", ConsistentRead=True) == message
    assert query(client, "by-color", "color = :c", {":c": S("red")}, ConsistentRead=False)["Count"] == 2


def test_a_global_index_gives_what_it_keeps_and_no_more(client: Client) -> None:
    assert refused(client, "by-color", Select="ALL_ATTRIBUTES") == (
        f"{INVALID}Select type ALL_ATTRIBUTES is not supported for global secondary index by-color "
        "because its projection type is not ALL"
    )
    assert refused(client, "by-color", ProjectionExpression="sk, more, a.b") == (
        f"{INVALID}Global secondary index by-color does not project [more, a]"
    )
    assert client.refused("Scan", TableName="things", IndexName="by-color", AttributesToGet=["more"])[1] == (
        f"{INVALID}Global secondary index by-color does not project [more]"
    )
    whole = client("Scan", TableName="things", IndexName="all-by-color", Select="ALL_ATTRIBUTES")
    assert all("more" in item for item in whole["Items"])
    some = client("Scan", TableName="things", IndexName="by-color", ProjectionExpression="note, pk")
    assert some["Items"][0] == {"note": S("x"), "pk": S("a")}
    kept = client("Scan", TableName="things", IndexName="by-color", Select="ALL_PROJECTED_ATTRIBUTES")
    assert set(kept["Items"][0]) == {"pk", "sk", "color", "rank", "note"}
    assert "Items" not in client("Scan", TableName="things", IndexName="by-color", Select="COUNT")


def test_filters_leave_alone_the_keys_of_what_is_queried(client: Client) -> None:
    values = {":c": S("blue"), ":n": N(7)}
    body = {"TableName": "things", "IndexName": "by-color", "KeyConditionExpression": "color = :c"}
    names = {"ExpressionAttributeNames": {"#r": "rank"}}
    assert client.refused("Query", **body, **names, FilterExpression="#r > :n", ExpressionAttributeValues=values)[
        1
    ] == ("Filter Expression can only contain non-primary key attributes: Primary key attribute: rank")
    on_table_key = query(client, "by-color", "color = :c", {":c": S("blue"), ":s": S("s2")}, FilterExpression="sk = :s")
    assert sort_keys(on_table_key) == ["s2"]


# --- fetching and capacity ------------------------------------------------------------------------------


def units(answer: dict[str, Any]) -> dict[str, Any]:
    capacity: dict[str, Any] = answer["ConsumedCapacity"]
    assert capacity.pop("TableName") == "things"
    return capacity


def test_a_local_index_fetches_what_it_does_not_keep(client: Client) -> None:
    values = {":p": S("a")}
    whole = query(client, "by-rank", "pk = :p", values, Select="ALL_ATTRIBUTES")
    assert all("more" in item for item in whole["Items"])
    some = query(client, "by-rank", "pk = :p", values, ProjectionExpression="note", ReturnConsumedCapacity="INDEXES")
    assert some["Items"][0] == {"note": S("x")}
    assert units(some) == {
        "CapacityUnits": 3.0,
        "Table": {"CapacityUnits": 2.5},  # five items, half a unit each
        "LocalSecondaryIndexes": {"by-rank": {"CapacityUnits": 0.5}},
    }
    filtered = query(client, "by-rank", "pk = :p", {**values, ":n": S("x")}, FilterExpression="note = :n",
                     ConsistentRead=True, ReturnConsumedCapacity="INDEXES")  # fmt: skip
    assert filtered["Count"] == 5
    assert units(filtered)["Table"] == {"CapacityUnits": 5.0}
    kept = query(client, "by-rank", "pk = :p", values, ProjectionExpression="sk", ReturnConsumedCapacity="INDEXES")
    assert units(kept) == {
        "CapacityUnits": 0.5,
        "Table": {"CapacityUnits": 0.0},
        "LocalSecondaryIndexes": {"by-rank": {"CapacityUnits": 0.5}},
    }
    assert client.region.calls[-1].fetch is False  # type: ignore[union-attr]


def test_a_global_index_pays_for_itself(client: Client) -> None:
    answer = client("Scan", TableName="things", IndexName="by-color", ReturnConsumedCapacity="INDEXES")
    assert units(answer) == {
        "CapacityUnits": 0.5,
        "Table": {"CapacityUnits": 0.0},
        "GlobalSecondaryIndexes": {"by-color": {"CapacityUnits": 0.5}},
    }
    total = client("Scan", TableName="things", IndexName="by-color", ReturnConsumedCapacity="TOTAL")
    assert units(total) == {"CapacityUnits": 0.5}


def test_writes_pay_for_the_indexes_they_touch(client: Client) -> None:
    key = {"pk": S("p"), "sk": S("s")}
    detail = {"TableName": "things", "ReturnConsumedCapacity": "INDEXES"}

    def charged(answer: dict[str, Any]) -> dict[str, float]:
        capacity = units(answer)
        parts = {**capacity.get("LocalSecondaryIndexes", {}), **capacity.get("GlobalSecondaryIndexes", {})}
        found = {name: part["CapacityUnits"] for name, part in parts.items()}
        assert capacity["CapacityUnits"] == capacity["Table"]["CapacityUnits"] + sum(found.values())
        return found

    assert charged(client("PutItem", Item=key, **detail)) == {}
    full = {**key, "color": S("red"), "rank": N(1), "note": S("x")}
    assert charged(client("PutItem", Item=full, **detail)) == {"by-rank": 1, "by-color": 1, "all-by-color": 1}
    changed = {**full, "color": S("blue")}
    answer = client("PutItem", Item=changed, **detail)
    assert set(answer["ConsumedCapacity"]) == {"TableName", "CapacityUnits", "Table", "GlobalSecondaryIndexes"}
    assert charged(answer) == {"by-color": 2, "all-by-color": 2}
    assert charged(client("PutItem", Item={**changed, "note": S("y")}, **detail)) == {
        "by-color": 1,
        "all-by-color": 1,
    }
    assert charged(client("PutItem", Item={**changed, "note": S("y"), "more": S("z")}, **detail)) == {"all-by-color": 1}
    request = {
        "things": [{"DeleteRequest": {"Key": key}}, {"PutRequest": {"Item": {**key, "sk": S("t"), "rank": N(1)}}}]
    }
    (batch,) = client("BatchWriteItem", RequestItems=request, ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
    assert batch["LocalSecondaryIndexes"] == {"by-rank": {"CapacityUnits": 2.0}}
    assert batch["GlobalSecondaryIndexes"] == {
        "by-color": {"CapacityUnits": 1.0},
        "all-by-color": {"CapacityUnits": 1.0},
    }
    assert batch["CapacityUnits"] == 6.0
    total = client("DeleteItem", Key={**key, "sk": S("t")}, TableName="things", ReturnConsumedCapacity="TOTAL")
    assert total["ConsumedCapacity"] == {"TableName": "things", "CapacityUnits": 2.0}


def test_writes_tell_the_size_of_the_item_collection(client: Client) -> None:
    key = {"pk": S("p"), "sk": S("s")}
    metrics = {"ItemCollectionKey": {"pk": S("p")}, "SizeEstimateRangeGB": [0.0, 1.0]}
    asked = {"TableName": "things", "ReturnItemCollectionMetrics": "SIZE"}
    assert client("PutItem", Item=key, **asked) == {"ItemCollectionMetrics": metrics}
    assert client("UpdateItem", Key=key, **asked) == {"ItemCollectionMetrics": metrics}
    answer = client("DeleteItem", Key=key, ReturnValues="ALL_OLD", **asked)
    assert answer == {"Attributes": key, "ItemCollectionMetrics": metrics}
    assert client("PutItem", Item=key, TableName="things", ReturnItemCollectionMetrics="NONE") == {}
    assert client("PutItem", Item={"pk": S("a")}, TableName="plain", ReturnItemCollectionMetrics="SIZE") == {}
    request = {
        "things": [{"PutRequest": {"Item": {**key, "sk": S(sk)}}} for sk in "ab"],
        "plain": [{"PutRequest": {"Item": {"pk": S("a")}}}],
    }
    answer = client("BatchWriteItem", RequestItems=request, ReturnItemCollectionMetrics="SIZE")
    assert answer == {"UnprocessedItems": {}, "ItemCollectionMetrics": {"things": [metrics]}}


def test_keys_of_indexes_have_their_types(client: Client) -> None:
    wrong = {"pk": S("a"), "sk": S("s"), "color": N(1)}
    put = client.refused("PutItem", TableName="things", Item=wrong)
    assert put[0] == "ValidationException"
    assert "Type mismatch for Index Key color Expected: S Actual: N IndexName: by-color" in str(put[1])
    assert client.refused("BatchWriteItem", RequestItems={"things": [{"PutRequest": {"Item": wrong}}]}) == put
    updates = {"color": {"Value": N(1)}}
    assert (
        client.refused("UpdateItem", TableName="things", Key={"pk": S("a"), "sk": S("s")}, AttributeUpdates=updates)
        == put
    )


def test_a_query_follows_an_index_that_moves(client: Client) -> None:
    client.region.forced = [Moved(1, 7), Moved(1, 8)]
    assert sort_keys(query(client, "by-color", "color = :c", {":c": S("red")})) == ["s3", "s1"]
    assert client.region.waited[-2:] == [7, 8]
    client.region.forced = [Moved(1, 9)]
    client.region.before_call = {1: lambda: client.region.drop_index("things", "by-color")}
    body: dict[str, Any] = {"TableName": "things", "IndexName": "by-color", "KeyConditionExpression": "color = :c"}
    assert client.refused("Query", **body, ExpressionAttributeValues={":c": S("red")}) == (
        "ValidationException",
        "The table does not have the specified index: by-color",
    )


def test_a_local_index_is_read_where_the_items_are(client: Client) -> None:
    query(client, "by-rank", "pk = :p", {":p": S("a")})
    local = client.region.calls[-1]
    client("GetItem", TableName="things", Key={"pk": S("a"), "sk": S("s1")})
    point = client.region.calls[-1]
    assert isinstance(local, Range)
    assert isinstance(point, Get)
    assert (local.partition, local.slot, local.fetch) == (point.partition, 1, False)
