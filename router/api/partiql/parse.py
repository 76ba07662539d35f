"""Recursive-descent parser of PartiQL statements.

    statement  = ( select | insert | update | delete | EXISTS "(" select ")" ) [ ";" ]
    select     = SELECT ( "*" | expression { "," expression } ) FROM source [ WHERE expression ]
                 [ ORDER BY expression [ ASC | DESC ] { "," expression [ ASC | DESC ] } ]
    source     = identifier [ "." identifier ]
    insert     = INSERT INTO identifier VALUE expression
    update     = UPDATE identifier change { change } [ WHERE expression ]
                 [ RETURNING ( ALL | MODIFIED ) ( OLD | NEW ) "*" ]
               | FROM identifier [ WHERE expression ] change { change } [ RETURNING ... ]
    change     = SET path "=" expression { "," path "=" expression } | REMOVE path
    delete     = DELETE FROM identifier [ WHERE expression ] [ RETURNING ALL OLD "*" ]

    expression = conjunction { OR conjunction }
    conjunction = negation { AND negation }
    negation   = NOT negation | comparison
    comparison = sum { ( "=" | "<>" | "!=" | "<" | "<=" | ">" | ">=" ) sum
                 | [ NOT ] BETWEEN sum AND sum
                 | [ NOT ] IN ( "(" expression { "," expression } ")" | sum )
                 | [ NOT ] LIKE sum
                 | IS [ NOT ] type }
    sum        = unary { ( "+" | "-" | "*" | "/" | "%" | "||" ) unary }
    unary      = ( "+" | "-" ) unary | path
    path       = term { "." identifier | "[" ( integer | 'string' ) "]" }
    term       = identifier [ "(" [ expression { "," expression } ] ")" ] | literal | "?"
               | "(" expression { "," expression } ")"
    literal    = 'string' | number | TRUE | FALSE | NULL | MISSING
               | "[" [ expression { "," expression } ] "]" | "<<" [ expression { "," expression } ] ">>"
               | "{" [ expression ":" expression { "," expression ":" expression } ] "}"

Sources: Developer Guide, "PartiQL - a SQL-compatible query language for Amazon DynamoDB"; the PartiQL specification.
The grammar is wider than what a statement may mean: what is well formed and not supported is refused by name later.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NoReturn, TypeVar

from geodyne.errors import validation
from geodyne.limits import (
    EXPRESSION_OPERATORS_MAX,
    LIST_INDEX_MAX,
    PARSED_STATEMENTS_MAX,
    PARTIQL_CACHED_LENGTH_MAX,
    PARTIQL_DEPTH_MAX,
)
from router.api.partiql.tokens import SYMBOLS, Kind, Place, Token, malformed, tokenize
from router.api.partiql.tree import (
    And,
    Assignment,
    Between,
    Binary,
    Boolean,
    Call,
    Delete,
    Exists,
    Insert,
    Like,
    ListOf,
    MapOf,
    Membership,
    Missing,
    Node,
    Not,
    Null,
    Number,
    Or,
    OrderKey,
    Parameter,
    Path,
    PathElement,
    Select,
    SetOf,
    Statement,
    Text,
    TypeTest,
    Update,
)

_COMPARATORS = frozenset(("=", "<>", "!=", "<", "<=", ">", ">="))
_ARITHMETIC = frozenset(("+", "-", "*", "/", "%", "||"))
_AGGREGATES = frozenset(("avg", "count", "max", "min", "sum"))
_UNSUPPORTED_CLAUSES = {"group": "GROUP BY", "having": "HAVING", "limit": "LIMIT", "offset": "OFFSET", "let": "LET"}
_CLOSING = frozenset((",", "]", ")", "}", ">>", ":"))  # what stands before one of these is complete
_SIMPLE = frozenset((Kind.STRING, Kind.NUMBER, Kind.WORD, Kind.QUOTED))
_CONSTANTS: dict[Kind, Callable[[str], Node]] = {Kind.STRING: Text, Kind.NUMBER: Number}
_COMMA, _QUESTION_MARK = SYMBOLS[","], SYMBOLS["?"]
_TYPE_WORDS = frozenset(("number", "map"))  # names of types that are no keywords

_T = TypeVar("_T")


def parse_statement(text: str) -> Statement:
    """The tree of a statement, cached by its text unless that is long. Raises ApiError (ValidationException)."""
    return _cached(text) if len(text) <= PARTIQL_CACHED_LENGTH_MAX else _Parser(text).statement()


@lru_cache(maxsize=PARSED_STATEMENTS_MAX)
def _cached(text: str) -> Statement:
    return _Parser(text).statement()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._at = 0
        self._depth = 0
        self._parameters = 0
        self._operators = 0

    # --- statements ----------------------------------------------------------------------------------------

    def statement(self) -> Statement:
        result = self._statement()
        self._accept(";")
        if self._token.kind is not Kind.END:
            raise malformed("Unexpected token after expression")
        return result

    def _statement(self) -> Statement:
        if self._accept_keyword("select"):
            return self._select()
        if self._accept_keyword("insert"):
            return self._insert()
        if self._accept_keyword("update"):
            return self._update(self._table())
        if self._accept_keyword("from"):
            return self._update(self._table(), self._optional_where())
        if self._accept_keyword("delete"):
            return self._delete()
        token = self._token
        if token.kind is Kind.WORD and token.text.lower() == "exists" and self._next_is("("):
            self._at += 2
            if not self._accept_keyword("select"):
                raise malformed("Expected data manipulation")
            select = self._select()
            self._expect(")")
            return Exists(select)
        raise malformed("Expected data manipulation")

    def _select(self) -> Select:
        if self._keyword() in ("distinct", "value"):
            raise self._unsupported_clause(self._keyword().upper(), self._place())
        self._accept_keyword("all")
        projection: tuple[Node, ...] | None = None
        if not self._accept("*"):
            projection = self._expressions()
        elif self._token.text == "," and self._token.kind is Kind.SYMBOL:
            raise malformed(
                "Other expressions may not be present in the select list when '*' is used without dot notation."
            )
        if not self._accept_keyword("from"):
            raise malformed("Expected FROM after SELECT list")
        table, index = self._source()
        where = self._optional_where()
        order: tuple[OrderKey, ...] = ()
        if self._accept_keyword("order"):
            if not self._accept_keyword("by"):
                raise malformed("Expected BY")
            order = self._commas(self._order_key)
        if self._keyword() in _UNSUPPORTED_CLAUSES:
            self._refuse_clause()
        return Select(table, index, projection, where, order, self._parameters)

    def _refuse_clause(self) -> NoReturn:
        """The position is that of the clause's expression, which must be one."""
        name = _UNSUPPORTED_CLAUSES[self._keyword()]
        self._at += 1
        self._accept_keyword("by")
        place = self._place()
        self._expression()
        raise self._unsupported_clause(name, place)

    @staticmethod
    def _unsupported_clause(name: str, at: Place) -> Exception:
        return validation(f"Unsupported clause: {name} at {at}")

    def _source(self) -> tuple[str, str | None]:
        place = self._place()
        path = self._sum()  # an unquoted name with a hyphen is a difference
        names = path.elements if isinstance(path, Path) else ()
        if not 1 <= len(names) <= 2 or not all(isinstance(name, str) for name in names):
            raise validation(f"Unexpected from source at {place}")
        after = self._token
        if after.kind in (Kind.WORD, Kind.QUOTED) or after.text == "," or self._keyword() in ("as", "join", "cross"):
            raise validation(f"Unexpected from source at {place}")
        return str(names[0]), str(names[1]) if len(names) == 2 else None

    def _order_key(self) -> OrderKey:
        path = self._expression()
        descending = self._accept_keyword("desc")
        if not descending:
            self._accept_keyword("asc")
        return OrderKey(path, descending)

    def _insert(self) -> Insert:
        if not self._accept_keyword("into"):
            raise malformed("Expected INTO after INSERT")
        table = self._table()
        if not self._accept_keyword("value"):
            self._expression()  # what is wrong with it, if anything, is reported first
            raise malformed("Expected VALUE after INSERT INTO")
        return Insert(table, self._expression(), self._parameters)

    def _update(self, table: str, where: Node | None = None) -> Update:
        changes: list[Assignment] = []
        while True:
            if self._accept_keyword("set"):
                changes += self._commas(self._assignment)
            elif self._accept_keyword("remove"):
                changes.append(Assignment(self._simple_path(), None))
            else:
                break
        if not changes:
            raise malformed("Expected data manipulation")
        if where is None:
            where = self._optional_where()
        return Update(table, tuple(changes), where, self._returning(), self._parameters)

    def _assignment(self) -> Assignment:
        path = self._simple_path()
        if not self._accept("="):
            raise malformed("Expected assignment for SET")
        return Assignment(path, self._expression())

    def _delete(self) -> Delete:
        if not self._accept_keyword("from"):
            raise malformed("Expected FROM after DELETE")
        table = self._table()
        where = self._optional_where()
        return Delete(table, where, self._returning(), self._parameters)

    def _table(self) -> str:
        path = self._simple_path()
        if len(path.elements) != 1:
            raise validation(f"Unexpected path component at {path.at}")
        return str(path.elements[0])

    def _optional_where(self) -> Node | None:
        return self._expression() if self._accept_keyword("where") else None

    def _returning(self) -> str:
        if self._token.kind is not Kind.WORD or self._token.text.lower() != "returning":
            return "NONE"
        self._at += 1
        which = self._word("all", "modified")
        state = self._word("old", "new")
        self._expect("*")
        return f"{'ALL' if which == 'all' else 'UPDATED'}_{state.upper()}"

    def _word(self, *choices: str) -> str:
        word = self._token.text.lower()
        if self._token.kind not in (Kind.WORD, Kind.KEYWORD) or word not in choices:
            raise malformed(f"Expected {' or '.join(choice.upper() for choice in choices)} in RETURNING")
        self._at += 1
        return word

    # --- expressions ---------------------------------------------------------------------------------------

    def _expression(self) -> Node:
        token = self._tokens[self._at]
        if token.kind in _SIMPLE or token.text == "?":
            following = self._tokens[self._at + 1]
            if following.text in _CLOSING and following.kind is Kind.SYMBOL:
                return self._term()  # most of a long statement: values or names, one after the other
        parts = [self._conjunction()]
        while self._accept_keyword("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _expressions(self) -> tuple[Node, ...]:
        """Expressions between commas. Constants are taken in passing: a statement has room for four thousand."""
        parts: list[Node] = []
        tokens = self._tokens
        while True:
            token = tokens[self._at]
            make = _CONSTANTS.get(token.kind)
            if (make is not None or token is _QUESTION_MARK) and tokens[self._at + 1] is _COMMA:
                if make is not None:
                    parts.append(make(token.text))
                else:
                    parts.append(Parameter(self._parameters))
                    self._parameters += 1
                self._at += 2
                continue
            parts.append(self._expression())
            if not self._accept(","):
                return tuple(parts)

    def _conjunction(self) -> Node:
        parts = [self._negation()]
        while self._accept_keyword("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _negation(self) -> Node:
        if not self._accept_keyword("not"):
            return self._comparison()
        self._enter()
        part = self._negation()
        self._depth -= 1
        return Not(part)

    def _comparison(self) -> Node:
        left = self._sum()
        while True:
            token = self._token
            if token.kind is Kind.SYMBOL and token.text in _COMPARATORS:
                place = self._place()
                self._at += 1
                self._chain()
                operator = "<>" if token.text == "!=" else token.text
                left = Binary(operator, left, self._sum(), place)
                continue
            if self._keyword() == "is":
                self._chain()
                left = self._type_test(left)
                continue
            negated = self._keyword() == "not" and self._following_keyword() in ("between", "in", "like")
            if negated:
                self._at += 1
            found = self._keyword_operator(left)
            if found is None:
                return left
            self._chain()
            left = Not(found) if negated else found

    def _keyword_operator(self, left: Node) -> Node | None:
        place = self._place()
        if self._accept_keyword("between"):
            low = self._sum()
            if not self._accept_keyword("and"):
                raise malformed("Expected AND")
            return Between(left, low, self._sum())
        if self._accept_keyword("in"):
            opening = self._place()
            if self._accept("("):
                choices: Node = ListOf(self._expressions(), opening)
                self._expect(")")
            else:
                choices = self._sum()
            return Membership(left, choices)
        if self._accept_keyword("like"):
            self._sum()
            return Like(place)
        return None

    def _type_test(self, operand: Node) -> Node:
        self._at += 1
        negated = self._accept_keyword("not")
        token = self._token
        if token.kind is not Kind.KEYWORD and not (token.kind is Kind.WORD and token.text.lower() in _TYPE_WORDS):
            raise malformed("Expected type name")
        self._at += 1
        test = TypeTest(operand, token.text.upper())
        return Not(test) if negated else test

    def _sum(self) -> Node:
        left = self._unary()
        while self._token.kind is Kind.SYMBOL and self._token.text in _ARITHMETIC:
            token, place = self._token, self._place()
            self._at += 1
            self._chain()
            left = Binary(token.text, left, self._unary(), place)
        return left

    def _unary(self) -> Node:
        token = self._token
        if token.kind is not Kind.SYMBOL or token.text not in ("+", "-"):
            return self._path()
        place = self._place()
        self._at += 1
        self._enter()
        term = self._unary()
        self._depth -= 1
        if not isinstance(term, Number):
            return Binary(token.text, Number("0"), term, place)
        if token.text == "+":
            return term
        return Number(term.content[1:] if term.content.startswith("-") else "-" + term.content)

    def _path(self) -> Node:
        first = self._token
        term = self._term()
        if not isinstance(term, Path) or first.text == "(":
            return term
        return self._steps(term)

    def _simple_path(self) -> Path:
        token = self._token
        if token.kind not in (Kind.WORD, Kind.QUOTED):
            raise malformed("Expected identifier for simple path")
        place = self._place()
        self._at += 1
        return self._steps(Path((token.text,), place))

    def _steps(self, start: Path) -> Path:
        elements: list[PathElement] = list(start.elements)
        while True:
            if self._accept("."):
                token = self._token
                if token.kind not in (Kind.WORD, Kind.QUOTED):
                    raise malformed("Invalid path dot component")
                elements.append(token.text)
                self._at += 1
            elif self._accept("["):
                elements.append(self._bracket_step())
            else:
                return Path(tuple(elements), start.at)

    def _bracket_step(self) -> PathElement:
        place = self._place()
        step = self._expression() if self._token.text != "*" else None
        self._expect("]")
        if isinstance(step, Text):
            return step.content
        if isinstance(step, Number) and step.content.isdigit():
            digits = step.content.lstrip("0") or "0"
            if len(digits) <= len(str(LIST_INDEX_MAX)) and int(digits) <= LIST_INDEX_MAX:
                return int(digits)
            raise validation(f"List index is not within the allowable range; index: [{step.content}]")
        raise validation(f"Unexpected path component at {place}")

    def _term(self) -> Node:
        token = self._token
        self._at += 1
        kind = token.kind
        if kind is Kind.WORD or kind is Kind.QUOTED:
            if self._is("("):
                return self._call(token)
            return Path((token.text,), self._place(-1))
        if kind is Kind.STRING:
            return Text(token.text)
        if kind is Kind.NUMBER:
            return Number(token.text)
        if kind is Kind.KEYWORD:
            return self._keyword_term(token)
        if kind is Kind.SYMBOL:
            return self._symbol_term(token)
        raise malformed("Unexpected term")

    def _keyword_term(self, token: Token) -> Node:
        word = token.text
        if word in ("true", "false"):
            return Boolean(word == "true")
        if word == "null":
            return Null()
        if word == "missing":
            return Missing()
        if word in _AGGREGATES and self._token.text == "(" and self._token.kind is Kind.SYMBOL:
            return self._call(token)
        raise malformed("Unexpected keyword")

    def _symbol_term(self, token: Token) -> Node:
        symbol = token.text
        if symbol == "?":
            self._parameters += 1
            return Parameter(self._parameters - 1)
        if symbol in ("(", "[", "<<", "{"):
            self._enter()
            node = self._bracketed(symbol)
            self._depth -= 1
            return node
        if symbol in _COMPARATORS or symbol in _ARITHMETIC or symbol == "@":
            raise malformed("Unexpected operator")
        raise malformed("Unexpected term")

    def _bracketed(self, bracket: str) -> Node:
        opening = self._place(-1)
        if bracket == "(":
            inner = self._expressions()
            self._expect(")")
            return inner[0] if len(inner) == 1 else ListOf(inner, opening)
        if bracket == "{":
            members = () if self._token.text == "}" else self._commas(self._member)
            self._expect("}")
            return MapOf(members, opening)
        closing = "]" if bracket == "[" else ">>"
        elements = () if self._is(closing) else self._expressions()
        self._expect(closing)
        return ListOf(elements, opening) if closing == "]" else SetOf(elements, opening)

    def _member(self) -> tuple[Node, Node]:
        name = self._expression()
        self._expect(":")
        return name, self._expression()

    def _call(self, name: Token) -> Call:
        place = self._place(-1)
        self._enter()
        self._at += 1
        if name.kind is Kind.KEYWORD and self._accept("*"):
            arguments: tuple[Node, ...] = ()
        else:
            if name.kind is Kind.KEYWORD and not self._accept_keyword("distinct"):
                self._accept_keyword("all")
            arguments = () if self._is(")") else self._expressions()
        self._expect(")")
        self._depth -= 1
        return Call(name.text.lower(), arguments, place)

    # --- tokens --------------------------------------------------------------------------------------------

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _place(self, offset: int = 0) -> Place:
        return Place(self._text, self._at + offset)

    def _keyword(self) -> str:
        token = self._tokens[self._at]
        return token.text if token.kind is Kind.KEYWORD else ""

    def _following_keyword(self) -> str:
        token = self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        return token.text if token.kind is Kind.KEYWORD else ""

    def _next_is(self, symbol: str) -> bool:
        token = self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        return token.kind is Kind.SYMBOL and token.text == symbol

    def _is(self, symbol: str) -> bool:
        token = self._tokens[self._at]
        return token.kind is Kind.SYMBOL and token.text == symbol

    def _accept(self, symbol: str) -> bool:
        if not self._is(symbol):
            return False
        self._at += 1
        return True

    def _accept_keyword(self, word: str) -> bool:
        if self._keyword() != word:
            return False
        self._at += 1
        return True

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise malformed(f"Expected {_SYMBOL_NAMES[symbol]}")

    def _commas(self, read: Callable[[], _T]) -> tuple[_T, ...]:
        parts = [read()]
        while self._accept(","):
            parts.append(read())
        return tuple(parts)

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > PARTIQL_DEPTH_MAX:
            raise validation(f"The statement is nested too deeply; the maximum depth is {PARTIQL_DEPTH_MAX}")

    def _chain(self) -> None:
        """Operators of equal rank nest to the left: their number is bounded as that of any expression's is."""
        self._operators += 1
        if self._operators > EXPRESSION_OPERATORS_MAX:
            raise validation(
                f"The expression contains too many operators; operator count: {EXPRESSION_OPERATORS_MAX + 1}"
            )


_SYMBOL_NAMES = {
    "(": "LEFT_PAREN", ")": "RIGHT_PAREN", "]": "RIGHT_BRACKET", "}": "RIGHT_CURLY", ":": "COLON", "*": "STAR",
    ">>": "RIGHT_DOUBLE_ANGLE_BRACKET",
}  # fmt: skip
