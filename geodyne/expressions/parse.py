"""Recursive-descent parser of the expression language.

    condition   = conjunction { OR conjunction }
    conjunction = negation { AND negation }
    negation    = NOT negation | primary
    primary     = "(" condition ")" | predicate
    predicate   = operand comparator operand
                | operand BETWEEN operand AND operand
                | operand IN "(" operand { "," operand } ")"
                | function
    comparator  = "=" | "<>" | "<" | "<=" | ">" | ">="

    update      = section { section }                    each kind of section at most once
    section     = SET path "=" value { "," path "=" value }
                | REMOVE path { "," path }
                | ADD path :value { "," path :value }
                | DELETE path :value { "," path :value }
    value       = "(" value ")" | operand [ ( "+" | "-" ) operand ]

    projection  = path { "," path }

    operand     = "(" operand ")" | function | path | :value
    function    = identifier "(" operand { "," operand } ")"
    path        = name { "." name | "[" index "]" }     at most 32 times
    name        = identifier | #placeholder             an identifier begins with a letter

Keywords are case-insensitive, functions are not. A bracketed operand and a bracketed condition begin alike; the parser
reads a condition and looks at what it got. Sources: Developer Guide, "Condition and filter expressions, operators, and
functions", "Update expressions", "Projection expressions"; order of complaints after what is known of the service.

What depends only on the text is checked here and cached with the tree: syntax, function names and their operands'
number, reserved words. What depends on names, values and keys of a request is geodyne.expressions.check; so are the
limits of size and of operators, which hold for what clients write and not for what legacy parameters are translated to.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import NoReturn

from geodyne.expressions.reserved import RESERVED_WORDS
from geodyne.expressions.tokens import Kind, Token, tokenize
from geodyne.expressions.tree import (
    Accumulation,
    And,
    Arithmetic,
    Assignment,
    Between,
    Call,
    Comparison,
    Condition,
    ConditionNode,
    ExpressionError,
    Membership,
    Not,
    Operand,
    Or,
    Path,
    PathElement,
    Projection,
    Update,
    Value,
    predicates,
)
from geodyne.limits import (
    EXPRESSION_BYTES_MAX,
    EXPRESSION_DEPTH_MAX,
    IN_OPERANDS_MAX,
    LIST_INDEX_MAX,
    PARSED_EXPRESSIONS_MAX,
    PATH_DEREFERENCES_MAX,
)

COMPARATORS = frozenset(("=", "<>", "<", "<=", ">", ">="))
_CONDITION_KEYWORDS = frozenset(("AND", "OR", "NOT", "BETWEEN", "IN"))
_UPDATE_KEYWORDS = frozenset(("SET", "REMOVE", "ADD", "DELETE"))

# Number of operands, and whether the first must be a document path.
CONDITION_FUNCTIONS = {
    "attribute_exists": (1, True),
    "attribute_not_exists": (1, True),
    "attribute_type": (2, True),
    "begins_with": (2, False),
    "contains": (2, False),
    "size": (1, False),
}
UPDATE_FUNCTIONS = {"if_not_exists": (2, True), "list_append": (2, False)}


class _Rank(IntEnum):
    """Of several complaints about one text the service makes the first of these."""

    PARENTHESES = 0
    UNKNOWN_FUNCTION = 1
    MISUSED_FUNCTION = 2
    RESERVED = 3
    SECTION = 4
    OPERAND = 5


# Longer texts than clients may write are not kept: the caches hold PARSED_EXPRESSIONS_MAX trees of a bounded size.


def parse_condition(text: str) -> Condition:
    """The tree of a condition or filter expression. Raises ExpressionError (an ApiError)."""
    return _condition(text) if len(text) <= EXPRESSION_BYTES_MAX else _condition.__wrapped__(text)


def parse_key_condition(text: str) -> Condition:
    """The tree of a key condition, where redundant parentheses are allowed. Raises ExpressionError."""
    return _key_condition(text) if len(text) <= EXPRESSION_BYTES_MAX else _key_condition.__wrapped__(text)


def parse_update(text: str) -> Update:
    """The tree of an update expression. Raises ExpressionError (an ApiError)."""
    return _update(text) if len(text) <= EXPRESSION_BYTES_MAX else _update.__wrapped__(text)


def parse_projection(text: str) -> Projection:
    """The tree of a projection expression. Raises ExpressionError (an ApiError)."""
    return _projection(text) if len(text) <= EXPRESSION_BYTES_MAX else _projection.__wrapped__(text)


@lru_cache(maxsize=PARSED_EXPRESSIONS_MAX)
def _condition(text: str) -> Condition:
    return _Parser(text, _CONDITION_KEYWORDS).condition()


@lru_cache(maxsize=PARSED_EXPRESSIONS_MAX)
def _key_condition(text: str) -> Condition:
    return _Parser(text, _CONDITION_KEYWORDS, redundant_parentheses=True).condition()


@lru_cache(maxsize=PARSED_EXPRESSIONS_MAX)
def _update(text: str) -> Update:
    return _Parser(text, _UPDATE_KEYWORDS).update()


@lru_cache(maxsize=PARSED_EXPRESSIONS_MAX)
def _projection(text: str) -> Projection:
    return _Parser(text, frozenset()).projection()


class _Parser:
    def __init__(self, text: str, keywords: frozenset[str], *, redundant_parentheses: bool = False) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._at = 0
        self._keywords = keywords
        self._complaints: dict[_Rank, str] = {}
        self._names: dict[str, None] = {}
        self._values: dict[str, None] = {}
        self._operators = 0
        self._depth = 0
        self._last_group = (-1, -1)  # positions of the parentheses closed last
        self._redundant_parentheses = redundant_parentheses

    # --- the three languages -------------------------------------------------------------------------------

    def condition(self) -> Condition:
        root = self._as_condition(self._disjunction())
        self._finish()
        return Condition(root, tuple(self._names), tuple(self._values), tuple(predicates(root)), self._operators)

    def update(self) -> Update:
        sets: list[Assignment] = []
        removes: list[Path] = []
        adds: list[Accumulation] = []
        deletes: list[Accumulation] = []
        seen: set[str] = set()
        while self._token.kind is not Kind.END:
            section = self._keyword()
            if section not in _UPDATE_KEYWORDS:
                self._syntax_error()
            if section in seen:
                self._complain(_Rank.SECTION, f'The "{section}" section can only be used once in an update expression;')
            seen.add(section)
            self._at += 1
            while True:
                if section == "SET":
                    sets.append(self._assignment())
                elif section == "REMOVE":
                    removes.append(self._path())
                elif section == "ADD":
                    adds.append(self._accumulation())
                else:
                    deletes.append(self._accumulation())
                if not self._accept(","):
                    break
        self._finish()
        return Update(
            tuple(sets), tuple(removes), tuple(adds), tuple(deletes),
            tuple(self._names), tuple(self._values), self._operators,
        )  # fmt: skip

    def projection(self) -> Projection:
        paths = [self._path()]
        while self._accept(","):
            paths.append(self._path())
        self._finish()
        return Projection(tuple(paths), tuple(self._names))

    # --- conditions ----------------------------------------------------------------------------------------

    def _disjunction(self) -> ConditionNode | Operand:
        first = self._conjunction()
        if self._keyword() != "OR":
            return first
        parts = [self._as_condition(first)]
        while self._keyword() == "OR":
            self._operator()
            parts.append(self._as_condition(self._conjunction()))
        return Or(tuple(parts))

    def _conjunction(self) -> ConditionNode | Operand:
        first = self._negation()
        if self._keyword() != "AND":
            return first
        parts = [self._as_condition(first)]
        while self._keyword() == "AND":
            self._operator()
            parts.append(self._as_condition(self._negation()))
        return And(tuple(parts))

    def _negation(self) -> ConditionNode | Operand:
        if self._keyword() != "NOT":
            return self._primary()
        self._operator()
        self._enter()
        part = self._as_condition(self._negation())
        self._depth -= 1
        return Not(part)

    def _primary(self) -> ConditionNode | Operand:
        """A condition, or an operand when a bracketed one may still be compared by whoever asked."""
        if self._token.text != "(":
            return self._predicate(self._operand())
        opening = self._open()
        inner = self._disjunction()
        self._close(opening)
        if isinstance(inner, Path | Value | Call):
            return self._predicate(inner)
        return inner

    def _predicate(self, left: Operand) -> ConditionNode | Operand:
        token = self._token
        if token.kind is Kind.SYMBOL and token.text in COMPARATORS:
            self._operator()
            right = self._operand()
            self._only_size(left, right)
            return Comparison(token.text, left, right)
        keyword = self._keyword()
        if keyword == "BETWEEN":
            self._operator()
            low = self._operand()
            if self._keyword() != "AND":
                self._syntax_error()
            self._at += 1
            high = self._operand()
            self._only_size(left, low, high)
            return Between(left, low, high)
        if keyword == "IN":
            self._operator()
            self._expect("(")
            choices = self._operands()
            if len(choices) > IN_OPERANDS_MAX:
                self._complain(
                    _Rank.OPERAND,
                    f"The IN operator is provided with too many operands; number of operands: {len(choices)}",
                )
            self._only_size(left, *choices)
            return Membership(left, choices)
        return left

    def _as_condition(self, node: ConditionNode | Operand) -> ConditionNode:
        if isinstance(node, Path | Value):
            self._syntax_error()  # a comparator is missing here
        if isinstance(node, Call) and node.function == "size":
            self._misused(node)
        return node

    def _only_size(self, *operands: Operand) -> None:
        for operand in operands:
            if isinstance(operand, Call) and operand.function != "size":
                self._misused(operand)

    def _misused(self, call: Call) -> None:
        self._complain(
            _Rank.MISUSED_FUNCTION,
            f"The function is not allowed to be used this way in an expression; function: {call.function}",
        )

    # --- updates -------------------------------------------------------------------------------------------

    def _assignment(self) -> Assignment:
        path = self._path()
        self._expect("=")
        return Assignment(path, self._set_value())

    def _set_value(self) -> Operand | Arithmetic:
        # "(a + b)" and "(a) + b" begin alike.
        if self._token.text == "(":
            opening = self._open()
            inner = self._set_value()
            self._close(opening)
            if isinstance(inner, Arithmetic):
                return inner
            left: Operand = inner
        else:
            left = self._operand()
        token = self._token
        if token.kind is not Kind.SYMBOL or token.text not in ("+", "-"):
            return left
        self._operator()
        return Arithmetic(token.text, left, self._operand())

    def _accumulation(self) -> Accumulation:
        path = self._path()
        token = self._token
        if token.kind is not Kind.VALUE:
            self._syntax_error()
        return Accumulation(path, self._value(token))

    # --- operands ------------------------------------------------------------------------------------------

    def _operand(self) -> Operand:
        token = self._token
        if token.text == "(":
            opening = self._open()
            inner = self._operand()
            self._close(opening)
            return inner
        if token.kind is Kind.VALUE:
            return self._value(token)
        if token.kind is Kind.WORD and self._tokens[self._at + 1].text == "(" and not self._keyword():
            return self._call(token)
        return self._path()

    def _operands(self) -> tuple[Operand, ...]:
        """What stands between an opening parenthesis, already read, and its closing one."""
        operands = [self._operand()]
        while self._accept(","):
            operands.append(self._operand())
        self._expect(")")
        return tuple(operands)

    def _value(self, token: Token) -> Value:
        self._at += 1
        self._values[token.text] = None
        return Value(token.text)

    def _call(self, token: Token) -> Call:
        self._operator()
        self._expect("(")
        self._enter()
        arguments = self._operands()
        self._depth -= 1
        call = Call(token.text, arguments)
        in_update = self._keywords is _UPDATE_KEYWORDS
        signature = (UPDATE_FUNCTIONS if in_update else CONDITION_FUNCTIONS).get(call.function)
        if signature is None:
            self._foreign_function(call.function, in_update)
            return call
        count, needs_path = signature
        if not in_update:
            self._only_size(*arguments)
        if len(arguments) != count:
            self._complain(
                _Rank.OPERAND,
                "Incorrect number of operands for operator or function; "
                f"operator or function: {call.function}, number of operands: {len(arguments)}",
            )
        elif needs_path and not isinstance(arguments[0], Path):
            self._complain(
                _Rank.OPERAND,
                f"Operator or function requires a document path; operator or function: {call.function}",
            )
        return call

    def _foreign_function(self, function: str, in_update: bool) -> None:
        if in_update and function in CONDITION_FUNCTIONS:
            message = f"The function is not allowed in an update expression; function: {function}"
        elif not in_update and function in UPDATE_FUNCTIONS:
            message = f"The function is not allowed in a condition expression; function: {function}"
        else:
            message = f"Invalid function name; function: {function}"
        self._complain(_Rank.UNKNOWN_FUNCTION, message)

    def _path(self) -> Path:
        elements: list[PathElement] = [self._name()]
        while True:
            if self._accept("."):
                elements.append(self._name())
            elif self._accept("["):
                token = self._token
                if token.kind is not Kind.INDEX:
                    self._syntax_error()
                digits = token.text.lstrip("0") or "0"
                if len(digits) > len(str(LIST_INDEX_MAX)) or int(digits) > LIST_INDEX_MAX:
                    raise ExpressionError(f"List index is not within the allowable range; index: [{token.text}]")
                self._at += 1
                elements.append(int(digits))
                self._expect("]")
            else:
                break
        if len(elements) - 1 > PATH_DEREFERENCES_MAX:
            self._complain(
                _Rank.OPERAND,
                f"The document path has too many nesting elements; nesting depth: {len(elements) - 1}",
            )
        return Path(tuple(elements))

    def _name(self) -> str:
        token = self._token
        if token.kind is Kind.NAME:
            self._names[token.text] = None
        elif token.kind is not Kind.WORD or self._keyword():
            self._syntax_error()
        elif token.text.upper() in RESERVED_WORDS:
            self._complain(_Rank.RESERVED, f"Attribute name is a reserved keyword; reserved keyword: {token.text}")
        self._at += 1
        return token.text

    # --- tokens --------------------------------------------------------------------------------------------

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _keyword(self) -> str:
        """The keyword of this language that stands here, in capitals, or nothing."""
        token = self._tokens[self._at]
        if token.kind is not Kind.WORD:
            return ""
        word = token.text.upper()
        return word if word in self._keywords else ""

    def _accept(self, symbol: str) -> bool:
        if self._tokens[self._at].text != symbol:
            return False
        self._at += 1
        return True

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            self._syntax_error()

    def _operator(self) -> None:
        """Take an operator or function name."""
        self._operators += 1
        self._at += 1

    def _open(self) -> int:
        opening = self._at
        self._at += 1
        self._enter()
        return opening

    def _close(self, opening: int) -> None:
        closing = self._at
        self._expect(")")
        self._depth -= 1
        if self._last_group == (opening + 1, closing - 1) and not self._redundant_parentheses:
            self._complain(_Rank.PARENTHESES, "The expression has redundant parentheses;")
        self._last_group = (opening, closing)

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > EXPRESSION_DEPTH_MAX:
            raise ExpressionError(f"The expression is nested too deeply; the maximum depth is {EXPRESSION_DEPTH_MAX}")

    # --- complaints ----------------------------------------------------------------------------------------

    def _complain(self, rank: _Rank, message: str) -> None:
        self._complaints.setdefault(rank, message)

    def _finish(self) -> None:
        if self._token.kind is not Kind.END:
            self._syntax_error()
        if self._complaints:
            raise ExpressionError(self._complaints[min(self._complaints)])

    def _syntax_error(self) -> NoReturn:
        """Name the offending token, and show it with its neighbours as they were written."""
        token = self._token
        before = self._tokens[max(self._at - 1, 0)]
        after = self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        near = self._text[before.start : after.end]
        raise ExpressionError(f'Syntax error; token: "{token.text}", near: "{near}"')
