"""Query and Scan: pages, bounds, start keys, segments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.limits import PAGE_BYTES
from geodyne.messages import Moved, Range
from tests.unit.router.fake_region import Client, table

INVALID_START = "The provided starting key is invalid"
HASH = {":p": {"S": "a"}}


@pytest.fixture
def client() -> Client:
    client = Client()
    table(client, "sorted", sort="N")
    for number in range(10):
        put(client, "a", number)
    put(client, "b", 0)
    return client


def put(client: Client, pk: str, sk: int, **more: Any) -> None:
    client("PutItem", TableName="sorted", Item={"pk": {"S": pk}, "sk": {"N": str(sk)}, "v": {"N": str(sk % 3)}, **more})


def query(client: Client, condition: str = "pk = :p", values: dict[str, Any] | None = None, **more: Any) -> Any:
    return client(
        "Query",
        TableName="sorted",
        KeyConditionExpression=condition,
        ExpressionAttributeValues=HASH | (values or {}),
        **more,
    )


def sort_keys(answer: dict[str, Any]) -> list[int]:
    return [int(item["sk"]["N"]) for item in answer["Items"]]


def start(pk: str, sk: int) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"N": str(sk)}}


# --- Query ----------------------------------------------------------------------------------------------


def test_a_query_reads_one_partition_key_in_order(client: Client) -> None:
    answer = query(client)
    assert sort_keys(answer) == list(range(10))
    assert (answer["Count"], answer["ScannedCount"]) == (10, 10)
    assert "LastEvaluatedKey" not in answer
    assert sort_keys(query(client, ScanIndexForward=False)) == list(range(9, -1, -1))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("sk = :x", [4]),
        ("sk < :x", [0, 1, 2, 3]),
        ("sk <= :x", [0, 1, 2, 3, 4]),
        ("sk > :x", [5, 6, 7, 8, 9]),
        ("sk >= :x", [4, 5, 6, 7, 8, 9]),
        ("sk BETWEEN :x AND :y", [4, 5, 6]),
    ],
)
def test_a_sort_key_condition_narrows_the_range(client: Client, condition: str, expected: list[int]) -> None:
    values = {":x": {"N": "4"}} | ({":y": {"N": "6"}} if ":y" in condition else {})
    assert sort_keys(query(client, f"pk = :p AND {condition}", values)) == expected


def test_pages_of_a_limit_continue_where_they_ended(client: Client) -> None:
    found: list[int] = []
    more: dict[str, Any] = {}
    for _ in range(4):
        answer = query(client, Limit=3, **more)
        found += sort_keys(answer)
        if "LastEvaluatedKey" not in answer:
            break
        more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
    assert found == list(range(10))


def test_a_limit_reached_at_the_very_end_still_has_a_last_key(client: Client) -> None:
    answer = query(client, Limit=10)
    assert answer["LastEvaluatedKey"] == start("a", 9)
    rest = query(client, ExclusiveStartKey=answer["LastEvaluatedKey"])
    assert (rest["Items"], rest["Count"]) == ([], 0)


def test_a_filter_applies_after_the_limit(client: Client) -> None:
    answer = query(client, values={":v": {"N": "1"}}, FilterExpression="v = :v", Limit=5)
    assert sort_keys(answer) == [1, 4]
    assert (answer["Count"], answer["ScannedCount"]) == (2, 5)


def test_select_count_has_no_items(client: Client) -> None:
    answer = query(client, Select="COUNT")
    assert answer == {"Count": 10, "ScannedCount": 10}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"Select": "ALL_PROJECTED_ATTRIBUTES"}, "ALL_PROJECTED_ATTRIBUTES can be used only when Querying"),
        ({"Select": "SPECIFIC_ATTRIBUTES"}, "Must specify the AttributesToGet or ProjectionExpression"),
        ({"Select": "COUNT", "ProjectionExpression": "v"}, "Cannot specify the ProjectionExpression"),
        ({"Select": "ALL_ATTRIBUTES", "ProjectionExpression": "v"}, "Cannot specify the ProjectionExpression"),
        ({"IndexName": "index"}, "The table does not have the specified index: index"),
        ({"KeyConditionExpression": None}, "Either the KeyConditions or KeyConditionExpression parameter must be"),
        ({"KeyConditionExpression": "sk = :p"}, "Query condition missed key schema element: pk"),
        ({"FilterExpression": "sk = :p"}, "Filter Expression can only contain non-primary key attributes"),
    ],
)
def test_what_contradicts_itself_is_refused(client: Client, more: dict[str, Any], message: str) -> None:
    body = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": HASH} | more
    if body["KeyConditionExpression"] is None:
        del body["ExpressionAttributeValues"]
    code, found = client.refused("Query", TableName="sorted", **body)
    assert code == "ValidationException"
    assert found is not None
    assert message in found


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"pk": {"S": "a"}}, INVALID_START),
        (start("a", 1) | {"x": {"S": "y"}}, INVALID_START),
        ({"pk": {"N": "1"}, "sk": {"N": "1"}}, INVALID_START),
        (start("b", 5), "The provided starting key is outside query boundaries based on provided conditions"),
        (start("a", 3), "The provided starting key does not match the range key predicate"),
    ],
)
def test_a_start_key_must_lie_within_the_query(client: Client, key: dict[str, Any], message: str) -> None:
    refused = client.refused(
        "Query",
        TableName="sorted",
        KeyConditionExpression="pk = :p AND sk > :x",
        ExpressionAttributeValues=HASH | {":x": {"N": "4"}},
        ExclusiveStartKey=key,
    )
    assert refused == ("ValidationException", message)


def test_units_count_what_was_evaluated_and_round_once(client: Client) -> None:
    for number in range(4):
        put(client, "big", number, d={"S": "x" * 2000})
    more = {"ReturnConsumedCapacity": "TOTAL", "FilterExpression": "attribute_exists(absent)"}
    answer = query(client, values={":p": {"S": "big"}}, ConsistentRead=True, **more)
    assert answer["Items"] == []
    assert answer["ConsumedCapacity"] == {"TableName": "sorted", "CapacityUnits": 2.0}


# --- Scan -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spread() -> Client:
    client = Client()
    table(client, "spread")
    for number in range(40):
        client("PutItem", TableName="spread", Item={"pk": {"S": str(number)}, "n": {"N": str(number)}})
    return client


def scan_all(client: Client, **more: Any) -> list[str]:
    found: list[str] = []
    for _ in range(100):
        answer = client("Scan", TableName="spread", **more)
        found += [item["pk"]["S"] for item in answer["Items"]]
        if "LastEvaluatedKey" not in answer:
            return found
        more["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
    raise AssertionError("the scan does not end")


def test_a_scan_reads_every_item_once_over_all_partitions(spread: Client) -> None:
    assert sorted(scan_all(spread)) == sorted(map(str, range(40)))


@settings(max_examples=25, deadline=None)
@given(limit=st.integers(1, 45), segments=st.integers(1, 9))
def test_segments_and_limits_divide_a_scan_without_loss_or_overlap(spread: Client, limit: int, segments: int) -> None:
    found: list[str] = []
    for segment in range(segments):
        found += scan_all(spread, Limit=limit, Segment=segment, TotalSegments=segments)
    assert sorted(found) == sorted(map(str, range(40)))
    assert found == scan_all(spread)


def test_a_million_segments_are_slices_too(spread: Client) -> None:
    answer = spread("Scan", TableName="spread", Segment=999_999, TotalSegments=1_000_000)
    assert answer["ScannedCount"] <= 1


def test_a_page_over_partitions_stays_within_its_bytes(spread: Client) -> None:
    spread.region.calls.clear()
    spread("Scan", TableName="spread")
    asked = [call.max_bytes for call in spread.region.calls if isinstance(call, Range)]
    assert asked[0] == PAGE_BYTES
    assert sorted(asked, reverse=True) == asked
    assert len(set(asked)) == len(asked) == 4


def test_a_scan_survives_a_split_under_way(spread: Client) -> None:
    expected = scan_all(spread)
    first = spread("Scan", TableName="spread", Limit=7)
    spread.region.split("spread", 7)
    rest = scan_all(spread, ExclusiveStartKey=first["LastEvaluatedKey"])
    assert [item["pk"]["S"] for item in first["Items"]] + rest == expected


def test_a_partition_that_splits_while_it_is_asked_is_read_in_all_its_parts() -> None:
    client = Client()
    table(client, "spread")
    for number in range(40):
        client("PutItem", TableName="spread", Item={"pk": {"S": str(number)}})
    expected = scan_all(client)
    client.region.before_call = {2: lambda: client.region.split("spread", 9)}
    assert scan_all(client) == expected
    assert any(isinstance(answer, Moved) for answer in client.region.answers)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"Segment": 0}, "The TotalSegments parameter is required but was not present in the request when Segment"),
        ({"TotalSegments": 2}, "The Segment parameter is required but was not present in the request when parameter"),
        ({"Segment": 2, "TotalSegments": 2}, "Segment: 2 is not less than TotalSegments: 2"),
        ({"Segment": 0, "TotalSegments": 1_000_001}, "Member must have value less than or equal to 1000000"),
        ({"IndexName": "index"}, "The table does not have the specified index: index"),
        ({"ExclusiveStartKey": {"x": {"S": "1"}}}, INVALID_START),
    ],
)
def test_scan_parameters_are_checked(spread: Client, more: dict[str, Any], message: str) -> None:
    code, found = spread.refused("Scan", TableName="spread", **more)
    assert code == "ValidationException"
    assert found is not None
    assert message in found


def test_a_start_key_belongs_to_its_segment(spread: Client) -> None:
    last = spread("Scan", TableName="spread", Limit=1)["LastEvaluatedKey"]
    code, found = spread.refused("Scan", TableName="spread", ExclusiveStartKey=last, Segment=1, TotalSegments=2)
    assert code == "ValidationException"
    assert found == (
        f"{INVALID_START}: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. "
        "TotalSegments: 2 Segment: 1"
    )
