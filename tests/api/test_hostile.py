"""Damaged requests: whatever a client sends, the answer is a proper one and never an internal error."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from tests.api.service import Item, Service

ROUNDS = 120
KNOWN = {
    "ValidationException",
    "SerializationException",
    "ResourceNotFoundException",
    "ResourceInUseException",
    "ConditionalCheckFailedException",
}
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 1e300, 1.5, "", " ", "a", "\x00", "é", "🐎", "a" * 300,
    [], [None], [[]], {}, {"": {}}, {"S": None}, {"S": "x"}, {"N": "1"}, {"N": "1e400"}, {"B": "====="}, {"L": [{}]},
    {"M": {"": {"S": ""}}}, {"SS": [""]}, {"NS": [""]}, {"BOOL": 1}, {"NULL": "x"}, [{"S": "a"}], "NONE", "ALL_OLD",
    "#a", ":v", "a = :v", "SET a = :v", "((((", "a[0]", "a.b.c", "size(a) > :v", "arn:aws:dynamodb:x:y:table/z",
]  # fmt: skip


def requests(table: str, pk: str) -> list[tuple[str, Item]]:
    key = {"pk": {"S": pk}}
    names, values = {"#a": "a"}, {":v": {"N": "1"}}
    both: Item = {"ExpressionAttributeNames": names, "ExpressionAttributeValues": values}
    condition: Item = {"ConditionExpression": "#a = :v", **both}
    return [
        ("GetItem", {"TableName": table, "Key": key, "ProjectionExpression": "#a", "ExpressionAttributeNames": names}),
        ("PutItem", {"TableName": table, "Item": {**key, "l": {"L": [{"M": {"x": {"NS": ["1"]}}}]}}, **condition}),
        ("UpdateItem", {"TableName": table, "Key": key, "UpdateExpression": "SET #a = :v", "ReturnValues": "ALL_NEW",
                        **both}),
        ("DeleteItem", {"TableName": table, "Key": key, "ReturnConsumedCapacity": "TOTAL", **condition}),
        ("Query", {"TableName": table, "KeyConditionExpression": "pk = :v", "Limit": 2, "ScanIndexForward": False,
                   "ExclusiveStartKey": key, "ExpressionAttributeValues": {":v": key["pk"]}}),
        ("Scan", {"TableName": table, "FilterExpression": "#a = :v", "Segment": 0, "TotalSegments": 2, "Limit": 1,
                  "Select": "COUNT", **both}),
        ("BatchGetItem", {"RequestItems": {table: {"Keys": [key], "ConsistentRead": True}}}),
        ("BatchWriteItem", {"RequestItems": {table: [{"PutRequest": {"Item": key}}]}}),
        ("ListTables", {"Limit": 1, "ExclusiveStartTableName": "abc"}),
        ("DescribeTable", {"TableName": table}),
    ]  # fmt: skip


def damaged(body: Item, chooser: random.Random) -> Any:
    """The body with one of its parts, at any depth, replaced, removed, or joined by another."""
    body = copy.deepcopy(body)
    holder: Any = body
    while True:
        places: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not places:
            return body
        place = chooser.choice(places)
        below = holder[place]
        if isinstance(below, dict | list) and below and chooser.random() < 0.7:
            holder = below
            continue
        action = chooser.randrange(4)
        if action == 0:
            del holder[place]
        elif action == 1 and isinstance(holder, dict):
            holder[str(chooser.choice(ODD))] = holder.pop(place)
        elif action == 2 and isinstance(holder, list):
            holder.append(chooser.choice(ODD))
        else:
            holder[place] = copy.deepcopy(chooser.choice(ODD))
        return body


@pytest.mark.parametrize("position", range(10))
def test_a_damaged_request_gets_a_proper_answer(service: Service, table: str, position: int) -> None:
    chooser = random.Random(position)
    operation, body = requests(table, service.unique())[position]
    for _ in range(ROUNDS):
        broken = damaged(body, chooser)
        if chooser.random() < 0.3:
            broken = damaged(broken, chooser)
        answer = service.call(operation, broken)
        assert answer.status == 200 or (answer.status == 400 and answer.code in KNOWN), (operation, broken, answer)


def mangled(text: str, chooser: random.Random) -> str:
    words = text.split()
    pieces = [
        "(",
        ")",
        ",",
        "[",
        "]",
        "[0]",
        ".",
        "#",
        ":",
        "=",
        "<>",
        "AND",
        "NOT",
        "IN",
        "SET",
        "+",
        "a",
        "size",
        "#a",
        ":v",
        "_",
    ]
    for _ in range(chooser.randrange(1, 4)):
        words.insert(chooser.randrange(len(words) + 1), chooser.choice(pieces))
        if chooser.random() < 0.5:
            words.pop(chooser.randrange(len(words)))
    return " ".join(words)


@pytest.mark.parametrize(
    ("operation", "parameter", "text"),
    [
        (
            "DeleteItem",
            "ConditionExpression",
            "NOT ( #a = :v OR size ( a ) > :v ) AND contains ( a , :v ) AND a IN ( :v )",
        ),
        ("UpdateItem", "UpdateExpression", "SET #a = if_not_exists ( a , :v ) + :v REMOVE b [ 1 ] ADD c :v"),
        ("GetItem", "ProjectionExpression", "#a , b . c [ 1 ] , d"),
        ("Query", "KeyConditionExpression", "#a = :v AND begins_with ( b , :v ) AND c BETWEEN :v AND :v"),
    ],
)
def test_a_mangled_expression_gets_a_proper_answer(
    service: Service, table: str, operation: str, parameter: str, text: str
) -> None:
    chooser = random.Random(text)
    key = {} if operation == "Query" else {"Key": {"pk": {"S": service.unique()}}}
    placeholders: Item = {"ExpressionAttributeNames": {"#a": "a"}}
    if operation != "GetItem":
        placeholders["ExpressionAttributeValues"] = {":v": {"N": "1"}}
    for _ in range(ROUNDS):
        expression = mangled(text, chooser)
        answer = service.call(operation, {"TableName": table, **key, parameter: expression, **placeholders})
        assert answer.status == 200 or (answer.status == 400 and answer.code in KNOWN), (expression, answer)


@pytest.mark.parametrize("depth", [33, 200, 500, 5000])
@pytest.mark.parametrize("tag", ["L", "M"])
def test_very_deep_values_are_refused(service: Service, table: str, depth: int, tag: str) -> None:
    opening, closing = ('{"L":[', "]}") if tag == "L" else ('{"M":{"a":', "}}")
    value = opening * depth + '{"S":"x"}' + closing * depth
    for item in (f'{{"pk":{{"S":"d"}},"v":{value}}}', f'{{"pk":{value}}}'):
        answer = service.call("PutItem", f'{{"TableName":"{table}","Item":{item}}}'.encode())
        assert answer.status == 400
        assert answer.code in ("ValidationException", "SerializationException")


@pytest.mark.parametrize("text", ["(" * 2000, "NOT " * 1000, "size(" * 800, "a" + "[0]" * 1300, "a" + ".b" * 2000])
def test_very_deep_expressions_are_answered(service: Service, table: str, key: Item, text: str) -> None:
    for expression in (text, text + " = a2"):
        body = {"TableName": table, "Key": key, "ConditionExpression": expression}
        answer = service.call("DeleteItem", body)
        assert answer.status == 400
        assert answer.code in KNOWN
