"""Tokens of PartiQL statements: identifiers, "quoted identifiers", 'strings', numbers, keywords and symbols.

A quote inside quotes is doubled. Comments are those of SQL. Keywords are case-insensitive and no identifiers unless
they are quoted; they are the reserved words of SQL-92, which PartiQL keeps, and PartiQL's own (PartiQL specification,
"Lexical structure").
"""

from __future__ import annotations

import re
from enum import IntEnum
from itertools import islice
from string import ascii_letters, digits
from typing import NamedTuple, NoReturn

from geodyne.errors import ApiError, validation

_PREFIX = "Statement wasn't well formed, can't be processed: "

_WORDS = """
    absolute action add all allocate alter and any are as asc assertion at authorization avg begin between bit
    bit_length both by cascade cascaded case cast catalog char char_length character character_length check close
    coalesce collate collation column commit connect connection constraint constraints continue convert corresponding
    count create cross current current_date current_time current_timestamp current_user cursor date deallocate dec
    decimal declare default deferrable deferred delete desc describe descriptor diagnostics disconnect distinct domain
    double drop else end end-exec escape except exception exec execute exists external extract false fetch first float
    for foreign found from full get global go goto grant group having identity immediate in indicator initially inner
    input insensitive insert int integer intersect interval into is isolation join key language last leading left level
    like local lower match max min module names national natural nchar next no not null nullif numeric octet_length of
    on only open option or order outer output overlaps pad partial position precision prepare preserve primary prior
    privileges procedure public read real references relative restrict revoke right rollback rows schema scroll section
    select session session_user set size smallint some space sql sqlcode sqlerror sqlstate string substring sum
    system_user table temporary then time timestamp to trailing transaction translate translation trim true union unique
    unknown update upper usage user using value values varchar varying view when whenever where with work write zone
    bag blob bool boolean clob index let limit list missing offset pivot remove sexp struct symbol tuple unpivot
"""

# EXISTS and SIZE are functions.
KEYWORDS = frozenset(_WORDS.split()) - {"exists", "size"}


class Kind(IntEnum):
    WORD = 1
    QUOTED = 2
    STRING = 3
    NUMBER = 4
    KEYWORD = 5
    SYMBOL = 6
    END = 7


class Token(NamedTuple):
    """`text` is what was meant: without quotes, keywords in lower case."""

    kind: Kind
    text: str


class Place(NamedTuple):
    """Where a token stands, shown as "line:column:length". Only messages need it, so it is looked for when shown."""

    statement: str
    token: int  # its number, from 0

    def __str__(self) -> str:
        start, end = next(islice(_TOKEN.finditer(self.statement), self.token, None)).span(1)
        return f"{_line_and_column(self.statement, start)}:{end - start}"


# What stands between tokens is skipped and never looked at twice; an unfinished comment takes the rest of the text.
_TOKEN = re.compile(
    r"""
    (?:\s|--[^\n]*|/\*.*?\*/)*+
    (
      [,?()\[\]{}:;+*%@=-]
    | (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?
    | [A-Za-z_$][A-Za-z0-9_$]*
    | '[^']*(?:''[^']*)*'
    | "[^"]*(?:""[^"]*)*"
    | <<|>>|<>|<=|>=|!=|\|\|
    | /\*.*
    | .
    | \Z
    )
    """,
    re.VERBOSE | re.DOTALL,
)
_WRITTEN_SYMBOLS = "<< >> <> <= >= != || = < > ( ) [ ] { } , . : ; ? + * / % @ -"

# One token for each symbol, so that it can be told by identity.
SYMBOLS = {text: Token(Kind.SYMBOL, text) for text in _WRITTEN_SYMBOLS.split()}
_WORD_START = frozenset(ascii_letters + "_$")
_DIGITS = frozenset(digits)
_END = Token(Kind.END, "")


def malformed(reason: str) -> ApiError:
    """The error of a text that is no statement."""
    return validation(_PREFIX + reason)


def tokenize(statement: str) -> list[Token]:
    """The tokens of a statement, an END token last. Raises ApiError (ValidationException)."""
    tokens: list[Token] = []
    known = {"": _END, **SYMBOLS}
    for written in _TOKEN.findall(statement):
        token = known.get(written)
        if token is None:
            token = known[written] = _token(written) or _refuse(statement, len(tokens))
        tokens.append(token)
        if token is _END:
            break  # the pattern finds the end twice when something was skipped before it
    return tokens


def _token(written: str) -> Token | None:
    first = written[0]
    if first in _WORD_START:
        word = written.lower()
        return Token(Kind.KEYWORD, word) if word in KEYWORDS else Token(Kind.WORD, written)
    if first in _DIGITS or (first == "." and len(written) > 1):
        return Token(Kind.NUMBER, written)
    if first == "'" and len(written) > 1:
        return Token(Kind.STRING, written[1:-1].replace("''", "'"))
    if first == '"' and len(written) > 1:
        return Token(Kind.QUOTED, written[1:-1].replace('""', '"'))
    return None


def _refuse(statement: str, number: int) -> NoReturn:
    start = next(islice(_TOKEN.finditer(statement), number, None)).start(1)
    raise malformed(f"Invalid character at {_line_and_column(statement, start)}")


def _line_and_column(statement: str, at: int) -> str:
    return f"{statement.count(chr(10), 0, at) + 1}:{at - statement.rfind(chr(10), 0, at)}"
