"""What a request's expressions, names and values must be like together."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.errors import ApiError
from geodyne.expressions.check import Checked, check_expressions, check_key_use
from geodyne.expressions.keycondition import key_condition
from geodyne.model.keys import KeySchema
from geodyne.model.ranges import KeyCondition

SCHEMA = KeySchema("pk", "S", "sk", "N")


def refusal(**arguments: Any) -> str | None:
    with pytest.raises(ApiError) as error:
        check_expressions(**arguments)
    assert error.value.kind.code == "ValidationException"
    return error.value.message


def test_a_request_without_expressions_costs_nothing() -> None:
    assert check_expressions() == Checked()


def test_values_become_canonical() -> None:
    checked = check_expressions(condition="a = :v", values={":v": {"N": "1.0"}})
    assert checked.values == {":v": {"N": "1"}}


def test_a_text_has_at_most_four_kilobytes_and_three_hundred_operators() -> None:
    value = {":" + "v" * 250: {"S": "x"}}
    assert check_expressions(condition="a=:v" + " OR a=:v" * 149, values={":v": {"S": "x"}}).condition is not None
    assert refusal(condition="a=:v" + " OR a=:v" * 200, values=value) == (
        "Invalid ConditionExpression: The expression contains too many operators; operator count: 301"
    )
    assert refusal(condition="a = :" + "v" * 4092, values=value) == (
        "Invalid ConditionExpression: Expression size has exceeded the maximum allowed size; expression size: 4097"
    )


S, N, X = {"S": "x"}, {"N": "1"}, {"BOOL": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": {"#a": "a"}}, "ExpressionAttributeNames can only be specified when using expressions"),
        (
            {"values": {":a": S}, "offered": ("ConditionExpression",)},
            "ExpressionAttributeValues can only be specified when using expressions: ConditionExpression is null",
        ),
        (
            {"values": {":a": S}, "offered": ("UpdateExpression", "ConditionExpression")},
            "ExpressionAttributeValues can only be specified when using expressions: "
            "UpdateExpression and ConditionExpression are null",
        ),
        ({"condition": "a = b", "names": {}}, "ExpressionAttributeNames must not be empty"),
        ({"condition": "a = b", "values": {}}, "ExpressionAttributeValues must not be empty"),
        (
            {"condition": "a = b", "names": {"s": "a"}},
            'ExpressionAttributeNames contains invalid key: Syntax error; key: "s"',
        ),
        (
            {"condition": "a = b", "values": {"v": S}},
            'ExpressionAttributeValues contains invalid key: Syntax error; key: "v"',
        ),
        (
            {"condition": "a = :v", "values": {":v": {}}},
            "ExpressionAttributeValues contains invalid value: "
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes for key :v",
        ),
        (
            {"update": "SET a = :v"},
            "Invalid UpdateExpression: "
            "An expression attribute value used in expression is not defined; attribute value: :v",
        ),
        (
            {"filter": "#a = :v", "values": {":v": S}},
            "Invalid FilterExpression: "
            "An expression attribute name used in the document path is not defined; attribute name: #a",
        ),
        (
            {"update": "SET a = :v", "values": {":v": S, ":u": S, ":w": S}},
            "Value provided in ExpressionAttributeValues unused in expressions: keys: {:u, :w}",
        ),
        (
            {"update": "SET a = :v", "values": {":v": S}, "names": {"#u": "x"}},
            "Value provided in ExpressionAttributeNames unused in expressions: keys: {#u}",
        ),
        ({"update": ""}, "Invalid UpdateExpression: The expression can not be empty;"),
        ({"projection": ""}, "Invalid ProjectionExpression: The expression can not be empty;"),
        (
            {"condition": "contains(#a, #b)", "names": {"#a": "data", "#b": "data"}},
            "Invalid ConditionExpression: The first operand must be distinct from the remaining operands "
            "for this operator or function; operator: contains, first operand: [data]",
        ),
        (
            {"condition": "a[0] = a[0]"},
            "Invalid ConditionExpression: The first operand must be distinct from the remaining operands "
            "for this operator or function; operator: =, first operand: [a, [0]]",
        ),
        (
            {"filter": "begins_with(a, :n)", "values": {":n": N}},
            "Invalid FilterExpression: Incorrect operand type for operator or function; "
            "operator or function: begins_with, operand type: N",
        ),
        (
            {"condition": "a < :v", "values": {":v": X}},
            "Invalid ConditionExpression: Incorrect operand type for operator or function; "
            "operator or function: <, operand type: BOOL",
        ),
        (
            {"condition": "size(:v) < a", "values": {":v": N}},
            "Invalid ConditionExpression: Incorrect operand type for operator or function; "
            "operator or function: size, operand type: N",
        ),
        (
            {"condition": "attribute_type(a, :t)", "values": {":t": {"S": "STRING"}}},
            "Invalid ConditionExpression: Invalid attribute type name found; type: STRING, "
            "valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}",
        ),
        (
            {"condition": "a BETWEEN :v AND :w", "values": {":v": {"N": "2"}, ":w": N}},
            "Invalid ConditionExpression: The BETWEEN operator requires upper bound to be greater than or equal to "
            "lower bound; lower bound operand: AttributeValue: {N:2}, upper bound operand: AttributeValue: {N:1}",
        ),
        (
            {"condition": "a BETWEEN :v AND :w", "values": {":v": S, ":w": N}},
            "Invalid ConditionExpression: The BETWEEN operator requires same data type for lower and upper bounds; "
            "lower bound operand: AttributeValue: {S:x}, upper bound operand: AttributeValue: {N:1}",
        ),
        (
            {"update": "SET a = b + :v", "values": {":v": S}},
            "Invalid UpdateExpression: Incorrect operand type for operator or function; "
            "operator or function: +, operand type: S",
        ),
        (
            {"update": "SET a = list_append(a, :v)", "values": {":v": S}},
            "Invalid UpdateExpression: Incorrect operand type for operator or function; "
            "operator or function: list_append, operand type: S",
        ),
        (
            {"update": "ADD a :v", "values": {":v": S}},
            "Invalid UpdateExpression: Incorrect operand type for operator or function; "
            "operator: ADD, operand type: STRING, typeSet: ALLOWED_FOR_ADD_OPERAND",
        ),
        (
            {"update": "DELETE a :v", "values": {":v": N}},
            "Invalid UpdateExpression: Incorrect operand type for operator or function; "
            "operator: DELETE, operand type: NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND",
        ),
        (
            {"update": "SET a.b = :v, a = :v", "values": {":v": S}},
            "Invalid UpdateExpression: Two document paths overlap with each other; "
            "must remove or rewrite one of these paths; path one: [a, b], path two: [a]",
        ),
        (
            {"update": "SET a = :v REMOVE a.b[1]", "values": {":v": S}},
            "Invalid UpdateExpression: Two document paths overlap with each other; "
            "must remove or rewrite one of these paths; path one: [a], path two: [a, b, [1]]",
        ),
        (
            {"update": "SET a.b = :v, a[0] = :v", "values": {":v": S}},
            "Invalid UpdateExpression: Two document paths conflict with each other; "
            "must remove or rewrite one of these paths; path one: [a, b], path two: [a, [0]]",
        ),
        (
            {"projection": "a, #a", "names": {"#a": "a"}},
            "Invalid ProjectionExpression: Two document paths overlap with each other; "
            "must remove or rewrite one of these paths; path one: [a], path two: [a]",
        ),
        (
            {"update": "REMOVE x, pk.y", "schema": SCHEMA},
            "One or more parameter values were invalid: Cannot update attribute pk. This attribute is part of the key",
        ),
        (
            {"key_condition": "pk = :v", "filter": "a = :v AND NOT sk = :v", "values": {":v": S}, "schema": SCHEMA},
            "Filter Expression can only contain non-primary key attributes: Primary key attribute: sk",
        ),
    ],
)
def test_a_request_is_refused_in_the_services_words(arguments: dict[str, Any], message: str) -> None:
    assert refusal(**arguments) == message


@pytest.mark.parametrize(
    "arguments",
    [{"names": {"#a": 1}}, {"names": []}, {"values": {":v": {"S": 1}}}, {"values": "x"}, {"values": {":v": "x"}}],
)
def test_wrong_json_types_are_serialization_errors(arguments: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as error:
        check_expressions(condition="#a = :v", **arguments)
    assert error.value.kind.code == "SerializationException"


def test_all_values_together_are_limited_to_two_megabytes() -> None:
    megabyte = {"S": "x" * 1024 * 1024}
    check_expressions(condition="a = :v OR a = :w", values={":v": megabyte, ":w": megabyte})
    with pytest.raises(ApiError, match="exceeds the maximum allowed size"):
        check_expressions(
            condition="a = :v OR a = :w OR a = :x", values={":v": megabyte, ":w": megabyte, ":x": {"S": "x"}}
        )


def test_a_scan_may_filter_on_keys() -> None:
    check_expressions(filter="pk = :v", values={":v": S}, schema=SCHEMA)


def test_key_use_can_be_checked_once_the_table_is_known() -> None:
    checked = check_expressions(update="SET #k = :v", names={"#k": "pk"}, values={":v": S})
    with pytest.raises(ApiError, match="Cannot update attribute pk"):
        check_key_use(checked, SCHEMA)
    check_key_use(checked, KeySchema("other", "S"))


# --- key conditions ------------------------------------------------------------------------------------------


def looked_up(text: str, schema: KeySchema = SCHEMA, **values: Any) -> KeyCondition:
    checked = check_expressions(
        key_condition=text,
        names={"#k": "pk"} if "#k" in text else None,
        values={f":{name}": value for name, value in values.items()} or None,
    )
    assert checked.key_condition is not None
    return key_condition(checked.key_condition, checked.names, checked.values, schema)


P = {"S": "p"}


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("pk = :p", {}, KeyCondition(P)),
        ("#k = :p AND sk = :n", {"n": N}, KeyCondition(P, "=", N)),
        ("(sk <= :n) AND (:p = pk)", {"n": N}, KeyCondition(P, "<=", N)),
        ("pk = :p AND :n <= sk", {"n": N}, KeyCondition(P, ">=", N)),
        ("pk = :p AND :n > sk", {"n": N}, KeyCondition(P, "<", N)),
        ("pk = :p AND sk BETWEEN :n AND :m", {"n": N, "m": {"N": "2.0"}}, KeyCondition(P, "BETWEEN", N, {"N": "2"})),
    ],
)
def test_key_conditions_become_one_equality_and_one_range(text: str, values: Any, expected: KeyCondition) -> None:
    assert looked_up(text, p=P, **values) == expected


def test_begins_with_looks_up_strings() -> None:
    schema = KeySchema("pk", "S", "sk", "S")
    assert looked_up("pk = :p AND begins_with(sk, :s)", schema, p=P, s=S) == KeyCondition(P, "begins_with", S)


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("sk = :n", {"n": N}, "Query condition missed key schema element: pk"),
        ("elsewhere = :p", {"p": P}, "Query condition missed key schema element: pk"),
        ("pk = :p AND elsewhere = :n", {"p": P, "n": N}, "Query condition missed key schema element: sk"),
        ("pk > :p", {"p": P}, "Query key condition not supported"),
        ("pk = :p AND sk <> :n", {"p": P, "n": N}, "Invalid operator used in KeyConditionExpression: <>"),
        ("pk = :p OR sk = :n", {"p": P, "n": N}, "Invalid operator used in KeyConditionExpression: OR"),
        ("pk = :p AND NOT sk = :n", {"p": P, "n": N}, "Invalid operator used in KeyConditionExpression: NOT"),
        ("pk IN (:p)", {"p": P}, "Invalid operator used in KeyConditionExpression: IN"),
        ("attribute_exists(pk)", {}, "Invalid operator used in KeyConditionExpression: attribute_exists"),
        (
            "pk = :p AND sk > :n AND sk < :n",
            {"p": P, "n": N},
            "KeyConditionExpressions must only contain one condition per key",
        ),
        ("pk = :p AND sk = :n AND a = :n", {"p": P, "n": N}, "Conditions can be of length 1 or 2 only"),
        (
            "pk = :p AND sk.a = :n",
            {"p": P, "n": N},
            "Invalid KeyConditionExpression: KeyConditionExpressions cannot have conditions on nested attributes",
        ),
        ("pk = :p AND size(sk) = :n", {"p": P, "n": N}, "KeyConditionExpressions cannot contain nested operations"),
        (
            "pk = :n",
            {"n": N},
            "One or more parameter values were invalid: Condition parameter type does not match schema type",
        ),
        (
            "pk = :p",
            {"p": {"S": ""}},
            "One or more parameter values are not valid. "
            "The AttributeValue for a key attribute cannot contain an empty string value. Key: pk",
        ),
        (
            "pk = sk",
            {},
            "Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition",
        ),
        (":p = :q", {"p": P, "q": P}, "Invalid condition in KeyConditionExpression: No key attribute specified"),
        (
            "pk = :p AND begins_with(sk, :n)",
            {"p": P, "n": N},
            "Invalid KeyConditionExpression: Incorrect operand type for operator or function; "
            "operator or function: begins_with, operand type: N",
        ),
        (
            "pk = :p AND sk BETWEEN :m AND :n",
            {"p": P, "m": {"N": "2"}, "n": N},
            "Invalid KeyConditionExpression: The BETWEEN operator requires upper bound to be greater than or equal to "
            "lower bound; lower bound operand: AttributeValue: {N:2}, upper bound operand: AttributeValue: {N:1}",
        ),
    ],
)
def test_what_cannot_be_looked_up_is_refused(text: str, values: Any, message: str) -> None:
    with pytest.raises(ApiError) as error:
        looked_up(text, **values)
    assert error.value.message == message


def test_a_table_without_sort_key_takes_one_condition() -> None:
    with pytest.raises(ApiError, match="Query key condition not supported"):
        looked_up("pk = :p AND a = :n", KeySchema("pk", "S"), p=P, n=N)
