"""What a condition says about an item. The same sentences as conditions and as filters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.service import Item, Service

ITEM: Item = {
    "s": {"S": "hello"},
    "blank": {"S": ""},
    "wide": {"S": "žluť"},
    "n": {"N": "10"},
    "neg": {"N": "-2.5"},
    "b": {"B": "AQID"},  # 01 02 03
    "t": {"BOOL": True},
    "f": {"BOOL": False},
    "z": {"NULL": True},
    "ss": {"SS": ["a", "b"]},
    "ns": {"NS": ["1", "2.5"]},
    "bs": {"BS": ["AQ==", "Ag=="]},
    "l": {"L": [{"S": "x"}, {"N": "1"}, {"L": [{"S": "deep"}]}, {"M": {"k": {"S": "v"}}}]},
    "m": {"M": {"a": {"S": "1"}, "b": {"M": {"c": {"N": "7"}}}, "date": {"S": "d"}}},
}
VALUES: Item = {
    ":hello": {"S": "hello"},
    ":he": {"S": "he"},
    ":ll": {"S": "ll"},
    ":empty": {"S": ""},
    ":zz": {"S": "zz"},
    ":a": {"S": "a"},
    ":x": {"S": "x"},
    ":deep": {"S": "deep"},
    ":10": {"N": "10"},
    ":10.0": {"N": "10"},
    ":ten": {"S": "10"},
    ":0": {"N": "0"},
    ":1": {"N": "1"},
    ":2": {"N": "2"},
    ":3": {"N": "3"},
    ":4": {"N": "4"},
    ":5": {"N": "5"},
    ":7": {"N": "7"},
    ":11": {"N": "11"},
    ":2.5": {"N": "2.50"},
    ":neg": {"N": "-2.5"},
    ":neg3": {"N": "-3"},
    ":b12": {"B": "AQI="},
    ":b23": {"B": "AgM="},
    ":b1": {"B": "AQ=="},
    ":b9": {"B": "CQ=="},
    ":true": {"BOOL": True},
    ":false": {"BOOL": False},
    ":null": {"NULL": True},
    ":ssba": {"SS": ["b", "a"]},
    ":ssa": {"SS": ["a"]},
    ":ns": {"NS": ["2.5", "1.0"]},
    ":l": {"L": [{"S": "deep"}]},
    ":m": {"M": {"k": {"S": "v"}}},
    ":S": {"S": "S"},
    ":N": {"S": "N"},
    ":B": {"S": "B"},
    ":L": {"S": "L"},
    ":M": {"S": "M"},
    ":NULL": {"S": "NULL"},
    ":BOOL": {"S": "BOOL"},
    ":SS": {"S": "SS"},
}
NAMES = {"#s": "s", "#m": "m", "#date": "date", "#none": "absent", "#dot": "m.a"}

TRUE = [
    # equality is by type and value, whatever the notation or the order of a set
    "s = :hello",
    ":hello = s",
    "n = :10",
    "ss = :ssba",
    "ns = :ns",
    "t = :true",
    "z = :null",
    "l[2] = :l",
    "l[3] = :m",
    "n <> :ten",
    "t <> :false",
    "s <> :zz",
    "blank = :empty",
    # an absent attribute equals nothing and differs from everything
    "absent <> :hello",
    "absent <> nowhere",
    "absent <> s",
    "NOT absent = :hello",
    "m.absent <> :hello",
    "l[9] <> :x",
    "s.x <> :x",
    # order
    "n > :2.5",
    "n >= :10",
    "n <= :10",
    "n < :11",
    "neg < :0",
    "neg > :neg3",
    "s > :he",
    "s < :zz",
    "s > :empty",
    "b > :b12",
    "b < :b9",
    "n BETWEEN :10 AND :11",
    "n BETWEEN :2.5 AND :10",
    "s BETWEEN :hello AND :hello",
    "b BETWEEN :b1 AND :b9",
    "NOT n BETWEEN :0 AND :1",
    "NOT s BETWEEN :0 AND :11",  # another type is not between
    "NOT absent BETWEEN :0 AND :11",
    "NOT s < :10",
    "NOT s > :10",
    ":5 BETWEEN neg AND n",
    # membership
    "n IN (:0, :10)",
    "s IN (:hello)",
    "NOT s IN (:10, :ten)",
    "NOT absent IN (:hello)",
    "l[0] IN (:a, :x)",
    ":hello IN (s, n)",
    # functions
    "attribute_exists(s)",
    "attribute_exists(z)",
    "attribute_exists(m.b.c)",
    "attribute_exists(l[2][0])",
    "attribute_not_exists(absent)",
    "attribute_not_exists(m.b.d)",
    "attribute_not_exists(l[4])",
    "attribute_not_exists(l[0][0])",
    "attribute_not_exists(s.x)",
    "attribute_not_exists(#dot)",  # a name with a dot in it is one name
    "attribute_type(s, :S)",
    "attribute_type(n, :N)",
    "attribute_type(b, :B)",
    "attribute_type(l, :L)",
    "attribute_type(m, :M)",
    "attribute_type(z, :NULL)",
    "attribute_type(t, :BOOL)",
    "attribute_type(ss, :SS)",
    "NOT attribute_type(s, :N)",
    "NOT attribute_type(absent, :S)",
    "begins_with(s, :he)",
    "begins_with(s, :empty)",
    "begins_with(b, :b12)",
    "NOT begins_with(s, :ll)",
    "NOT begins_with(n, :he)",
    "NOT begins_with(absent, :he)",
    "NOT begins_with(s, :b1)",
    "begins_with(:hello, l[0]) OR begins_with(s, :he)",
    "contains(s, :ll)",
    "contains(s, :empty)",
    "NOT contains(s, :zz)",
    "NOT contains(s, :10)",
    "contains(b, :b23)",
    "contains(ss, :a)",
    "NOT contains(ss, :zz)",
    "NOT contains(ss, :ll)",
    "contains(ns, :2.5)",
    "contains(bs, :b1)",
    "contains(l, :x)",
    "contains(l, :1)",
    "contains(l, :l)",
    "contains(l, :m)",
    "NOT contains(l, :deep)",
    "NOT contains(m, :a)",
    "NOT contains(n, :1)",
    "NOT contains(absent, :a)",
    "contains(:hello, s) OR contains(s, :hello)",
    "size(s) = :5",
    "size(blank) = :0",
    "size(wide) = :4",
    "size(b) = :3",
    "size(ss) = :2",
    "size(l) = :4",
    "size(m) = :3",
    "size(l[2]) = :1",
    "size(s) > size(ss)",
    "size(l) BETWEEN :3 AND :5",
    "size(l) IN (:4)",
    "NOT size(n) = :2",
    "NOT size(absent) = :0",
    "NOT size(t) > :0",
    # paths
    "m.b.c = :7",
    "#m.b.c = :7",
    "m.#date <> :a",
    "l[0] = :x",
    "l[2][0] = :deep",
    "l [ 0 ] = :x",
    "m . b . c = :7",
    "#none <> :a",
    # NOT binds tighter than AND, AND tighter than OR
    "attribute_exists(s) OR attribute_exists(absent) AND attribute_exists(absent)",
    "NOT attribute_exists(absent) AND attribute_exists(s)",
    "NOT (attribute_exists(s) AND attribute_exists(absent))",
    "(attribute_exists(absent) OR attribute_exists(s)) AND n = :10",
    "NOT NOT attribute_exists(s)",
    "not attribute_exists(absent) and (n between :0 and :11 or s in (:a))",
    "n = :10 AND s = :hello OR absent = :a AND absent = :a",
    "(n) = (:10)",
]

FALSE = [
    "s = :ten",
    "n = :ten",
    "absent = :hello",
    "absent = nowhere",
    "absent < :1",
    "absent > :1",
    "NOT absent <> :hello",
    "s <> :hello",
    "ns <> :ns",
    "s < :10",
    "s > :10",
    "n < :ten",
    "n > :ten",
    "ss = :ssa",
    "t = :ten",
    "size(n) > :0",
    "size(absent) < :11",
    "attribute_exists(m.a.x)",
    "contains(s, :1)",
    "attribute_not_exists(z)",
    "(attribute_exists(s) OR attribute_exists(absent)) AND attribute_exists(absent)",
    "NOT (n = :10 OR s = :a)",
]


def used(expression: str) -> Item:
    """The names and values that the expression uses: others are an error."""
    names = {name: NAMES[name] for name in re.findall(r"#\w+", expression)}
    values = {value: VALUES[value] for value in re.findall(r":[\w.]+", expression)}
    # A dot cannot be part of a placeholder.
    plain = {value.replace(".", "_"): content for value, content in values.items()}
    result: Item = {}
    if names:
        result["ExpressionAttributeNames"] = names
    if plain:
        result["ExpressionAttributeValues"] = plain
    return result


def written(expression: str) -> str:
    return re.sub(r":[\w.]+", lambda match: match[0].replace(".", "_"), expression)


@pytest.fixture(scope="session")
def sample(service: Service, table: str) -> Item:
    key = {"pk": {"S": service.unique("sample")}}
    service.do("PutItem", TableName=table, Item={**key, **ITEM})
    return key


@pytest.mark.parametrize(("expression", "holds"), [(each, True) for each in TRUE] + [(each, False) for each in FALSE])
def test_a_condition_and_a_filter_say_the_same(
    service: Service, table: str, sample: Item, expression: str, holds: bool
) -> None:
    body = {"TableName": table, **used(expression)}
    answer = service.call(
        "UpdateItem", {**body, "Key": sample, "ConditionExpression": written(expression), "ReturnValues": "NONE"}
    )
    assert answer.status == (200 if holds else 400), answer.body
    if not holds:
        assert (answer.code, answer.message) == ("ConditionalCheckFailedException", "The conditional request failed")
    values = {**body.pop("ExpressionAttributeValues", {}), ":pk": sample["pk"]}
    found = service.do(
        "Query",
        **body,
        ExpressionAttributeValues=values,
        KeyConditionExpression="pk = :pk",
        FilterExpression=written(expression),
    )
    assert (found["Count"], found["ScannedCount"]) == (int(holds), 1)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("attribute_not_exists(pk)", True),
        ("attribute_exists(pk)", False),
        ("a = :a", False),
        ("a <> :a", True),
        ("NOT a = :a", True),
        ("size(a) > :a", False),
        ("a < :a", False),
    ],
)
def test_a_missing_item_has_no_attributes(service: Service, table: str, expression: str, holds: bool) -> None:
    body: Item = {"TableName": table, "Item": {"pk": {"S": service.unique()}}, "ConditionExpression": expression}
    if ":a" in expression:
        body["ExpressionAttributeValues"] = {":a": {"N": "1"}}
    assert service.call("PutItem", body).status == (200 if holds else 400)


INVALID = [
    ("", "The expression can not be empty;"),
    ("   ", "The expression can not be empty;"),
    ("a = ", 'Syntax error; token: "<EOF>", near: "= "'),
    ("a == :v", 'Syntax error; token: "=", near: "== :v"'),
    ("a != :v", 'Syntax error; token: "!", near: "a !="'),
    ("a", 'Syntax error; token: "<EOF>", near: "a"'),
    ("a = :v AND", 'Syntax error; token: "<EOF>", near: "AND"'),
    ("a = :v b = :v", 'Syntax error; token: "b", near: ":v b ="'),
    ("a = 5", 'Syntax error; token: "5", near: "= 5"'),
    ("a = 'x'", "Syntax error; token: \"'\", near: \"= 'x\""),
    ("a[-1] = :v", 'Syntax error; token: "-", near: "[-1"'),
    ("a[:v] = :v", 'Syntax error; token: ":v", near: "[:v]"'),
    (".a = :v", 'Syntax error; token: ".", near: ".a"'),
    # A name begins with a letter; an index has no leading zeros.
    ("_a = :v", 'Syntax error; token: "_", near: "_a"'),
    ("a._b = :v", 'Syntax error; token: "_", near: "._b"'),
    ("a-b = :v", 'Syntax error; token: "-", near: "a-b"'),
    ("1a = :v", 'Syntax error; token: "1", near: "1a"'),
    ("#_1-03 = :v", 'Syntax error; token: "-", near: "#_1-0"'),
    ("a[01] = :v", 'Syntax error; token: "1", near: "01]"'),
    ("a IN ()", 'Syntax error; token: ")", near: "()"'),
    ("a BETWEEN :v", 'Syntax error; token: "<EOF>", near: ":v"'),
    ("((a = :v))", "The expression has redundant parentheses;"),
    ("((a)) = :v", "The expression has redundant parentheses;"),
    ("unknown(a)", "Invalid function name; function: unknown"),
    ("ATTRIBUTE_EXISTS(a)", "Invalid function name; function: ATTRIBUTE_EXISTS"),
    ("if_not_exists(a, :v)", "The function is not allowed in a condition expression; function: if_not_exists"),
    ("size(a)", "The function is not allowed to be used this way in an expression; function: size"),
    ("attribute_exists(a) = :v",
     "The function is not allowed to be used this way in an expression; function: attribute_exists"),
    ("attribute_exists(a, b)",
     "Incorrect number of operands for operator or function; operator or function: attribute_exists, "
     "number of operands: 2"),
    ("begins_with(a)",
     "Incorrect number of operands for operator or function; operator or function: begins_with, number of operands: 1"),
    ("attribute_exists(:v)",
     "Operator or function requires a document path; operator or function: attribute_exists"),
    ("a = a",
     "The first operand must be distinct from the remaining operands for this operator or function; "
     "operator: =, first operand: [a]"),
    ("a.b[1] < a.b[1]",
     "The first operand must be distinct from the remaining operands for this operator or function; "
     "operator: <, first operand: [a, b, [1]]"),
    ("contains(a, a)",
     "The first operand must be distinct from the remaining operands for this operator or function; "
     "operator: contains, first operand: [a]"),
    ("name = :v", "Attribute name is a reserved keyword; reserved keyword: name"),
    ("a.Date = :v", "Attribute name is a reserved keyword; reserved keyword: Date"),
    ("a = :w", "An expression attribute value used in expression is not defined; attribute value: :w"),
    ("#a = :v", "An expression attribute name used in the document path is not defined; attribute name: #a"),
    ("a < :true",
     "Incorrect operand type for operator or function; operator or function: <, operand type: BOOL"),
    ("a >= :list",
     "Incorrect operand type for operator or function; operator or function: >=, operand type: L"),
    ("a BETWEEN :set AND :set",
     "Incorrect operand type for operator or function; operator or function: BETWEEN, operand type: SS"),
    ("begins_with(a, :num)",
     "Incorrect operand type for operator or function; operator or function: begins_with, operand type: N"),
    ("size(:num) > :num",
     "Incorrect operand type for operator or function; operator or function: size, operand type: N"),
    ("attribute_type(a, :num)",
     "Incorrect operand type for operator or function; operator or function: attribute_type, operand type: N"),
    ("attribute_type(a, :v)",
     "Invalid attribute type name found; type: x, valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}"),
    ("a BETWEEN :num AND :v",
     "The BETWEEN operator requires same data type for lower and upper bounds; "
     "lower bound operand: AttributeValue: {N:1}, upper bound operand: AttributeValue: {S:x}"),
    ("a BETWEEN :two AND :num",
     "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; "
     "lower bound operand: AttributeValue: {N:2}, upper bound operand: AttributeValue: {N:1}"),
    ("a[99999999999] = :v", "List index is not within the allowable range; index: [99999999999]"),
]  # fmt: skip
OFFERED: Item = {
    ":v": {"S": "x"},
    ":num": {"N": "1"},
    ":two": {"N": "2"},
    ":true": {"BOOL": True},
    ":list": {"L": []},
    ":set": {"SS": ["a"]},
}


@pytest.mark.parametrize(("expression", "reason"), INVALID)
def test_a_wrong_condition_is_refused_before_the_item_is_looked_at(
    service: Service, table: str, expression: str, reason: str | None
) -> None:
    values = {name: value for name, value in OFFERED.items() if name in expression}
    body: Item = {"TableName": table, "Key": {"pk": {"S": "no-such-item"}}, "ConditionExpression": expression}
    if values:
        body["ExpressionAttributeValues"] = values
    message = service.invalid("DeleteItem", **body)
    assert message.startswith("Invalid ConditionExpression: ")
    if reason is not None:
        assert message == f"Invalid ConditionExpression: {reason}"
    scan: Item = {"TableName": table, "FilterExpression": expression}
    if values:
        scan["ExpressionAttributeValues"] = values
    message = service.invalid("Scan", **scan)
    assert reason is None or message == f"Invalid FilterExpression: {reason}"


def test_placeholders_must_be_used_named_well_and_of_bounded_length(service: Service, table: str, key: Item) -> None:
    def refused(**more: Any) -> str:
        return service.invalid("DeleteItem", TableName=table, Key=key, **more)

    exists: Item = {"ConditionExpression": "attribute_not_exists(a)"}
    assert refused(**exists, ExpressionAttributeNames={}) == "ExpressionAttributeNames must not be empty"
    assert refused(**exists, ExpressionAttributeValues={}) == "ExpressionAttributeValues must not be empty"
    assert refused(**exists, ExpressionAttributeNames={"#b": "b"}) == (
        "Value provided in ExpressionAttributeNames unused in expressions: keys: {#b}"
    )
    assert refused(**exists, ExpressionAttributeValues={":b": {"S": ""}}) == (
        "Value provided in ExpressionAttributeValues unused in expressions: keys: {:b}"
    )
    assert refused(ExpressionAttributeNames={"#b": "b"}) == (
        "ExpressionAttributeNames can only be specified when using expressions"
    )
    assert refused(ExpressionAttributeValues={":b": {"S": ""}}) == (
        "ExpressionAttributeValues can only be specified when using expressions: ConditionExpression is null"
    )
    for name in ("b", "#", "#a-b", "##a", ":a"):
        assert refused(**exists, ExpressionAttributeNames={name: "b"}) == (
            f'ExpressionAttributeNames contains invalid key: Syntax error; key: "{name}"'
        )
    for name in ("b", ":", ":a-b", "#a"):
        assert refused(**exists, ExpressionAttributeValues={name: {"S": "b"}}) == (
            f'ExpressionAttributeValues contains invalid key: Syntax error; key: "{name}"'
        )
    long = "#" + "a" * 255
    assert "too long" in refused(ConditionExpression=f"attribute_exists({long})", ExpressionAttributeNames={long: "a"})
    fits = "#" + "a" * 254
    body: Item = {"ConditionExpression": f"attribute_not_exists({fits})", "ExpressionAttributeNames": {fits: "a"}}
    service.do("DeleteItem", TableName=table, Key=key, **body)
    assert refused(ConditionExpression="a = :v", ExpressionAttributeValues={":v": {}}) == (
        "ExpressionAttributeValues contains invalid value: Supplied AttributeValue is empty, must contain exactly "
        "one of the supported datatypes for key :v"
    )


def test_an_expression_has_at_most_4_kilobytes(service: Service, table: str, key: Item) -> None:
    prefix = "attribute_not_exists(a)"
    longest = prefix + " " * (4096 - len(prefix))
    service.do("DeleteItem", TableName=table, Key=key, ConditionExpression=longest)
    message = service.invalid("DeleteItem", TableName=table, Key=key, ConditionExpression=longest + " ")
    assert message == (
        "Invalid ConditionExpression: Expression size has exceeded the maximum allowed size; expression size: 4097"
    )


def chained(comparisons: int) -> str:
    return " OR ".join(["a=:v"] * comparisons)  # n comparisons and n - 1 ORs


def test_an_expression_has_at_most_300_operators(service: Service, table: str, key: Item) -> None:
    body: Item = {"TableName": table, "Key": key, "ExpressionAttributeValues": {":v": {"S": "x"}}}
    too_many = "Invalid ConditionExpression: The expression contains too many operators; operator count: 301"
    code, _ = service.refused("DeleteItem", {**body, "ConditionExpression": chained(150)})
    assert code == "ConditionalCheckFailedException"  # 299 operators
    code, _ = service.refused("DeleteItem", {**body, "ConditionExpression": chained(150) + " OR size(a)=:v"})
    assert code == "ValidationException"
    assert service.invalid("DeleteItem", **body, ConditionExpression=chained(151)) == too_many
    assert service.invalid("DeleteItem", **body, ConditionExpression=chained(300)) == too_many


def test_in_takes_at_most_100_operands(service: Service, table: str, key: Item) -> None:
    values = {f":v{number}": {"N": str(number)} for number in range(101)}

    def body(count: int) -> Item:
        offered = dict(list(values.items())[:count])
        condition = f"NOT a IN ({', '.join(offered)})"
        return {
            "TableName": table,
            "Key": key,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": offered,
        }

    service.do("DeleteItem", **body(100))
    assert "IN operator" in service.invalid("DeleteItem", **body(101))


def test_substitution_values_have_at_most_2_megabytes(service: Service, table: str, key: Item) -> None:
    values = {f":v{number}": {"S": "x" * (300 * 1024)} for number in range(7)}
    condition = f"NOT a IN ({', '.join(values)})"
    message = service.invalid(
        "DeleteItem", TableName=table, Key=key, ConditionExpression=condition, ExpressionAttributeValues=values
    )
    assert message.startswith("ExpressionAttributeValues exceeds the maximum allowed size")


def test_every_write_takes_a_condition(service: Service, table: str, key: Item) -> None:
    failing: Item = {"ConditionExpression": "attribute_exists(pk)"}
    passing: Item = {"ConditionExpression": "attribute_not_exists(pk)"}
    failed = ("ConditionalCheckFailedException", "The conditional request failed")
    item = {**key, "v": {"S": "x"}}
    assert service.refused("PutItem", {"TableName": table, "Item": item, **failing}) == failed
    assert service.refused("UpdateItem", {"TableName": table, "Key": key, **failing}) == failed
    assert service.refused("DeleteItem", {"TableName": table, "Key": key, **failing}) == failed
    assert service.get(table, key) is None
    service.do("PutItem", TableName=table, Item=item, **passing)
    assert service.refused("PutItem", {"TableName": table, "Item": item, **passing}) == failed
    service.do("UpdateItem", TableName=table, Key=key, **failing)
    service.do("DeleteItem", TableName=table, Key=key, **failing)
    assert service.get(table, key) is None


def test_the_item_that_failed_the_condition_is_returned_when_asked_for(
    service: Service, table: str, key: Item, make_table: Callable[..., str]
) -> None:
    item = {**key, "v": {"S": "x"}, "b": {"B": "AQ=="}}
    service.do("PutItem", TableName=table, Item=item)
    body: Item = {"TableName": table, "ConditionExpression": "attribute_not_exists(pk)"}
    want = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    for operation, subject in (("PutItem", {"Item": key}), ("UpdateItem", {"Key": key}), ("DeleteItem", {"Key": key})):
        answer = service.call(operation, {**body, **subject, **want})
        assert answer.status == 400
        assert answer.code == "ConditionalCheckFailedException"
        assert answer.body["Item"] == item
        assert "Item" not in service.call(operation, {**body, **subject}).body
        none = {"ReturnValuesOnConditionCheckFailure": "NONE"}
        assert "Item" not in service.call(operation, {**body, **subject, **none}).body
    other = {"TableName": table, "Key": {"pk": {"S": service.unique()}}, "ConditionExpression": "attribute_exists(pk)"}
    answer = service.call("DeleteItem", {**other, **want})
    assert answer.code == "ConditionalCheckFailedException"
    assert "Item" not in json.dumps(answer.body)
