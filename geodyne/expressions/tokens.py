"""From the text of an expression to its tokens."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from geodyne.expressions.tree import ExpressionError


class Kind(IntEnum):
    WORD = 1  # identifier, keyword or function name
    NAME = 2  # #placeholder
    VALUE = 3  # :placeholder
    INDEX = 4  # digits
    SYMBOL = 5
    OTHER = 6  # a character that no expression holds
    END = 7


class Token(NamedTuple):
    kind: Kind
    text: str
    start: int
    end: int


END_TEXT = "<EOF>"

_TOKEN = re.compile(
    r"""
    (?P<WORD>[A-Za-z][A-Za-z0-9_]*)
    | (?P<NAME>\#[A-Za-z0-9_]+)
    | (?P<VALUE>:[A-Za-z0-9_]+)
    | (?P<INDEX>0|[1-9][0-9]*)
    | (?P<SYMBOL><>|<=|>=|[=<>()\[\],.+-])
    | (?P<SPACE>[ \t\r\n]+)
    | (?P<OTHER>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def tokenize(text: str) -> list[Token]:
    """The tokens of an expression, an END token last. Raises ExpressionError for an empty text."""
    tokens = [
        Token(Kind[match.lastgroup], match[0], match.start(), match.end())
        for match in _TOKEN.finditer(text)
        if match.lastgroup is not None and match.lastgroup != "SPACE"
    ]
    if not tokens:
        raise ExpressionError("The expression can not be empty;")
    tokens.append(Token(Kind.END, END_TEXT, len(text), len(text)))
    return tokens
