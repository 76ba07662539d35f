"""The grammar: what is read, how deep and how much, and what is said about what is not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.errors import ApiError
from geodyne.expressions.parse import parse_condition, parse_key_condition, parse_projection, parse_update
from geodyne.expressions.reserved import RESERVED_WORDS
from geodyne.expressions.tree import (
    And,
    Arithmetic,
    Assignment,
    Between,
    Call,
    Comparison,
    ExpressionError,
    Membership,
    Not,
    Or,
    Path,
    Value,
)

A, B, C = Path(("a",)), Path(("b",)), Path(("c",))
V = Value(":v")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a = :v", Comparison("=", A, V)),
        ("a=:v", Comparison("=", A, V)),
        (":v <> #n", Comparison("<>", V, Path(("#n",)))),
        ("(a) <= (:v)", Comparison("<=", A, V)),
        ("size(a) > :v", Comparison(">", Call("size", (A,)), V)),
        ("a.b[3].#n = :v", Comparison("=", Path(("a", "b", 3, "#n")), V)),
        ("a between :v And b", Between(A, V, B)),
        ("a IN (:v, b)", Membership(A, (V, B))),
        ("attribute_exists(a)", Call("attribute_exists", (A,))),
        (
            "a = :v AND b = :v or c = :v",
            Or((And((Comparison("=", A, V), Comparison("=", B, V))), Comparison("=", C, V))),
        ),
        (
            "a = :v AND (b = :v OR c = :v)",
            And((Comparison("=", A, V), Or((Comparison("=", B, V), Comparison("=", C, V))))),
        ),
        ("NOT a = :v AND b = :v", And((Not(Comparison("=", A, V)), Comparison("=", B, V)))),
        ("NOT (a = :v AND b = :v)", Not(And((Comparison("=", A, V), Comparison("=", B, V))))),
        ("a BETWEEN :v AND b AND c = :v", And((Between(A, V, B), Comparison("=", C, V)))),
        ("(a = :v) AND (b = :v)", And((Comparison("=", A, V), Comparison("=", B, V)))),
        ("begins_with ( a , :v )", Call("begins_with", (A, V))),
    ],
)
def test_conditions_follow_the_precedence_of_the_guide(text: str, tree: Any) -> None:
    assert parse_condition(text).root == tree


def test_updates_have_four_sections_in_any_order() -> None:
    update = parse_update(
        "REMOVE c.x[1] SET a = a + :v, b = list_append(if_not_exists(b, :e), :w) delete d :s ADD e :n"
    )
    assert update.sets == (
        Assignment(A, Arithmetic("+", A, V)),
        Assignment(B, Call("list_append", (Call("if_not_exists", (B, Value(":e"))), Value(":w")))),
    )
    assert update.removes == (Path(("c", "x", 1)),)
    assert [each.path for each in (*update.adds, *update.deletes)] == [Path(("e",)), Path(("d",))]
    assert update.values == (":v", ":e", ":w", ":s", ":n")


@pytest.mark.parametrize("text", ["SET a = (b + :v)", "SET a = (b) + (:v)", "SET a = b+:v"])
def test_sums_may_be_in_parentheses(text: str) -> None:
    assert parse_update(text).sets == (Assignment(A, Arithmetic("+", B, V)),)


def test_projections_are_lists_of_paths() -> None:
    projection = parse_projection("a, b[0], #c.d")
    assert [path.elements for path in projection.paths] == [("a",), ("b", 0), ("#c", "d")]
    assert projection.names == ("#c",)


condition, update, projection = parse_condition, parse_update, parse_projection


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (update, "INVALID SYNTAX HERE", 'Syntax error; token: "INVALID", near: "INVALID SYNTAX"'),
        (update, "SET a = ", 'Syntax error; token: "<EOF>", near: "= "'),
        (update, "SET a = :a - - :b", 'Syntax error; token: "-", near: "- - :b"'),
        (update, "SET a = :v b", 'Syntax error; token: "b", near: ":v b"'),
        (update, "SET a = b + :v + :w", 'Syntax error; token: "+", near: ":v + :w"'),
        (update, "ADD a b", 'Syntax error; token: "b", near: "a b"'),
        (update, "SET set = :v", 'Syntax error; token: "set", near: "SET set ="'),
        (condition, "a = b-c", 'Syntax error; token: "-", near: "b-c"'),
        (condition, "a", 'Syntax error; token: "<EOF>", near: "a"'),
        (condition, "a = b = c", 'Syntax error; token: "=", near: "b = c"'),
        (condition, "a.1 = :v", 'Syntax error; token: "1", near: ".1 ="'),
        (condition, "a[x] = :v", 'Syntax error; token: "x", near: "[x]"'),
        (condition, "(a = :v", 'Syntax error; token: "<EOF>", near: ":v"'),
        (condition, "a = :v AND", 'Syntax error; token: "<EOF>", near: "AND"'),
        (condition, "a IN ()", 'Syntax error; token: ")", near: "()"'),
        (condition, "a = :", 'Syntax error; token: ":", near: "= :"'),
        (projection, "a b", 'Syntax error; token: "b", near: "a b"'),
        (projection, "a,,b", 'Syntax error; token: ",", near: ",,b"'),
        (condition, "", "The expression can not be empty;"),
        (update, " \t\n", "The expression can not be empty;"),
        (condition, "((a = :v))", "The expression has redundant parentheses;"),
        (condition, "((a)) = :v", "The expression has redundant parentheses;"),
        (condition, "foo(a)", "Invalid function name; function: foo"),
        (update, "SET a = foo(b)", "Invalid function name; function: foo"),
        (
            condition,
            "size(a)",
            "The function is not allowed to be used this way in an expression; function: size",
        ),
        (
            condition,
            "attribute_exists(a) = :v",
            "The function is not allowed to be used this way in an expression; function: attribute_exists",
        ),
        (condition, "name = :v", "Attribute name is a reserved keyword; reserved keyword: name"),
        (condition, "a.Status = :v", "Attribute name is a reserved keyword; reserved keyword: Status"),
        (projection, "a, data", "Attribute name is a reserved keyword; reserved keyword: data"),
        (update, "SET a = :v SET b = :v", 'The "SET" section can only be used once in an update expression;'),
        (
            condition,
            "begins_with(a)",
            "Incorrect number of operands for operator or function; "
            "operator or function: begins_with, number of operands: 1",
        ),
        (
            condition,
            "attribute_exists(:v)",
            "Operator or function requires a document path; operator or function: attribute_exists",
        ),
        (
            update,
            "SET a = if_not_exists(:v, :w)",
            "Operator or function requires a document path; operator or function: if_not_exists",
        ),
        (projection, "a[2147483648]", "List index is not within the allowable range; index: [2147483648]"),
    ],
)
def test_a_wrong_text_is_answered_in_the_services_words(parse: Callable[[str], Any], text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        parse(text)
    assert error.value.reason == message


def test_key_conditions_may_have_redundant_parentheses() -> None:
    assert isinstance(parse_key_condition("((a = :v)) AND ((b = :w))").root, And)


def test_operators_and_functions_are_counted() -> None:
    assert parse_condition("a=:v" + " OR a=:v" * 149).operators == 299
    assert parse_update("SET a = if_not_exists(b, :v) + :w").operators == 2


def test_one_hundred_operands_of_in_are_allowed() -> None:
    parse_condition(f"a IN ({', '.join([':v'] * 100)})")
    with pytest.raises(ExpressionError, match="too many operands; number of operands: 101"):
        parse_condition(f"a IN ({', '.join([':v'] * 101)})")


@pytest.mark.parametrize(
    "text",
    ["(" * 4000, "NOT " * 900 + "a=:v", "size(" * 700, "(a=b OR " * 400, "(a=b AND NOT " * 300],
)
def test_no_text_exhausts_the_stack(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_condition(text)
    with pytest.raises(ExpressionError):
        parse_key_condition(text)


def test_no_update_exhausts_the_stack() -> None:
    for text in ("SET a = " + "(" * 4000, "SET a = " + "list_append(" * 300):
        with pytest.raises(ExpressionError):
            parse_update(text)


def test_trees_are_cached_by_text_and_failures_are_not() -> None:
    assert parse_condition("cached = :v") is parse_condition("cached = :v")
    with pytest.raises(ApiError):
        parse_condition("not cached")
    long = "a = :" + "v" * 4092
    assert parse_condition(long) is not parse_condition(long)  # longer than a client may write


def test_the_list_of_reserved_words_is_complete() -> None:
    assert len(RESERVED_WORDS) == 573
    assert {"NAME", "STATUS", "TTL", "ZONE", "ABORT", "COUNT"} <= RESERVED_WORDS


def printed(node: Any) -> str:
    """The text of a tree, with parentheses only where they are needed."""
    if isinstance(node, Path):
        return "".join(f"[{e}]" if isinstance(e, int) else f".{e}" for e in node.elements)[1:]
    if isinstance(node, Value):
        return node.name
    if isinstance(node, Call):
        return f"{node.function}({', '.join(map(printed, node.arguments))})"
    if isinstance(node, Comparison):
        return f"{printed(node.left)} {node.operator} {printed(node.right)}"
    if isinstance(node, Between):
        return f"{printed(node.operand)} BETWEEN {printed(node.low)} AND {printed(node.high)}"
    if isinstance(node, Membership):
        return f"{printed(node.operand)} IN ({', '.join(map(printed, node.choices))})"
    if isinstance(node, Not):
        return f"NOT ({printed(node.part)})"
    word = " AND " if isinstance(node, And) else " OR "
    return word.join(f"({printed(part)})" if isinstance(part, And | Or) else printed(part) for part in node.parts)


paths = st.lists(st.one_of(st.sampled_from(["a", "b_1", "#n"]), st.integers(0, 99)), max_size=3).map(
    lambda rest: Path(("x", *rest))
)
operands = st.one_of(paths, st.sampled_from([Value(":v"), Value(":w")]), paths.map(lambda path: Call("size", (path,))))
conditions = st.recursive(
    st.one_of(
        st.builds(Comparison, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), operands, operands),
        st.builds(Between, operands, operands, operands),
        st.builds(Membership, operands, st.lists(operands, min_size=1, max_size=3).map(tuple)),
        paths.map(lambda path: Call("attribute_exists", (path,))),
    ),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(conditions)
def test_a_printed_tree_parses_to_itself(tree: Any) -> None:
    assert parse_condition(printed(tree)).root == tree


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="aA1 ()[].,:#=<>+-NOTANDINSETé", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_condition, parse_key_condition, parse_update, parse_projection):
        with contextlib.suppress(ExpressionError):
            parse(text)
