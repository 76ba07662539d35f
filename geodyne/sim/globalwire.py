"""gRPC between the replicators of simulated regions: channels, calls and servers above the simulated network.

Everything above it is the product's own: dialling, greeting, batches, checksums, bounds. A message is the bytes that
would travel.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol
from unittest.mock import patch

import grpc

from geodyne.rpc import stream as streams
from geodyne.sim.loop import PROCESS
from geodyne.sim.network import Pipe, Stream, World
from replication import server as serving

UNREACHABLE_S = 0.2  # until a dial of somebody who does not answer is given up

Handler = Callable[[Any], Awaitable[None]]


class Lost(asyncio.InvalidStateError):
    """What a read or a write of a stream that is over raises; grpc.aio raises the like."""


class Process(Protocol):
    """A replicator's process."""

    id: str
    alive: bool


class _End:
    """One end of a stream, as grpc.aio has it: read, write, and an end of it all."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.out: Pipe | None = None
        self._inbox: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._over = ""

    async def read(self) -> Any:
        while not self._inbox:
            if self._over:
                raise Lost(self._over)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._inbox.popleft()

    async def write(self, data: bytes) -> None:
        if self._over or self.out is None:
            raise Lost(self._over or "not connected")
        self.out.send(data)

    def arrived(self, batch: list[bytes]) -> None:
        self._inbox.extend(batch)
        self._wake()

    def ended(self, reason: str) -> None:
        """What has arrived and was not read is gone as well, as when the process is slower than the reset."""
        self._over = reason
        self._inbox.clear()
        self._wake()

    def cut(self, reason: str) -> None:
        if self.stream is not None:
            self.stream.cut(reason)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Context(_End):
    """The accepting end: what a gRPC handler is given."""

    def peer(self) -> str:
        return "sim"

    async def abort(self, code: grpc.StatusCode, reason: str) -> None:
        self.cut(reason)


class _Call(_End):
    """The dialling end. It connects with its first message."""

    def __init__(self, wire: Wire, own: str, address: str) -> None:
        super().__init__()
        self._wire = wire
        self._own = own
        self._address = address

    async def write(self, data: bytes) -> None:
        if self.stream is None:
            await self._wire.connect(self._own, self._address, self)
        await super().write(data)

    def cancel(self) -> None:
        self.cut("cancelled")


class _Channel:
    def __init__(self, wire: Wire, own: str, address: str) -> None:
        self._wire, self._own, self._address = wire, own, address

    async def __aenter__(self) -> _Channel:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    def stream_stream(self, path: str) -> Callable[[], _Call]:
        return lambda: _Call(self._wire, self._own, self._address)


class _NoPace:
    """Messages of a stream follow each other at once: how busy this machine is has no say in a run."""

    def gap_s(self) -> float:
        return 0.0


class _Server:
    """Stands for geodyne.rpc.server.GrpcServer; its address is the name of the process."""

    def __init__(self, wire: Wire, address: str) -> None:
        self._wire = wire
        self._address = address
        self._handler: Handler | None = None

    def add(self, path: str, handler: Handler) -> None:
        self._handler = handler

    async def start(self) -> int:
        assert self._handler is not None
        self._wire.handlers[self._address] = self._handler
        return 1

    async def stop(self) -> None:
        if self._wire.handlers.get(self._address) is self._handler:
            del self._wire.handlers[self._address]


async def _handled(handler: Handler, context: _Context) -> None:
    """As a gRPC server does: what a handler raises because its stream is over ends that stream alone."""
    try:
        await handler(context)
    except Lost:
        return


class Wire:
    """Who listens, and who is connected with whom."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes: dict[str, Process] = {}
        self.handlers: dict[str, Handler] = {}
        self._serving: dict[asyncio.Task[None], None] = {}

    async def connect(self, own: str, address: str, call: _Call) -> None:
        """Raises Lost when nobody answers."""
        world = self.world
        handler = self.handlers.get(address)
        dialling, listening = self.processes[own], self.processes[address]
        if handler is None or not dialling.alive or not listening.alive or not world.reachable(own, address):
            await asyncio.sleep(UNREACHABLE_S)
            raise Lost("unreachable")
        context = _Context()

        def broken(reason: str) -> None:
            call.ended(reason)
            context.ended(reason)

        stream = Stream((own, address), broken)
        call.stream = context.stream = stream
        call.out = Pipe(world, own, address, context.arrived)
        context.out = Pipe(world, address, own, call.arrived)
        stream.pipes += [call.out, context.out]
        world.opened(stream)
        task = world.loop.create_task(_handled(handler, context), context=world.contexts[address].copy())
        self._serving[task] = None
        task.add_done_callback(lambda done: self._serving.pop(done, None))

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """While it lasts, replicators dial and listen here."""

        def channel(address: str, options: object = None) -> _Channel:
            return _Channel(self, PROCESS.get(), address)

        with ExitStack() as stack:
            stack.enter_context(patch.object(grpc.aio, "insecure_channel", channel))
            stack.enter_context(patch.object(streams, "PROCESS_PACE", _NoPace()))
            stack.enter_context(patch.object(serving, "GrpcServer", lambda address, _ping_ms: _Server(self, address)))
            yield
