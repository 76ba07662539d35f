"""Statements put together at random: each is carried out or refused, and none takes the service down."""

from __future__ import annotations

import random

import orjson
import pytest

from geodyne.errors import ApiError
from tests.unit.router.fake_region import Client, table

_TERMS = (
    "pk", "sk", "a", "a.b[0]", "a['c']", "'x'", "1", "-1.5", "?", "NULL", "TRUE", "MISSING", "[1, a]", "['x', [?]]",
    "{'k': ?}", "{1: 2}", "<<'s'>>", "<<1, 'x'>>", "<<>>", "size(a)", "size('x')", "list_append(a, [1])",
    "set_add(a, <<1>>)", "begins_with(pk, 'x')", "contains(a)", "attribute_type(a, 'Q')", "COUNT(*)", "a + 1",
    "a || 'x'", "1e999", "1234567890123456789012345678901234567890", "''", '""', '"pk"', "(1, 2)", "(pk)",
)  # fmt: skip
_OPERATORS = ("=", "<>", "<", ">=", "IN", "NOT IN", "BETWEEN 1 AND", "LIKE", "IS", "IS NOT")


def _condition(chooser: random.Random, depth: int = 2) -> str:
    kind = chooser.randrange(5) if depth else 4
    if kind == 0:
        return f"({_condition(chooser, depth - 1)})"
    if kind == 1:
        return f"NOT {_condition(chooser, depth - 1)}"
    if kind < 4:
        return chooser.choice((" AND ", " OR ")).join(_condition(chooser, depth - 1) for _ in range(2))
    if chooser.random() < 0.4:
        return chooser.choice(("pk = 'x'", "sk = 1", "pk = 'x' AND sk = 1", "pk IN ['x', ?]"))
    return f"{chooser.choice(_TERMS)} {chooser.choice(_OPERATORS)} {chooser.choice(_TERMS)}"


def _statement(chooser: random.Random) -> str:
    def term() -> str:
        return chooser.choice(_TERMS)

    where = f" WHERE {_condition(chooser)}" if chooser.random() < 0.9 else ""
    kind = chooser.randrange(5)
    if kind == 0:
        order = f" ORDER BY {term()} DESC" if chooser.random() < 0.3 else ""
        return f"SELECT {chooser.choice(('*', term(), f'{term()}, {term()}'))} FROM sorted{where}{order}"
    if kind == 1:
        return f"INSERT INTO sorted VALUE {{'pk': 'x', 'sk': 1, 'a': {term()}, {term()}: {term()}}}"
    if kind == 2:
        returning = chooser.choice(("", " RETURNING ALL OLD *", " RETURNING MODIFIED NEW *"))
        return f"UPDATE sorted SET {term()} = {term()} REMOVE {term()}{where}{returning}"
    if kind == 3:
        return f"DELETE FROM sorted{where} RETURNING ALL OLD *"
    return f"EXISTS(SELECT * FROM sorted{where})"


@pytest.mark.parametrize("seed", range(6))
def test_any_statement_is_answered_or_refused(seed: int) -> None:
    chooser = random.Random(seed)
    client = Client()
    table(client, "sorted", sort="N")
    client("PutItem", TableName="sorted", Item={"pk": {"S": "x"}, "sk": {"N": "1"}, "a": {"L": [{"S": "y"}]}})
    values = [{"S": "x"}, {"N": "1"}, {"SS": ["q"]}, {"L": []}, {"M": {}}, {"B": "AQ=="}, {"NULL": True}]
    answered = 0
    for _ in range(400):
        statement = _statement(chooser)
        parameters = [chooser.choice(values) for _ in range(statement.count("?"))]
        body = {"Statement": statement, **({"Parameters": parameters} if parameters else {})}
        batch = {"Statements": [body]}
        status = 400
        try:
            answered += "Items" in orjson.loads(client.raw("ExecuteStatement", body))
        except ApiError as error:
            status = error.kind.status
        assert status == 400, statement
        (response,) = orjson.loads(client.raw("BatchExecuteStatement", batch))["Responses"]
        assert response.get("Error", {}).get("Code") != "InternalServerError", statement
    assert answered
