"""POST of one document, with bounds: what HTTP functions and HTTP destinations need of a client.

On the event loop with httptools' parser, which the router uses too, instead of the standard library's blocking client:
a time limit of the whole call then ends it for certain, and a cancelled call holds no thread. A connection serves one
call; redirects are not followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools
import orjson

from delivery.verdict import NotReached, Raised, Reply, Returned
from geodyne.triggers.functions import FunctionSpec
from geodyne.triggers.urls import shown

RESPONSE_BYTES_MAX = 6 * 1024 * 1024  # of the body: Lambda's quota for synchronous calls
HEADER_BYTES_MAX = 64 * 1024
CONNECT_S_MAX = 5.0
READ_BYTES = 64 * 1024
FUNCTION_ERROR = "x-amz-function-error"
THROTTLED = 429
DETAIL_LENGTH_MAX = 200


class HttpAnswer(NamedTuple):
    """`headers` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpFailure(Exception):
    """No answer came. `sent`: the server may have acted on the request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class _Response:
    """What httptools tells of a response."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False
        self.whole_headers = False  # of the answer itself
        self._header_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES_MAX:
            raise HttpFailure(f"the answer has more than {HEADER_BYTES_MAX} bytes of headers", sent=True)
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.whole_headers = not self._interim()

    def on_body(self, part: bytes) -> None:
        if len(self.body) + len(part) > RESPONSE_BYTES_MAX:
            raise HttpFailure(f"the answer has more than {RESPONSE_BYTES_MAX} bytes", sent=True)
        self.body += part

    def on_message_complete(self) -> None:
        # An interim answer (1xx) is complete too, and is followed by the real one.
        self.complete = not self._interim()
        if not self.complete:
            self.headers.clear()

    def _interim(self) -> bool:
        return int(self.parser.get_status_code()) < 200


async def post_json(url: str, body: bytes, headers: dict[str, str], timeout_s: float) -> HttpAnswer:
    """POST `body`, which is JSON. Raises HttpFailure."""
    sent = False
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer, head = await _connect(url, len(body), headers)
            try:
                sent = True
                writer.write(head + body)
                await writer.drain()
                return await _answer(reader)
            finally:
                writer.close()
                with contextlib.suppress(OSError, ssl.SSLError):
                    writer.transport.abort()
    except TimeoutError:
        raise HttpFailure(f"no answer within {timeout_s:g} s", sent=sent) from None
    except (OSError, UnicodeError) as error:  # the latter: a host's name that cannot be one
        raise HttpFailure(str(error) or type(error).__name__, sent=sent) from None


@cache
def _trust() -> ssl.SSLContext:
    """The host's certificates, read once: that takes tens of milliseconds of the loop's time."""
    return ssl.create_default_context()


async def _connect(
    url: str, length: int, headers: dict[str, str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
    except ValueError as error:
        raise HttpFailure(f"{shown(url)} is no URL: {error}", sent=False) from None
    if not parts.hostname:
        raise HttpFailure(f"{shown(url)} names no host", sent=False)
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=_trust() if secure else None)
    except TimeoutError:
        raise HttpFailure(f"no connection within {CONNECT_S_MAX:g} s", sent=False) from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    fixed = {
        "Host": host,
        "Content-Type": "application/json",
        "Content-Length": str(length),
        "Connection": "close",
    }
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in {**fixed, **headers}.items())]
    return reader, writer, "\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace")


async def _answer(reader: asyncio.StreamReader) -> HttpAnswer:
    response = _Response()
    try:
        while not response.complete:
            part = await reader.read(READ_BYTES)
            if part:
                response.parser.feed_data(part)
            elif _ends_with_connection(response):
                break
            else:
                raise HttpFailure("the connection was closed before the answer", sent=True)
    except httptools.HttpParserCallbackError as error:
        if isinstance(error.__context__, HttpFailure):
            raise error.__context__ from None
        raise
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise HttpFailure(f"the answer is not HTTP: {error}", sent=True) from None
    return HttpAnswer(response.parser.get_status_code(), response.headers, bytes(response.body))


def _ends_with_connection(response: _Response) -> bool:
    """Whether the end of the connection is the body's: no length and no chunks were announced."""
    return response.whole_headers and not {"content-length", "transfer-encoding"} & response.headers.keys()


class HttpFunction:
    """Implements delivery.functions.Function: POSTs the event, takes the answer's body as the response."""

    def __init__(self, spec: FunctionSpec, *, arn: str) -> None:
        self._spec = spec
        self._arn = arn

    async def call(self, event: bytes, request_id: str) -> Reply:
        headers = {"X-Amzn-RequestId": request_id, "X-Amz-Invoked-Function-Arn": self._arn}
        try:
            answer = await post_json(self._spec.url, event, headers, self._spec.timeout_s)
        except HttpFailure as failure:
            return Raised(str(failure)) if failure.sent else NotReached(str(failure))
        detail = f"status {answer.status}: {answer.body[:DETAIL_LENGTH_MAX].decode(errors='replace')}"
        if answer.status == THROTTLED:
            return NotReached(detail)
        if FUNCTION_ERROR in answer.headers:
            return Raised(detail, answer.headers[FUNCTION_ERROR])
        if not 200 <= answer.status < 300:
            return Raised(detail)
        return Returned(_value(answer.body))

    async def close(self) -> None:
        """Connections end with their calls."""


def _value(body: bytes) -> Any:
    """A body that is not JSON stands for its text: it is no list of failures, nor a state."""
    if not body.strip():
        return None
    try:
        return orjson.loads(body)
    except ValueError:
        return body.decode(errors="replace")
