"""Two processes of different versions on one stream, and frames that are not what was sent."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodyne import messages as m
from geodyne import peermessages as pm
from geodyne.rpc import peers
from geodyne.rpc.client import CLIENT_CONTRACT, NODE_PATH
from geodyne.rpc.codec import OLDEST_STREAM_FORMAT, STREAM_FORMAT, encode_client_batch
from geodyne.rpc.faults import PROCESS_FAULTS
from geodyne.rpc.peercodec import decode_peer_batch, encode_peer_batch
from geodyne.rpc.peers import PEER_CONTRACT, PEER_PATH, GrpcPeerNetwork
from geodyne.rpc.server import GrpcNodeServer
from geodyne.rpc.stream import (
    CHECKED_FROM,
    QUEUE_BYTES_MAX,
    BatchStream,
    FrameCorrupt,
    StreamRefused,
    check_hello,
    sealed,
    verify,
)
from geodyne.wire import node_v1_pb2 as pb

BOUND_S = 8.0
CLUSTER, PLACE = "c", "us-east-1"


def hello(process: str, newest: int = STREAM_FORMAT, oldest: int = 0, **other: Any) -> pm.Hello:
    return pm.Hello(CLUSTER, PLACE, process, 7, newest, oldest)._replace(**other)


NOW = hello("now", STREAM_FORMAT, OLDEST_STREAM_FORMAT)
RELEASED = hello("released", 2)  # the first release: it compares one number


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, BOUND_S))


# --- formats ----------------------------------------------------------------------------------------------


def test_a_stream_is_of_the_newest_format_that_both_ends_speak():
    assert check_hello(NOW, NOW._replace(process_id="other")) == STREAM_FORMAT
    assert check_hello(NOW, RELEASED) == 2
    assert check_hello(NOW, hello("next", STREAM_FORMAT + 1, STREAM_FORMAT)) == STREAM_FORMAT


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (hello("ancient", 1), "ancient speaks stream format 1, not 2 to 5"),
        (hello("future", 9, 8), "future speaks stream format 8 to 9, not 2 to 5"),
        (hello("future", 6), "future speaks stream format 6, not 2 to 5"),
    ],
)
def test_without_a_format_in_common_a_stream_is_refused_and_both_ranges_are_named(other, says):
    with pytest.raises(StreamRefused, match=says):
        check_hello(NOW, other)


def test_the_first_release_reads_in_the_hello_of_this_version_the_format_that_it_speaks():
    read = pb.PeerBatch.FromString(PEER_CONTRACT.encode_hello(NOW)).hello
    assert (read.format, read.newest) == (2, STREAM_FORMAT)
    assert PEER_CONTRACT.decode_hello(PEER_CONTRACT.encode_hello(NOW)) == NOW
    assert PEER_CONTRACT.decode_hello(encode_peer_batch(RELEASED)) == RELEASED


class Handler:
    """Takes what comes from peers and clients."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.up: list[pm.Hello] = []
        self.down: list[str] = []
        self.changed = asyncio.Event()

    def on_peer_connected(self, peer: str, hello: pm.Hello) -> None:
        self.up.append(hello)
        self.changed.set()

    def on_peer_messages(self, peer: str, messages: Sequence[pm.PeerMessage]) -> None:
        self.got += messages
        self.changed.set()

    def on_peer_disconnected(self, peer: str, reason: str) -> None:
        self.down.append(reason)
        self.changed.set()

    def on_requests(self, requests: Sequence[m.Request], reply: Callable[[m.Response], None]) -> None:
        self.got += requests
        for request in requests:
            reply(m.Response(request.id, m.Applied(1)))

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


async def read_to_the_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


class Node:
    """Node b, which speaks formats 2 to 4, listens; tests dial it with frames of their own."""

    def __init__(self) -> None:
        self.handler = Handler()
        self.hello = hello("b", STREAM_FORMAT, OLDEST_STREAM_FORMAT)
        self.network = GrpcPeerNetwork(self.hello, {"a": "127.0.0.1:1"}, self.handler)
        self.server = GrpcNodeServer("127.0.0.1:0", self.hello, self.handler, self.network)

    async def __aenter__(self) -> Node:
        port = await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.network.close()
        await self.server.stop()

    async def dial(self, path: str, first: bytes) -> Any:
        call = self.channel.stream_stream(path)()
        await call.write(first)
        return call

    async def ends(self, path: str, *frames: bytes) -> str:
        """What the node says when it ends a stream that begins with these frames."""
        call = await self.dial(path, frames[0])
        if len(frames) > 1:
            await call.read()  # its hello
            for frame in frames[1:]:
                await call.write(frame)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_to_the_end(call)
        return str(caught.value.details())

    async def answers(self) -> bool:
        """A client with a sound stream is served."""
        call = await self.dial(NODE_PATH, CLIENT_CONTRACT.encode_hello(hello("r")))
        await call.read()
        await call.write(sealed(encode_client_batch([get(1)])))
        data = await call.read()
        call.cancel()
        verify(data)
        return bool(pb.NodeBatch.FromString(data).responses)


def get(id: int) -> m.Request:
    return m.Request(id, m.Get(1, 1, b"k", True), None, 1_000)


def test_a_peer_of_the_first_release_gets_batches_as_it_knows_them_and_a_newer_one_gets_checksums():
    async def main() -> None:
        async with Node() as node:
            for other, checked in ((hello("a", 2), False), (hello("a", 3, 2), True)):
                call = await node.dial(PEER_PATH, PEER_CONTRACT.encode_hello(other))
                PEER_CONTRACT.decode_hello(await call.read())
                await node.handler.until(lambda other=other: other in node.handler.up)
                node.network.send("a", pm.TimeoutNow(1, 2))
                data = await call.read()
                assert decode_peer_batch(data) == [pm.TimeoutNow(1, 2)]
                assert (data[-5:] == sealed(data[:-5])[-5:]) is checked
                batch = encode_peer_batch([pm.TimeoutNow(3, other.format)])
                await call.write(sealed(batch) if checked else batch)
                await node.handler.until(lambda other=other: pm.TimeoutNow(3, other.format) in node.handler.got)
                call.cancel()
                await node.handler.until(lambda: not node.network.connected("a"))

    run(main())


def test_kinds_of_messages_that_an_older_peer_does_not_know_are_not_sent_to_it(monkeypatch):
    monkeypatch.setitem(peers.SINCE, pm.TimeoutNow, 3)

    async def main() -> None:
        async with Node() as node:
            call = await node.dial(PEER_PATH, PEER_CONTRACT.encode_hello(hello("a", 2)))
            await call.read()
            await node.handler.until(lambda: node.network.connected("a"))
            node.network.send("a", pm.TimeoutNow(1, 2))
            node.network.send("a", pm.Heartbeat(1, 2))
            assert decode_peer_batch(await call.read()) == [pm.Heartbeat(1, 2)]
            call.cancel()

    run(main())


# --- frames -----------------------------------------------------------------------------------------------

BATCH = encode_peer_batch([pm.Append(1, 2, 3, 2, (pm.Entry(4, 2, b"payload" * 9),), 3), pm.Heartbeat(5, 6)])


@given(st.integers(0, len(sealed(BATCH)) * 8 - 1))
def test_any_one_flipped_bit_is_found(bit):
    frame = bytearray(sealed(BATCH))
    frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameCorrupt):
        verify(bytes(frame))


@given(st.integers(0, len(sealed(BATCH)) - 1))
def test_any_cut_is_found(length):
    with pytest.raises(FrameCorrupt):
        verify(sealed(BATCH)[:length])


def test_a_checksum_is_a_field_that_readers_of_any_version_skip():
    frame = sealed(BATCH)
    verify(frame)
    assert decode_peer_batch(frame) == decode_peer_batch(BATCH)
    assert pb.PeerBatch.FromString(frame).checksum == zlib.crc32(BATCH)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


PEER_HELLO = PEER_CONTRACT.encode_hello(hello("a", STREAM_FORMAT, OLDEST_STREAM_FORMAT))


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ((PEER_HELLO, flipped(sealed(BATCH), 20)), "does not match its checksum"),
        ((PEER_HELLO, sealed(BATCH)[:-9]), "does not match its checksum"),
        ((PEER_HELLO, BATCH), "does not match its checksum"),
        ((PEER_HELLO, b""), "does not match its checksum"),
        ((PEER_HELLO, sealed(b"\x12\xff")), "not a peer batch"),
        ((PEER_HELLO, sealed(pb.PeerBatch(messages=[pb.PeerMessage()]).SerializeToString())), "does not know"),
        ((PEER_HELLO, PEER_HELLO), "a second hello"),
        ((flipped(PEER_HELLO, 4),), "does not match its checksum"),
        ((b"\xff\xff\xff",), "not a peer batch"),
        ((sealed(BATCH),), "the first message is no hello"),
        ((PEER_CONTRACT.encode_hello(hello("a", cluster_id="d")),), "belongs to cluster d, not to c"),
        ((PEER_CONTRACT.encode_hello(hello("a", region="eu-west-1")),), "is of region eu-west-1, not of us-east-1"),
        ((PEER_CONTRACT.encode_hello(hello("stranger")),), "stranger is no peer of b"),
        ((PEER_CONTRACT.encode_hello(hello("a", 9, 8)),), "speaks stream format 8 to 9, not 2 to 5"),
    ],
)
def test_a_bad_frame_costs_its_stream_only_and_nothing_of_it_is_used(frames, says):
    async def main() -> None:
        async with Node() as node:
            before = PROCESS_FAULTS.corrupt + PROCESS_FAULTS.refused
            assert says in await node.ends(PEER_PATH, *frames)
            assert node.handler.got == []
            assert PROCESS_FAULTS.corrupt + PROCESS_FAULTS.refused > before or says == "a second hello"
            assert await node.answers()

    run(main())


def test_an_oversized_frame_is_refused_before_it_is_read():
    async def main() -> None:
        async with Node() as node:
            assert "larger than max" in await node.ends(PEER_PATH, PEER_HELLO, bytes(33 << 20))
            assert node.handler.got == []
            assert await node.answers()

    run(main())


def test_garbage_on_the_port_disturbs_nobody():
    async def main() -> None:
        async with Node() as node:
            host, _, port = node.address.rpartition(":")
            for garbage in (
                b"\0" * 4096,
                b"GET / HTTP/1.1\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 999,
            ):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(garbage)
                writer.write_eof()
                while await reader.read(4096):
                    pass
                writer.close()
            assert await node.answers()

    run(main())


def test_a_client_of_another_region_is_refused():
    async def main() -> None:
        async with Node() as node:
            stranger = CLIENT_CONTRACT.encode_hello(hello("r", region="eu-west-1"))
            assert "is of region eu-west-1, not of us-east-1" in await node.ends(NODE_PATH, stranger)

    run(main())


# --- the other end does not read --------------------------------------------------------------------------


def test_what_waits_for_a_peer_that_does_not_read_is_bounded_and_then_its_stream_ends():
    async def main() -> None:
        async with Node() as node:
            call = await node.dial(PEER_PATH, PEER_HELLO)
            await node.handler.until(lambda: node.network.connected("a"))
            stream = node.network._streams["a"]
            before, chunk = PROCESS_FAULTS.overflowed, pm.SnapshotChunk(1, 1, 1, 1, 0, bytes(1 << 20), False)
            queued_max = sent = 0
            while PROCESS_FAULTS.overflowed == before and sent < 4 * QUEUE_BYTES_MAX:
                for _ in range(8):
                    node.network.send("a", chunk)
                    sent += len(chunk.data)
                queued_max = max(queued_max, stream.queued_bytes)
                await asyncio.sleep(0)
            assert queued_max <= QUEUE_BYTES_MAX
            assert sent <= 2 * QUEUE_BYTES_MAX
            await node.handler.until(lambda: not node.network.connected("a"))
            assert node.handler.down == ["the queue towards the peer is full"]
            assert PROCESS_FAULTS.overflowed == before + 1
            assert stream.queued_bytes == 0  # what waited is let go of
            assert await node.answers()
            call.cancel()

    run(main())


def test_a_writer_that_cannot_write_takes_one_batch_from_the_queue_and_no_more():
    async def main() -> None:
        taken: list[bytes] = []

        async def write(data: bytes) -> None:
            taken.append(data)
            await asyncio.Event().wait()  # a window that never opens

        async def read() -> bytes:
            await asyncio.Event().wait()
            return b""

        stream: BatchStream[pm.PeerMessage, pm.PeerMessage] = BatchStream(PEER_CONTRACT, read, write, NOW, CHECKED_FROM)
        running = asyncio.ensure_future(stream.run(lambda batch: None))
        for number in range(10):
            stream.send(pm.TimeoutNow(1, number))
            await asyncio.sleep(0)
        assert len(taken) == 1
        running.cancel()
        await asyncio.wait((running,))

    run(main())
