"""INSERT, UPDATE and DELETE, alone and in batches."""

from __future__ import annotations

from typing import Any

import pytest

from router.api.registry import OPERATIONS
from tests.unit.router.fake_region import Client, table

KEYS = "Where clause does not contain a mandatory equality on all key attributes"
FAILED = ("ConditionalCheckFailedException", "The conditional request failed")


@pytest.fixture
def client() -> Client:
    client = Client()
    table(client)
    table(client, "sorted", sort="N")
    run(client, "INSERT INTO things VALUE {'pk': 'a', 'n': 1, 'l': [1], 's': <<'x', 'y'>>, 'm': {'k': 'v'}}")
    return client


def run(client: Client, statement: str, *parameters: Any, **more: Any) -> dict[str, Any]:
    given = {"Parameters": list(parameters)} if parameters else {}
    return client("ExecuteStatement", Statement=statement, **given, **more)


def refused(client: Client, statement: str, *parameters: Any) -> tuple[str, str | None]:
    given = {"Parameters": list(parameters)} if parameters else {}
    return client.refused("ExecuteStatement", Statement=statement, **given)


def stored(client: Client, pk: str = "a") -> Any:
    return client("GetItem", TableName="things", Key={"pk": {"S": pk}}).get("Item")


# --- INSERT ---------------------------------------------------------------------------------------------


def test_insert_stores_literals_and_parameters(client: Client) -> None:
    statement = (
        "INSERT INTO \"things\" VALUE {'pk': ?, 'b': ?, 'ns': <<1, 2.50>>, 'l': [null, true, [?]], 'text': 'it''s'}"
    )
    assert run(client, statement, {"S": "b"}, {"B": "AQ=="}, {"SS": ["q"]}) == {"Items": []}
    assert stored(client, "b") == {
        "pk": {"S": "b"},
        "b": {"B": "AQ=="},
        "ns": {"NS": ["1", "2.5"]},
        "l": {"L": [{"NULL": True}, {"BOOL": True}, {"L": [{"SS": ["q"]}]}]},
        "text": {"S": "it's"},
    }


def test_insert_of_an_existing_key_changes_nothing(client: Client) -> None:
    before = stored(client)
    duplicate = ("DuplicateItemException", "Duplicate primary key exists in table")
    assert refused(client, "INSERT INTO things VALUE {'pk': 'a', 'n': 2}") == duplicate
    assert stored(client) == before


@pytest.mark.parametrize(
    "value",
    ["{'n': 1}", "{'pk': 1}", "{'pk': ''}", "'x'", "[1]", "{'pk': 'z', 's': <<1, 'x'>>}", "{'pk': 'z', 's': <<>>}"],
)
def test_insert_wants_an_item(client: Client, value: str) -> None:
    assert refused(client, f"INSERT INTO things VALUE {value}")[0] == "ValidationException"


# --- UPDATE ---------------------------------------------------------------------------------------------


def test_update_sets_adds_and_removes(client: Client) -> None:
    answer = run(
        client,
        "UPDATE things SET n = n + 4 SET l = list_append(l, ['z']) SET s = set_add(s, <<'w'>>) SET m.k2 = ? "
        "REMOVE m.k WHERE pk = 'a' RETURNING ALL NEW *",
        {"N": "7"},
    )
    expected = {
        "pk": {"S": "a"},
        "n": {"N": "5"},
        "l": {"L": [{"N": "1"}, {"S": "z"}]},
        "s": {"SS": ["w", "x", "y"]},
        "m": {"M": {"k2": {"N": "7"}}},
    }
    assert answer == {"Items": [expected]}
    assert stored(client) == expected


def test_set_delete_takes_elements_out(client: Client) -> None:
    answer = run(client, "UPDATE things SET s = SET_DELETE(s, <<'x'>>) WHERE pk = 'a' RETURNING MODIFIED NEW *")
    assert answer["Items"] == [{"s": {"SS": ["y"]}}]


@pytest.mark.parametrize(
    ("returning", "expected"),
    [
        ("", []),
        ("RETURNING MODIFIED OLD *", [{"n": {"N": "1"}}]),
        ("RETURNING MODIFIED NEW *", [{"n": {"N": "2"}}]),
    ],
)
def test_update_returns_what_was_asked_for(client: Client, returning: str, expected: list[Any]) -> None:
    assert run(client, f"UPDATE things SET n = n + 1 WHERE pk = 'a' {returning}")["Items"] == expected


def test_update_never_makes_an_item(client: Client) -> None:
    assert refused(client, "UPDATE things SET n = 1 WHERE pk = 'new'") == FAILED
    assert stored(client, "new") is None


def test_the_rest_of_where_is_a_condition(client: Client) -> None:
    assert refused(client, "UPDATE things SET n = 2 WHERE pk = 'a' AND n > 1") == FAILED
    assert refused(client, "UPDATE things SET n = 2 WHERE pk = 'a' AND (n = 3 OR n = 4)") == FAILED
    assert run(client, "UPDATE things SET n = 2 WHERE n = 1 AND m.k = 'v' AND pk = 'a'") == {"Items": []}
    assert stored(client)["n"] == {"N": "2"}


def test_an_update_may_begin_with_from(client: Client) -> None:
    run(client, "FROM things WHERE pk = 'a' SET n = 9")
    assert stored(client)["n"] == {"N": "9"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE things SET n = 1",
        "UPDATE things SET n = 1 WHERE n = 1",
        "UPDATE things SET n = 1 WHERE pk > 'a'",
        "UPDATE things SET n = 1 WHERE pk = 'a' OR pk = 'b'",
        "UPDATE things SET n = 1 WHERE pk IN ['a']",
        "UPDATE sorted SET n = 1 WHERE pk = 'a'",
        "DELETE FROM things",
        "DELETE FROM sorted WHERE sk = 1",
        "DELETE FROM sorted WHERE pk = 'a' AND sk > 1",
    ],
)
def test_a_write_names_its_item_by_the_whole_key(client: Client, statement: str) -> None:
    assert refused(client, statement) == ("ValidationException", KEYS)


def test_key_attributes_are_not_updated(client: Client) -> None:
    for change in ("SET pk = 'b'", "REMOVE pk"):
        code, message = refused(client, f"UPDATE things {change} WHERE pk = 'a'")
        assert code == "ValidationException"
        assert message is not None
        assert message.endswith("Cannot update attribute pk. This attribute is part of the key")


@pytest.mark.parametrize(
    "change",
    [
        "n = if_not_exists(n, 1)",
        "s = set_add(l, <<1>>)",
        "n = n + 1 + 1",
        "n = n * 2",
        "s = set_add(s, 'x')",
        "n = a = b",
    ],
)
def test_what_set_may_not_assign(client: Client, change: str) -> None:
    assert refused(client, f"UPDATE things SET {change} WHERE pk = 'a'")[0] == "ValidationException"


def test_the_failed_item_comes_with_the_error_on_request(client: Client) -> None:
    answer = client(
        "BatchExecuteStatement",
        Statements=[
            {
                "Statement": "UPDATE things SET n = 2 WHERE pk = 'a' AND n = 5",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        ],
    )
    (response,) = answer["Responses"]
    assert response["Error"]["Code"] == "ConditionalCheckFailed"
    assert response["Error"]["Item"] == stored(client)


# --- DELETE ---------------------------------------------------------------------------------------------


def test_delete_returns_the_item_on_request(client: Client) -> None:
    before = stored(client)
    assert run(client, "DELETE FROM things WHERE pk = 'a' RETURNING ALL OLD *") == {"Items": [before]}
    assert stored(client) is None


def test_delete_of_nothing_succeeds_whatever_else_where_says(client: Client) -> None:
    assert run(client, "DELETE FROM things WHERE pk = 'no'") == {"Items": []}
    assert run(client, "DELETE FROM things WHERE pk = 'no' AND n = 5 RETURNING ALL OLD *") == {"Items": []}


def test_delete_with_a_condition_that_does_not_hold(client: Client) -> None:
    assert refused(client, "DELETE FROM things WHERE pk = 'a' AND n = 5") == FAILED
    assert stored(client) is not None


def test_delete_returns_nothing_but_the_old_item(client: Client) -> None:
    for returning in ("ALL NEW", "MODIFIED OLD"):
        assert refused(client, f"DELETE FROM things WHERE pk = 'a' RETURNING {returning} *")[0] == "ValidationException"


def test_exists_is_for_transactions(client: Client) -> None:
    assert refused(client, "EXISTS(SELECT * FROM things WHERE pk = 'a' AND n = 1)")[0] == "ValidationException"


# --- batches --------------------------------------------------------------------------------------------


def batch(client: Client, *statements: str, **more: Any) -> list[Any]:
    elements = [{"Statement": statement} for statement in statements]
    responses: list[Any] = client("BatchExecuteStatement", Statements=elements, **more)["Responses"]
    return responses


def test_a_batch_of_reads_answers_each(client: Client) -> None:
    responses = batch(
        client,
        "SELECT n FROM things WHERE pk = 'a'",
        "SELECT * FROM things WHERE pk = 'no'",
        "SELECT * FROM things WHERE pk = 'a' AND n = 2",
        "SELECT * FROM things WHERE n = 1",
        "SELECT * FROM nowhere WHERE pk = 'a'",
        "SELECT oops",
    )
    assert responses[0] == {"TableName": "things", "Item": {"n": {"N": "1"}}}
    assert responses[1] == responses[2] == {"TableName": "things"}
    assert responses[3]["Error"] == {
        "Code": "ValidationError",
        "Message": "Select statements within BatchExecuteStatement must specify the primary key in the where clause.",
    }
    assert responses[4]["Error"] == {"Code": "ResourceNotFound", "Message": "Requested resource not found"}
    assert responses[5]["Error"]["Code"] == "ValidationError"


def test_a_batch_of_writes_does_what_it_can(client: Client) -> None:
    responses = batch(
        client,
        "INSERT INTO things VALUE {'pk': 'a'}",
        "INSERT INTO things VALUE {'pk': 'b'}",
        "UPDATE things SET n = 3 WHERE pk = 'a' AND n = 9",
        "DELETE FROM things WHERE pk = 'no'",
    )
    assert responses == [
        {
            "TableName": "things",
            "Error": {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"},
        },
        {"TableName": "things"},
        {
            "TableName": "things",
            "Error": {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"},
        },
        {"TableName": "things"},
    ]
    assert stored(client, "b") == {"pk": {"S": "b"}}


def test_reads_and_writes_do_not_mix(client: Client) -> None:
    elements = [
        {"Statement": "SELECT * FROM things WHERE pk = 'a'"},
        {"Statement": "DELETE FROM things WHERE pk = 'a'"},
    ]
    assert client.refused("BatchExecuteStatement", Statements=elements)[0] == "ValidationException"
    assert stored(client) is not None


def test_a_batch_has_one_to_twenty_five_statements(client: Client) -> None:
    for count in (0, 26):
        elements = [{"Statement": "SELECT * FROM things WHERE pk = 'a'"}] * count
        assert client.refused("BatchExecuteStatement", Statements=elements)[0] == "ValidationException"


def test_capacity_of_a_batch_is_told_by_table(client: Client) -> None:
    answer = client(
        "BatchExecuteStatement",
        Statements=[
            {"Statement": "SELECT * FROM things WHERE pk = 'a'"},
            {"Statement": "SELECT * FROM things WHERE pk = 'b'", "ConsistentRead": True},
            {"Statement": "SELECT * FROM sorted WHERE pk = 'b' AND sk = 1"},
        ],
        ReturnConsumedCapacity="TOTAL",
    )
    assert answer["ConsumedCapacity"] == [
        {"TableName": "things", "CapacityUnits": 1.5},
        {"TableName": "sorted", "CapacityUnits": 0.5},
    ]


def test_the_tables_of_a_request_are_known_before_it_is_carried_out() -> None:
    single, batched = OPERATIONS["ExecuteStatement"].table_names, OPERATIONS["BatchExecuteStatement"].table_names
    assert single({"Statement": 'UPDATE "x.y" SET a = 1 WHERE k = 1'}) == ["x.y"]
    assert single({"Statement": "nonsense"}) == single({"Statement": 7}) == []
    statements = [{"Statement": "SELECT * FROM t"}, {"Statement": "SELECT * FROM u"}, {"Statement": "SELECT * FROM t"}]
    assert batched({"Statements": statements}) == ["t", "u"]
    assert batched({"Statements": "x"}) == []
