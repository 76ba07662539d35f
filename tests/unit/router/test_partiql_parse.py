"""PartiQL as text: tokens, grammar, and what is said of a text that is no statement."""

from __future__ import annotations

import random

import pytest

from geodyne.errors import ApiError
from router.api.partiql.parse import parse_statement
from router.api.partiql.tokens import Kind, Place, tokenize
from router.api.partiql.tree import (
    And,
    Binary,
    Boolean,
    Delete,
    Exists,
    Insert,
    ListOf,
    MapOf,
    Membership,
    Not,
    Null,
    Number,
    Or,
    Parameter,
    Path,
    Select,
    SetOf,
    Text,
    TypeTest,
    Update,
)

NOT_WELL_FORMED = "Statement wasn't well formed, can't be processed: "


def refused(text: str) -> str:
    with pytest.raises(ApiError) as caught:
        parse_statement(text)
    assert caught.value.kind.code == "ValidationException"
    return caught.value.message or ""


def where(condition: str) -> object:
    statement = parse_statement(f"SELECT * FROM t WHERE {condition}")
    assert isinstance(statement, Select)
    return statement.where


def test_quotes_inside_quotes_are_doubled() -> None:
    tokens = tokenize("""'it''s' "a""b" x""")
    assert [(token.kind, token.text) for token in tokens[:-1]] == [
        (Kind.STRING, "it's"),
        (Kind.QUOTED, 'a"b'),
        (Kind.WORD, "x"),
    ]


def test_positions_are_line_column_and_length() -> None:
    statement = "SELECT *\nFROM  tab"
    places = [str(Place(statement, number)) for number in range(len(tokenize(statement)))]
    assert places == ["1:1:6", "1:8:1", "2:1:4", "2:7:3", "2:10:0"]


def test_keywords_are_of_any_case_and_names_keep_theirs() -> None:
    statement = parse_statement('select A, "select" frOM "My-Table"."By_A" wHeRe a = TRUE;')
    assert isinstance(statement, Select)
    assert (statement.table, statement.index) == ("My-Table", "By_A")
    assert [path.elements for path in statement.projection or () if isinstance(path, Path)] == [("A",), ("select",)]
    assert isinstance(statement.where, Binary)
    assert statement.where.right == Boolean(True)


def test_comments_are_passed_over() -> None:
    assert parse_statement("SELECT * -- all\nFROM t /* the table */") == parse_statement("SELECT * FROM t")


def test_paths_have_names_and_indexes() -> None:
    node = where("""a."b c"[0]['d'].e = 1""")
    assert isinstance(node, Binary)
    assert isinstance(node.left, Path)
    assert node.left.elements == ("a", "b c", 0, "d", "e")


def test_literals_of_every_type() -> None:
    statement = parse_statement("INSERT INTO t VALUE {'a': [1, -2.5e3, 'x'], 'b': <<'s'>>, 'c': {'d': null}, 'e': ?}")
    assert isinstance(statement, Insert)
    assert statement.parameters == 1
    assert isinstance(statement.value, MapOf)
    members = {name.content: value for name, value in statement.value.members if isinstance(name, Text)}
    assert isinstance(members["a"], ListOf)
    assert members["a"].elements == (Number("1"), Number("-2.5e3"), Text("x"))
    assert isinstance(members["b"], SetOf)
    assert members["b"].elements == (Text("s"),)
    assert isinstance(members["c"], MapOf)
    assert members["c"].members == ((Text("d"), Null()),)
    assert members["e"] == Parameter(0)


def test_not_binds_closer_than_and_and_and_closer_than_or() -> None:
    node = where("NOT a = 1 AND b = 2 OR c = 3")
    assert isinstance(node, Or)
    assert isinstance(node.parts[0], And)
    assert isinstance(node.parts[0].parts[0], Not)


def test_not_equal_has_two_spellings() -> None:
    first, second = where("a <> 1"), where("a != 1")
    assert isinstance(first, Binary)
    assert isinstance(second, Binary)
    assert first.operator == second.operator == "<>"


def test_in_takes_both_kinds_of_brackets() -> None:
    for text in ("a IN (1, 2)", "a IN [1, 2]"):
        node = where(text)
        assert isinstance(node, Membership)
        assert isinstance(node.choices, ListOf)
        assert node.choices.elements == (Number("1"), Number("2"))
    assert isinstance(where("a NOT IN (1)"), Not)


def test_is_tests_types_and_absence() -> None:
    assert isinstance(where("a IS MISSING"), TypeTest)
    assert isinstance(where("a IS NOT NULL"), Not)
    assert refused("SELECT * FROM t WHERE a IS b") == NOT_WELL_FORMED + "Expected type name"


def test_an_update_has_any_number_of_changes() -> None:
    statement = parse_statement(
        "UPDATE t SET a = 1, b.c = ? REMOVE d[0] SET e = f + 1 WHERE k = ? RETURNING MODIFIED OLD *"
    )
    assert isinstance(statement, Update)
    assert [change.path.elements for change in statement.changes] == [("a",), ("b", "c"), ("d", 0), ("e",)]
    assert statement.changes[2].value is None
    assert statement.returning == "UPDATED_OLD"
    assert statement.parameters == 2


def test_an_update_may_begin_with_from() -> None:
    statement = parse_statement("FROM t WHERE k = 1 SET a = 1")
    assert isinstance(statement, Update)
    assert statement.where is not None


def test_delete_and_exists() -> None:
    deleted = parse_statement("DELETE FROM t WHERE k = 1 RETURNING ALL OLD *")
    assert isinstance(deleted, Delete)
    assert deleted.returning == "ALL_OLD"
    checked = parse_statement("EXISTS(SELECT * FROM t WHERE k = ?)")
    assert isinstance(checked, Exists)
    assert (checked.table, checked.parameters) == ("t", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DROP TABLE t", "Expected data manipulation"),
        ("UPDATE t WHERE k = 1", "Expected data manipulation"),
        ("UPDATE my-table SET a = 1 WHERE k = 1", "Expected data manipulation"),
        ("INSERT INTO t (key, b) VALUES (1, 2)", "Unexpected keyword"),
        ("SELECT user FROM t", "Unexpected keyword"),
        ("SELECT *", "Expected FROM after SELECT list"),
        ("UPDATE 't' SET a = 1", "Expected identifier for simple path"),
        ("DELETE t WHERE k = 1", "Expected FROM after DELETE"),
        ("SELECT * FROM t WHERE a.", "Invalid path dot component"),
        ("SELECT * FROM t WHERE (a = 1", "Expected RIGHT_PAREN"),
        ("SELECT * FROM t WHERE a = 1 b", "Unexpected token after expression"),
    ],
)
def test_what_is_not_well_formed_is_told_why(text: str, message: str) -> None:
    assert refused(text) == NOT_WELL_FORMED + message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT * FROM t WHERE a = 1 LIMIT 10", "Unsupported clause: LIMIT at 1:35:2"),
        ("SELECT * FROM t GROUP BY a", "Unsupported clause: GROUP BY at 1:26:1"),
        ("SELECT * FROM t, u", "Unexpected from source at 1:15:1"),
        ("SELECT * FROM 't'", "Unexpected from source at 1:15:3"),
        ("SELECT * FROM my-things", "Unexpected from source at 1:15:2"),
        ("SELECT * FROM t AS u", "Unexpected from source at 1:15:1"),
    ],
)
def test_clauses_that_are_not_supported_are_refused_by_name(text: str, message: str) -> None:
    assert refused(text) == message


def test_nesting_and_operators_are_bounded() -> None:
    assert "nested too deeply" in refused(f"SELECT * FROM t WHERE a = {'[' * 3000}")
    assert "nested too deeply" in refused(f"SELECT * FROM t WHERE {'NOT ' * 2000} a")
    assert "too many operators" in refused(f"SELECT * FROM t WHERE a = {'1 + ' * 2000} 1")
    assert "too many operators" in refused(f"SELECT * FROM t WHERE {' = '.join('a' * 2000)}")


_WORDS = """
    SELECT * FROM t WHERE k = 'a' AND NOT ( x IN [ 1 , ? ] ) << >> { } : ORDER BY -- /* . UPDATE SET
"""


def test_no_text_does_more_than_be_refused() -> None:
    words = _WORDS.split()
    chooser = random.Random(7)
    codes = set()
    for _ in range(2000):
        try:
            parse_statement(" ".join(chooser.choices(words, k=chooser.randrange(1, 14))))
        except ApiError as error:
            codes.add(error.kind.code)
    assert codes == {"ValidationException"}


@pytest.mark.parametrize("text", ["'''''", "a /* b /* c", "SELECT # a", "a é", '"', "'a", "a | b", "a ! b"])
def test_what_is_no_token_is_refused_where_it_stands(text: str) -> None:
    at = {"'''''": 5, "a /* b /* c": 3, "SELECT # a": 8, "a é": 3, '"': 1, "'a": 1, "a | b": 3, "a ! b": 3}[text]
    assert refused(text) == f"{NOT_WELL_FORMED}Invalid character at 1:{at}"


@pytest.mark.parametrize("separator", [",", " , ", ",\n"])
def test_constants_in_a_long_list_are_those_that_were_written(separator: str) -> None:
    written = separator.join(["?", "1", "'a'", "-2", "b", "?", "[?]", "NULL"])
    statement = parse_statement(f"INSERT INTO t VALUE [{written}]")
    assert isinstance(statement, Insert)
    assert isinstance(statement.value, ListOf)
    constants = [repr(node) for node in statement.value.elements if not isinstance(node, Path | ListOf)]
    assert constants == list(map(repr, (Parameter(0), Number("1"), Text("a"), Number("-2"), Parameter(1), Null())))
    assert statement.parameters == 3
