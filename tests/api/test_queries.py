"""Query: which items, in which order, in which pages."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest

from tests.api.service import Item, Service

PAGE_BYTES = 1024 * 1024
INVALID_START = "The provided starting key is invalid"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def fill(service: Service, table: str, items: list[Item]) -> None:
    for start in range(0, len(items), 25):
        batch = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        answer = service.do("BatchWriteItem", RequestItems={table: batch})
        assert answer["UnprocessedItems"] == {}


def query(service: Service, table: str, pk: Item, **more: Any) -> dict[str, Any]:
    values = {":pk": pk, **more.pop("values", {})}
    condition = "pk = :pk" + (f" AND {more.pop('sort')}" if "sort" in more else "")
    return service.do(
        "Query", TableName=table, KeyConditionExpression=condition, ExpressionAttributeValues=values, **more
    )


def pages(service: Service, table: str, pk: Item, **more: Any) -> list[dict[str, Any]]:
    found = [query(service, table, pk, **more)]
    while "LastEvaluatedKey" in found[-1]:
        found.append(query(service, table, pk, ExclusiveStartKey=found[-1]["LastEvaluatedKey"], **more))
    return found


NUMBERS = [
    "-9.9999999999999999999999999999999999999E+125", "-1E100", "-1000", "-100.5", "-100", "-99", "-10", "-9.99", "-2",
    "-1.5", "-1.25", "-1", "-0.5", "-0.25", "-1E-130", "0", "1E-130", "0.0001", "0.25", "0.5", "0.51", "1", "1.25",
    "1.5", "2", "9.99", "10", "99", "100", "100.5", "1000", "1E100", "9.9999999999999999999999999999999999999E+125",
]  # fmt: skip
STRINGS = ["\x00", "\x01", " ", "0", "10", "2", "A", "Z", "a", "a\x00", "a ", "aa", "ab", "b", "z", "é", "ÿ", "Ā", "中",
           "\ue000", "�", "🐎", "🐎🐎"]  # fmt: skip
BINARIES = [
    b"\x00",
    b"\x00\x00",
    b"\x00\xff",
    b"\x01",
    b"\x7f",
    b"\x7f\xff",
    b"\x80",
    b"\xff",
    b"\xff\x00",
    b"\xff\xff",
]


@pytest.mark.parametrize("kind", ["S", "N", "B"])
def test_items_come_in_the_order_of_their_sort_key(
    service: Service, sorted_table: str, sorted_by_number: str, sorted_by_binary: str, kind: str
) -> None:
    table = {"S": sorted_table, "N": sorted_by_number, "B": sorted_by_binary}[kind]
    values = {"S": STRINGS, "N": NUMBERS, "B": [b64(raw) for raw in BINARIES]}[kind]
    pk = {"S": service.unique()}
    order = list(range(len(values)))
    random.Random(7).shuffle(order)
    items = [{"pk": pk, "sk": {kind: values[position]}, "at": {"N": str(position)}} for position in order]
    fill(service, table, items)
    found = [int(item["at"]["N"]) for item in query(service, table, pk)["Items"]]
    assert found == sorted(order)
    back = [int(item["at"]["N"]) for item in query(service, table, pk, ScanIndexForward=False)["Items"]]
    assert back == sorted(order, reverse=True)
    walked = [
        int(item["at"]["N"])
        for page in pages(service, table, pk, Limit=4, ScanIndexForward=False)
        for item in page["Items"]
    ]
    assert walked == back


@pytest.fixture(scope="session")
def tens(service: Service, sorted_by_number: str) -> Item:
    """Ten items, with sort keys 0 to 9."""
    pk = {"S": service.unique("tens")}
    fill(service, sorted_by_number, [{"pk": pk, "sk": {"N": str(n)}, "odd": {"BOOL": n % 2 == 1}} for n in range(10)])
    return pk


def sort_keys(answer: dict[str, Any]) -> list[int]:
    return [int(item["sk"]["N"]) for item in answer["Items"]]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("sk = :a", [3]),
        ("sk < :a", [0, 1, 2]),
        ("sk <= :a", [0, 1, 2, 3]),
        ("sk > :b", [7, 8, 9]),
        ("sk >= :b", [6, 7, 8, 9]),
        ("sk BETWEEN :a AND :b", [3, 4, 5, 6]),
        ("sk between :a and :a", [3]),
        (":a < sk", [4, 5, 6, 7, 8, 9]),
        (":a = sk", [3]),
        ("(sk >= :b)", [6, 7, 8, 9]),
    ],
)
def test_a_condition_on_the_sort_key_selects_a_range(
    service: Service, sorted_by_number: str, tens: Item, sort: str, expected: list[int]
) -> None:
    values = {name: value for name, value in {":a": {"N": "3"}, ":b": {"N": "6"}}.items() if name in sort}
    found = query(service, sorted_by_number, tens, sort=sort, values=values)
    assert sort_keys(found) == expected
    back = query(service, sorted_by_number, tens, sort=sort, values=values, ScanIndexForward=False)
    assert sort_keys(back) == expected[::-1]


def test_begins_with_on_the_sort_key(service: Service, sorted_table: str, sorted_by_binary: str) -> None:
    pk = {"S": service.unique()}
    texts = ["a", "ab", "ab\x00", "abc", "ab🐎", "ac", "b"]
    fill(service, sorted_table, [{"pk": pk, "sk": {"S": text}} for text in texts])
    found = query(service, sorted_table, pk, sort="begins_with(sk, :p)", values={":p": {"S": "ab"}})
    assert [item["sk"]["S"] for item in found["Items"]] == ["ab", "ab\x00", "abc", "ab🐎"]
    raws = [b"\xfe", b"\xff", b"\xff\x00", b"\xff\xff", b"\xff\xff\x01"]
    fill(service, sorted_by_binary, [{"pk": pk, "sk": {"B": b64(raw)}} for raw in raws])
    for prefix, expected in ((b"\xff", raws[1:]), (b"\xff\xff", raws[3:]), (b"\xfe", raws[:1])):
        found = query(service, sorted_by_binary, pk, sort="begins_with(sk, :p)", values={":p": {"B": b64(prefix)}})
        assert [item["sk"]["B"] for item in found["Items"]] == [b64(raw) for raw in expected]


@pytest.mark.parametrize(
    ("condition", "values", "message"),
    [
        ("sk = :n", [":n"], "Query condition missed key schema element: pk"),
        ("x = :s", [":s"], "Query condition missed key schema element: pk"),
        ("pk = :s AND x = :n", [":s", ":n"], "Query condition missed key schema element: sk"),
        ("pk > :s", [":s"], "Query key condition not supported"),
        ("begins_with(pk, :s)", [":s"], "Query key condition not supported"),
        ("pk BETWEEN :s AND :s", [":s"], "Query key condition not supported"),
        ("pk <> :s", [":s"], "Invalid operator used in KeyConditionExpression: <>"),
        ("pk = :s AND sk <> :n", [":s", ":n"], "Invalid operator used in KeyConditionExpression: <>"),
        ("pk = :s OR sk = :n", [":s", ":n"], "Invalid operator used in KeyConditionExpression: OR"),
        ("pk = :s AND NOT sk = :n", [":s", ":n"], "Invalid operator used in KeyConditionExpression: NOT"),
        ("pk = :s AND sk IN (:n)", [":s", ":n"], "Invalid operator used in KeyConditionExpression: IN"),
        ("pk = :s AND contains(sk, :s)", [":s"], "Invalid operator used in KeyConditionExpression: contains"),
        ("pk = :s AND attribute_exists(sk)", [":s"],
         "Invalid operator used in KeyConditionExpression: attribute_exists"),
        ("pk = :s AND size(sk) = :n", [":s", ":n"], "KeyConditionExpressions cannot contain nested operations"),
        ("pk = :s AND sk.x = :n", [":s", ":n"],
         "Invalid KeyConditionExpression: KeyConditionExpressions cannot have conditions on nested attributes"),
        ("pk = :s AND sk[0] = :n", [":s", ":n"],
         "Invalid KeyConditionExpression: KeyConditionExpressions cannot have conditions on nested attributes"),
        ("pk = :s AND pk = :s", [":s"], "KeyConditionExpressions must only contain one condition per key"),
        ("pk = :s AND sk > :n AND sk < :n", [":s", ":n"],
         "KeyConditionExpressions must only contain one condition per key"),
        ("pk = :s AND sk = x", [":s"],
         "Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition"),
        ("pk = :s AND :n = :n", [":s", ":n"],
         "Invalid condition in KeyConditionExpression: No key attribute specified"),
        ("pk = :n", [":n"],
         "One or more parameter values were invalid: Condition parameter type does not match schema type"),
        ("pk = :s AND sk = :s", [":s"],
         "One or more parameter values were invalid: Condition parameter type does not match schema type"),
        ("pk = :s AND sk BETWEEN :two AND :n", [":s", ":two", ":n"],
         "Invalid KeyConditionExpression: The BETWEEN operator requires upper bound to be greater than or equal to "
         "lower bound; lower bound operand: AttributeValue: {N:2}, upper bound operand: AttributeValue: {N:1}"),
        ("pk = :s AND begins_with(sk, :n)", [":s", ":n"],
         "Invalid KeyConditionExpression: Incorrect operand type for operator or function; "
         "operator or function: begins_with, operand type: N"),
        ("pk = :e", [":e"],
         "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty "
         "string value. Key: pk"),
        ("pk = :long", [":long"],
         "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 bytes"),
        ("pk = :s AND sk =", [":s"], 'Invalid KeyConditionExpression: Syntax error; token: "<EOF>", near: "="'),
        ("", [], "Invalid KeyConditionExpression: The expression can not be empty;"),
        ("pk = :s AND name = :n", [":s", ":n"],
         "Invalid KeyConditionExpression: Attribute name is a reserved keyword; reserved keyword: name"),
        ("pk = :s AND sk = :nope", [":s"],
         "Invalid KeyConditionExpression: An expression attribute value used in expression is not defined; "
         "attribute value: :nope"),
    ],
)  # fmt: skip
def test_a_wrong_key_condition_is_refused(
    service: Service, sorted_by_number: str, condition: str, values: list[str], message: str
) -> None:
    offered: Item = {
        ":s": {"S": "x"},
        ":n": {"N": "1"},
        ":two": {"N": "2"},
        ":e": {"S": ""},
        ":long": {"S": "x" * 2049},
    }
    body: Item = {"TableName": sorted_by_number, "KeyConditionExpression": condition}
    if values:
        body["ExpressionAttributeValues"] = {name: offered[name] for name in values}
    assert service.invalid("Query", **body) == message


def test_a_table_without_sort_key_takes_one_condition(service: Service, table: str) -> None:
    body = {"TableName": table, "ExpressionAttributeValues": {":s": {"S": "x"}, ":n": {"N": "1"}}}
    message = service.invalid("Query", **body, KeyConditionExpression="pk = :s AND sk = :n")
    assert message == "Query key condition not supported"


def test_a_query_needs_a_key_condition(service: Service, table: str) -> None:
    assert service.invalid("Query", TableName=table) == (
        "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."
    )


# --- pages ----------------------------------------------------------------------------------------------


def test_limit_counts_evaluated_items_and_the_filter_comes_after(
    service: Service, sorted_by_number: str, tens: Item
) -> None:
    odd: dict[str, Any] = {"FilterExpression": "odd = :t", "values": {":t": {"BOOL": True}}}
    page = query(service, sorted_by_number, tens, Limit=3, **odd)
    assert (page["Count"], page["ScannedCount"], sort_keys(page)) == (1, 3, [1])
    assert page["LastEvaluatedKey"] == {"pk": tens, "sk": {"N": "2"}}
    all_pages = []
    start: Item = {}
    while True:
        page = query(
            service,
            sorted_by_number,
            tens,
            Limit=3,
            FilterExpression="odd = :t",
            values={":t": {"BOOL": True}},
            **start,
        )
        all_pages.append(page)
        if "LastEvaluatedKey" not in page:
            break
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    assert [number for page in all_pages for number in sort_keys(page)] == [1, 3, 5, 7, 9]
    assert [page["ScannedCount"] for page in all_pages] == [3, 3, 3, 1]


def test_a_page_that_ends_at_its_limit_has_a_last_key_even_when_nothing_follows(
    service: Service, sorted_by_number: str, tens: Item
) -> None:
    page = query(service, sorted_by_number, tens, Limit=10)
    assert page["LastEvaluatedKey"] == {"pk": tens, "sk": {"N": "9"}}
    rest = query(service, sorted_by_number, tens, Limit=10, ExclusiveStartKey=page["LastEvaluatedKey"])
    assert (rest["Count"], rest["ScannedCount"], rest["Items"]) == (0, 0, [])
    assert "LastEvaluatedKey" not in rest
    assert "LastEvaluatedKey" not in query(service, sorted_by_number, tens, Limit=11)
    assert "LastEvaluatedKey" not in query(service, sorted_by_number, tens)


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 4])
def test_pages_together_are_the_whole(
    service: Service, sorted_by_number: str, tens: Item, forward: bool, limit: int
) -> None:
    found = pages(service, sorted_by_number, tens, Limit=limit, ScanIndexForward=forward)
    numbers = [number for page in found for number in sort_keys(page)]
    assert numbers == list(range(10)) if forward else list(range(10))[::-1]


def test_a_start_key_need_not_exist(service: Service, sorted_by_number: str, tens: Item) -> None:
    start = {"pk": tens, "sk": {"N": "4.5"}}
    assert sort_keys(query(service, sorted_by_number, tens, ExclusiveStartKey=start)) == [5, 6, 7, 8, 9]
    back = query(service, sorted_by_number, tens, ExclusiveStartKey=start, ScanIndexForward=False)
    assert sort_keys(back) == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({}, INVALID_START),
        ({"pk": {"S": "x"}}, INVALID_START),
        ({"pk": {"S": "x"}, "sk": {"N": "1"}, "x": {"N": "1"}}, INVALID_START),
        ({"pk": {"S": "x"}, "other": {"N": "1"}}, INVALID_START),
        ({"pk": {"S": "x"}, "sk": {"S": "1"}}, INVALID_START),
        (
            {"pk": {"S": "x"}, "sk": {"N": "one"}},
            f"{INVALID_START}: The parameter cannot be converted to a numeric value: one",
        ),
        (
            {"pk": {"S": "another"}, "sk": {"N": "1"}},
            "The provided starting key is outside query boundaries based on provided conditions",
        ),
    ],
)
def test_a_start_key_must_be_one_of_the_query(
    service: Service, sorted_by_number: str, start: Item, message: str
) -> None:
    found = service.invalid(
        "Query",
        TableName=sorted_by_number,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "x"}},
        ExclusiveStartKey=start,
    )
    assert found == message


def test_a_start_key_must_satisfy_the_sort_condition(service: Service, sorted_by_number: str, tens: Item) -> None:
    message = service.invalid(
        "Query",
        TableName=sorted_by_number,
        KeyConditionExpression="pk = :pk AND sk > :five",
        ExpressionAttributeValues={":pk": tens, ":five": {"N": "5"}},
        ExclusiveStartKey={"pk": tens, "sk": {"N": "2"}},
    )
    assert message == "The provided starting key does not match the range key predicate"


def test_a_page_holds_one_megabyte_of_items(service: Service, sorted_by_number: str) -> None:
    pk = {"S": service.unique()}
    blob = "x" * (100 * 1024)
    for start in range(0, 24, 8):
        items = [{"pk": pk, "sk": {"N": str(n)}, "v": {"S": blob}} for n in range(start, start + 8)]
        fill(service, sorted_by_number, items)
    found = pages(service, sorted_by_number, pk)
    assert [number for page in found for number in sort_keys(page)] == list(range(24))
    assert [page["Count"] for page in found] in ([11, 11, 2], [10, 10, 4])  # about 1 MB; the guide leaves the edge open
    counts = pages(service, sorted_by_number, pk, Select="COUNT")
    assert [page["Count"] for page in counts] == [page["Count"] for page in found]
    assert all("Items" not in page for page in counts)
    small = pages(service, sorted_by_number, pk, ProjectionExpression="sk")
    assert [page["Count"] for page in small] == [page["Count"] for page in found]  # measured before the projection
    none = query(service, sorted_by_number, pk, FilterExpression="v = :v", values={":v": {"S": "nothing"}}, Limit=24)
    assert (none["Count"], none["Items"]) == (0, [])
    assert none["ScannedCount"] == found[0]["Count"]  # measured before the filter


def test_select_says_what_is_returned(service: Service, sorted_by_number: str, tens: Item) -> None:
    count = query(service, sorted_by_number, tens, Select="COUNT", Limit=4)
    assert (count["Count"], count["ScannedCount"], "Items" in count) == (4, 4, False)
    assert "LastEvaluatedKey" in count
    filtered = query(
        service, sorted_by_number, tens, Select="COUNT", FilterExpression="odd = :t", values={":t": {"BOOL": True}}
    )
    assert (filtered["Count"], filtered["ScannedCount"]) == (5, 10)
    assert query(service, sorted_by_number, tens, Select="ALL_ATTRIBUTES")["Count"] == 10
    specific = query(service, sorted_by_number, tens, Select="SPECIFIC_ATTRIBUTES", ProjectionExpression="odd")
    assert specific["Items"][0] == {"odd": {"BOOL": False}}


@pytest.mark.parametrize(
    ("select", "projection", "message"),
    [
        ("COUNT", "odd", "Cannot specify the ProjectionExpression when choosing to get only the Count"),
        ("ALL_ATTRIBUTES", "odd", "Cannot specify the ProjectionExpression when choosing to get ALL_ATTRIBUTES"),
        ("SPECIFIC_ATTRIBUTES", None,
         "One or more parameter values were invalid: Must specify the AttributesToGet or ProjectionExpression when "
         "choosing to get SPECIFIC_ATTRIBUTES"),
        ("ALL_PROJECTED_ATTRIBUTES", None,
         "One or more parameter values were invalid: ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an "
         "IndexName"),
        ("EVERYTHING", None,
         "1 validation error detected: Value 'EVERYTHING' at 'select' failed to satisfy constraint: Member must "
         "satisfy enum value set: [SPECIFIC_ATTRIBUTES, COUNT, ALL_ATTRIBUTES, ALL_PROJECTED_ATTRIBUTES]"),
    ],
)  # fmt: skip
def test_a_select_that_contradicts_the_request_is_refused(
    service: Service, sorted_by_number: str, tens: Item, select: str, projection: str | None, message: str
) -> None:
    body: Item = {
        "TableName": sorted_by_number,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": tens},
        "Select": select,
    }
    if projection:
        body["ProjectionExpression"] = projection
    assert service.invalid("Query", **body) == message


def test_a_filter_cannot_name_a_key_attribute(service: Service, sorted_by_number: str, tens: Item) -> None:
    body: Item = {
        "TableName": sorted_by_number,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": tens},
    }
    for filter_, name in (
        ("attribute_exists(sk)", "sk"),
        ("pk = :pk", "pk"),
        ("odd = :pk OR NOT size(sk) = :pk", "sk"),
    ):
        assert service.invalid("Query", **body, FilterExpression=filter_) == (
            f"Filter Expression can only contain non-primary key attributes: Primary key attribute: {name}"
        )


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(service: Service, table: str, limit: int) -> None:
    expected = (
        f"1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: "
        "Member must have value greater than or equal to 1"
    )
    assert service.invalid("Scan", TableName=table, Limit=limit) == expected
    assert service.invalid("Query", TableName=table, Limit=limit) == expected
