"""Network distance between processes of one machine: TCP forwarders that hold the bytes back.

A process that dials another one over a distance dials a forwarder in itself instead, which connects onwards and passes
the bytes of each direction `one_way_ms` late, in order.  Acknowledgements of the application are bytes as well, so a
round trip takes twice that; a new connection carries its first bytes only after the round trip of its own handshake.

Jitter, loss and bandwidth delay more (geodyne.rpc.shaping); the order of a connection is kept.

A direction can also be blocked, as a partition of the network would: bytes are kept, as retransmission would keep them,
until it is unblocked.  What is kept is bounded; beyond the bound the sender is not read, as with a real window.  A
connection that is new is made only once both directions are open: a handshake needs both.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from contextlib import suppress
from enum import Flag
from random import Random
from typing import Final, cast

from geodyne.network import LinkQuality
from geodyne.rpc.shaping import Shaper

# Bandwidth-delay product: 8 MB in flight are 640 Mbit/s at a one-way delay of 100 ms.
LINK_BYTES_MAX: Final = 8 << 20
RESUME_BYTES: Final = LINK_BYTES_MAX // 2
WRITE_BYTES_MAX: Final = 1 << 20  # of the onward socket's buffer; beyond it the held bytes stay held

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Direction(Flag):
    """Seen from the process that dials."""

    OUT = 1
    IN = 2
    BOTH = 3


class DelayedLinks:
    """All forwarders of one process. `delay` and `block` act on open connections too."""

    def __init__(self, seed: int = 0) -> None:
        """`seed` of jitter and loss."""
        self._links: dict[str, _Link] = {}
        self._seed = seed

    async def via(self, target: str, one_way_ms: float, *, always: bool = False) -> str:
        """The address ("host:port") to dial instead of `target`; the target itself for a delay of 0.

        `always` makes a forwarder for a delay of 0 too, so that the link can be delayed or blocked later.
        """
        link = self._links.get(target)
        if link is None:
            if one_way_ms <= 0 and not always:
                return target
            link = _Link(target, self._seed)
            self._links[target] = link
            await link.listen()
        link.quality = link.quality._replace(round_trip_ms=2 * one_way_ms)
        return f"127.0.0.1:{link.port}"

    def set_delay(self, target: str, one_way_ms: float) -> None:
        """Change the delay of what is read from now on; order is kept. Raises KeyError for an unknown target."""
        link = self._links[target]
        link.quality = link.quality._replace(round_trip_ms=2 * one_way_ms)

    def set_quality(self, target: str, quality: LinkQuality) -> None:
        """Change what the path does to what is read from now on. Raises KeyError for an unknown target."""
        self._links[target].quality = quality

    def set_blocked(self, target: str, direction: Direction) -> None:
        """Block these directions and no others. Raises KeyError for an unknown target."""
        self.block(target, direction)
        self.unblock(target, ~direction)

    def block(self, target: str, direction: Direction = Direction.BOTH) -> None:
        """Let no byte through until `unblock`. Raises KeyError for an unknown target."""
        self._links[target].blocked |= direction

    def unblock(self, target: str, direction: Direction = Direction.BOTH) -> None:
        """Let bytes through again, those that were kept first."""
        link = self._links[target]
        link.blocked &= ~direction
        for pipe in tuple(link.pipes):
            pipe.pump()

    async def close(self) -> None:
        """Stop listening and reset all connections."""
        links, self._links = list(self._links.values()), {}
        for link in links:
            await link.close()


class _Link:
    """One target: the listening socket and the connections through it."""

    def __init__(self, target: str, seed: int) -> None:
        host, _, port = target.rpartition(":")
        self.host = host.strip("[]")
        self.target_port = int(port)
        self.quality = LinkQuality()
        self.shapers = {way: Shaper(Random(f"{seed} {target} {way.value}")) for way in (Direction.OUT, Direction.IN)}
        self.blocked = Direction(0)
        self.port = 0
        self.pipes: set[_Pipe] = set()
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self, loop).near, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.reset()
        if self._server is not None:
            await self._server.wait_closed()


class _Connection:
    """A pair of sockets: `near` towards the process that dials, `far` towards the target."""

    def __init__(self, link: _Link, loop: asyncio.AbstractEventLoop) -> None:
        self.link = link
        self.loop = loop
        self.near = _Side(self)
        self.far = _Side(self)
        self.out = _Pipe(self, self.near, self.far, Direction.OUT)
        self.back = _Pipe(self, self.far, self.near, Direction.IN)
        self.near.outgoing, self.far.outgoing = self.out, self.back
        self.near.incoming, self.far.incoming = self.back, self.out
        self._dialing: asyncio.Task[None] | None = None

    def accepted(self) -> None:
        self.link.connections.add(self)
        self.link.pipes.update((self.out, self.back))
        # The handshake's first packet reaches the target after one way; data may follow after the whole round trip.
        self.out.not_before = self.loop.time() + 2 * self.link.quality.round_trip_ms / 2_000
        self.out.hold_command(_CONNECT, self.link.quality.round_trip_ms / 2_000)

    def dial(self) -> None:
        self._dialing = self.loop.create_task(self._dial())

    async def _dial(self) -> None:
        try:
            await self.loop.create_connection(lambda: self.far, self.link.host, self.link.target_port)
        except OSError:
            self.back.hold_command(_RESET, self.link.quality.round_trip_ms / 2_000)  # the refusal travels back as well

    def reset(self) -> None:
        """End both sockets at once."""
        if self._dialing is not None:
            self._dialing.cancel()
        for side in (self.near, self.far):
            side.abort()
        self.forget()

    def forget(self) -> None:
        self.out.clear()
        self.back.clear()
        self.link.pipes.difference_update((self.out, self.back))
        self.link.connections.discard(self)

    def close_when_done(self) -> None:
        if self.out.ended and self.back.ended:
            for side in (self.near, self.far):
                if side.transport is not None:
                    side.transport.close()
            self.forget()


class _Side(asyncio.Protocol):
    """One socket. What it receives goes into `outgoing`; `incoming` writes to it."""

    outgoing: _Pipe
    incoming: _Pipe

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.transport: asyncio.Transport | None = None
        self.writable = True
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BYTES_MAX)
        if self is self._connection.near:
            self._connection.accepted()
        elif self._connection not in self._connection.link.connections:
            self.abort()  # reset while it was being dialled
        else:
            self.incoming.pump()

    def data_received(self, data: bytes) -> None:
        self.outgoing.hold(data)

    def eof_received(self) -> bool:
        self.outgoing.hold_command(_EOF, self._connection.link.quality.round_trip_ms / 2_000)
        return True  # half-closed: the other direction goes on

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.incoming.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._connection in self._connection.link.connections:
            self.outgoing.hold_command(_RESET, self._connection.link.quality.round_trip_ms / 2_000)

    def abort(self) -> None:
        """Close so that the other end sees a reset, not an orderly end."""
        if self.transport is None or self._lost:
            return
        underlying = self.transport.get_extra_info("socket")
        if underlying is not None:
            # A second descriptor, because event loops hand out sockets that take no options.
            with socket.socket(fileno=socket.dup(underlying.fileno())) as own:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()


_CONNECT: Final = "connect"
_EOF: Final = "eof"
_RESET: Final = "reset"


class _Pipe:
    """One direction: bytes and commands, each with the time before which it does not come out."""

    def __init__(self, connection: _Connection, source: _Side, sink: _Side, direction: Direction) -> None:
        self._connection = connection
        self._source = source
        self._sink = sink
        self._direction = direction
        self._held: deque[tuple[float, bytes | str]] = deque()
        self._bytes = 0
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self.not_before = 0.0
        self.ended = False

    def hold(self, data: bytes) -> None:
        link, now_s = self._connection.link, self._connection.loop.time()
        self._append(data, link.shapers[self._direction].due_s(now_s, len(data), link.quality) - now_s)
        self._bytes += len(data)
        if self._bytes > LINK_BYTES_MAX and not self._paused and self._source.transport is not None:
            self._paused = True
            self._source.transport.pause_reading()

    def hold_command(self, command: str, delay_s: float) -> None:
        self._append(command, delay_s)

    def _append(self, what: bytes | str, delay_s: float) -> None:
        now = self._connection.loop.time()
        start = now if what is _CONNECT else max(now, self.not_before)
        due = start + delay_s
        if self._held:
            due = max(due, self._held[-1][0])  # a delay that was shortened lets nothing overtake
        self._held.append((due, what))
        if self._timer is None:
            self.pump()

    def pump(self) -> None:
        """Pass on what is due, as far as the sink takes it, and come back for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = self._connection.loop
        now = loop.time()
        while self._held and not self._direction & self._connection.link.blocked:
            due, what = self._held[0]
            if what is _CONNECT and self._connection.link.blocked:
                break
            if due > now:
                self._timer = loop.call_at(due, self.pump)
                break
            if isinstance(what, bytes) and (self._sink.transport is None or not self._sink.writable):
                break  # resume_writing or connection_made calls again
            if what is _EOF and self._sink.transport is None:
                break
            self._held.popleft()
            if isinstance(what, bytes):
                self._write(what)
            else:
                self._perform(what)
        if self._paused and self._bytes <= RESUME_BYTES and self._source.transport is not None:
            self._paused = False
            self._source.transport.resume_reading()

    def _write(self, data: bytes) -> None:
        self._bytes -= len(data)
        transport = self._sink.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def _perform(self, command: str) -> None:
        if command is _CONNECT:
            self._connection.dial()
        elif command is _RESET:
            self._connection.reset()
        else:
            self.ended = True
            transport = self._sink.transport
            if transport is not None and not transport.is_closing() and transport.can_write_eof():
                with suppress(OSError):  # the peer has reset the connection; its own events end this one
                    transport.write_eof()
            self._connection.close_when_done()

    def clear(self) -> None:
        self._held.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
