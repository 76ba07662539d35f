"""HTTP/1.1 connections to one other server, kept and shared: how the global endpoint reaches a region's router.

An exchange ends in one of three ways: an answer, `NotSent` (no effect for certain), or `OutcomeUnknown` (the request
was written and the answer did not come). The difference is what decides whether a write may be tried elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import httptools


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of one pool. Times in seconds."""

    connections_max: int = 64
    waiting_max: int = 1024
    answer_bytes_max: int = 64 * 1024 * 1024
    connect_s: float = 2.0
    idle_s: float = 20.0  # well below the server's own idle time, so that it never closes under a request


class NotSent(Exception):
    """The request has not left this process. The text says why."""


class PoolFull(NotSent):
    """All connections are busy: that says nothing about the server's being reachable."""


class OutcomeUnknown(Exception):
    """The request was written; its answer will not come. `timed_out` tells a slow server from a broken connection."""

    def __init__(self, reason: str, *, timed_out: bool) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class _Exchange:
    """A request under way: waiting for a connection (`connection` None) or on one."""

    __slots__ = ("connection", "data", "future", "timer")

    def __init__(self, data: bytes, future: asyncio.Future[Answer]) -> None:
        self.data = data
        self.future = future
        self.connection: _Connection | None = None
        self.timer: asyncio.TimerHandle | None = None

    def end(self, answer: Answer | Exception) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.future.done():
            return
        if isinstance(answer, Exception):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class ConnectionPool:
    """Exchanges with the server at host and port. Belongs to one event loop.

    `on_idle_lost` is called when a kept connection breaks while nothing was asked on it: the first sign that
    the server ends.
    """

    def __init__(
        self,
        host: str,
        port: int,
        limits: PoolLimits | None = None,
        on_idle_lost: Callable[[], None] | None = None,
    ) -> None:
        self._on_idle_lost = on_idle_lost
        self.host = host
        self.port = port
        self.limits = limits or PoolLimits()
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Exchange] = deque()
        self._closed = False

    def exchange(self, data: bytes, timeout_s: float) -> asyncio.Future[Answer]:
        """Send one complete request. The future raises NotSent or OutcomeUnknown."""
        loop = asyncio.get_running_loop()
        exchange = _Exchange(data, loop.create_future())
        if self._closed:
            exchange.end(NotSent("closed"))
            return exchange.future
        connection = self._take_idle(loop.time())
        if connection is not None:
            connection.send(exchange)
        elif len(self._waiting) >= self.limits.waiting_max:
            exchange.end(PoolFull("too many requests are waiting for a connection"))
            return exchange.future
        else:
            self._waiting.append(exchange)
            self._connect_if_needed()
        exchange.timer = loop.call_later(timeout_s, self._on_timeout, exchange)
        return exchange.future

    async def close(self) -> None:
        """Fail what waits, break what is under way."""
        self._closed = True
        self.reset("closed")
        for task in list(self._connecting):
            task.cancel()
        if self._connecting:
            await asyncio.wait(list(self._connecting))

    def reset(self, reason: str) -> None:
        """Give up on everything under way, as when the server is known to be down; later exchanges connect anew."""
        self._fail_waiting(reason)
        for connection in list(self._open):
            connection.abort()

    def _take_idle(self, now_s: float) -> _Connection | None:
        """The connection used last; older ones age and are closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable(now_s - self.limits.idle_s):
                return connection
            connection.abort()
        return None

    def _connect_if_needed(self) -> None:
        room = self.limits.connections_max - len(self._open) - len(self._connecting)
        if room > 0 and len(self._connecting) < len(self._waiting):
            task = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.connect_s):
                await loop.create_connection(lambda: _Connection(self), self.host, self.port)
        except TimeoutError:
            self._fail_waiting("no connection in time")
        except OSError as error:
            self._fail_waiting(error.strerror or "no connection")

    def _fail_waiting(self, reason: str) -> None:
        """Nothing that waits has been sent: better that its owner tries elsewhere than that it waits on."""
        while self._waiting:
            self._waiting.popleft().end(NotSent(reason))

    def _on_timeout(self, exchange: _Exchange) -> None:
        connection = exchange.connection
        if connection is None:
            if exchange in self._waiting:
                self._waiting.remove(exchange)
            exchange.end(PoolFull("no free connection in time"))
        else:
            exchange.end(OutcomeUnknown("no answer in time", timed_out=True))
            connection.abort()

    def opened(self, connection: _Connection) -> None:
        if self._closed:
            connection.abort()
            return
        self._open.add(connection)
        self.released(connection)

    def released(self, connection: _Connection) -> None:
        """A connection is free: the exchange that waited longest has it, else it is kept."""
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
            if self._on_idle_lost is not None and not self._closed:
                self._on_idle_lost()
        if self._waiting and not self._closed:
            self._connect_if_needed()


class _Connection(asyncio.Protocol):
    """One connection: one exchange at a time."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: _Exchange | None = None
        self._used_s = 0.0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end(OutcomeUnknown("the connection broke", timed_out=False))
        self._pool.lost(self)

    def usable(self, since_s: float) -> bool:
        """Open, and used at or after `since_s` of the loop's clock (or never)."""
        return self._transport is not None and not self._transport.is_closing() and self._used_s >= since_s

    def send(self, exchange: _Exchange) -> None:
        transport = self._transport
        assert transport is not None
        assert self._exchange is None
        exchange.connection = self
        self._exchange = exchange
        self._used_s = asyncio.get_running_loop().time()
        transport.write(exchange.data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()

    def on_message_begin(self) -> None:
        self._headers = {}
        self._body = []
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, part: bytes) -> None:
        self._body_bytes += len(part)
        if self._body_bytes > self._pool.limits.answer_bytes_max:
            self.abort()
            return
        self._body.append(part)

    def on_message_complete(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        self._used_s = asyncio.get_running_loop().time()
        answer = Answer(self._parser.get_status_code(), self._headers, b"".join(self._body))
        keep = self._parser.should_keep_alive()
        exchange.end(answer)
        if keep and self._transport is not None and not self._transport.is_closing():
            self._pool.released(self)
        elif self._transport is not None:
            self._transport.close()
