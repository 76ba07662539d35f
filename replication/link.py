"""The source's end of the stream to one destination region: one connection, dialled from here and kept up.

A batch that was shipped is answered by its receipt or, when the stream breaks, not at all: the listeners hear of the
break and ship again from what was acknowledged. Links to different regions share nothing, so a slow region delays no
other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

from geodyne.messages import Change
from geodyne.peermessages import Hello
from geodyne.rpc.stream import BatchStream, Contract, Destination, StreamDialer
from replication.codec import (
    DestinationMessage,
    SourceMessage,
    decode_destination,
    encode_source,
    source_message_bytes,
)
from replication.packing import Packer
from replication.values import (
    CHECKED_FROM,
    EXCHANGE,
    PACKED_FROM,
    SETTINGS_FROM,
    WATERMARKS_FROM,
    Arrived,
    Command,
    Operation,
    Receipt,
    Result,
    Ship,
    Watermark,
)
from replication.window import WINDOW_BYTES_MAX, Window

log = logging.getLogger(__name__)

BYTES_IN_FLIGHT_MAX = WINDOW_BYTES_MAX  # shipped and unanswered: waiting, on the path, or being applied there
# The answer to a ping waits behind what is on the path. Longer than an item of 400 KB takes at 40 KB/s.
PING_MS = 10_000
COMMANDS_IN_FLIGHT_MAX = 64
COMMAND_TIMEOUT_S = 20.0

SOURCE_CONTRACT: Contract[SourceMessage, DestinationMessage] = Contract(
    encode_source, decode_destination, source_message_bytes, CHECKED_FROM
)


class LinkDownError(ConnectionError):
    """The command was not answered: the stream is down or broke. It may have been executed."""


class LinkListener(Protocol):
    """Who ships through a link."""

    def on_connected(self) -> None: ...

    def on_disconnected(self) -> None:
        """Batches without a receipt will get none."""

    def on_room(self) -> None:
        """`has_room` is true again."""


class DestinationLink:
    """The stream to the replicator of one region. `process_id` names the replicator that must answer there."""

    def __init__(self, region: str, address: str, process_id: str, hello: Hello, random: Random) -> None:
        self.region = region
        self.reason = "not connected yet"  # of the last break, for people
        self.bytes_in_flight = 0
        self._stream: BatchStream[SourceMessage, DestinationMessage] | None = None
        self.encoded_bytes = self.sent_bytes = 0  # of batches since the start: before and after packing
        self._packer: Packer | None = None  # of the present stream
        contract = SOURCE_CONTRACT._replace(pack=self._pack)
        self._dialer = StreamDialer(Destination(address, EXCHANGE, process_id, PING_MS), contract, hello, self, random)
        self._listeners: dict[int, LinkListener] = {}
        self._next_id = 1
        self._ships: dict[int, tuple[int, Callable[[Receipt], None]]] = {}
        self._window = Window()
        self._waiting: deque[Ship] = deque()  # for the window; bounded as all that is in flight
        self._on_path: deque[tuple[int, int, float]] = deque()  # ids, sizes and when they were sent
        self._commands: dict[int, asyncio.Future[Result]] = {}
        self._command_slots = asyncio.Semaphore(COMMANDS_IN_FLIGHT_MAX)

    def start(self) -> None:
        self._dialer.start()

    async def close(self) -> None:
        await self._dialer.close()

    @property
    def connected(self) -> bool:
        return self._stream is not None

    @property
    def compares(self) -> bool:
        """Whether the other end is up and knows what to answer to Operation.DIGESTS and those after it."""
        return self._stream is not None and self._stream.format >= WATERMARKS_FROM

    @property
    def takes_settings(self) -> bool:
        """Whether the other end is up and takes over settings of tables."""
        return self._stream is not None and self._stream.format >= SETTINGS_FROM

    @property
    def has_room(self) -> bool:
        """Whether more may be read in order to be shipped through here."""
        return self.bytes_in_flight < BYTES_IN_FLIGHT_MAX and not self._waiting

    @property
    def page_bytes(self) -> int:
        """What is worth reading at a time: on a slow path little, so that what is urgent waits behind little."""
        return self._window.page_bytes

    def subscribe(self, listener: LinkListener) -> None:
        """Tell of connects and breaks from now on; tells at once when it is connected."""
        self._listeners[id(listener)] = listener
        if self.connected:
            listener.on_connected()

    def unsubscribe(self, listener: LinkListener) -> None:
        self._listeners.pop(id(listener), None)

    def ship(
        self, table: str, table_id: str, changes: tuple[Change, ...], size: int, done: Callable[[Receipt], None]
    ) -> None:
        """Queue a batch, only while connected. `done` gets its receipt, unless the stream breaks first."""
        assert self._stream is not None
        ship = Ship(self._take_id(), table, table_id, changes, size)
        self._ships[ship.id] = (size, done)
        self.bytes_in_flight += size
        self._waiting.append(ship)
        self._send_waiting()

    def tell(self, watermark: Watermark) -> bool:
        """Queue a watermark; False while the stream is down, or the other end does not know them."""
        if self._stream is None or self._stream.format < WATERMARKS_FROM:
            return False
        self._send(watermark)
        return True

    async def command(
        self,
        operation: Operation,
        table: str,
        table_id: str,
        *,
        definition: Mapping[str, Any] | None = None,
        members: Mapping[str, str] | None = None,
        region: str = "",
    ) -> Result:
        """Have a step of a replica's life taken there. Raises LinkDownError."""
        async with self._command_slots:
            if not self.connected:
                raise LinkDownError(f"{self.region}: {self.reason}")
            command = Command(self._take_id(), operation, table, table_id, definition or {}, members or {}, region)
            future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            self._commands[command.id] = future
            self._send(command)
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    return await future
            except TimeoutError:
                raise LinkDownError(f"{self.region}: no answer in {COMMAND_TIMEOUT_S:.0f} s") from None
            finally:
                self._commands.pop(command.id, None)

    def _send_waiting(self) -> None:
        """In their order; what is sent on a stream that just broke is shipped again."""
        waiting, window = self._waiting, self._window
        while waiting and window.takes(waiting[0].size):
            ship = waiting.popleft()
            window.on_sent(ship.size)
            self._on_path.append((ship.id, ship.size, asyncio.get_running_loop().time()))
            self._send(ship)

    def _on_arrived(self, newest: int) -> None:
        """The ship `newest` is there, and so are all that were sent before it."""
        path, now_s = self._on_path, asyncio.get_running_loop().time()
        while path and path[0][0] <= newest:
            _, size, sent_s = path.popleft()
            self._window.on_arrived(size, sent_s, now_s)

    def _take_id(self) -> int:
        number = self._next_id
        self._next_id += 1
        return number

    def _send(self, message: SourceMessage) -> None:
        # Within the bounds above the queue always has room; a message that is lost must break the stream, because
        # somebody waits for its answer.
        if self._stream is not None and not self._stream.send(message):
            self._stream.reset("the queue is full")

    async def _pack(self, data: bytes) -> bytes:
        packed = data if self._packer is None else await self._packer.pack(data)
        self.encoded_bytes += len(data)
        self.sent_bytes += len(packed)
        return packed

    # --- events of the dialler

    def on_stream_up(self, stream: BatchStream[SourceMessage, DestinationMessage]) -> None:
        self._stream = stream
        self._window = Window()
        self._packer = Packer() if stream.format >= PACKED_FROM else None
        log.info("replication link up", extra={"destination": self.region})
        for listener in tuple(self._listeners.values()):
            listener.on_connected()

    def on_stream_down(self, reason: str) -> None:
        self._stream = None
        self.reason = reason
        self._ships.clear()
        self._waiting.clear()
        self._on_path.clear()
        self.bytes_in_flight = 0
        for future in self._commands.values():
            if not future.done():
                future.set_exception(LinkDownError(f"{self.region}: {reason}"))
        self._commands.clear()
        for listener in tuple(self._listeners.values()):
            listener.on_disconnected()

    def on_stream_batch(self, batch: Sequence[DestinationMessage]) -> None:
        had_room = self.has_room
        for message in batch:
            if isinstance(message, Arrived):
                self._on_arrived(message.id)
            elif isinstance(message, Receipt):
                self._on_arrived(message.id)
                size, done = self._ships.pop(message.id, (0, None))
                self.bytes_in_flight -= size
                if done is not None:
                    done(message)
            else:
                future = self._commands.pop(message.id, None)
                if future is not None and not future.done():
                    future.set_result(message)
        self._send_waiting()
        if not had_room and self.has_room:
            for listener in tuple(self._listeners.values()):
                listener.on_room()
