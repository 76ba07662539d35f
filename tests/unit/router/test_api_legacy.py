"""The parameters from before expressions: what they mean, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.errors import ApiError
from geodyne.messages import Write
from router.api.legacy import translate_read, translate_write
from tests.unit.router.fake_region import Client, table

INVALID = "One or more parameter values were invalid: "
WRONG = f"1 validation error detected: {INVALID}"
KEY = {"pk": {"S": "a"}}
ITEM: dict[str, Any] = {
    **KEY,
    "n": {"N": "5"},
    "s": {"S": "hello"},
    "b": {"B": "AQID"},
    "ss": {"SS": ["x", "y"]},
    "ns": {"NS": ["1", "2"]},
    "l": {"L": [{"S": "x"}, {"N": "1"}, {"M": {}}]},
    "m": {"M": {"s": {"S": "hello"}}},
    "t": {"BOOL": True},
    "z": {"NULL": True},
}


@pytest.fixture
def client() -> Client:
    client = Client()
    table(client)
    table(client, "sorted", sort="N")
    client("PutItem", TableName="things", Item=ITEM)
    return client


def condition(operator: str, *values: dict[str, Any]) -> dict[str, Any]:
    return {"ComparisonOperator": operator, **({"AttributeValueList": list(values)} if values else {})}


def S(text: str) -> dict[str, Any]:
    return {"S": text}


def N(number: int | str) -> dict[str, Any]:
    return {"N": str(number)}


HOLDS = [
    ("n", condition("EQ", N("5.0"))),
    ("ss", condition("EQ", {"SS": ["y", "x"]})),
    ("l", condition("EQ", ITEM["l"])),
    ("m", condition("EQ", ITEM["m"])),
    ("n", condition("NE", N(6))),
    ("n", condition("NE", S("5"))),
    ("absent", condition("NE", S("x"))),
    ("n", condition("LE", N(5))),
    ("n", condition("LT", N(6))),
    ("n", condition("GE", N(5))),
    ("n", condition("GT", N(-5))),
    ("b", condition("GT", {"B": "AQ=="})),
    ("n", condition("BETWEEN", N(5), N(5))),
    ("n", condition("IN", N(1), N(5))),
    ("n", condition("IN", *map(N, range(250)))),
    ("s", condition("BEGINS_WITH", S("hel"))),
    ("b", condition("BEGINS_WITH", {"B": "AQ=="})),
    ("s", condition("CONTAINS", S("ell"))),
    ("ss", condition("CONTAINS", S("x"))),
    ("ns", condition("CONTAINS", N(2))),
    ("l", condition("CONTAINS", N(1))),
    ("s", condition("NOT_CONTAINS", S("z"))),
    ("l", condition("NOT_CONTAINS", S("z"))),
    ("n", condition("NOT_CONTAINS", S("z"))),
    ("absent", condition("NULL")),
    ("z", condition("NOT_NULL")),
]
FAILS = [
    ("n", condition("EQ", S("5"))),
    ("absent", condition("EQ", S("x"))),
    ("n", condition("NE", N("5.0"))),
    ("n", condition("LT", N(5))),
    ("s", condition("LT", N(5))),
    ("absent", condition("LT", N(5))),
    ("n", condition("BETWEEN", N(6), N(7))),
    ("n", condition("IN", N(1))),
    ("s", condition("BEGINS_WITH", S("x"))),
    ("n", condition("BEGINS_WITH", S("5"))),
    ("ss", condition("CONTAINS", N(1))),
    ("absent", condition("CONTAINS", S("x"))),
    ("ss", condition("NOT_CONTAINS", S("x"))),
    ("absent", condition("NOT_CONTAINS", S("x"))),
    ("z", condition("NULL")),
    ("absent", condition("NOT_NULL")),
]


@pytest.mark.parametrize(
    ("attribute", "given", "holds"), [(*case, True) for case in HOLDS] + [(*case, False) for case in FAILS]
)
def test_a_condition_means_the_same_wherever_it_is_given(
    client: Client, attribute: str, given: dict[str, Any], holds: bool
) -> None:
    expected = {attribute: given}
    if holds:
        assert client("PutItem", TableName="things", Item=ITEM, Expected=expected) == {}
    else:
        code, _ = client.refused("PutItem", TableName="things", Item=ITEM, Expected=expected)
        assert code == "ConditionalCheckFailedException"
    keys = {"pk": condition("EQ", S("a"))}
    assert client("Query", TableName="things", KeyConditions=keys, QueryFilter=expected)["Count"] == holds
    assert client("Scan", TableName="things", ScanFilter=expected)["Count"] == holds


@pytest.mark.parametrize(
    ("expected", "holds"),
    [
        ({"n": {"Value": N(5)}}, True),
        ({"n": {"Value": N(5), "Exists": True}}, True),
        ({"n": {"Value": N(6)}}, False),
        ({"n": {"Exists": False}}, False),
        ({"absent": {"Exists": False}}, True),
        ({"n": {"Value": N(4), "ComparisonOperator": "GT"}}, True),
        ({"n": {"Value": N(5)}, "s": {"Value": S("x")}}, False),
        ({}, True),
    ],
)
def test_expected_values_must_be_there(client: Client, expected: dict[str, Any], holds: bool) -> None:
    if holds:
        assert client("DeleteItem", TableName="things", Key=KEY, Expected=expected) == {}
    else:
        code, _ = client.refused("DeleteItem", TableName="things", Key=KEY, Expected=expected)
        assert code == "ConditionalCheckFailedException"


def test_one_of_several_conditions_is_enough_with_or(client: Client) -> None:
    expected = {"n": {"Value": N(5)}, "s": {"Value": S("x")}}
    either = {"TableName": "things", "Expected": expected, "ConditionalOperator": "OR"}
    assert client("PutItem", Item=ITEM, **either) == {}
    code, _ = client.refused("PutItem", Item=ITEM, **(either | {"ConditionalOperator": "AND"}))
    assert code == "ConditionalCheckFailedException"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Exists": True}, "Value must be provided when Exists is true for Attribute: n"),
        ({}, "Value must be provided when Exists is null for Attribute: n"),
        ({"Exists": False, "Value": N(1)}, "Value cannot be used when Exists is false for Attribute: n"),
        (
            {"Exists": False, "ComparisonOperator": "NULL"},
            "Exists and ComparisonOperator cannot be used together for Attribute: n",
        ),
        (
            {"Value": N(1), **condition("EQ", N(1))},
            "Value and AttributeValueList cannot be used together for Attribute: n",
        ),
        (
            {"AttributeValueList": [N(1)]},
            "AttributeValueList can only be used with a ComparisonOperator for Attribute: n",
        ),
        (
            {"ComparisonOperator": "EQ"},
            "Value or AttributeValueList must be used with ComparisonOperator: EQ for Attribute: n",
        ),
        (
            {"ComparisonOperator": "EQ", "AttributeValueList": []},
            "Invalid number of argument(s) for the EQ ComparisonOperator",
        ),
        (condition("EQ", N(1), N(2)), "Invalid number of argument(s) for the EQ ComparisonOperator"),
        (condition("NULL", N(1)), "Invalid number of argument(s) for the NULL ComparisonOperator"),
        (condition("BETWEEN", N(1)), "Invalid number of argument(s) for the BETWEEN ComparisonOperator"),
        (condition("IN", N(1), S("1")), "AttributeValues inside AttributeValueList must be of same type"),
        (
            condition("CONTAINS", {"SS": ["a"]}),
            "ComparisonOperator CONTAINS is not valid for SS AttributeValue type",
        ),
        (condition("LT", {"L": []}), "ComparisonOperator LT is not valid for L AttributeValue type"),
        (condition("IN", {"NS": ["1"]}), "ComparisonOperator IN is not valid for NS AttributeValue type"),
        (condition("BEGINS_WITH", N(1)), "ComparisonOperator BEGINS_WITH is not valid for N AttributeValue type"),
    ],
)
def test_what_is_wrong_with_a_condition(client: Client, given: dict[str, Any], message: str) -> None:
    assert client.refused("PutItem", TableName="missing", Item=ITEM, Expected={"n": given}) == (
        "ValidationException",
        WRONG + message,
    )


@pytest.mark.parametrize("given", [{}, {"AttributeValueList": []}, {"Value": N(1)}, {"Value": N(1), "Exists": True}])
def test_a_filter_knows_lists_of_values_only(client: Client, given: dict[str, Any]) -> None:
    conditions = {"pk": {"ComparisonOperator": "EQ", **given}}
    wrong = ("ValidationException", f"{INVALID}Invalid number of argument(s) for the EQ ComparisonOperator")
    assert client.refused("Scan", TableName="things", ScanFilter=conditions) == wrong
    assert client.refused("Query", TableName="things", KeyConditions=conditions) == wrong


def test_bounds_must_be_in_order(client: Client) -> None:
    given = {"n": condition("BETWEEN", N(2), N(1))}
    assert client.refused("Scan", TableName="things", ScanFilter=given)[1] == (
        "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "ConditionalOperator cannot be used without Filter or Expected"),
        ({"Expected": {}}, "ConditionalOperator cannot be used without Filter or Expected"),
        (
            {"Expected": {"a": {"Exists": False}}},
            "ConditionalOperator can only be used when Filter or Expected has two or more elements",
        ),
    ],
)
def test_a_conditional_operator_joins_two(client: Client, given: dict[str, Any], message: str) -> None:
    assert client.refused("PutItem", TableName="things", Item=ITEM, ConditionalOperator="OR", **given) == (
        "ValidationException",
        f"1 validation error detected: {message}",
    )
    scan = {"ScanFilter": given["Expected"]} if "Expected" in given else {}
    scan = {"ScanFilter": {"a": condition("NULL")}} if scan.get("ScanFilter") else scan
    assert client.refused("Scan", TableName="things", ConditionalOperator="OR", **scan)[1] == message


def test_the_two_ways_do_not_mix(client: Client) -> None:
    mixed = "Can not use both expression and non-expression parameters in the same request: "
    keys = {"pk": condition("EQ", S("a"))}
    _, message = client.refused(
        "Query", TableName="things", KeyConditions=keys, AttributesToGet=["n"], FilterExpression="n = :n"
    )
    assert message == mixed + "Non-expression parameters: {AttributesToGet} Expression parameters: {FilterExpression}"
    _, message = client.refused(
        "Query", TableName="things", KeyConditions=keys, QueryFilter={}, KeyConditionExpression="pk = :p"
    )
    assert message == mixed + (
        "Non-expression parameters: {QueryFilter, KeyConditions} Expression parameters: {KeyConditionExpression}"
    )
    _, message = client.refused(
        "UpdateItem", TableName="things", Key=KEY, AttributeUpdates={}, ConditionExpression="n = :n"
    )
    assert message == mixed + (
        "Non-expression parameters: {AttributeUpdates} Expression parameters: {ConditionExpression}"
    )


def test_key_conditions_go_with_other_expressions(client: Client) -> None:
    body: dict[str, Any] = {"TableName": "things", "KeyConditions": {"pk": condition("EQ", S("a"))}}
    found = client(
        "Query", **body, FilterExpression="#0 = :0", ProjectionExpression="#1",
        ExpressionAttributeNames={"#0": "n", "#1": "s"}, ExpressionAttributeValues={":0": N(5)},
    )  # fmt: skip
    assert found["Items"] == [{"s": ITEM["s"]}]
    assert client("Query", **body, ProjectionExpression="n")["Items"] == [{"n": N(5)}]
    values = {"ExpressionAttributeValues": {":0": S("a")}}
    assert client.refused("Query", **body, FilterExpression="pk = :0", **values)[1] == (
        "Filter Expression can only contain non-primary key attributes: Primary key attribute: pk"
    )
    assert client.refused("Query", **body, **values)[1] == (
        "ExpressionAttributeValues can only be specified when using expressions: "
        "FilterExpression and KeyConditionExpression are null"
    )


# --- updates --------------------------------------------------------------------------------------------


def updated(client: Client, **updates: Any) -> dict[str, Any]:
    answer = client("UpdateItem", TableName="things", Key=KEY, AttributeUpdates=updates, ReturnValues="ALL_NEW")
    attributes: dict[str, Any] = answer["Attributes"]
    return attributes


def test_actions_put_delete_and_add(client: Client) -> None:
    after = updated(
        client,
        n={"Action": "ADD", "Value": N("-2.5")},
        fresh={"Action": "ADD", "Value": N(3)},
        s={"Value": S("bye")},
        ss={"Action": "DELETE", "Value": {"SS": ["x", "q"]}},
        ns={"Action": "ADD", "Value": {"NS": ["2", "3"]}},
        l={"Action": "ADD", "Value": {"L": [S("z")]}},
        t={"Action": "DELETE"},
        gone={"Action": "DELETE"},
    )
    assert after == {
        **{name: ITEM[name] for name in ("pk", "b", "m", "z")},
        "n": N("2.5"),
        "fresh": N(3),
        "s": S("bye"),
        "ss": {"SS": ["y"]},
        "ns": {"NS": ["1", "2", "3"]},
        "l": {"L": [S("x"), N(1), {"M": {}}, S("z")]},
    }


def test_names_with_dots_are_names(client: Client) -> None:
    assert updated(client, **{"m.s": {"Value": S("top")}})["m.s"] == S("top")
    assert client("GetItem", TableName="things", Key=KEY, AttributesToGet=["m.s"]) == {"Item": {"m.s": S("top")}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Action": "PUT"}, "Only DELETE action is allowed when no attribute value is specified"),
        ({"Action": "ADD"}, "Only DELETE action is allowed when no attribute value is specified"),
        ({"Action": "DELETE", "Value": S("x")}, "DELETE action with value is not supported for the type S"),
        ({"Action": "ADD", "Value": S("x")}, "ADD action is not supported for the type S"),
        ({"Action": "ADD", "Value": {"M": {}}}, "ADD action is not supported for the type M"),
    ],
)
def test_what_is_wrong_with_an_update(client: Client, given: dict[str, Any], message: str) -> None:
    assert client.refused("UpdateItem", TableName="missing", Key=KEY, AttributeUpdates={"n": given}) == (
        "ValidationException",
        WRONG + message,
    )


def test_keys_are_not_updated(client: Client) -> None:
    assert client.refused("UpdateItem", TableName="things", Key=KEY, AttributeUpdates={"pk": {"Value": S("b")}}) == (
        "ValidationException",
        f"{INVALID}Cannot update attribute pk. This attribute is part of the key",
    )


@pytest.mark.parametrize(
    "update",
    [
        {"s": {"Action": "ADD", "Value": N(1)}},
        {"ss": {"Action": "ADD", "Value": {"NS": ["1"]}}},
        {"ss": {"Action": "DELETE", "Value": {"NS": ["1"]}}},
        {"n": {"Action": "ADD", "Value": {"L": []}}},
    ],
)
def test_an_update_that_does_not_fit_the_item_says_so(client: Client, update: dict[str, Any]) -> None:
    assert client.refused("UpdateItem", TableName="things", Key=KEY, AttributeUpdates=update) == (
        "ValidationException",
        "Type mismatch for attribute to update",
    )


def test_an_update_without_any_change_makes_the_item(client: Client) -> None:
    client("UpdateItem", TableName="things", Key={"pk": S("new")}, AttributeUpdates={})
    assert client("GetItem", TableName="things", Key={"pk": S("new")})["Item"] == {"pk": S("new")}


def test_deleting_attributes_of_an_absent_item_makes_none(client: Client) -> None:
    body: dict[str, Any] = {
        "TableName": "things",
        "Key": {"pk": S("new")},
        "AttributeUpdates": {"a": {"Action": "DELETE"}, "b": {"Action": "DELETE", "Value": {"SS": ["x"]}}},
    }
    answer = client("UpdateItem", **body, ReturnValues="ALL_NEW", ReturnConsumedCapacity="TOTAL")
    assert answer == {"ConsumedCapacity": {"TableName": "things", "CapacityUnits": 1.0}}
    either = {"x": {"Exists": False}, "y": condition("NOT_CONTAINS", S("q"))}
    assert client("UpdateItem", **body, Expected=either, ConditionalOperator="OR") == {}
    code, _ = client.refused("UpdateItem", **body, Expected=either)
    assert code == "ConditionalCheckFailedException"
    assert client("GetItem", TableName="things", Key={"pk": S("new")}) == {}


def test_deleting_attributes_of_an_item_heeds_its_conditions(client: Client) -> None:
    body: dict[str, Any] = {"TableName": "things", "Key": KEY, "AttributeUpdates": {"s": {"Action": "DELETE"}}}
    with pytest.raises(ApiError, match="The conditional request failed") as error:
        client("UpdateItem", **body, Expected={"n": {"Value": N(6)}})
    assert not error.value.details  # the item was not asked for
    with pytest.raises(ApiError, match="The conditional request failed") as error:
        client("UpdateItem", **body, Expected={"n": {"Value": N(6)}}, ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert error.value.details == {"Item": ITEM}
    assert client("UpdateItem", **body, ReturnValues="UPDATED_OLD") == {"Attributes": {"s": S("hello")}}


# --- reads ----------------------------------------------------------------------------------------------


def test_attributes_to_get_select(client: Client) -> None:
    wanted = ["n", "absent"]
    assert client("GetItem", TableName="things", Key=KEY, AttributesToGet=wanted) == {"Item": {"n": N(5)}}
    assert client("GetItem", TableName="things", Key=KEY, AttributesToGet=["absent"]) == {"Item": {}}
    batch = client("BatchGetItem", RequestItems={"things": {"Keys": [KEY], "AttributesToGet": wanted}})
    assert batch["Responses"] == {"things": [{"n": N(5)}]}
    assert client("Scan", TableName="things", AttributesToGet=wanted)["Items"] == [{"n": N(5)}]
    for operation, body in (
        ("GetItem", {"TableName": "things", "Key": KEY, "AttributesToGet": ["n", "n"]}),
        ("BatchGetItem", {"RequestItems": {"things": {"Keys": [KEY], "AttributesToGet": ["n", "n"]}}}),
    ):
        assert client.refused(operation, **body)[1] == f"{INVALID}Duplicate value in attribute name: n"


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("COUNT", "Cannot specify the AttributesToGet when choosing to get only the Count"),
        ("ALL_ATTRIBUTES", "Cannot specify the AttributesToGet when choosing to get ALL_ATTRIBUTES"),
    ],
)
def test_attributes_to_get_and_select_may_contradict(client: Client, select: str, message: str) -> None:
    assert client.refused("Scan", TableName="things", AttributesToGet=["n"], Select=select)[1] == message


@pytest.mark.parametrize(
    ("on_sort_key", "count"),
    [
        (condition("EQ", N(3)), 1),
        (condition("LT", N(3)), 3),
        (condition("LE", N(3)), 4),
        (condition("GT", N(3)), 6),
        (condition("GE", N(3)), 7),
        (condition("BETWEEN", N(3), N(5)), 3),
    ],
)
def test_key_conditions_select(client: Client, on_sort_key: dict[str, Any], count: int) -> None:
    for number in range(10):
        client("PutItem", TableName="sorted", Item={**KEY, "sk": N(number)})
    keys = {"pk": condition("EQ", S("a")), "sk": on_sort_key}
    assert client("Query", TableName="sorted", KeyConditions=keys)["Count"] == count


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "Conditions can be of length 1 or 2 only"),
        ({"sk": condition("EQ", N(1))}, "Query condition missed key schema element: pk"),
        ({"pk": condition("LT", S("a"))}, "Query key condition not supported"),
        (
            {"pk": condition("EQ", S("a")), "x": condition("EQ", N(1))},
            "Query condition missed key schema element: sk",
        ),
        ({"pk": condition("NE", S("a"))}, "Attempted conditional constraint is not an indexable operation"),
        (
            {"pk": condition("EQ", N(1))},
            f"{INVALID}Condition parameter type does not match schema type",
        ),
        (
            {name: condition("EQ", N(1)) for name in ("pk", "sk", "x")},
            "Conditions can be of length 1 or 2 only",
        ),
    ],
)
def test_what_is_wrong_with_key_conditions(client: Client, keys: dict[str, Any], message: str) -> None:
    assert client.refused("Query", TableName="sorted", KeyConditions=keys) == ("ValidationException", message)


def test_a_query_filter_leaves_the_keys_alone(client: Client) -> None:
    keys = {"pk": condition("EQ", S("a"))}
    assert client.refused("Query", TableName="sorted", KeyConditions=keys, QueryFilter={"sk": condition("NULL")}) == (
        "ValidationException",
        "QueryFilter can only contain non-primary key attributes: Primary key attribute: sk",
    )


# --- the translation ------------------------------------------------------------------------------------


def test_the_same_form_of_a_request_has_the_same_text() -> None:
    texts = {
        translate_write({"AttributeUpdates": {"a": {"Value": N(n)}}, "Expected": {"b": {"Value": S(str(n))}}})[:5]
        for n in range(3)
    }
    assert texts == {("#1 = :1", "SET #0 = :0", None, None, None)}


def test_a_translation_may_be_longer_than_an_expression(client: Client) -> None:
    many = {f"a{number}": {"Exists": False} for number in range(1000)}
    updates = {f"a{number}": {"Value": N(number)} for number in range(1000)}
    client("UpdateItem", TableName="things", Key=KEY, Expected=many, AttributeUpdates=updates)
    assert client("GetItem", TableName="things", Key=KEY)["Item"]["a999"] == N(999)
    write = client.region.calls[-2]
    assert isinstance(write, Write)
    assert len(write.names) == 1000


@pytest.mark.parametrize(
    ("operation", "parameter", "value"),
    [
        ("Scan", "ScanFilter", {"a": condition("IN", *map(N, range(5000)))}),
        ("DeleteItem", "Expected", {f"a{n}": {"Exists": False} for n in range(5001)}),
        ("UpdateItem", "AttributeUpdates", {f"a{n}": {"Action": "DELETE"} for n in range(5001)}),
        ("GetItem", "AttributesToGet", [f"a{n}" for n in range(5001)]),
    ],
)
def test_a_translation_takes_a_bounded_time(client: Client, operation: str, parameter: str, value: Any) -> None:
    key = {} if operation == "Scan" else {"Key": KEY}
    code, message = client.refused(operation, TableName="things", **key, **{parameter: value})
    assert code == "ValidationException"
    assert str(message).endswith(f"{INVALID}{parameter} has more than 5000 attributes and values")


def test_nothing_is_translated_to_nothing() -> None:
    assert translate_read({}, "ScanFilter") == translate_write({}) == translate_read({"ScanFilter": {}}, "ScanFilter")
