"""Streams between the parties of a simulated region: in order, delayed, cut, held up by partitions.

A stream is what gRPC gives: messages arrive in order or the stream breaks, and then everything in flight is gone. While
a direction is blocked its messages are held, as TCP holds them; the stream breaks when that lasts too long. The
messages of consensus are also lost, doubled and reordered within a stream for a while (geodyne.sim.disorder), more than
any transport does, and then the stream breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from hashlib import blake2b
from random import Random
from struct import Struct
from typing import Any, Protocol

from geodyne.messages import Busy, ReadFeed, ReadStream, Request, Response, Watch
from geodyne.peermessages import Hello, PeerMessage
from geodyne.ports import ClientLinkEvents, PeerHandler
from geodyne.sim.disorder import Disorder
from geodyne.sim.loop import PROCESS, SimLoop

DELAY_S = (0.0001, 0.0008)  # one way, on an ordinary day
SLOW_DELAY_S = 0.08  # now and then
SLOW_CHANCE = 0.002
RECONNECT_S = (0.02, 0.25)
KEEPALIVE_S = 3.0  # a stream with a blocked direction breaks after this long
NEUTRAL = copy_context()  # of the network itself: no process
NEUTRAL.run(PROCESS.set, "")
_ARRIVAL = Struct("<dII")
_DELAY_S, _DELAY_SPAN_S = DELAY_S[0], DELAY_S[1] - DELAY_S[0]
ANSWER_WITHIN_S = 5.0  # beyond the time that a call may wait on purpose, while the node lives and the stream is up


class Violation(AssertionError):
    """Something that must never happen."""


class Pipe:
    """One direction of one stream."""

    def __init__(
        self, world: World, source: str, target: str, deliver: Callable[[list[Any]], None], *, peers: bool = False
    ) -> None:
        self._world = world
        self.ends = (source, target)
        self.hand_over = deliver
        self._peers = peers
        self.number = world.number()
        self._batch: list[Any] = []
        self._held: list[list[Any]] = []
        self._last_at = 0.0
        self.broken = False
        self.blocked_since: float | None = None

    def send(self, message: Any) -> None:
        if self.broken:
            return
        if not self._batch:
            self._world.loop.call_soon(self._depart)
        self._batch.append(message)

    def _depart(self) -> None:
        """What was sent in one turn is on its way."""
        batch, self._batch = self._batch, []
        if self.broken or not batch:
            return
        world = self._world
        disorder = world.disorders.get(self.ends) if self._peers and world.disorders else None
        if disorder is not None:
            batch, late = disorder.disturb(batch)
            for delay_s, message in late:
                world.loop.call_later(delay_s, self._arrive_late, [message], context=NEUTRAL)
        # In order, whatever the delays.
        at = world.loop.now + world.delay_s(*self.ends)
        at = max(at, self._last_at)
        self._last_at = at
        world.loop.call_at(at, self._arrive, batch, context=NEUTRAL)

    def _arrive(self, batch: list[Any]) -> None:
        if self.broken:
            return
        world = self._world
        if self._held or world.holds(self.ends):
            self._held.append(batch)
            if self.blocked_since is None:
                self.blocked_since = world.loop.now
            return
        world.deliver(self, batch)

    def _arrive_late(self, batch: list[Any]) -> None:
        if not self.broken and not self._world.holds(self.ends):
            self._world.deliver(self, batch)

    def release(self) -> None:
        """What was held arrives now, before anything that is still on its way; unless something still holds it."""
        if self._world.holds(self.ends):
            return
        held, self._held = self._held, []
        self.blocked_since = None
        for batch in held:
            if not self.broken:
                self._world.deliver(self, batch)


class Stream:
    """Both directions between two parties, for as long as both live and nobody cuts it."""

    def __init__(self, ends: tuple[str, str], on_break: Callable[[str], None]) -> None:
        self.ends = ends
        self.pipes: list[Pipe] = []
        self._on_break = on_break
        self.broken = False

    def cut(self, reason: str) -> None:
        if not self.broken:
            self.broken = True
            for pipe in self.pipes:
                pipe.broken = True
            self._on_break(reason)


class World:
    """All streams, and what is wrong with them."""

    def __init__(self, loop: SimLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.blocked: set[tuple[str, str]] = set()
        self.slow: set[str] = set()  # parties whose messages all take long
        self.disorders: dict[tuple[str, str], Disorder] = {}
        self.streams: dict[Stream, None] = {}
        self.contexts: dict[str, Context] = {}  # of processes, in which what reaches them runs
        self.held = 0  # batches that a blocked direction has held up
        self._pipes = 0
        self._seen = blake2b(digest_size=8)

    def number(self) -> int:
        self._pipes += 1
        return self._pipes

    def holds(self, ends: tuple[str, str]) -> bool:
        """Nothing passes in this direction now."""
        if (self.blocked and ends in self.blocked) or self.loop.stopped(ends[1]):
            self.held += 1
            return True
        return False

    def deliver(self, pipe: Pipe, batch: list[Any]) -> None:
        self._seen.update(_ARRIVAL.pack(self.loop.now, pipe.number, len(batch)))
        self.contexts.get(pipe.ends[1], NEUTRAL).copy().run(pipe.hand_over, batch)

    def inside(self, party: str, call: Callable[..., object], *arguments: Any) -> None:
        """Call something of a party as its own process does."""
        self.contexts.get(party, NEUTRAL).copy().run(call, *arguments)

    def saw(self, data: bytes) -> None:
        """A part of the run's history, for its digest."""
        self._seen.update(data)

    @property
    def digest(self) -> str:
        """Of all arrivals and all writes to the logs so far: two runs that differ in anything differ in this."""
        self._seen.update(_ARRIVAL.pack(self.loop.now, self.loop.steps & 0xFFFFFFFF, 0))
        return self._seen.copy().hexdigest()

    def delay_s(self, source: str, target: str) -> float:
        draw = self.random.random
        delay = _DELAY_S + _DELAY_SPAN_S * draw()
        if self.slow and (source in self.slow or target in self.slow):
            delay += SLOW_DELAY_S * draw()
        elif draw() < SLOW_CHANCE:
            delay += SLOW_DELAY_S
        return delay

    def opened(self, stream: Stream) -> None:
        self.streams[stream] = None

    def cut(self, party: str, other: str | None = None, reason: str = "reset") -> None:
        """Break the streams of a party (with another one)."""
        for stream in list(self.streams):
            if party in stream.ends and (other is None or other in stream.ends):
                self.streams.pop(stream, None)
                stream.cut(reason)

    def block(self, source: str, target: str) -> None:
        self.blocked.add((source, target))

    def unblock(self, source: str, target: str) -> None:
        self.blocked.discard((source, target))
        self.release()

    def release(self) -> None:
        """Let everything pass that nothing holds any more."""
        for stream in list(self.streams):
            for pipe in stream.pipes:
                if pipe.blocked_since is not None:
                    pipe.release()

    def isolate(self, party: str, others: list[str]) -> None:
        for other in others:
            if other != party:
                self.block(party, other)
                self.block(other, party)

    def heal(self) -> None:
        self.blocked.clear()
        self.slow.clear()
        self.release()

    def keepalive(self) -> None:
        """Break what has been blocked for too long."""
        now = self.loop.now
        for stream in list(self.streams):
            since = [pipe.blocked_since for pipe in stream.pipes if pipe.blocked_since is not None]
            if since and now - min(since) > KEEPALIVE_S:
                self.streams.pop(stream, None)
                stream.cut("keepalive")

    def reachable(self, one: str, two: str) -> bool:
        """A stream can be opened: both answer."""
        blocked, loop = self.blocked, self.loop
        return not ((one, two) in blocked or (two, one) in blocked or loop.stopped(one) or loop.stopped(two))

    def reconnect_s(self) -> float:
        return self.random.uniform(*RECONNECT_S)


class PeerEnd(Protocol):
    """A node process, as its peers' streams see it."""

    id: str
    alive: bool

    def hello(self) -> Hello: ...

    @property
    def handler(self) -> PeerHandler: ...

    peer_pipes: dict[str, Pipe]


def connect_peers(world: World, one: PeerEnd, two: PeerEnd) -> None:
    """Keep a stream up between two node processes, for as long as the region lasts."""

    def attempt() -> None:
        if one.alive and two.alive and world.reachable(one.id, two.id):
            _open_peers(world, one, two, again)
        else:
            again()

    def again() -> None:
        world.loop.call_later(world.reconnect_s(), attempt, context=NEUTRAL)

    again()


def _open_peers(world: World, one: PeerEnd, two: PeerEnd, again: Callable[[], object]) -> None:
    sides = ((one, two), (two, one))
    handlers = [side.handler for side, _ in sides]
    connected: list[int] = []

    def broken(reason: str) -> None:
        for number, (side, peer) in enumerate(sides):
            if number in connected and side.alive and side.handler is handlers[number]:
                world.inside(side.id, ended, side, handlers[number], peer.id, reason)
        again()

    def ended(side: PeerEnd, handler: PeerHandler, peer: str, reason: str) -> None:
        side.peer_pipes.pop(peer, None)
        if world.loop.stopped(side.id):  # it hears of it when it goes on
            world.loop.call_soon(hears, side, handler, peer, reason)
        else:
            hears(side, handler, peer, reason)

    def hears(side: PeerEnd, handler: PeerHandler, peer: str, reason: str) -> None:
        if side.alive and side.handler is handler:
            handler.on_peer_disconnected(peer, reason)

    stream = Stream((one.id, two.id), broken)
    hellos = {one.id: one.hello(), two.id: two.hello()}
    for number, (side, peer) in enumerate(sides):

        def deliver(batch: list[PeerMessage], number: int = number, side: PeerEnd = side, peer: PeerEnd = peer) -> None:
            if side.alive and side.handler is handlers[number]:
                side.handler.on_peer_messages(peer.id, batch)

        stream.pipes.append(Pipe(world, peer.id, side.id, deliver, peers=True))

    def up(number: int) -> None:
        side, peer = sides[number]
        if not stream.broken and side.alive and side.handler is handlers[number]:
            connected.append(number)
            side.peer_pipes[peer.id] = stream.pipes[1 - number]
            world.inside(side.id, side.handler.on_peer_connected, peer.id, hellos[peer.id])

    world.opened(stream)
    up(0)
    # The other side learns of the stream before any message on it: the first hello travels with it.
    up(1)


class SimPeers:
    """Implements geodyne.ports.PeerNetwork for one life of a node."""

    def __init__(self, own: PeerEnd) -> None:
        self._own = own

    def send(self, peer: str, message: PeerMessage) -> None:
        pipe = self._own.peer_pipes.get(peer)
        if pipe is not None and self._own.alive:
            pipe.send(message)

    def connected(self, peer: str) -> bool:
        return peer in self._own.peer_pipes


class Ledger:
    """Every request that reached a node, and its one answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[tuple[int, int], tuple[float, Stream, Request]] = {}
        self._answered: set[tuple[int, int]] = set()
        self._streams = 0
        self.busy = 0

    def stream(self) -> int:
        self._streams += 1
        return self._streams

    def arrived(self, number: int, stream: Stream, request: Request) -> None:
        self._open[number, request.id] = (self._loop.time(), stream, request)

    def answered(self, number: int, response: Response) -> None:
        mark = (number, response.id)
        if mark in self._answered:
            raise Violation(f"answered twice: {response}")
        if mark not in self._open:
            raise Violation(f"answered and never asked: {response}")
        del self._open[mark]
        self._answered.add(mark)
        self.busy += isinstance(response.answer, Busy)

    def check(self) -> None:
        """Nothing waits for longer than its time on a stream that is still up."""
        now = self._loop.time()
        for mark, (since, stream, request) in list(self._open.items()):
            if stream.broken:
                del self._open[mark]
            elif now - since > ANSWER_WITHIN_S + _wait_ms(request) / 1000:
                raise Violation(f"unanswered for {now - since:.1f} s: {request}")


def _wait_ms(request: Request) -> int:
    call = request.call
    return call.wait_ms if isinstance(call, (Watch, ReadFeed, ReadStream)) else 0


class SimConnector:
    """Implements geodyne.ports.ClientConnector for one client process."""

    def __init__(self, world: World, ledger: Ledger, own: str, nodes: dict[str, Any]) -> None:
        self._world = world
        self._ledger = ledger
        self._own = own
        self._nodes = nodes

    def open(self, node_id: str, address: str, events: ClientLinkEvents) -> SimLink:
        return SimLink(self._world, self._ledger, self._own, self._nodes[node_id], events)


class SimLink:
    """Implements geodyne.ports.ClientLink; reconnects until closed."""

    def __init__(self, world: World, ledger: Ledger, own: str, node: Any, events: ClientLinkEvents) -> None:
        self._world = world
        self._ledger = ledger
        self._own = own
        self._node = node
        self._events = events
        self._stream: Stream | None = None
        self._requests: Pipe | None = None
        self._closed = False
        self._again()

    def _again(self) -> None:
        self._world.loop.call_later(self._world.reconnect_s(), self._attempt, context=NEUTRAL)

    @property
    def node_id(self) -> str:
        return str(self._node.id)

    @property
    def connected(self) -> bool:
        return self._requests is not None

    def send(self, request: Request) -> None:
        if self._requests is not None:
            self._requests.send(request)

    async def close(self) -> None:
        self._closed = True
        if self._stream is not None:
            self._world.streams.pop(self._stream, None)
            self._stream.cut("closed")

    def _attempt(self) -> None:
        if self._closed:
            return
        node, world = self._node, self._world
        if not node.alive or not world.reachable(self._own, node.id):
            self._again()
            return
        number = self._ledger.stream()
        service, life = node.handler, node.life
        stream = Stream((self._own, node.id), self._down)

        def requests(batch: list[Request]) -> None:
            if node.alive and node.life == life:
                for request in batch:
                    self._ledger.arrived(number, stream, request)
                service.on_requests(batch, reply)

        def reply(response: Response) -> None:
            if node.alive and node.life == life and not stream.broken:
                self._ledger.answered(number, response)
                answers.send(response)

        def responses(batch: list[Response]) -> None:
            self._events.on_responses(node.id, batch)

        answers = Pipe(world, node.id, self._own, responses)
        self._stream = stream
        self._requests = Pipe(world, self._own, node.id, requests)
        stream.pipes += [self._requests, answers]
        world.opened(stream)
        world.inside(self._own, self._events.on_connected, node.id)

    def _down(self, reason: str) -> None:
        self._requests = None
        self._stream = None
        self._world.inside(self._own, self._events.on_disconnected, self._node.id, reason)
        if not self._closed:
            self._again()
