"""Update expressions: what each action does to an item, what it needs of the item, and what ReturnValues tells."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.service import Item, Service

NO_ATTRIBUTE = "The provided expression refers to an attribute that does not exist in the item"
INVALID_PATH = "The document path provided in the update expression is invalid for update"
WRONG_TYPE = "An operand in the update expression has an incorrect data type"
OVERFLOW = "Number overflow. Attempting to store a number with magnitude larger than supported range"

BEFORE: Item = {
    "s": {"S": "text"},
    "n": {"N": "10"},
    "max": {"N": "9" * 38 + "0" * 88},
    "ss": {"SS": ["a", "b"]},
    "ns": {"NS": ["1", "2"]},
    "bs": {"BS": ["AQ==", "Ag=="]},
    "l": {"L": [{"N": "0"}, {"N": "1"}, {"N": "2"}, {"M": {"k": {"S": "v"}}}]},
    "m": {"M": {"a": {"N": "1"}, "b": {"M": {"c": {"S": "x"}}}}},
    "z": {"NULL": True},
}
V: Item = {
    ":s": {"S": "new"},
    ":t": {"S": "other"},
    ":n": {"N": "2.5"},
    ":one": {"N": "1"},
    ":max": {"N": "9" * 38 + "0" * 88},
    ":tiny": {"N": "1E-130"},
    ":l": {"L": [{"S": "p"}, {"S": "q"}]},
    ":el": {"L": []},
    ":m": {"M": {"x": {"N": "1"}}},
    ":ss": {"SS": ["b", "c"]},
    ":all": {"SS": ["a", "b"]},
    ":ns": {"NS": ["2.0", "-3"]},
    ":bs": {"BS": ["Ag==", "Aw=="]},
    ":z": {"NULL": True},
    ":t1": {"BOOL": True},
}
NUM = [{"N": "0"}, {"N": "1"}, {"N": "2"}]
MAP = {"M": {"k": {"S": "v"}}}


def used(expression: str) -> Item:
    return {name: V[name] for name in re.findall(r":\w+", expression)}


def body_of(table: str, key: Item, expression: str, **more: Any) -> Item:
    values = used(expression)
    body: Item = {"TableName": table, "Key": key, "UpdateExpression": expression, **more}
    if values:
        body["ExpressionAttributeValues"] = values
    return body


# Expression, and what is different afterwards; None: the attribute is gone.
WORKS: list[tuple[str, Item]] = [
    ("SET s = :s", {"s": {"S": "new"}}),
    ("set s = :s", {"s": {"S": "new"}}),
    ("SET s = :s, x = :n", {"s": {"S": "new"}, "x": {"N": "2.5"}}),
    ("SET s = n, n = s", {"s": {"N": "10"}, "n": {"S": "text"}}),  # every right side sees the old item
    ("SET n = n + :n", {"n": {"N": "12.5"}}),
    ("SET n = n - :n", {"n": {"N": "7.5"}}),
    ("SET n = :n - n", {"n": {"N": "-7.5"}}),
    ("SET n = (n + :n)", {"n": {"N": "12.5"}}),
    ("SET x = :n + :n", {"x": {"N": "5"}}),
    ("SET x = n + m.a", {"x": {"N": "11"}}),
    ("SET x = if_not_exists(x, :s)", {"x": {"S": "new"}}),
    ("SET s = if_not_exists(s, :s)", {}),
    ("SET z = if_not_exists(z, :s)", {}),
    ("SET x = if_not_exists(s, :s)", {"x": {"S": "text"}}),
    ("SET x = if_not_exists(x, :one) + :one", {"x": {"N": "2"}}),
    ("SET n = if_not_exists(n, :one) + :one", {"n": {"N": "11"}}),
    ("SET x = if_not_exists(x, if_not_exists(y, :s))", {"x": {"S": "new"}}),
    ("SET m.d = if_not_exists(m.b.c, :s)", {"m": {"M": {**BEFORE["m"]["M"], "d": {"S": "x"}}}}),
    ("SET x = list_append(:l, :l)", {"x": {"L": V[":l"]["L"] * 2}}),
    ("SET l = list_append(l, :l)", {"l": {"L": BEFORE["l"]["L"] + V[":l"]["L"]}}),
    ("SET l = list_append(:l, l)", {"l": {"L": V[":l"]["L"] + BEFORE["l"]["L"]}}),
    ("SET x = list_append(if_not_exists(x, :el), :l)", {"x": V[":l"]}),
    ("SET x = list_append(l, l)", {"x": {"L": BEFORE["l"]["L"] * 2}}),
    ("SET l[1] = :s", {"l": {"L": [{"N": "0"}, {"S": "new"}, {"N": "2"}, MAP]}}),
    ("SET l[4] = :s", {"l": {"L": [*NUM, MAP, {"S": "new"}]}}),
    ("SET l[99] = :s", {"l": {"L": [*NUM, MAP, {"S": "new"}]}}),
    ("SET l[9] = :s, l[7] = :t", {"l": {"L": [*NUM, MAP, {"S": "other"}, {"S": "new"}]}}),
    ("SET l[3].k = :s", {"l": {"L": [*NUM, {"M": {"k": {"S": "new"}}}]}}),
    ("SET l[0] = l[1], l[1] = l[0]", {"l": {"L": [{"N": "1"}, {"N": "0"}, {"N": "2"}, MAP]}}),
    ("SET m.a = :s", {"m": {"M": {"a": {"S": "new"}, "b": BEFORE["m"]["M"]["b"]}}}),
    ("SET m.b.c = :s", {"m": {"M": {"a": {"N": "1"}, "b": {"M": {"c": {"S": "new"}}}}}}),
    ("SET m.b.d = :s, m.a = :n", {"m": {"M": {"a": {"N": "2.5"}, "b": {"M": {"c": {"S": "x"}, "d": {"S": "new"}}}}}}),
    ("SET s = :m", {"s": V[":m"]}),
    ("REMOVE s", {"s": None}),
    ("REMOVE s, n, x", {"s": None, "n": None}),
    ("REMOVE l[0]", {"l": {"L": [{"N": "1"}, {"N": "2"}, MAP]}}),
    ("REMOVE l[0], l[2]", {"l": {"L": [{"N": "1"}, MAP]}}),
    ("REMOVE l[2], l[0]", {"l": {"L": [{"N": "1"}, MAP]}}),
    ("REMOVE l[9]", {}),
    ("REMOVE l[3].k", {"l": {"L": [*NUM, {"M": {}}]}}),
    ("REMOVE m.a", {"m": {"M": {"b": BEFORE["m"]["M"]["b"]}}}),
    ("REMOVE m.x", {}),
    ("REMOVE m.b.c", {"m": {"M": {"a": {"N": "1"}, "b": {"M": {}}}}}),
    ("SET l[1] = :s REMOVE l[0]", {"l": {"L": [{"S": "new"}, {"N": "2"}, MAP]}}),
    ("ADD n :n", {"n": {"N": "12.5"}}),
    ("ADD x :n", {"x": {"N": "2.5"}}),
    ("ADD m.a :n", {"m": {"M": {"a": {"N": "3.5"}, "b": BEFORE["m"]["M"]["b"]}}}),
    ("ADD l[1] :n", {"l": {"L": [{"N": "0"}, {"N": "3.5"}, {"N": "2"}, MAP]}}),
    ("ADD ss :ss", {"ss": {"SS": ["a", "b", "c"]}}),
    ("ADD ns :ns", {"ns": {"NS": ["-3", "1", "2"]}}),
    ("ADD bs :bs", {"bs": {"BS": ["AQ==", "Ag==", "Aw=="]}}),
    ("ADD x :ss", {"x": {"SS": ["b", "c"]}}),
    ("DELETE ss :ss", {"ss": {"SS": ["a"]}}),
    ("DELETE ns :ns", {"ns": {"NS": ["1"]}}),
    ("DELETE bs :bs", {"bs": {"BS": ["AQ=="]}}),
    ("DELETE ss :all", {"ss": None}),
    ("DELETE x :ss", {}),
    ("SET s = :s REMOVE n ADD ns :ns DELETE ss :ss",
     {"s": {"S": "new"}, "n": None, "ns": {"NS": ["-3", "1", "2"]}, "ss": {"SS": ["a"]}}),
    ("DELETE ss :ss ADD n :n REMOVE m SET s = :s",
     {"s": {"S": "new"}, "n": {"N": "12.5"}, "m": None, "ss": {"SS": ["a"]}}),
    ("SET x = n REMOVE n", {"x": {"N": "10"}, "n": None}),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "difference"), WORKS)
def test_an_update_changes_what_it_names_and_nothing_else(
    service: Service, table: str, key: Item, expression: str, difference: Item
) -> None:
    service.do("PutItem", TableName=table, Item={**key, **BEFORE})
    body = body_of(table, key, expression, ReturnValues="ALL_NEW")
    answer = service.do("UpdateItem", **body)
    expected = {name: value for name, value in {**key, **BEFORE, **difference}.items() if value is not None}
    found = service.get(table, key) or {}
    assert with_sorted_sets(found) == with_sorted_sets(expected)
    assert with_sorted_sets(answer["Attributes"]) == with_sorted_sets(expected)


def with_sorted_sets(item: Item) -> Item:
    return {
        name: {tag: sorted(content) if tag in ("SS", "NS", "BS") else content for tag, content in value.items()}
        for name, value in item.items()
    }


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("SET x = y", NO_ATTRIBUTE),
        ("SET x = y + :one", NO_ATTRIBUTE),
        ("SET x = l[9]", NO_ATTRIBUTE),
        ("SET x = m.x", NO_ATTRIBUTE),
        ("SET x = list_append(y, :l)", NO_ATTRIBUTE),
        ("SET x.y = :s", INVALID_PATH),
        ("SET s.y = :s", INVALID_PATH),
        ("SET s[0] = :s", INVALID_PATH),
        ("SET m[0] = :s", INVALID_PATH),
        ("SET l.x = :s", INVALID_PATH),
        ("SET l[9].x = :s", INVALID_PATH),
        ("SET m.x.y = :s", INVALID_PATH),
        ("REMOVE x.y", INVALID_PATH),
        ("REMOVE s.y", INVALID_PATH),
        ("REMOVE m[0]", INVALID_PATH),
        ("ADD x.y :one", INVALID_PATH),
        ("SET x = s + :one", WRONG_TYPE),
        ("SET x = :one - s", WRONG_TYPE),
        ("SET x = list_append(s, :l)", WRONG_TYPE),
        ("SET x = list_append(ss, :l)", WRONG_TYPE),
        ("ADD s :one", WRONG_TYPE),
        ("ADD l :one", WRONG_TYPE),
        ("ADD ss :one", WRONG_TYPE),
        ("ADD ss :ns", WRONG_TYPE),
        ("ADD n :ss", WRONG_TYPE),
        ("DELETE ss :ns", WRONG_TYPE),
        ("DELETE s :ss", WRONG_TYPE),
        ("DELETE n :ss", WRONG_TYPE),
        ("SET n = #max + :max", OVERFLOW),
        ("ADD #max :max", OVERFLOW),
    ],
)
def test_an_update_that_does_not_fit_the_item_changes_nothing(
    service: Service, table: str, key: Item, expression: str, message: str
) -> None:
    item = {**key, **BEFORE}
    service.do("PutItem", TableName=table, Item=item)
    names = {"ExpressionAttributeNames": {"#max": "max"}} if "#max" in expression else {}
    assert service.invalid("UpdateItem", **body_of(table, key, expression, **names)) == message
    found = service.get(table, key) or {}
    assert with_sorted_sets(found) == with_sorted_sets(item)


REFUSED = [
    ("", "The expression can not be empty;"),
    ("SET", 'Syntax error; token: "<EOF>", near: "SET"'),
    ("s = :s", 'Syntax error; token: "s", near: "s ="'),
    ("SET s :s", 'Syntax error; token: ":s", near: "s :s"'),
    ("SET s = :s,", 'Syntax error; token: "<EOF>", near: ","'),
    ("SET s = :s SET n = :n", 'The "SET" section can only be used once in an update expression;'),
    ("REMOVE s REMOVE n", 'The "REMOVE" section can only be used once in an update expression;'),
    ("SET s = :s + :n + :n", None),
    ("SET s = :n * :n", None),
    ("ADD s n", 'Syntax error; token: "n", near: "s n"'),
    ("ADD s = :n", 'Syntax error; token: "=", near: "s = :n"'),
    ("DELETE ss", 'Syntax error; token: "<EOF>", near: "ss"'),
    ("REMOVE ss :ss", None),
    ("SET s = attribute_exists(s)",
     "The function is not allowed in an update expression; function: attribute_exists"),
    ("SET s = size(s)", "The function is not allowed in an update expression; function: size"),
    ("SET s = nonsense(s)", "Invalid function name; function: nonsense"),
    ("SET s = IF_NOT_EXISTS(s, :s)", "Invalid function name; function: IF_NOT_EXISTS"),
    ("SET s = if_not_exists(:s, :s)",
     "Operator or function requires a document path; operator or function: if_not_exists"),
    ("SET s = if_not_exists(s)",
     "Incorrect number of operands for operator or function; operator or function: if_not_exists, "
     "number of operands: 1"),
    ("SET s = list_append(:l)",
     "Incorrect number of operands for operator or function; operator or function: list_append, number of operands: 1"),
    ("SET s = list_append(l, :s)",
     "Incorrect operand type for operator or function; operator or function: list_append, operand type: S"),
    ("SET s = n + :s", "Incorrect operand type for operator or function; operator or function: +, operand type: S"),
    ("SET s = :z - n", "Incorrect operand type for operator or function; operator or function: -, operand type: NULL"),
    ("ADD s :s",
     "Incorrect operand type for operator or function; operator: ADD, operand type: STRING, "
     "typeSet: ALLOWED_FOR_ADD_OPERAND"),
    ("ADD s :l",
     "Incorrect operand type for operator or function; operator: ADD, operand type: LIST, "
     "typeSet: ALLOWED_FOR_ADD_OPERAND"),
    ("DELETE s :n",
     "Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER, "
     "typeSet: ALLOWED_FOR_DELETE_OPERAND"),
    ("SET s = :s, s = :t",
     "Two document paths overlap with each other; must remove or rewrite one of these paths; "
     "path one: [s], path two: [s]"),
    ("SET s = :s REMOVE s",
     "Two document paths overlap with each other; must remove or rewrite one of these paths; "
     "path one: [s], path two: [s]"),
    ("SET m.a = :s REMOVE m",
     "Two document paths overlap with each other; must remove or rewrite one of these paths; "
     "path one: [m, a], path two: [m]"),
    ("SET l[0] = :s, l[0].x = :t",
     "Two document paths overlap with each other; must remove or rewrite one of these paths; "
     "path one: [l, [0]], path two: [l, [0], x]"),
    ("SET m.a = :s, m[0] = :t",
     "Two document paths conflict with each other; must remove or rewrite one of these paths; "
     "path one: [m, a], path two: [m, [0]]"),
    ("SET ttl = :s", "Attribute name is a reserved keyword; reserved keyword: ttl"),
    ("REMOVE m.Values", "Attribute name is a reserved keyword; reserved keyword: Values"),
    ("SET s = :zz", "An expression attribute value used in expression is not defined; attribute value: :zz"),
    ("SET #zz = :s", "An expression attribute name used in the document path is not defined; attribute name: #zz"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "reason"), REFUSED)
def test_a_wrong_update_is_refused_before_the_item_is_looked_at(
    service: Service, table: str, expression: str, reason: str | None
) -> None:
    values = {
        name: value for name, value in V.items() if name in expression.replace(",", " ").replace(")", " ").split()
    }
    values |= {name: V[name] for name in (":s", ":l") if f"({name}" in expression}
    body: Item = {"TableName": table, "Key": {"pk": {"S": "no-such-item"}}, "UpdateExpression": expression}
    if values:
        body["ExpressionAttributeValues"] = values
    message = service.invalid("UpdateItem", **body)
    assert message.startswith("Invalid UpdateExpression: ")
    assert reason is None or message == f"Invalid UpdateExpression: {reason}"


def test_an_update_makes_the_item_that_is_missing(service: Service, table: str, key: Item) -> None:
    service.do("UpdateItem", TableName=table, Key=key)
    assert service.get(table, key) == key
    other = {"pk": {"S": service.unique()}}
    service.do("UpdateItem", **body_of(table, other, "REMOVE x DELETE ss :ss"))
    assert service.get(table, other) is None  # taking attributes away makes no item
    third = {"pk": {"S": service.unique()}}
    service.do("UpdateItem", **body_of(table, third, "ADD n :n DELETE ss :ss SET s = :s"))
    assert service.get(table, third) == {**third, "n": {"N": "2.5"}, "s": {"S": "new"}}
    fourth = {"pk": {"S": service.unique()}}
    assert service.invalid("UpdateItem", **body_of(table, fourth, "SET x = y")) == NO_ATTRIBUTE
    assert service.get(table, fourth) is None


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ("NONE", None),
        ("ALL_OLD", {"a": {"N": "1"}, "b": {"S": "x"}, "m": {"M": {"p": {"N": "1"}, "q": {"N": "2"}}}}),
        ("UPDATED_OLD", {"a": {"N": "1"}, "b": {"S": "x"}, "m": {"M": {"p": {"N": "1"}}}}),
        ("ALL_NEW", {"a": {"N": "2"}, "m": {"M": {"p": {"N": "9"}, "q": {"N": "2"}}}, "c": {"S": "new"}}),
        ("UPDATED_NEW", {"a": {"N": "2"}, "m": {"M": {"p": {"N": "9"}}}, "c": {"S": "new"}}),
    ],
)
def test_what_an_update_returns(service: Service, table: str, key: Item, returns: str, expected: Item | None) -> None:
    before = {**key, "a": {"N": "1"}, "b": {"S": "x"}, "m": {"M": {"p": {"N": "1"}, "q": {"N": "2"}}}}
    service.do("PutItem", TableName=table, Item=before)
    answer = service.do(
        "UpdateItem",
        TableName=table,
        Key=key,
        UpdateExpression="SET m.p = :nine, c = :new ADD a :one REMOVE b",
        ExpressionAttributeValues={":nine": {"N": "9"}, ":one": {"N": "1"}, ":new": {"S": "new"}},
        ReturnValues=returns,
    )
    if expected is not None and returns.startswith("ALL"):
        expected = {**key, **expected}
    assert answer.get("Attributes") == expected


@pytest.mark.parametrize("returns", ["NONE", "ALL_OLD", "UPDATED_OLD"])
def test_an_item_that_did_not_exist_has_no_old_attributes(
    service: Service, table: str, key: Item, returns: str
) -> None:
    body = body_of(table, key, "SET s = :s", ReturnValues=returns)
    assert "Attributes" not in service.do("UpdateItem", **body)


def test_removing_everything_returns_no_new_attributes(service: Service, table: str, key: Item) -> None:
    service.do("PutItem", TableName=table, Item={**key, "a": {"S": "x"}})
    assert "Attributes" not in service.do("UpdateItem", **body_of(table, key, "REMOVE a", ReturnValues="UPDATED_NEW"))
    assert service.do("UpdateItem", **body_of(table, key, "REMOVE a", ReturnValues="ALL_NEW"))["Attributes"] == key


def test_unchanged_attributes_are_updated_ones_too(service: Service, table: str, key: Item) -> None:
    service.do("PutItem", TableName=table, Item={**key, "s": {"S": "new"}})
    body = body_of(table, key, "SET s = :s", ReturnValues="UPDATED_NEW")
    assert service.do("UpdateItem", **body)["Attributes"] == {"s": {"S": "new"}}
    body = body_of(table, key, "SET s = :s", ReturnValues="UPDATED_OLD")
    assert service.do("UpdateItem", **body)["Attributes"] == {"s": {"S": "new"}}


def test_puts_and_deletes_return_only_the_old_item(service: Service, table: str, key: Item) -> None:
    item = {**key, "v": {"S": "x"}}
    assert service.do("PutItem", TableName=table, Item=item, ReturnValues="ALL_OLD") == {}
    assert service.do("PutItem", TableName=table, Item=item, ReturnValues="NONE") == {}
    assert service.do("PutItem", TableName=table, Item=key, ReturnValues="ALL_OLD") == {"Attributes": item}
    assert service.do("DeleteItem", TableName=table, Key=key, ReturnValues="ALL_OLD") == {"Attributes": key}
    assert service.do("DeleteItem", TableName=table, Key=key, ReturnValues="ALL_OLD") == {}
    for returns in ("ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"):
        refused = "ReturnValues can only be ALL_OLD or NONE"
        assert service.invalid("PutItem", TableName=table, Item=item, ReturnValues=returns) == refused
        assert service.invalid("DeleteItem", TableName=table, Key=key, ReturnValues=returns) == refused


def test_a_condition_is_decided_before_the_update_is_tried(service: Service, table: str, key: Item) -> None:
    body = body_of(table, key, "SET x = y", ConditionExpression="attribute_exists(pk)")
    assert service.refused("UpdateItem", body)[0] == "ConditionalCheckFailedException"


def test_a_sum_of_39_digits_is_refused(service: Service, table: str, key: Item) -> None:
    service.do("PutItem", TableName=table, Item={**key, "n": {"N": "1" * 38}})
    body = {"TableName": table, "Key": key, "ExpressionAttributeValues": {":v": {"N": "0.5"}}}
    service.invalid("UpdateItem", **body, UpdateExpression="ADD n :v")
    service.invalid("UpdateItem", **body, UpdateExpression="SET n = n + :v")


def test_counting_is_exact_to_38_digits(service: Service, table: str, key: Item) -> None:
    service.do("PutItem", TableName=table, Item={**key, "n": {"N": "9" * 37 + "8"}})
    body = {"TableName": table, "Key": key, "ExpressionAttributeValues": {":v": {"N": "1"}}}
    answer = service.do("UpdateItem", **body, UpdateExpression="SET n = n + :v", ReturnValues="UPDATED_NEW")
    assert answer["Attributes"]["n"] == {"N": "9" * 38}
    answer = service.do("UpdateItem", **body, UpdateExpression="ADD n :v", ReturnValues="UPDATED_NEW")
    assert answer["Attributes"]["n"] == {"N": "1" + "0" * 38}
