"""Takes the streams of other regions' replicators: applies what they ship, takes their steps of a replica's life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from geodyne.peermessages import Hello
from geodyne.rpc.server import GrpcServer
from geodyne.rpc.stream import BatchStream, Contract, StreamRefused, accept_stream
from replication.apply import Applier
from replication.codec import (
    DestinationMessage,
    SourceMessage,
    decode_source,
    destination_message_bytes,
    encode_destination,
)
from replication.link import BYTES_IN_FLIGHT_MAX, COMMANDS_IN_FLIGHT_MAX, PING_MS
from replication.packing import Unpacker
from replication.values import ARRIVALS_FROM, CHECKED_FROM, EXCHANGE, Arrived, Command, Receipt, Result, Ship, Watermark

log = logging.getLogger(__name__)

# A source keeps to its own bounds (replication.link), so more than this is a fault and ends the stream.
RECEIVED_BYTES_MAX = 2 * BYTES_IN_FLIGHT_MAX  # of one stream, without receipt
COMMANDS_MAX = 2 * COMMANDS_IN_FLIGHT_MAX  # of one stream, without result
ARRIVED_AFTER_S = 0.1  # receipts of most ships are sooner, and say as much

DESTINATION_CONTRACT: Contract[DestinationMessage, SourceMessage] = Contract(
    encode_destination, decode_source, destination_message_bytes, CHECKED_FROM
)
CommandHandler = Callable[[str, Command], Awaitable[Result]]
WatermarkHandler = Callable[[str, Watermark], None]


class ReplicationServer:
    """The listening end. `on_command(source region, command)` returns a Result with the command's id;
    `on_watermark(source region, watermark)` is told what the source knows."""

    def __init__(
        self,
        address: str,
        hello: Hello,
        applier: Applier,
        on_command: CommandHandler,
        on_watermark: WatermarkHandler = lambda _source, _watermark: None,
    ) -> None:
        self._hello = hello
        self._applier = applier
        self._on_command = on_command
        self._on_watermark = on_watermark
        self._server = GrpcServer(address, PING_MS)
        self._server.add(EXCHANGE, self._exchange)
        self._streams: set[BatchStream[DestinationMessage, SourceMessage]] = set()

    @property
    def sources(self) -> set[str]:
        """Regions whose replicators are connected."""
        return {stream.hello.region for stream in self._streams}

    async def start(self) -> int:
        """Listen; returns the port. Raises geodyne.rpc.server.AddressUnavailable."""
        return await self._server.start()

    async def close(self) -> None:
        """End all streams and stop listening."""
        for stream in tuple(self._streams):
            stream.reset("the replicator stops")
        await self._server.stop()

    async def _exchange(self, context: Any) -> None:
        sources: dict[int, _Source] = {}
        contract = DESTINATION_CONTRACT._replace(decode=partial(decode_source, unpacker=Unpacker()))

        def on_up(
            stream: BatchStream[DestinationMessage, SourceMessage],
        ) -> Callable[[Sequence[SourceMessage]], None]:
            self._streams.add(stream)
            source = sources[id(stream)] = _Source(stream, self._applier, self._on_command, self._on_watermark)
            return source.on_batch

        def on_down(stream: BatchStream[DestinationMessage, SourceMessage], reason: str) -> None:
            self._streams.discard(stream)
            sources.pop(id(stream)).close()

        await accept_stream(context, contract, self._hello, admit=self._admit, on_up=on_up, on_down=on_down)

    def _admit(self, hello: Hello) -> None:
        if hello.region == self._hello.region:
            raise StreamRefused(f"{hello.process_id} is in the same region, {hello.region}")


class _Source:
    """One stream: what came in on it and has not been answered."""

    def __init__(
        self,
        stream: BatchStream[DestinationMessage, SourceMessage],
        applier: Applier,
        on_command: CommandHandler,
        on_watermark: WatermarkHandler,
    ) -> None:
        self._stream = stream
        self._applier = applier
        self._on_command = on_command
        self._on_watermark = on_watermark
        self._received_bytes = 0
        self._newest = 0  # ship that came in
        self._telling: asyncio.TimerHandle | None = None
        self._commands: set[asyncio.Task[None]] = set()

    def on_batch(self, batch: Sequence[SourceMessage]) -> None:
        for message in batch:
            if isinstance(message, Ship):
                self._received_bytes += message.size
                self._newest = message.id
                self._applier.submit(message, self._reply_to(message), self._stream.hello.region, self)
            elif isinstance(message, Watermark):
                self._on_watermark(self._stream.hello.region, message)
            else:
                task = asyncio.get_running_loop().create_task(self._command(message))
                self._commands.add(task)
                task.add_done_callback(self._commands.discard)
        if self._received_bytes and self._telling is None and self._stream.format >= ARRIVALS_FROM:
            self._telling = asyncio.get_running_loop().call_later(ARRIVED_AFTER_S, self._tell_arrived)
        if self._received_bytes > RECEIVED_BYTES_MAX or len(self._commands) > COMMANDS_MAX:
            self._stream.reset("more was sent than may be under way")

    def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
        self._applier.withdraw(self)
        for task in self._commands:
            task.cancel()

    def _tell_arrived(self) -> None:
        """What is slow to apply must not look as if it were slow to arrive: other partitions share the path."""
        self._telling = None
        if self._received_bytes:
            self._send(Arrived(self._newest))

    def _reply_to(self, ship: Ship) -> Callable[[Receipt], None]:
        def reply(receipt: Receipt) -> None:
            self._received_bytes -= ship.size
            self._send(receipt)

        return reply

    async def _command(self, command: Command) -> None:
        self._send(await self._on_command(self._stream.hello.region, command))

    def _send(self, message: DestinationMessage) -> None:
        # An answer that is lost must break the stream: the source waits for one answer to everything it sent.
        if not self._stream.send(message):
            self._stream.overflow("answers are not read")
