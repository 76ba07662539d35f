"""Tokens of PartiQL statements: identifiers, "quoted identifiers", 'strings', numbers, keywords and symbols.

A quote inside quotes is doubled. Comments are those of SQL. Keywords are case-insensitive and no identifiers unless
they are quoted; they are the reserved words of SQL-92, which PartiQL keeps, and PartiQL's own (PartiQL specification,
"Lexical structure").
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

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
    """`text` is what was meant: without quotes, keywords in lower case. `at` as in the tree."""

    kind: Kind
    text: str
    at: str


_TOKEN = re.compile(
    r"""
    (?P<SPACE>\s+|--[^\n]*|/\*.*?\*/)
    | (?P<OPEN>/\*)
    | (?P<NUMBER>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<WORD>[A-Za-z_$][A-Za-z0-9_$]*)
    | '(?P<STRING>(?:[^']|'')*)'
    | "(?P<QUOTED>(?:[^"]|"")*)"
    | (?P<SYMBOL><<|>>|<>|<=|>=|!=|\|\||[=<>()\[\]{},.:;?+*/%@-])
    | (?P<OTHER>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def malformed(reason: str) -> ApiError:
    """The error of a text that is no statement."""
    return validation(_PREFIX + reason)


def tokenize(statement: str) -> list[Token]:
    """The tokens of a statement, an END token last. Raises ApiError (ValidationException)."""
    tokens: list[Token] = []
    line, line_start = 1, 0
    for match in _TOKEN.finditer(statement):
        name, start = match.lastgroup or "", match.start()
        if name in ("OTHER", "OPEN"):
            raise malformed(f"Invalid character at {line}:{start - line_start + 1}")
        if name != "SPACE":
            tokens.append(_token(name, match[name], f"{line}:{start - line_start + 1}:{match.end() - start}"))
        if "\n" in match[0]:
            line += match[0].count("\n")
            line_start = start + match[0].rindex("\n") + 1
    tokens.append(Token(Kind.END, "", f"{line}:{len(statement) - line_start + 1}:0"))
    return tokens


def _token(name: str, text: str, at: str) -> Token:
    if name == "WORD":
        word = text.lower()
        return Token(Kind.KEYWORD, word, at) if word in KEYWORDS else Token(Kind.WORD, text, at)
    if name == "STRING":
        return Token(Kind.STRING, text.replace("''", "'"), at)
    if name == "QUOTED":
        return Token(Kind.QUOTED, text.replace('""', '"'), at)
    return Token(Kind[name], text, at)
