"""Ways to spoil a request: its structure, its expressions, its numbers, and at last its JSON text."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

LARGE_BYTES = 1024 * 1024
HUGE_BYTES = 15 * 1024 * 1024

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 1e300, -0.0, 1.5, "", " ", "a", "\x00", "é", "🐎",
    "\ud800",
    "a" * 300, "a" * 70_000, [], [None], [[]], {}, {"": {}}, {"S": None}, {"S": "x"}, {"N": "1"}, {"N": "1e400"},
    {"S": "x", "N": "1"},
    {"B": "====="}, {"L": [{}]}, {"M": {"": {"S": ""}}}, {"SS": [""]}, {"SS": ["a", "a"]}, {"NS": []},
    {"BS": ["AA==", "AA=="]},
    {"BOOL": 1}, {"NULL": "x"}, {"NULL": False}, [{"S": "a"}], "NONE", "ALL_OLD", "#a", ":v", "#", ":", "a = :v",
    "SET a = :v",
    "arn:aws:dynamodb:x:y:table/z", "arn:", [0] * 200, {f"k{n}": {"S": "v"} for n in range(200)},
)  # fmt: skip
HOSTILE_NUMBERS = (
    "", " ", "-", "+1", "1.", ".5", "1e", "1e+", "e5", "--1", "1_000", "0x10", "NaN", "Infinity", "-Infinity",
    "1e126", "1e-131", "9" * 39,
    "9" * 5000, "0" * 5000, "0." + "0" * 5000 + "1", "1e999999999", "1e-999999999", "1e99999999999999999999", "٣",
    "1\x00", "1 ", "1,0",
    "1" + "0" * 200, "0e999999999", "-0.0e-999", "1E+0000000000000000000000000000000000001",
    "123456789012345678901234567890123456789",
)  # fmt: skip
WORDS = (
    "(", ")", ",", "[", "]", "[0]", "[99999999999999999999]", "[-1]", ".", "..", "#", ":", "#a", ":v", ":w", "=",
    "<>", "<", ">=", "AND", "OR",
    "NOT", "IN", "BETWEEN", "SET", "REMOVE", "ADD", "DELETE", "+", "-", "a", "size", "size(", "attribute_exists(",
    "contains(", "_", "é", "\x00",
    "'", "''", '"', "`", "?", "*", "{", "}", "<<", ">>", "1", "1e5", "-1", "NULL", "TRUE", "SELECT", "FROM", "WHERE",
    "VALUE", "ORDER", "BY", "--", "/*", ";",
)  # fmt: skip
EXPRESSIONS_END = ("Expression", "Statement")

Holder = dict[str, Any] | list[Any]


def spoil(body: dict[str, Any], chooser: random.Random) -> Any:
    """The body with up to three things wrong."""
    body = copied(body)
    for _ in range(chooser.choice((0, 1, 1, 1, 2, 3))):
        chooser.choice(_SPOILERS)(body, chooser)
    return body


def encode(body: Any, chooser: random.Random) -> bytes:
    """JSON text; at times spoilt as a text."""
    text = _json(body, ascii_only=chooser.random() < 0.5).encode("utf-8", "surrogatepass")
    if chooser.random() < 0.12:
        text = chooser.choice(_TEXT_SPOILERS)(text, chooser)
    return text


def copied(value: Any) -> Any:
    """A copy of a document of any depth."""
    top = [value]
    pending: list[Any] = [top]
    while pending:
        holder = pending.pop()
        for place, below in list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder)):
            if isinstance(below, dict | list):
                holder[place] = below.copy()
                pending.append(holder[place])
    return top[0]


def _json(body: Any, *, ascii_only: bool) -> str:
    """JSON text of a body of any depth, which the encoder of the standard library would not have."""
    parts: list[str] = []
    pending: list[Any] = [body]
    while pending:
        value = pending.pop()
        if isinstance(value, _Text):
            parts.append(value)
        elif isinstance(value, dict):
            parts.append("{")
            pending.append(_Text("}"))
            for position, (name, below) in enumerate(reversed(value.items())):
                pending += ([_Text(",")] if position else []) + [below, _Text(f"{json.dumps(name)}:")]
        elif isinstance(value, list):
            parts.append("[")
            pending.append(_Text("]"))
            for position, below in enumerate(reversed(value)):
                pending += [_Text(","), below] if position else [below]
        else:
            parts.append(json.dumps(value, ensure_ascii=ascii_only))
    return "".join(parts)


class _Text(str):
    """A part of the document that is JSON already."""

    __slots__ = ()


# --- structure ------------------------------------------------------------------------------------------


def _places(body: Any) -> list[tuple[Holder, Any]]:
    """Every member and element of a document, with what holds it."""
    found: list[tuple[Holder, Any]] = []
    pending = [body]
    while pending:
        holder = pending.pop()
        entries = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))
        for place, below in entries:
            found.append((holder, place))
            if isinstance(below, dict | list):
                pending.append(below)
    return found


def _restructure(body: Any, chooser: random.Random) -> None:
    places = _places(body)
    if not places:
        return
    holder, place = chooser.choice(places)
    action = chooser.randrange(6)
    if action == 0:
        del holder[place]
    elif action == 1 and isinstance(holder, dict):
        holder[str(chooser.choice(ODD))] = holder.pop(place)
    elif action == 2 and isinstance(holder, list):
        holder.append(copied(chooser.choice(holder)))
    elif action == 3:
        alike = [value for donor, where in places if type(value := donor[where]) is type(holder[place])]
        holder[place] = copied(chooser.choice(alike))
    elif action == 4:
        inner = holder[place] if isinstance(holder[place], dict) else {"S": "x"}
        holder[place] = nested(chooser, inner, chooser.choice((2, 31, 33, 100)))
    else:
        holder[place] = odd(chooser, holder[place])


def odd(chooser: random.Random, instead_of: Any) -> Any:
    """A value out of the ordinary; mostly of the same JSON type, to come further than to the check of types."""
    alike = [value for value in ODD if type(value) is type(instead_of)]
    return copied(chooser.choice(alike if alike and chooser.random() < 0.8 else ODD))


def _overfill(body: Any, chooser: random.Random) -> None:
    """More elements than a list may have, some of them deep: such a list is repeated in the refusal."""
    places = [(holder, place) for holder, place in _places(body) if isinstance(holder[place], list) and holder[place]]
    if not places:
        _restructure(body, chooser)
        return
    holder, place = chooser.choice(places)
    elements: list[Any] = holder[place]
    deep = copied(elements[:1])
    donor, where = chooser.choice(_places(deep))
    donor[where] = nested(chooser, donor[where], chooser.choice((1, 100, 400)))
    holder[place] = deep + elements + [copied(elements[0]) for _ in range(chooser.choice((26, 101)))]


def nested(chooser: random.Random, inner: Any, depth: int) -> Any:
    attribute_value = (lambda x: {"L": [x]}, lambda x: {"M": {"a": x}})
    wrap: Callable[[Any], Any] = chooser.choice((*attribute_value * 3, lambda x: [x], lambda x: {"a": x}))
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def _texts(body: Any, wanted: Callable[[Any], bool]) -> list[tuple[Holder, Any]]:
    return [(holder, place) for holder, place in _places(body) if isinstance(holder[place], str) and wanted(place)]


def _renumber(body: Any, chooser: random.Random) -> None:
    places = _texts(body, lambda place: place == "N")
    if places:
        holder, place = chooser.choice(places)
        holder[place] = chooser.choice(HOSTILE_NUMBERS)


# --- expressions and statements -------------------------------------------------------------------------


def _reword(body: Any, chooser: random.Random) -> None:
    places = _texts(body, lambda place: isinstance(place, str) and place.endswith(EXPRESSIONS_END))
    if not places:
        _restructure(body, chooser)
        return
    holder, place = chooser.choice(places)
    text: str = holder[place]
    holder[place] = hostile_expression(chooser) if chooser.random() < 0.2 else mangled(text, chooser)
    if chooser.random() < 0.2 and isinstance(holder, dict):
        holder["ExpressionAttributeNames"] = {
            f"#n{n}": "a" * (n % 300 + 1) for n in range(chooser.choice((1, 300, 3000)))
        }


def mangled(text: str, chooser: random.Random) -> str:
    words = text.replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split(" ")
    for _ in range(chooser.randrange(1, 4)):
        words.insert(chooser.randrange(len(words) + 1), chooser.choice(WORDS))
        if chooser.random() < 0.5:
            words.pop(chooser.randrange(len(words)))
    return chooser.choice((" ", "", "  ", "\n")).join(words)


def hostile_expression(chooser: random.Random) -> str:
    times = chooser.choice((10, 100, 300, 1000, 4000, 20_000))
    start, before, middle, after, end = chooser.choice(_WITHIN) if chooser.random() < 0.3 else _plain(chooser)
    return start + before * times + middle + after * times + end


def _plain(chooser: random.Random) -> tuple[str, str, str, str, str]:
    return ("", *chooser.choice(_REPEATED), "")


_REPEATED = (
    ("(", "a = :v", ")"), ("(", "", ""), ("NOT ", "a = :v", ""), ("a = :v AND ", "a = :v", ""),
    ("a = :v OR NOT ", "b = :v", ""),
    ("size(", "a", ")"), ("a.", "a", ""), ("", "a", "[0]"), ("", "a", "[0].b"), ("", "SET a = :v", " + :v"),
    ("", "SET a = :v", ", a = :v"),
    ("a IN (", ":v", ")"), ("", "a IN (:v", ", :v)"), ("a, ", "b", ""), ("#a", "", ""), (":", "", ""), (" ", "", ""),
    ("\x00", "", ""),
    ("if_not_exists(a, ", ":v", ")"), ("", "REMOVE a", "[1], b"), ("a BETWEEN :v AND ", ":v", ""), ("a", " = ", "b"),
    ("9", "", "9"),
    ("SELECT * FROM t WHERE ", "a = 1", " AND b = 2"), ("", "SELECT * FROM t WHERE a = ", "["), ("'", "", "'"),
    ("''", "", ""), ("<<", "1", ">>"),
    ("", "SELECT * FROM t WHERE pk IN [1", ",1"), ("{'a': ", "1", "}"), ("--", "", "\n"), ("-", "1", ""),
    ("", "SELECT a", ".a"),
)  # fmt: skip

# The same with something around it: what is deep must be well-formed to come further than the first token.
_WITHIN = (
    ("INSERT INTO \"fuzz-hash\" VALUE {'pk': 'k1', 'l': ", "[", "1", "]", "}"),
    ("INSERT INTO \"fuzz-hash\" VALUE {'pk': 'k1', 'm': ", "{'a': ", "1", "}", "}"),
    ("INSERT INTO \"fuzz-hash\" VALUE {'pk': 'k1', 's': <<1", ", 2", "", "", ">>}"),
    ("SELECT * FROM \"fuzz-hash\" WHERE pk = 'k1' AND ", "(", "a = 1", ")", ""),
    ("SELECT * FROM \"fuzz-hash\" WHERE pk = 'k1' AND ", "NOT ", "a = 1", "", ""),
    ("SELECT * FROM \"fuzz-hash\" WHERE pk = 'k1'", " OR a = 1", "", " AND b = 2", ""),
    ("SELECT * FROM \"fuzz-hash\" WHERE pk IN ['k1'", ", 'k2'", "", "", "]"),
    ("SELECT a", "[0]", "", ".b", " FROM \"fuzz-hash\" WHERE pk = 'k1'"),
    ('UPDATE "fuzz-hash" SET a = ', "list_append(", "[1]", ", [1])", " WHERE pk = 'k1'"),
    ("SET a = ", "list_append(", "l", ", l)", ""),
    ("SET a = ", "if_not_exists(b, ", ":v", ")", ""),
    ("SET a = ", "(", ":v", ")", " + :v"),
    ("pk = :v AND ", "(", "a = :v", ")", ""),
    ("", "((", "pk = :v", "))", " AND a = :v"),
)

_SPOILERS = (_restructure, _restructure, _restructure, _renumber, _reword, _reword, _reword, _overfill)


# --- the text -------------------------------------------------------------------------------------------


def _flip(text: bytes, chooser: random.Random) -> bytes:
    spoilt = bytearray(text)
    for _ in range(chooser.randrange(1, 6)):
        if spoilt:
            spoilt[chooser.randrange(len(spoilt))] = chooser.randrange(256)
    return bytes(spoilt)


def _cut(text: bytes, chooser: random.Random) -> bytes:
    return text[: chooser.randrange(len(text) + 1)]


def _insert(text: bytes, chooser: random.Random) -> bytes:
    place = chooser.randrange(len(text) + 1)
    return text[:place] + chooser.choice(_FRAGMENTS) + text[place:]


def _repeat(text: bytes, chooser: random.Random) -> bytes:
    start = chooser.randrange(len(text) + 1)
    part = text[start : start + chooser.randrange(60)]
    return text[:start] + part * chooser.choice((2, 10, 1000)) + text[start:]


def _double_member(text: bytes, chooser: random.Random) -> bytes:
    member = chooser.choice(
        (b'"TableName":5,', b'"TableName":"fuzz-spare-0",', b'"Item":{},', b'"Key":null,', b'"":"",')
    )
    return text.replace(b"{", b"{" + member, 1)


def _whole(text: bytes, chooser: random.Random) -> bytes:
    """A document of its own, deep or wide, alone or as a member."""
    document = hostile_document(chooser, chooser.choice((100, 1500, 20_000)))
    return document if chooser.random() < 0.5 else text.replace(b"{", b'{"Extra":' + document + b",", 1)


def hostile_document(chooser: random.Random, size: int) -> bytes:
    opening, middle, closing = chooser.choice(_DOCUMENTS)
    times = size // (len(opening) + len(closing) or 1)
    return opening * times + middle + closing * times


_DOCUMENTS = (
    (b"[", b"", b"]"), (b'{"a":', b"1", b"}"), (b"[", b"", b""), (b'{"a":', b"", b""),
    (b'{"L":[', b'{"S":"x"}', b"]}"), (b'{"M":{"a":', b"{}", b"}}"),
    (b"9", b"", b""), (b"", b"1e", b"9"), (b"", b"0.", b"1"), (b"", b'"', b"\\"), (b"", b'"', b"\\u0041"),
    (b"", b'"', b"a"), (b" ", b"{}", b" "),
    (b"", b"[1", b",1"), (b"[],", b"", b""), (b"", b'{"a":1', b',"a":1'), (b"", b'{"S":"a"', b',"S":"b"'),
    (b"\xef\xbb\xbf", b"{}", b""), (b"\xc3", b"", b"\xa9"),
)  # fmt: skip
_FRAGMENTS = (
    b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\\ud800",
    b"\\udc00\\ud800", b"\\u0000", b"NaN", b"Infinity",
    b"-", b"1e400", b"9" * 400, b"-0", b"0123", b"//", b"/**/", b",", b"]", b"}", b"'", b"\\x41", b"\r\n",
    b"\x1f\x8b", b"null", b"\xe2\x80\xa8",
)  # fmt: skip
_TEXT_SPOILERS = (_flip, _cut, _insert, _insert, _repeat, _double_member, _whole, _whole)


# --- large requests -------------------------------------------------------------------------------------


def large_body(chooser: random.Random, table: str) -> bytes:
    """A body of megabytes, some of it meant well."""
    size = chooser.choice((LARGE_BYTES, LARGE_BYTES, HUGE_BYTES))
    kind = chooser.randrange(6)
    if kind == 0:
        return hostile_document(chooser, size)
    inner = {
        1: b'{"pk":{"S":"%b"}}' % (b"x" * size),
        2: b'{"pk":{"S":"k1"},"l":{"L":[%b]}}' % b",".join([b'{"N":"1"}'] * (size // 10)),
        3: b'{"pk":{"S":"k1"},"s":{"NS":[%b]}}' % b",".join([b'"%d"' % n for n in range(size // 9)]),
        4: b'{%b,"pk":{"S":"k1"}}' % b",".join([b'"a%d":{"S":""}' % n for n in range(size // 18)]),
        5: b'{"pk":{"S":"k1"},"n":{"N":"%b"}}' % (b"9" * size),
    }[kind]
    return b'{"TableName":"%b","Item":%b}' % (table.encode(), inner)
