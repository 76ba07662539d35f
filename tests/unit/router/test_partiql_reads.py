"""SELECT: which requests it becomes, what it finds, how it is continued."""

from __future__ import annotations

import random
from typing import Any

import pytest

from geodyne.errors import ApiError
from geodyne.expressions import evaluate_condition, parse_condition
from geodyne.messages import Get, Range
from router.api.partiql.conditions import Writer
from router.api.partiql.pages import Tokens
from router.api.partiql.parse import parse_statement
from router.api.partiql.tree import Select
from tests.unit.router.fake_region import Client, table

ITEM = {
    "pk": {"S": "a"},
    "n": {"N": "1"},
    "seq": {"L": [{"S": "x"}, {"M": {"deep": {"BOOL": True}}}]},
    "map": {"M": {"in": {"M": {"s": {"S": "y"}}}}},
    "nothing": {"NULL": True},
}


@pytest.fixture
def client() -> Client:
    client = Client()
    table(client)
    table(client, "sorted", sort="N")
    client("PutItem", TableName="things", Item=ITEM)
    for pk in ("a", "b", "c"):
        for sk in range(6):
            item = {"pk": {"S": pk}, "sk": {"N": str(sk)}, "tens": {"N": str(sk * 10)}}
            client("PutItem", TableName="sorted", Item=item)
    return client


def run(client: Client, statement: str, *parameters: Any, **more: Any) -> dict[str, Any]:
    given = {"Parameters": list(parameters)} if parameters else {}
    return client("ExecuteStatement", Statement=statement, **given, **more)


def found(client: Client, statement: str, *parameters: Any, **more: Any) -> list[str]:
    """The items of `sorted` as texts, partition key and sort key together."""
    return [item["pk"]["S"] + item["sk"]["N"] for item in run(client, statement, *parameters, **more)["Items"]]


def refused(client: Client, statement: str, *parameters: Any, **more: Any) -> str | None:
    given = {"Parameters": list(parameters)} if parameters else {}
    code, message = client.refused("ExecuteStatement", Statement=statement, **given, **more)
    assert code == "ValidationException"
    return message


def test_equality_on_the_whole_key_reads_one_item(client: Client) -> None:
    assert run(client, "SELECT * FROM things WHERE pk = 'a'") == {"Items": [ITEM]}
    assert isinstance(client.region.calls[-1], Get)
    assert run(client, "SELECT * FROM things WHERE pk = ?", {"S": "no"}) == {"Items": []}


def test_equality_on_the_partition_key_reads_one_partition_key(client: Client) -> None:
    before = len(client.region.calls)
    assert found(client, "SELECT * FROM sorted WHERE pk = 'b' AND tens > 30") == ["b4", "b5"]
    (call,) = client.region.calls[before:]
    assert isinstance(call, Range)
    assert call.filter is not None


def test_anything_else_scans(client: Client) -> None:
    assert sorted(found(client, "SELECT * FROM sorted WHERE tens = 50")) == ["a5", "b5", "c5"]
    assert sorted(found(client, "SELECT * FROM sorted WHERE pk > 'a' AND sk = 0")) == ["b0", "c0"]
    assert len(run(client, "SELECT * FROM sorted")["Items"]) == 18


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("sk = 2", ["a2"]),
        ("2 = sk", ["a2"]),
        ("sk < 2", ["a0", "a1"]),
        ("2 >= sk", ["a0", "a1", "a2"]),
        ("sk BETWEEN 1 AND 3", ["a1", "a2", "a3"]),
        ("sk NOT BETWEEN 1 AND 4", ["a0", "a5"]),
        ("sk > 1 AND sk < 4", ["a2", "a3"]),
        ("sk IN [1, 9, 3]", ["a1", "a3"]),
        ("(sk = 1 OR sk = 4)", ["a1", "a4"]),
        ("sk <> 0 AND tens <= 20", ["a1", "a2"]),
        ("NOT (sk = 0 OR tens > 10)", ["a1"]),
        ("pk = 'b'", []),
    ],
)
def test_conditions_on_the_sort_key(client: Client, condition: str, expected: list[str]) -> None:
    assert found(client, f"SELECT * FROM sorted WHERE pk = 'a' AND {condition}") == expected


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("n = 1", True),
        ("n != 1", False),
        ("n IS MISSING", False),
        ("absent IS MISSING", True),
        ("absent = MISSING", True),
        ("n IS NOT MISSING", True),
        ("n <> MISSING", True),
        ("nothing IS NULL", True),
        ("n IS NULL", False),
        ("nothing = NULL", True),
        ("n IS NUMBER", True),
        ("seq IS LIST", True),
        ("map IS STRING", False),
        ("BEGINS_WITH(map.\"in\".s, 'y')", True),
        ("contains(seq, 'x')", True),
        ("contains(seq, {'deep': true})", True),
        ("size(seq) = 2", True),
        ("attribute_type(map, 'M')", True),
        ("seq[0] = 'x' AND seq[1].deep = true", True),
        ("seq = ['x', {'deep': TRUE}]", True),
        ("map['in'].s IN ('a', 'y')", True),
        ("n BETWEEN 2 AND 3", False),
    ],
)
def test_operators_and_functions(client: Client, condition: str, *, holds: bool) -> None:
    assert run(client, f"SELECT * FROM things WHERE pk = 'a' AND {condition}")["Items"] == ([ITEM] if holds else [])


def test_a_projection_names_values_by_the_end_of_their_path(client: Client) -> None:
    (item,) = run(client, "SELECT n, map.\"in\".s, seq[0], absent FROM things WHERE pk = 'a'")["Items"]
    assert item == {"n": {"N": "1"}, "s": {"S": "y"}, "seq[0]": {"S": "x"}}


def test_an_or_or_in_on_the_partition_key_is_a_query_for_each_value(client: Client) -> None:
    for condition in ("pk IN ['c', 'a', 'c']", "(pk = 'c' OR pk = 'a')"):
        before = len(client.region.calls)
        assert found(client, f"SELECT * FROM sorted WHERE {condition} AND sk = 1") == ["c1", "a1"]
        assert len(client.region.calls) - before == 2
    assert found(client, "SELECT * FROM sorted WHERE (pk = 'a' AND sk = 1) OR (pk = 'b' AND sk = 2)") == ["a1", "b2"]


def test_several_partition_keys_come_in_pages_of_ten(client: Client) -> None:
    statement = "SELECT * FROM sorted WHERE pk IN ['a', 'b', 'c']"
    first = run(client, statement)
    assert len(first["Items"]) == 10
    rest = run(client, statement, NextToken=first["NextToken"])
    assert "NextToken" not in rest
    keys = [item["pk"]["S"] + item["sk"]["N"] for item in first["Items"] + rest["Items"]]
    assert keys == [pk + str(sk) for pk in "abc" for sk in range(6)]


def test_limit_counts_what_is_read_and_a_token_goes_on(client: Client) -> None:
    statement = "SELECT * FROM sorted WHERE pk = 'a' AND tens >= 20"
    first = run(client, statement, Limit=3)
    assert [item["sk"]["N"] for item in first["Items"]] == ["2"]
    assert first["LastEvaluatedKey"] == {"pk": {"S": "a"}, "sk": {"N": "2"}}
    second = run(client, statement, NextToken=first["NextToken"])
    assert [item["sk"]["N"] for item in second["Items"]] == ["3", "4", "5"]
    assert "NextToken" not in second


def test_a_scan_goes_on_too(client: Client) -> None:
    items: list[Any] = []
    more: dict[str, Any] = {}
    while True:
        page = run(client, "SELECT * FROM sorted", Limit=4, **more)
        items += page["Items"]
        if "NextToken" not in page:
            break
        more = {"NextToken": page["NextToken"]}
    assert len(items) == 18


def test_a_token_belongs_to_its_statement_and_parameters(client: Client) -> None:
    token = run(client, "SELECT * FROM sorted WHERE pk = ?", {"S": "a"}, Limit=1)["NextToken"]
    assert refused(client, "SELECT * FROM sorted WHERE pk = ?", {"S": "b"}, NextToken=token) == "Invalid NextToken"
    assert refused(client, "SELECT * FROM sorted WHERE ? = pk", {"S": "a"}, NextToken=token) == "Invalid NextToken"
    for broken in (token[:-4], token + "!", "x", token[:30] + ("A" if token[30] != "A" else "B") + token[31:]):
        assert refused(client, "SELECT * FROM sorted WHERE pk = ?", {"S": "a"}, NextToken=broken) == "Invalid NextToken"


@pytest.mark.parametrize("order", ["", " ORDER BY sk"])
def test_a_forged_position_is_refused(client: Client, order: str) -> None:
    statement = f"SELECT * FROM sorted WHERE pk IN ['a', 'b']{order}"
    tokens = Tokens(statement, [], client.region.catalog.tables["sorted"].id)
    forged: list[Any] = [{}, {"at": 2}, {"at": True}, {"at": "0"}, {"at": 0, "key": [1]}, {"at": -1}]
    forged += [{"keys": [None], "done": []}, {"keys": [None, 1], "done": []}, {"keys": [None, None], "done": [7]}]
    forged += [{"keys": [None, None], "done": [0, 1]}, {"keys": [None, None], "done": [[]]}, [], "x", None, 7]
    for position in forged:
        assert refused(client, statement, NextToken=tokens.write(position)) == "Invalid NextToken"
    key = {"pk": {"S": "c"}, "sk": {"N": "1"}}
    for position in ({"at": 0, "key": key}, {"keys": [key, None], "done": []}, {"at": 0, "key": {"pk": {"S": 1}}}):
        code, _ = client.refused("ExecuteStatement", Statement=statement, NextToken=tokens.write(position))
        assert code in ("ValidationException", "SerializationException")


def test_order_by_the_sort_key(client: Client) -> None:
    assert found(client, "SELECT * FROM sorted WHERE pk = 'a' AND sk > 3 ORDER BY sk DESC") == ["a5", "a4"]
    assert found(client, "SELECT * FROM sorted WHERE pk = 'a' AND sk > 3 ORDER BY pk, sk ASC") == ["a4", "a5"]


def test_order_by_over_several_partition_keys(client: Client) -> None:
    by_hash = "SELECT * FROM sorted WHERE pk IN ['a', 'c', 'b'] AND sk < 2 ORDER BY pk DESC, sk DESC"
    assert found(client, by_hash) == ["c1", "c0", "b1", "b0", "a1", "a0"]
    statement = "SELECT pk, sk FROM sorted WHERE pk IN ['a', 'c', 'b'] AND tens <> 40 ORDER BY sk DESC"
    keys: list[str] = []
    more: dict[str, Any] = {}
    while True:
        page = run(client, statement, Limit=4, **more)
        keys += [item["pk"]["S"] + item["sk"]["N"] for item in page["Items"]]
        if "NextToken" not in page:
            break
        more = {"NextToken": page["NextToken"]}
    assert keys == [pk + str(sk) for sk in (5, 3, 2, 1, 0) for pk in "acb"]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "SELECT * FROM sorted ORDER BY sk",
            "Must have WHERE clause in the statement when using ORDER BY clause.",
        ),
        (
            "SELECT * FROM sorted WHERE tens = 1 ORDER BY sk",
            "Must have at least one non-optional hash key condition in WHERE clause when using ORDER BY clause.",
        ),
        (
            "SELECT * FROM sorted WHERE pk = 'a' ORDER BY tens",
            "Variable reference tens in ORDER BY clause must be part of the primary key at 1:46:4",
        ),
        ("SELECT COUNT(*) FROM sorted", "Unexpected path component at 1:8:5"),
        ("SELECT * FROM sorted.other WHERE pk = 'a'", "The table does not have the specified index: other"),
        ("SELECT * FROM sorted WHERE pk = ?", "Number of parameters in request and statement don't match."),
        (
            f"SELECT * FROM things WHERE pk IN [{', '.join(map(repr, map(str, range(51))))}]",
            "The IN operator is provided with too many operands; number of operands: 51",
        ),
        (
            f"SELECT * FROM things WHERE n IN [{', '.join(map(str, range(101)))}]",
            "The IN operator is provided with too many operands; number of operands: 101",
        ),
        (
            "SELECT * FROM sorted WHERE pk = 1",
            "One or more parameter values were invalid: Condition parameter type does not match schema type",
        ),
    ],
)
def test_what_a_select_may_not_say(client: Client, statement: str, message: str) -> None:
    assert refused(client, statement) == message


def test_messages_do_not_name_parameters_of_other_operations(client: Client) -> None:
    message = refused(client, "SELECT * FROM things WHERE n BETWEEN 2 AND 1")
    assert message is not None
    assert message.startswith("The BETWEEN operator requires upper bound")


def test_fifty_partition_keys_are_not_too_many(client: Client) -> None:
    choices = ", ".join(f"'{number}'" for number in range(49))
    assert run(client, f"SELECT * FROM things WHERE pk IN [{choices}, 'a']")["Items"] == [ITEM]


def test_consistency_and_capacity_are_those_of_the_read(client: Client) -> None:
    answer = run(client, "SELECT * FROM things WHERE pk = 'a'", ConsistentRead=True, ReturnConsumedCapacity="TOTAL")
    assert answer["ConsumedCapacity"] == {"TableName": "things", "CapacityUnits": 1.0}
    call = client.region.calls[-1]
    assert isinstance(call, Get)
    assert call.strong
    answer = run(client, "SELECT * FROM sorted WHERE pk IN ['a', 'b'] AND sk = 1", ReturnConsumedCapacity="INDEXES")
    assert answer["ConsumedCapacity"]["CapacityUnits"] == 1.0
    assert answer["ConsumedCapacity"]["Table"] == {"CapacityUnits": 1.0}


def test_a_missing_table_is_not_found(client: Client) -> None:
    assert client.refused("ExecuteStatement", Statement="SELECT * FROM nowhere") == (
        "ResourceNotFoundException",
        "Requested resource not found",
    )


# --- planning changes nothing but the work ----------------------------------------------------------------

_TESTS = (
    "pk = '{p}'", "pk IN ['{p}', '{q}']", "pk <> '{p}'", "pk > '{p}'", "sk = {n}", "{n} < sk", "sk >= {n}",
    "sk BETWEEN {n} AND 5", "sk IN ({n}, 4)", "tens > {n}0", "tens = {n}0", "begins_with(pk, '{p}')",
    "contains(pk, '{q}')", "absent IS MISSING", "tens IS NOT NULL", "size(pk) = 1",
)  # fmt: skip


def _condition(chooser: random.Random, depth: int) -> str:
    kind = chooser.randrange(6) if depth else 5
    if kind < 2:
        return " AND ".join(_condition(chooser, depth - 1) for _ in range(chooser.randrange(2, 4)))
    if kind < 4:
        return "(" + " OR ".join(_condition(chooser, depth - 1) for _ in range(2)) + ")"
    if kind == 4:
        return f"NOT ({_condition(chooser, depth - 1)})"
    return chooser.choice(_TESTS).format(p=chooser.choice("abcx"), q=chooser.choice("abcx"), n=chooser.randrange(6))


def _brute_force(client: Client, statement: str) -> list[str]:
    """The items of `sorted` that the condition holds for, each looked at."""
    parsed = parse_statement(statement)
    assert isinstance(parsed, Select)
    assert parsed.where is not None
    writer = Writer(())
    text = writer.condition(parsed.where)
    members = writer.members()
    names, values = members.get("ExpressionAttributeNames", {}), members.get("ExpressionAttributeValues", {})
    items = client("Scan", TableName="sorted")["Items"]
    holding = [item for item in items if evaluate_condition(parse_condition(text), item, names, values)]
    return sorted(item["pk"]["S"] + item["sk"]["N"] for item in holding)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_found_does_not_depend_on_the_plan(client: Client, seed: int) -> None:
    chooser = random.Random(seed)
    for _ in range(40):
        statement = f"SELECT pk, sk FROM sorted WHERE {_condition(chooser, 2)}"
        orders = ("", " ORDER BY sk", " ORDER BY sk DESC", " ORDER BY pk DESC, sk")
        order = chooser.choice(orders)
        limit = {"Limit": chooser.randrange(1, 6)} if chooser.random() < 0.5 else {}
        expected = _brute_force(client, statement)
        keys: list[str] = []
        more: dict[str, Any] = {}
        while True:
            try:
                page = run(client, statement + order, **limit, **more)
            except ApiError as error:
                if not order or "non-optional hash key" not in (error.message or ""):
                    raise
                break
            keys += [item["pk"]["S"] + item["sk"]["N"] for item in page["Items"]]
            if "NextToken" not in page:
                assert sorted(keys) == expected, statement + order
                if "ORDER BY sk" in order:
                    assert keys == sorted(keys, key=lambda key: key[1], reverse=order.endswith("DESC"))
                break
            more = {"NextToken": page["NextToken"]}
