"""A long-lived stream of batches in both directions: whatever waits when the writer's turn comes travels as one.

A gRPC message costs some 100 µs of CPU whatever it holds, so messages are formed by load: one item each when there is
little to do, hundreds when there is much.  The same stream serves clients, peers and regions; a `Contract` says how
its batches are coded.  `StreamDialer` keeps one up from the dialling side; `accept_stream` serves the other side.

What must hold:
- items arrive in the order sent, or the stream breaks and both ends hear of it;
- the first message of each direction is a Hello of the same cluster, and both speak a format in common;
- from a Contract's `checked_from` on a batch carries a checksum; of one that does not match nothing is used;
- nothing is buffered without bound: `send` returns False when the queue is full, and its owner decides.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import grpc
import grpc.aio

from geodyne.peermessages import Hello
from geodyne.rpc.codecparts import CodecError
from geodyne.rpc.faults import PROCESS_FAULTS
from geodyne.rpc.pace import PROCESS_PACE

Out = TypeVar("Out")
In = TypeVar("In")

BATCH_ITEMS_MAX: Final = 1_024
BATCH_BYTES_MAX: Final = 4 << 20
QUEUE_ITEMS_MAX: Final = 32_768
QUEUE_BYTES_MAX: Final = 64 << 20
MESSAGE_BYTES_MAX: Final = 32 << 20  # what gRPC accepts: one batch, or one item that is larger than a batch
ITEM_BYTES_MAX: Final = MESSAGE_BYTES_MAX // 2

CHECKED_FROM: Final = 3  # format of the streams of nodes from which on batches carry a checksum
# The last field of every batch, as protobuf writes it: number 15, fixed32. Readers that do not know it skip it.
_TRAILER: Final = struct.Struct("<BI")
_TRAILER_TAG: Final = 15 << 3 | 5

HELLO_MS_MAX: Final = 2_000  # from dialling to the other side's Hello
BACKOFF_MS_MIN: Final = 50
BACKOFF_MS_MAX: Final = 1_000
# A stopped peer sends no reset. A ping after 1 s of silence and 1 s to answer it notice it in about 2 s.
KEEPALIVE_MS: Final = 1_000
KEEPALIVE_TIMEOUT_MS: Final = 1_000

assert BATCH_BYTES_MAX + ITEM_BYTES_MAX + _TRAILER.size < MESSAGE_BYTES_MAX
assert BATCH_BYTES_MAX < QUEUE_BYTES_MAX

Options = tuple[tuple[str, int], ...]


def _common_options(ping_ms: int) -> Options:
    return (
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", ping_ms),
        # gRPC never acts on the timeout above (grpc/grpc pull request 39239); its ping timeout, 60 s by default, does.
        ("grpc.http2.ping_timeout_ms", ping_ms),
        ("grpc.http2.max_pings_without_data", 0),  # 0: as many as keepalive asks for
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    )


def channel_options(ping_ms: int = KEEPALIVE_TIMEOUT_MS) -> Options:
    """Of who dials. `ping_ms`: how long the answer to a ping may take; it waits behind what is under way."""
    return (
        *_common_options(ping_ms),
        ("grpc.enable_http_proxy", 0),
        # Each dial is a connection of its own: back-off belongs to StreamDialer, not to a shared subchannel.
        ("grpc.use_local_subchannel_pool", 1),
    )


def server_options(ping_ms: int = KEEPALIVE_TIMEOUT_MS) -> Options:
    """Of who listens; as `channel_options`."""
    return (
        *_common_options(ping_ms),
        ("grpc.so_reuseport", 0),  # two processes on one port must be an error, not a lottery
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
        ("grpc.http2.max_ping_strikes", 0),
    )


# What grpc.aio raises from reads and writes of a stream that is over.
STREAM_ERRORS: Final = (grpc.RpcError, grpc.aio.BaseError, grpc.aio.UsageError, asyncio.InvalidStateError)

_log = logging.getLogger(__name__)

# When its last object is collected, grpc.aio tears itself down and joins its polling thread from inside the collector,
# wherever that happens to run; the join can wait for ever. One reference is held for the life of the process.
grpc.aio.init_grpc_aio()


class StreamRefused(Exception):
    """The two ends must not talk: another cluster, format or process than expected."""


class FrameCorrupt(CodecError):
    """A batch that is not as it was sent."""


class Contract(NamedTuple, Generic[Out, In]):
    """How one end of a service codes its batches, and about how many bytes an outgoing item takes. Batches of format
    `checked_from` and later carry a checksum; the hello of who speaks such a format does in any case. `pack` makes
    of an encoded batch what is sent instead; each call of it is followed by sending what it returned, in that order."""

    encode: Callable[[Hello | Sequence[Out]], bytes]
    decode: Callable[[bytes], Hello | Sequence[In]]
    weigh: Callable[[Out], int]
    checked_from: int = CHECKED_FROM
    pack: Callable[[bytes], Awaitable[bytes]] | None = None

    def encode_hello(self, hello: Hello) -> bytes:
        """The first message of a direction."""
        data = self.encode(hello)
        return sealed(data) if hello.format >= self.checked_from else data

    def decode_hello(self, data: bytes) -> Hello | None:
        """The inverse; None when the message is something else. Raises CodecError."""
        hello = self.decode(data)
        if not isinstance(hello, Hello):
            return None
        if hello.format >= self.checked_from:
            verify(data)
        return hello


def sealed(data: bytes) -> bytes:
    """An encoded batch with its checksum behind it."""
    return data + _TRAILER.pack(_TRAILER_TAG, zlib.crc32(data))


def verify(data: bytes) -> None:
    """Raise FrameCorrupt unless `data` is as `sealed` made it."""
    end = len(data) - _TRAILER.size
    if end < 0 or _TRAILER.unpack_from(data, end) != (_TRAILER_TAG, zlib.crc32(memoryview(data)[:end])):
        raise FrameCorrupt(f"a batch of {len(data)} bytes does not match its checksum")


def spoken_format(own: Hello, other: Hello) -> int:
    """The newest format that both speak. Raises StreamRefused when there is none."""
    newest = min(own.format, other.format)
    if newest < max(own.oldest or own.format, other.oldest or other.format):
        raise StreamRefused(f"{other.process_id} speaks stream format {_formats(other)}, not {_formats(own)}")
    return newest


def _formats(hello: Hello) -> str:
    return f"{hello.oldest} to {hello.format}" if hello.oldest else f"{hello.format}"


def check_hello(own: Hello, other: Hello, expected_process: str | None = None) -> int:
    """The format that the two speak with each other. `expected_process` is whom a dialler meant to reach. Raises
    StreamRefused unless they may exchange messages."""
    if other.cluster_id != own.cluster_id:
        raise StreamRefused(f"{other.process_id} belongs to cluster {other.cluster_id}, not to {own.cluster_id}")
    if expected_process is not None and other.process_id != expected_process:
        raise StreamRefused(f"{other.process_id} answers at the address of {expected_process}")
    return spoken_format(own, other)


class BatchStream(Generic[Out, In]):
    """One established stream. Made by StreamDialer and accept_stream, used through `send` and `reset`."""

    __slots__ = (
        "_broken",
        "_bytes",
        "_checked",
        "_contract",
        "_queue",
        "_read",
        "_wake",
        "_write",
        "bytes_max",
        "format",
        "hello",
    )

    def __init__(
        self,
        contract: Contract[Out, In],
        read: Callable[[], Awaitable[Any]],
        write: Callable[[bytes], Awaitable[Any]],
        hello: Hello,
        format: int,
        bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        self._contract = contract
        self._checked = format >= contract.checked_from
        self._read = read
        self._write = write
        self._queue: list[Out] = []
        self._bytes = 0
        self._wake: asyncio.Future[None] | None = None
        self._broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.bytes_max = bytes_max
        self.hello = hello  # the other side's
        self.format = format  # what both sides speak

    def send(self, item: Out) -> bool:
        """Queue an item. False when it was not taken: the stream is broken, the queue full, or the item too large."""
        size = self._contract.weigh(item)
        queue = self._queue
        if self._bytes + size > self.bytes_max or len(queue) >= QUEUE_ITEMS_MAX or size > ITEM_BYTES_MAX:
            return False
        if self._broken.done():
            return False
        queue.append(item)
        self._bytes += size
        wake = self._wake
        if wake is not None:
            # The writer runs in the loop's next turn, so that all that this turn queues travels together.
            self._wake = None
            wake.set_result(None)
        return True

    @property
    def broken(self) -> bool:
        """True from the first sign of its end on; its owner is told in one of the next turns."""
        return self._broken.done()

    @property
    def queued_bytes(self) -> int:
        return self._bytes

    def reset(self, reason: str) -> None:
        """Break the stream. Both ends hear of it; what is queued is lost."""
        if not self._broken.done():
            self._broken.set_result(reason)

    def overflow(self, reason: str) -> None:
        """Break the stream because the other side does not take what is sent."""
        if not self._broken.done():
            PROCESS_FAULTS.overflowed += 1
        self.reset(reason)

    async def run(self, on_batch: Callable[[Sequence[In]], None]) -> str:
        """Carry batches until the stream breaks; returns the reason."""
        reader = asyncio.ensure_future(self._read_batches(on_batch))
        writer = asyncio.ensure_future(self._write_batches())
        try:
            await asyncio.wait((reader, writer, self._broken), return_when=asyncio.FIRST_COMPLETED)
            if not self._broken.done():
                first = reader if reader.done() else writer
                self._broken.set_result("cancelled" if first.cancelled() else first.result())
            return self._broken.result()
        finally:
            self.reset("cancelled")
            reader.cancel()
            writer.cancel()
            await asyncio.wait((reader, writer))
            self._queue.clear()
            self._bytes = 0

    async def _read_batches(self, on_batch: Callable[[Sequence[In]], None]) -> str:
        read, decode, checked = self._read, self._contract.decode, self._checked
        try:
            while True:
                data = await read()
                if data is grpc.aio.EOF:
                    return "closed by the other side"
                if checked:
                    verify(data)
                batch = decode(data)
                if isinstance(batch, Hello):
                    return "a second hello"
                on_batch(batch)
        except CodecError as error:
            PROCESS_FAULTS.corrupt += 1
            _log.error("stream with %s ends: %s", self.hello.process_id, error)
            return describe(error)
        except STREAM_ERRORS as error:
            return describe(error)
        except Exception:
            # A defect of the receiver must cost this stream only; its items then count as lost on both ends.
            _log.exception("receiving a batch failed")
            return "internal error"

    async def _write_batches(self) -> str:
        write, pack = self._write, self._contract.pack
        loop = asyncio.get_running_loop()
        pace, not_before = PROCESS_PACE, 0.0
        try:
            while True:
                if not self._queue:
                    self._wake = loop.create_future()
                    await self._wake
                wait_s = not_before - loop.time()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                not_before = loop.time() + pace.gap_s()
                for data in self._encoded(self._take()):
                    packed = data if pack is None else await pack(data)
                    await write(sealed(packed) if self._checked else packed)
        except (CodecError, *STREAM_ERRORS) as error:
            return describe(error)
        except Exception:
            _log.exception("sending a batch failed")
            return "internal error"

    def _encoded(self, batch: Sequence[Out]) -> list[bytes]:
        """One message, or several where weights were so far off that one would be too large for the receiver."""
        data = self._contract.encode(batch)
        if len(data) + _TRAILER.size <= MESSAGE_BYTES_MAX:
            return [data]
        if len(batch) == 1:
            raise CodecError(f"an item of {len(data)} bytes is more than a message holds")
        half = len(batch) // 2
        return self._encoded(batch[:half]) + self._encoded(batch[half:])

    def _take(self) -> list[Out]:
        queue = self._queue
        if len(queue) <= BATCH_ITEMS_MAX and self._bytes <= BATCH_BYTES_MAX:
            self._queue = []
            self._bytes = 0
            return queue
        weigh = self._contract.weigh
        count = size = 0
        for item in queue[:BATCH_ITEMS_MAX]:
            weight = weigh(item)
            if count and size + weight > BATCH_BYTES_MAX:
                break
            count += 1
            size += weight
        batch = queue[:count]
        del queue[:count]
        self._bytes -= size
        return batch


class DialerEvents(Protocol[Out, In]):
    """What the owner of a StreamDialer hears, in the order: up, batches, down, up ..."""

    def on_stream_up(self, stream: BatchStream[Out, In]) -> None: ...

    def on_stream_batch(self, batch: Sequence[In]) -> None: ...

    def on_stream_down(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Destination:
    """Whom to dial. `process_id` None accepts whoever of the cluster answers there."""

    address: str
    path: str  # /package.Service/Method
    process_id: str | None
    ping_ms: int = KEEPALIVE_TIMEOUT_MS  # of silence in answer to a ping, after which the stream ends


class StreamDialer(Generic[Out, In]):
    """Keeps one stream up: dials, greets, carries batches, and dials again after a bounded, jittered back-off."""

    def __init__(
        self,
        destination: Destination,
        contract: Contract[Out, In],
        hello: Hello,
        events: DialerEvents[Out, In],
        random: Random | None = None,
    ) -> None:
        self._destination = destination
        self._contract = contract
        self._hello = hello
        self._events = events
        self._random = random or Random()
        self._task: asyncio.Task[None] | None = None
        self._last_reason = ""

    def start(self) -> None:
        """Begin dialling. Needs a running loop."""
        self._task = asyncio.ensure_future(self._keep_up())

    async def close(self) -> None:
        """Close the stream and stop dialling."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _keep_up(self) -> None:
        backoff_ms = BACKOFF_MS_MIN
        while True:
            was_up, reason = await self._session()
            if self._task is None:
                return  # closed; the cancellation is lost when the session ends of itself in the same moment
            self._report(was_up, reason)
            backoff_ms = BACKOFF_MS_MIN if was_up else min(backoff_ms * 2, BACKOFF_MS_MAX)
            await asyncio.sleep(backoff_ms * self._random.uniform(0.5, 1.0) / 1_000)

    def _report(self, was_up: bool, reason: str) -> None:
        """A reason is logged once, however many attempts meet it."""
        if was_up or reason != self._last_reason:
            self._last_reason = reason
            to = self._destination
            _log.warning("stream to %s at %s is down: %s", to.process_id or "peer", to.address, reason)

    async def _session(self) -> tuple[bool, str]:
        """One connection, from dialling to its end. Returns whether it was established, and why it ended."""
        was_up = False
        options = channel_options(self._destination.ping_ms)
        async with grpc.aio.insecure_channel(self._destination.address, options=options) as channel:
            call = channel.stream_stream(self._destination.path)()
            try:
                # Not wait_for: before Python 3.12 it drops a cancellation that arrives together with the result.
                async with asyncio.timeout(HELLO_MS_MAX / 1_000):
                    other, spoken = await self._greet(call)
                stream = BatchStream(self._contract, call.read, call.write, other, spoken)
                was_up = True
                self._last_reason = ""
                reason = "closed"
                self._events.on_stream_up(stream)
                try:
                    reason = await stream.run(self._events.on_stream_batch)
                finally:
                    self._events.on_stream_down(reason)
            except (StreamRefused, CodecError, *STREAM_ERRORS) as error:
                reason = describe(error)
            except TimeoutError:
                reason = f"no hello within {HELLO_MS_MAX} ms"
            except asyncio.CancelledError:
                # grpc.aio also raises this when the other side cancelled the call; only close() ends the dialling.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                reason = "cancelled by the other side"
            finally:
                call.cancel()
        return was_up, reason

    async def _greet(self, call: Any) -> tuple[Hello, int]:
        """The other side's hello, and the format to speak."""
        await call.write(self._contract.encode_hello(self._hello))
        data = await call.read()
        if data is grpc.aio.EOF:
            raise StreamRefused("closed before its hello")
        other = self._contract.decode_hello(data)
        if other is None:
            raise StreamRefused("its first message is no hello")
        return other, check_hello(self._hello, other, self._destination.process_id)


async def accept_stream(
    context: Any,
    contract: Contract[Out, In],
    hello: Hello,
    *,
    admit: Callable[[Hello], None],
    on_up: Callable[[BatchStream[Out, In]], Callable[[Sequence[In]], None]],
    on_down: Callable[[BatchStream[Out, In], str], None],
    bytes_max: int = QUEUE_BYTES_MAX,
) -> None:
    """Serve the accepting end of a stream: the body of a gRPC handler.

    `admit` raises StreamRefused for a Hello that is not welcome (cluster and format have been checked already).
    `on_up` gets the stream and returns the receiver of its batches; `on_down` is called once after that.
    """
    try:
        async with asyncio.timeout(HELLO_MS_MAX / 1_000):
            data = await context.read()
        other = None if data is grpc.aio.EOF else contract.decode_hello(data)
        if other is None:
            raise StreamRefused("the first message is no hello")
        spoken = check_hello(hello, other)
        admit(other)
    except (StreamRefused, CodecError, TimeoutError) as error:
        reason = describe(error) or f"no hello within {HELLO_MS_MAX} ms"
        if isinstance(error, CodecError):
            PROCESS_FAULTS.corrupt += 1
        else:
            PROCESS_FAULTS.refused += 1
        _refusals.report(context.peer(), reason)
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)
        return
    stream = BatchStream(contract, context.read, context.write, other, spoken, bytes_max)
    reason = "cancelled by the other side"
    on_batch = on_up(stream)
    try:
        # Queued items wait for run(), so the hello is the first message whatever on_up has sent.
        await context.write(contract.encode_hello(hello))
        reason = await stream.run(on_batch)
    except STREAM_ERRORS as error:
        reason = describe(error)
    finally:
        stream.reset(reason)
        on_down(stream, reason)
    # The status is what resets the stream at the other end.
    await context.abort(grpc.StatusCode.UNAVAILABLE, reason)


class _Refusals:
    """Logs each reason once a caller, for a bounded number of callers: a misconfigured process dials for ever."""

    CALLERS_MAX: Final = 256

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def report(self, peer: str, reason: str) -> None:
        host = peer.rsplit(":", 1)[0]  # the port is new at each attempt
        if self._reasons.get(host + reason) == reason:
            return
        if len(self._reasons) >= self.CALLERS_MAX:
            self._reasons.clear()
        self._reasons[host + reason] = reason
        _log.warning("stream from %s refused: %s", peer, reason)


_refusals = _Refusals()


def describe(error: BaseException) -> str:
    """The reason in one line: of a gRPC error the status and its details."""
    if isinstance(error, grpc.aio.AioRpcError):
        code = error.code()
        name = code.name if isinstance(code, grpc.StatusCode) else str(code)
        return f"{name}: {error.details()}"
    return str(error)
