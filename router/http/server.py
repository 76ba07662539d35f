"""The HTTP/1.1 server: connections, their limits, the order of responses. Knows nothing of tables.

One protocol object a connection and no task a request: a handler is a coroutine that is stepped where the request
was completed, so that a request which needs to wait for nothing is answered in the same pass.
Requests of one connection are served one after the other, which keeps pipelined responses in order.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import string
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, cast
from zlib import crc32

import httptools

from geodyne.errors import ApiError
from geodyne.listen import BACKLOG, listen_error
from geodyne.rpc.drive import drive
from router.http.values import PLAIN_TEXT, DirectAnswer, Handler, HttpRequest, HttpResponse, Peer, error_response

log = logging.getLogger("geodyne.http")

_REQUEST_ID_RANDOM = 36  # of 52 characters; the other 16 count
_COPY_BYTES_MAX = 64 * 1024  # larger bodies are written after their head instead of being copied behind it
_TICK_S = 1.0
_ACCEPTED_S = 0.01  # within which a connection that was accepted before the port was closed is known here


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The bounds of one server. Times are whole seconds, measured by a timer of one second."""

    connections_max: int = 4096
    header_bytes_max: int = 64 * 1024
    headers_max: int = 100
    body_bytes_max: int = 16 * 1024 * 1024 + 64 * 1024  # DynamoDB takes 16 MB and some slack
    buffered_bytes_max: int = 192 * 1024 * 1024  # bodies held by all connections together
    pipelined_max: int = 16  # requests that may wait on one connection
    discard_bytes_max: int = 64 * 1024 * 1024  # read and dropped after a refusal, so that the client sees it
    discard_s: int = 5
    request_s: int = 30  # from the first byte of a request to its last
    idle_s: int = 75  # longer than SDKs keep connections (60 s), so that they close first
    stall_s: int = 30  # a client that does not read its responses
    drain_s: float = 8.0  # at the end, for requests in progress; less than a supervisor waits before it kills
    drain_idle_s: float = 0.75  # at the end, how long a kept connection may still bring a request

    def __post_init__(self) -> None:
        assert self.buffered_bytes_max >= self.body_bytes_max


class _Refused(Exception):
    """Raised inside a parser callback to stop the parser."""


class _Waiting(NamedTuple):
    request: HttpRequest | None  # None: answer `response`, then close
    response: HttpResponse | None
    keep_alive: bool


_BAD_REQUEST = HttpResponse(400, b"Bad Request", PLAIN_TEXT)
_HEADERS_TOO_LARGE = HttpResponse(431, b"Request Header Fields Too Large", PLAIN_TEXT)
_TIMED_OUT = HttpResponse(408, b"Request Timeout", PLAIN_TEXT)
_BODY_TOO_LARGE = error_response(
    ApiError("RequestEntityTooLargeException", "Request size exceeded the maximum of 16 MB")
)
_OVERLOADED = error_response(ApiError("ServiceUnavailable", "The server cannot take more requests at this time"))
_FAILED = error_response(
    ApiError("InternalServerError", "The request processing has failed because of an unknown error")
)


class HttpServer:
    """Serves `handler`; GETs of the paths in `direct_get` are answered at once and without checks."""

    def __init__(
        self,
        handler: Handler,
        *,
        direct_get: Mapping[bytes, DirectAnswer] | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        self.handler = handler
        self.direct_get: Mapping[bytes, DirectAnswer] = direct_get or {}
        self.limits = limits or ServerLimits()
        self.connections: set[_Connection] = set()
        self.buffered_bytes = 0
        self.tick = 0
        self.draining = False
        self._heads: dict[tuple[int, bytes], bytes] = {}
        self._date = b""
        alphabet = string.ascii_uppercase + string.digits
        self._id_prefix = "".join(secrets.choice(alphabet) for _ in range(_REQUEST_ID_RANDOM))
        self._ids = 0
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Event | None = None

    async def start(self, host: str, port: int, listener: socket.socket | None = None) -> int:
        """Listen; returns the port, chosen by the system when 0 was given. A `listener` that is open already is used
        in place of the address.

        Raises ListenError when the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        try:
            if listener is not None:
                self._server = await loop.create_server(lambda: _Connection(self), sock=listener, backlog=BACKLOG)
            else:
                self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=BACKLOG)
        except OSError as error:
            raise listen_error(host, port, error) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, drain_s: float | None = None) -> None:
        """Stop accepting and drain: what is asked is answered, the last answer of each connection says that it closes.

        A kept connection is closed only once nothing has come on it for `drain_idle_s`: a request that is on its way
        while its connection is being closed would be lost, and only some clients send it again. What is left after
        `drain_s` (None: as the limits say) is cut off.
        """
        if self._server is not None:
            self._server.close()
        self.draining = True
        await asyncio.sleep(_ACCEPTED_S)
        drain_s = self.limits.drain_s if drain_s is None else drain_s
        idle_s = min(self.limits.drain_idle_s, drain_s)
        if not await self._emptied(idle_s):
            for connection in list(self.connections):
                connection.close_if_idle()
            if not await self._emptied(drain_s - idle_s):
                for connection in list(self.connections):
                    connection.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _emptied(self, seconds: float) -> bool:
        """Wait until no connection is left, but not longer than that."""
        if self.connections:
            self._drained = asyncio.Event()
            try:
                await asyncio.wait_for(self._drained.wait(), seconds)
            except TimeoutError:
                return False
        return True

    def next_request_id(self) -> str:
        """52 characters of A-Z and 0-9, as DynamoDB's: random for the process, then a count."""
        self._ids += 1
        return f"{self._id_prefix}{self._ids:016X}"

    def opened(self, connection: _Connection) -> bool:
        """Take a connection, or refuse it because there are too many."""
        if len(self.connections) >= self.limits.connections_max:
            return False  # one that was accepted in the instant before draining began is served like the others
        self.connections.add(connection)
        if self._timer is None:
            self._on_tick()
        return True

    def closed(self, connection: _Connection) -> None:
        self.connections.discard(connection)
        if not self.connections and self._drained is not None:
            self._drained.set()

    def _on_tick(self) -> None:
        """Once a second while there are connections: the date of responses, and the timeouts of all connections."""
        if not self.connections:
            self._timer = None
            return
        self.tick += 1
        self._date = formatdate(usegmt=True).encode()
        self._heads.clear()
        for connection in list(self.connections):
            connection.on_tick(self.tick)
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._on_tick)

    def head(self, status: int, content_type: bytes) -> bytes:
        """Status line and the headers that change once a second at most."""
        head = self._heads.get((status, content_type))
        if head is None:
            date = self._date or formatdate(usegmt=True).encode()
            head = b"HTTP/1.1 %d %b\r\nServer: Server\r\nDate: %b\r\n" % (
                status,
                HTTPStatus(status).phrase.encode(),
                date,
            )
            if content_type:
                head += b"Content-Type: %b\r\n" % content_type
            self._heads[status, content_type] = head
        return head


class _Connection(asyncio.Protocol):
    """One client connection: parser state, the request in progress and those that wait behind it."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_body_parts",
        "_closing",
        "_continue_due",
        "_current",
        "_discard_left",
        "_discard_since",
        "_header_count",
        "_headers",
        "_headers_done",
        "_held_bytes",
        "_idle_since",
        "_keep_alive",
        "_limits",
        "_on_done_method",
        "_parser",
        "_peer",
        "_pumping",
        "_reading_paused",
        "_reading_since",
        "_refusal",
        "_server",
        "_stalled_since",
        "_transport",
        "_url",
        "_waiting",
        "_wire_bytes",
        "_write_paused",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._peer: Peer = ("", 0)
        self._waiting: deque[_Waiting] = deque()
        self._current: HttpRequest | None = None
        self._keep_alive = True
        self._on_done_method = self._on_done
        self._pumping = False
        self._closing = False  # nothing that arrives from now on is parsed
        self._refusal: HttpResponse | None = None
        self._discard_left = 0
        self._discard_since = 0
        self._write_paused = False
        self._reading_paused = False
        self._reading_since = 0  # tick at which the request being read began; 0: none
        self._idle_since = server.tick
        self._stalled_since = 0
        self._wire_bytes = 0  # of the request being read
        self._held_bytes = 0  # of its body, counted in the server's sum
        self.on_message_begin()
        self._reading_since = 0

    # --- transport ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        peer = transport.get_extra_info("peername")
        if peer:  # none of a Unix socket, or of a connection that has gone already
            self._peer = (peer[0], peer[1])
        if not self._server.opened(self):
            self._closing = True
            self._write(_OVERLOADED, self._server.next_request_id(), keep_alive=False)
            transport.close()
            return
        self._idle_since = self._server.tick

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closing = True
        self._release(self._held_bytes + sum(len(w.request.body) for w in self._waiting if w.request is not None))
        self._held_bytes = 0
        self._waiting.clear()
        # Parser and bound method point back here: without them the connection and the body it may have held go at
        # once, not when the cycle collector, which is set to come seldom, happens to find them.
        del self._parser, self._on_done_method
        self._server.closed(self)

    def eof_received(self) -> bool:
        """A client that closes its side still gets the answers to what it has asked."""
        self._closing = True
        return self._current is not None or bool(self._waiting)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._discard(len(data))
            return
        self._wire_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or _BAD_REQUEST)
        else:
            if self._reading_since:
                self._check_overhead()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._stalled_since = self._server.tick
        self._pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._stalled_since = 0
        self._pump()

    # --- parser callbacks -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_count = 0
        self._headers_done = False
        self._continue_due = False
        self._body = b""
        self._body_parts: list[bytes] | None = None
        self._body_bytes = 0
        self._reading_since = self._server.tick

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        if self._header_count > self._limits.headers_max:
            self._stop(_HEADERS_TOO_LARGE)
        if self._headers_done:
            return  # trailers of a chunked body: allowed, of no use to anyone here
        name = name.lower()
        if name in self._headers:
            value = self._headers[name] + b"," + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        self._headers_done = True
        headers = self._headers
        length = headers.get(b"content-length")
        if length is not None and (len(length) > 12 or int(length) > self._limits.body_bytes_max):
            self._stop(_BODY_TOO_LARGE)
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            self._continue_due = True
            self._send_continue()

    def on_body(self, part: bytes) -> None:
        size = len(part)
        self._body_bytes += size
        self._held_bytes += size
        self._server.buffered_bytes += size
        if self._body_bytes > self._limits.body_bytes_max:
            self._stop(_BODY_TOO_LARGE)
        if self._server.buffered_bytes > self._limits.buffered_bytes_max:
            self._stop(_OVERLOADED)
        if not self._body:
            self._body = part
        elif self._body_parts is None:
            self._body_parts = [self._body, part]
        else:
            self._body_parts.append(part)

    def on_message_complete(self) -> None:
        parser = self._parser
        if self._refusal is not None or parser.should_upgrade():
            return
        self._reading_since = 0
        self._wire_bytes = 0
        self._held_bytes = 0  # now with the request
        path, _, query = self._url.partition(b"?")
        body = self._body if self._body_parts is None else b"".join(self._body_parts)
        id_ = self._server.next_request_id()
        request = HttpRequest(parser.get_method(), path, query, self._headers, body, id_, self._peer)
        keep_alive = parser.should_keep_alive()
        if self._current is None and not self._waiting and not self._write_paused:
            self._begin(request, keep_alive)
            return
        self._waiting.append(_Waiting(request, None, keep_alive))
        if len(self._waiting) >= self._limits.pipelined_max:
            self._pause_reading()

    # --- requests in order ----------------------------------------------------------------------------

    def _begin(self, request: HttpRequest, keep_alive: bool) -> None:
        self._current = request
        self._keep_alive = keep_alive
        self._idle_since = 0
        if request.method == b"GET":
            direct = self._server.direct_get.get(request.path)
            if direct is not None:
                self._answer_directly(direct, request)
                return
        drive(self._server.handler(request), self._on_done_method)

    def _answer_directly(self, direct: DirectAnswer, request: HttpRequest) -> None:
        try:
            response = direct(request)
        except Exception as error:
            self._on_done(None, error)
            return
        self._on_done(response, None)

    def _on_done(self, response: HttpResponse | None, error: BaseException | None) -> None:
        """The handler's end, in the same pass or later; the client may have gone."""
        request = self._current
        assert request is not None
        self._current = None
        self._release(len(request.body))
        if response is None:
            log.error("request failed", exc_info=error, extra={"request_id": request.request_id})
            response = _FAILED
        if self._transport is None:
            return
        keep_alive = self._keep_alive and (not self._server.draining or bool(self._waiting))
        if request.method == b"HEAD":
            response = response._replace(body=b"")
        self._write(response, response.request_id or request.request_id, keep_alive=keep_alive)
        self._idle_since = self._server.tick
        if not keep_alive:
            self._finish()
        elif self._waiting or self._continue_due or self._reading_paused:
            self._pump()
        elif self._closing and not self._discard_left:
            self._transport.close()

    def _pump(self) -> None:
        """Serve what waits, one after the other. A loop and not a recursion: any number may wait."""
        if self._pumping or self._transport is None:
            return
        self._pumping = True
        waiting = self._waiting
        while waiting and self._current is None and not self._write_paused:
            request, response, keep_alive = waiting.popleft()
            if request is not None:
                self._begin(request, keep_alive)
            elif response is not None:
                self._write(response, self._server.next_request_id(), keep_alive=False)
                self._linger()
                break
        self._pumping = False
        if self._transport is None:
            return
        if self._reading_paused and not self._write_paused and len(waiting) < self._limits.pipelined_max:
            self._reading_paused = False
            if self._reading_since:
                self._reading_since = self._server.tick  # the pause was not the client's doing
            self._transport.resume_reading()
        if self._continue_due:
            self._send_continue()
        if self._closing and self._current is None and not waiting and not self._discard_left:
            self._transport.close()

    def _send_continue(self) -> None:
        if self._current is None and not self._waiting and self._transport is not None:
            self._continue_due = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _write(self, response: HttpResponse, request_id: str, *, keep_alive: bool) -> None:
        transport = self._transport
        if transport is None:
            return
        status, body, content_type, extra, _ = response
        head = b"%bx-amzn-RequestId: %b\r\nx-amz-crc32: %d\r\nContent-Length: %d\r\n" % (
            self._server.head(status, content_type),
            request_id.encode("ascii"),
            crc32(body),
            len(body),
        )
        if extra:
            head += b"".join([b"%b: %b\r\n" % header for header in extra])
        head += b"Connection: keep-alive\r\n" if keep_alive else b"Connection: close\r\n"
        if len(body) > _COPY_BYTES_MAX:
            transport.write(head + b"\r\n")
            transport.write(body)
        else:
            transport.write(b"%b\r\n%b" % (head, body))

    def _finish(self) -> None:
        """The last response is written: close, after what is buffered has been sent."""
        self._closing = True
        self._release(sum(len(w.request.body) for w in self._waiting if w.request is not None))
        self._waiting.clear()
        if self._transport is not None:
            self._transport.close()

    # --- limits ---------------------------------------------------------------------------------------

    def _stop(self, refusal: HttpResponse) -> None:
        """From a parser callback: give up on this connection's input."""
        self._refusal = refusal
        raise _Refused

    def _refuse(self, refusal: HttpResponse) -> None:
        """Answer what came before, then the refusal, then close."""
        self._closing = True
        self._reading_since = 0
        self._release(self._held_bytes)
        self._held_bytes = 0
        self._body, self._body_parts, self._continue_due = b"", None, False
        self._discard_left = self._limits.discard_bytes_max
        self._discard_since = self._server.tick
        self._waiting.append(_Waiting(None, refusal, False))
        self._pump()

    def _linger(self) -> None:
        """Keep reading for a while: closing with unread input would reset the connection and lose the refusal."""
        if self._transport is not None:
            self._idle_since = self._server.tick
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def _discard(self, size: int) -> None:
        self._discard_left -= size
        if self._discard_left < 0 and self._transport is not None and self._current is None and not self._waiting:
            self._transport.abort()

    def _decline_upgrade(self, rest: bytes) -> None:
        """Answer in HTTP/1.1 all the same (RFC 9110, 7.8): parse the request again without its wish to upgrade.

        The parser stops behind the headers of such a request and would not see its body, which is in `rest`.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(_BAD_REQUEST)
            return
        headers = self._headers
        closes = b"close" in headers.pop(b"connection", b"").lower()
        headers.pop(b"upgrade", None)
        lines = [b"%b: %b\r\n" % header for header in headers.items()]
        if closes:
            lines.append(b"connection: close\r\n")
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self._url, b"".join(lines), rest))

    def _check_overhead(self) -> None:
        """Bytes that are not body: headers, chunk framing (five bytes a chunk at worst useful size), trailers."""
        overhead = self._wire_bytes - self._body_bytes
        if overhead > self._limits.header_bytes_max + 8 * self._body_bytes:
            self._refuse(_HEADERS_TOO_LARGE)

    def _pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _release(self, size: int) -> None:
        self._server.buffered_bytes -= size

    def on_tick(self, tick: int) -> None:
        limits = self._limits
        if self._discard_left and tick - self._discard_since > limits.discard_s:
            if self._current is None and not self._waiting:
                self.abort()
        elif self._stalled_since and tick - self._stalled_since > limits.stall_s:
            self.abort()
        elif self._reading_since and not self._reading_paused and tick - self._reading_since > limits.request_s:
            self._refuse(_TIMED_OUT)
        elif self._is_idle() and tick - self._idle_since > limits.idle_s:
            self.abort()

    def _is_idle(self) -> bool:
        return self._current is None and not self._waiting and not self._reading_since

    def close_if_idle(self) -> None:
        if self._transport is not None and self._is_idle():
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
