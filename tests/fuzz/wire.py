"""HTTP as it should not be: a request as bytes, with its framing, headers and signature spoilt or not."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from router.auth.sigv4 import Credential, sign
from tests.fuzz.mutations import LARGE_BYTES

HOST = b"127.0.0.1"
AMZ_JSON = b"application/x-amz-json-1.0"
TARGET = b"DynamoDB_20120810."
PIECES_MAX = 12
HEADERS_MANY = 3000

Headers = list[tuple[bytes, bytes]]


class Ending(Enum):
    """What the client does once it has sent what it has to send."""

    READ = "read"
    HALF_CLOSE = "half-close"
    ABANDON = "abandon"


class Exchange(NamedTuple):
    """What goes over one connection. `answers`: how many there must be; None: the framing is spoilt, who knows."""

    pieces: list[bytes]
    ending: Ending
    answers: int | None
    to_head: bool = False

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))


class Signer:
    """Signs as a client with the one key pair that the service under test knows."""

    def __init__(self, credential: Credential, region: str) -> None:
        self._credential = credential
        self._region = region

    def headers(self, operation: bytes, body: bytes, more: Headers) -> Headers:
        headers = {b"host": HOST, b"content-type": AMZ_JSON, b"x-amz-target": TARGET + operation, **dict(more)}
        headers.update(sign(self._credential, self._region, headers, body, time.time()))
        return list(headers.items())


def exchange(operation: str, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    """One request, well framed three times out of four."""
    maker = _good if chooser.random() < 0.75 else chooser.choice(_SPOILT)
    return maker(operation.encode(), body, signer, chooser)


def good_exchange(operation: str, body: bytes, signer: Signer) -> Exchange:
    """One request without any fault of its own."""
    return Exchange([framed(signer.headers(operation.encode(), body, []), body)], Ending.READ, 1)


def framed(headers: Headers, body: bytes, start: bytes = b"POST / HTTP/1.1") -> bytes:
    return message([*headers, (b"content-length", b"%d" % len(body))], body, start)


def message(headers: Headers, body: bytes, start: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"%b\r\n%b\r\n%b" % (start, b"".join([b"%b: %b\r\n" % header for header in headers]), body)


def _cut_up(data: bytes, chooser: random.Random) -> list[bytes]:
    """The bytes in pieces of any size."""
    places = sorted(chooser.randrange(len(data) + 1) for _ in range(chooser.randrange(PIECES_MAX)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


# --- well framed ----------------------------------------------------------------------------------------


def _good(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    return chooser.choice(_FRAMINGS)(operation, body, signer, chooser)


def _plain(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    return Exchange([framed(signer.headers(operation, body, []), body)], Ending.READ, 1)


def _in_pieces(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    data = framed(signer.headers(operation, body, []), body)
    ending = chooser.choice((Ending.READ, Ending.HALF_CLOSE))
    return Exchange(_cut_up(data, chooser), ending, 1)


def _pipelined(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    data = framed(signer.headers(operation, body, []), body)
    times = chooser.randrange(2, 40) if len(data) < 10_000 else 2
    return Exchange([data * times], Ending.READ, times)


def _chunked(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    headers = [*signer.headers(operation, body, []), (b"transfer-encoding", b"chunked")]
    chunks = b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in _cut_up(body, chooser) if piece])
    return Exchange([message(headers, chunks + b"0\r\n\r\n")], Ending.READ, 1)


def _compressed(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    packed = gzip.compress(body, 1)
    if chooser.random() < 0.3:
        packed = packed[: chooser.randrange(len(packed))] + chooser.randbytes(chooser.randrange(20))
    encoding = chooser.choice((b"gzip", b"gzip", b"gzip", b"deflate", b"br", b"gzip, gzip"))
    headers = signer.headers(operation, packed, [(b"content-encoding", encoding), (b"accept-encoding", b"gzip")])
    return Exchange([framed(headers, packed)], Ending.READ, 1)


def _bomb(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    unit = chooser.choice((b"[", b" ", b"[],", b'{"a":', b"\0"))
    packed = gzip.compress(unit * (chooser.choice((15, 20, 200)) * LARGE_BYTES // len(unit)), 1)
    return Exchange(
        [framed(signer.headers(operation, packed, [(b"content-encoding", b"gzip")]), packed)], Ending.READ, 1
    )


def _spoilt_authorization(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    """One of the headers changed, removed or doubled after signing; the framing stays."""
    headers = signer.headers(operation, body, [])
    place = chooser.randrange(len(headers))
    name, value = headers[place]
    action = chooser.randrange(4)
    if action == 0:
        headers[place] = (name, _printable(value, chooser))
    elif action == 1:
        del headers[place]
    elif action == 2:
        headers.append((name, _printable(value, chooser)))
    else:
        headers[place] = (name, chooser.choice((b"", b"AWS4-HMAC-SHA256", b"\xff\xfe", b"=,/;", b"x" * 5000)))
    return Exchange([framed(headers, body)], Ending.READ, 1)


def _presigned(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    """Query strings that look like a signature."""
    names = (b"Algorithm", b"Credential", b"Date", b"Expires", b"SignedHeaders", b"Signature", b"Security-Token")
    values = (
        b"AWS4-HMAC-SHA256",
        b"a/20261123/us-east-1/dynamodb/aws4_request",
        b"%zz",
        b"%ff",
        b"",
        b"20261123T000000Z",
        b"-1",
    )
    parts = [b"X-Amz-%b=%b" % (chooser.choice(names), chooser.choice(values)) for _ in range(chooser.randrange(1, 9))]
    headers = [(b"host", HOST), (b"content-type", AMZ_JSON), (b"x-amz-target", TARGET + operation)]
    return Exchange([framed(headers, body, b"POST /?%b HTTP/1.1" % b"&".join(parts))], Ending.READ, 1)


def _other_start(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    """Another method, path or version."""
    method = chooser.choice((b"GET", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"POST", b"TRACE"))
    path = chooser.choice((b"/", b"/x", b"//", b"/../..", b"/%00", b"/?", b"/" + b"a" * 3000, b"*", b"http://h/"))
    headers = [*signer.headers(operation, body, []), (b"origin", b"null")]
    data = framed(headers, body, b"%b %b HTTP/1.%d" % (method, path, chooser.randrange(2)))
    return Exchange([data], Ending.HALF_CLOSE, None, to_head=method == b"HEAD")


def _printable(value: bytes, chooser: random.Random) -> bytes:
    spoilt = bytearray(value)
    if spoilt:
        spoilt[chooser.randrange(len(spoilt))] = chooser.randrange(0x21, 0x7F)
    return bytes(spoilt)


# --- badly framed ---------------------------------------------------------------------------------------


def _flipped(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    data = bytearray(framed(signer.headers(operation, body, []), body))
    for _ in range(chooser.randrange(1, 8)):
        data[chooser.randrange(min(len(data), 900))] = chooser.randrange(256)
    return Exchange([bytes(data)], Ending.HALF_CLOSE, None)


def _wrong_length(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    length = chooser.choice((b"0", b"1", b"-1", b"+5", b"99999", b"1e3", b"0x10", b"9" * 30, b"", b"5, 5", b"16777217"))
    headers = [*signer.headers(operation, body, []), (b"content-length", length)]
    if chooser.random() < 0.2:
        headers.append((b"transfer-encoding", chooser.choice((b"chunked", b"gzip, chunked", b"identity"))))
    return Exchange([message(headers, body)], Ending.HALF_CLOSE, None)


def _wrong_chunks(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    headers = [*signer.headers(operation, body, []), (b"transfer-encoding", b"chunked")]
    size = chooser.choice((b"zz", b"-1", b"f" * 20, b"5;" + b"x" * 5000, b"5\n", b"", b"ffffff", b"1"))
    chunk = size + b"\r\n" + body[:20]
    return Exchange([message(headers, chunk * chooser.choice((1, 3, 2000)))], Ending.HALF_CLOSE, None)


def _many_headers(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    several = [(b"x-%d" % number, b"v") for number in range(HEADERS_MANY)]
    same = [(b"x-same", b"v" * 20)] * HEADERS_MANY
    large = [(b"x-large", b"v" * 200_000)]
    headers = signer.headers(operation, body, []) + chooser.choice((several, same, large))
    return Exchange([framed(headers, body)], Ending.HALF_CLOSE, None)


def _cut_short(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    data = framed(signer.headers(operation, body, []), body)
    ending = chooser.choice((Ending.HALF_CLOSE, Ending.ABANDON))
    return Exchange([data[: chooser.randrange(len(data))]], ending, None)


def _abandoned(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    data = framed(signer.headers(operation, body, []), body)
    return Exchange([data * chooser.randrange(1, 5)], Ending.ABANDON, None)


def _noise(operation: bytes, body: bytes, signer: Signer, chooser: random.Random) -> Exchange:
    noise = chooser.choice(
        (
            chooser.randbytes(chooser.randrange(400)),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n" * 1000,
            b"CONNECT h:1 HTTP/1.1\r\nhost: h\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\n{}",
            b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
            b"GET / HTTP/0.9\r\n\r\n",
        )
    )
    return Exchange([noise], Ending.HALF_CLOSE, None)


Maker = Callable[[bytes, bytes, Signer, random.Random], Exchange]
_FRAMINGS: tuple[Maker, ...] = (
    *(_plain,) * 12, *(_in_pieces,) * 4, _pipelined, *(_chunked,) * 3, *(_compressed,) * 3,
    *(_spoilt_authorization,) * 4, _presigned,
)  # fmt: skip
_SPOILT: tuple[Maker, ...] = (
    _flipped, _flipped, _wrong_length, _wrong_length, _wrong_chunks, _many_headers, _cut_short, _abandoned, _noise,
    _other_start,
)  # fmt: skip
bomb: Maker = _bomb
