"""Batches between regions that are packed: the same after the wire, bounded for who unpacks, and only where it pays."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.clock import SystemClock
from geodyne.messages import Change
from geodyne.peermessages import Hello
from geodyne.rpc.codecparts import CodecError
from geodyne.rpc.faults import PROCESS_FAULTS
from geodyne.rpc.stream import sealed
from geodyne.wire import replication_v1_pb2 as wire
from replication.apply import Applier
from replication.codec import decode_source, encode_source
from replication.link import DestinationLink
from replication.packing import JUDGED_BYTES, RESTED_BYTES, UNPACKED_BYTES_MAX, WORTH_PART, Packer, Unpacker
from replication.server import ReplicationServer
from replication.values import FORMAT, PACKED_FROM, Command, Receipt, Result, Ship, change_bytes
from tests.unit.replication.fake_region import FakeRegion, key_of, version
from tests.unit.replication.test_replicator import _free_port, until

RAW = -zlib.MAX_WBITS
RANDOM = Random(11)


def ship(*images: bytes, number: int = 1) -> Ship:
    changes = tuple(Change(key_of(n), version(1_000 + n, "a"), image, len(image)) for n, image in enumerate(images))
    return Ship(number, "orders", "id-1", changes, sum(map(change_bytes, changes)))


def order(number: int) -> bytes:
    customer, total = RANDOM.getrandbits(40), RANDOM.randrange(10_000)
    head = b'{"pk":{"S":"order#%06d"},"status":{"S":"SHIPPED"},' % number
    return head + b'"customer":{"S":"%x@example.org"},"total":{"N":"%d"}}' % (customer, total)


def packed(packer: Packer, data: bytes) -> bytes:
    return asyncio.run(packer.pack(data))


def is_packed(data: bytes) -> bool:
    return bool(wire.SourceBatch.FromString(data).packed)


def bomb(content: bytes, told: int) -> bytes:
    context = zlib.compressobj(1, zlib.DEFLATED, RAW)
    data = context.compress(content) + context.flush(zlib.Z_SYNC_FLUSH)
    return wire.SourceBatch(packed=data, unpacked_bytes=told).SerializeToString()


@given(st.lists(st.lists(st.binary(max_size=300), max_size=6), max_size=8))
@settings(max_examples=50)
def test_all_batches_of_a_stream_are_the_same_after_the_wire(batches: list[list[bytes]]) -> None:
    packer, unpacker = Packer(), Unpacker()
    for number, images in enumerate(batches):
        sent = ship(*images, number=number)
        assert decode_source(packed(packer, encode_source([sent])), unpacker) == [sent]


def test_a_batch_of_many_pieces_is_the_same_after_the_wire() -> None:
    sent = ship(*(order(number) for number in range(4_000)))
    data = packed(Packer(), encode_source([sent]))
    assert is_packed(data)
    assert decode_source(data, Unpacker()) == [sent]


def test_what_earlier_batches_held_does_not_travel_again() -> None:
    packer = Packer()
    first, *later = (encode_source([ship(order(number), order(number + 1))]) for number in range(20))
    assert len(packed(packer, first)) > 0.6 * len(first)
    for data in later:
        assert len(packed(packer, data)) < 0.5 * len(data)


def test_small_batches_travel_as_they_are() -> None:
    data = encode_source([ship(b"x")])
    assert packed(Packer(), data) is data


def test_what_is_larger_than_may_be_unpacked_travels_as_it_is() -> None:
    data = bytes(UNPACKED_BYTES_MAX)
    assert packed(Packer(), data) is data


def test_contents_that_do_not_shrink_rest_packing_for_a_while_and_nothing_is_lost() -> None:
    packer, unpacker = Packer(), Unpacker()
    packs = []
    for number in range(2 * (JUDGED_BYTES + RESTED_BYTES) // 4_096):
        sent = ship(RANDOM.randbytes(4_000), number=number)
        raw = encode_source([sent])
        data = packed(packer, raw)
        assert len(data) < len(raw) + 64
        assert decode_source(data, unpacker) == [sent]
        packs.append(is_packed(data))
    assert packs[0]
    tried, all_of_them = sum(packs), len(packs)
    assert tried < 0.1 * all_of_them
    again = packs.index(True, packs.index(False))
    assert again * 4_096 == pytest.approx(JUDGED_BYTES + RESTED_BYTES, rel=0.1)


def test_contents_that_shrink_are_packed_throughout() -> None:
    packer = Packer()
    for number in range(200):
        data = encode_source([ship(*(order(100 * number + n) for n in range(20)))])
        assert len(packed(packer, data)) < WORTH_PART * len(data)


# --- what is not as it was sent


def test_a_small_message_that_unpacks_to_a_large_one_gets_no_memory() -> None:
    whole = bytes(4 * UNPACKED_BYTES_MAX)
    small = wire.SourceBatch.FromString(bomb(whole, 1)).packed
    messages = [
        wire.SourceBatch(packed=small, unpacked_bytes=told).SerializeToString()
        for told in (1_000, UNPACKED_BYTES_MAX, UNPACKED_BYTES_MAX + 1, len(whole), 0)
    ]
    assert max(map(len, messages)) < len(whole) // 100
    del whole
    tracemalloc.start()
    try:
        for message in messages:
            with pytest.raises(CodecError, match="packed batch"):
                decode_source(message, Unpacker())
        assert tracemalloc.get_traced_memory()[1] < 3 * UNPACKED_BYTES_MAX
        tracemalloc.reset_peak()
        for message in (messages[0], *messages[2:]):
            with pytest.raises(CodecError):
                decode_source(message, Unpacker())
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_torn_batch_is_refused_wherever_it_ends() -> None:
    data = packed(Packer(), encode_source([ship(*map(order, range(10)))]))
    whole = wire.SourceBatch.FromString(data)
    for end in range(len(whole.packed)):
        torn = wire.SourceBatch(packed=whole.packed[:end], unpacked_bytes=whole.unpacked_bytes).SerializeToString()
        with pytest.raises(CodecError):
            decode_source(torn, Unpacker())


def test_no_flipped_bit_passes_for_what_was_sent() -> None:
    sent = ship(*map(order, range(10)))
    whole = wire.SourceBatch.FromString(packed(Packer(), encode_source([sent])))
    for place in range(8 * len(whole.packed)):
        flipped = bytearray(whole.packed)
        flipped[place // 8] ^= 1 << place % 8
        message = wire.SourceBatch(packed=bytes(flipped), unpacked_bytes=whole.unpacked_bytes).SerializeToString()
        try:
            read = decode_source(message, Unpacker())
        except CodecError:
            continue
        assert read == [sent], "a bit that deflate does not look at"


def test_a_batch_that_is_lost_between_two_others_is_noticed() -> None:
    packer = Packer()
    first, _lost, third = (packed(packer, encode_source([ship(*map(order, range(n, n + 5)))])) for n in (0, 3, 4))
    unpacker = Unpacker()
    decode_source(first, unpacker)
    with pytest.raises(CodecError):
        decode_source(third, unpacker)


def test_nothing_is_packed_in_what_was_packed_nor_after_the_end_of_the_context() -> None:
    inner = packed(Packer(), encode_source([ship(order(1), order(2), order(3))]))
    twice = sealed(inner)
    with pytest.raises(CodecError, match="where none may be"):
        decode_source(bomb(twice, len(twice)), Unpacker())
    ended = sealed(encode_source([ship(order(1))]))
    context = zlib.compressobj(1, zlib.DEFLATED, RAW)
    message = wire.SourceBatch(packed=context.compress(ended) + context.flush(), unpacked_bytes=len(ended))
    with pytest.raises(CodecError):
        decode_source(message.SerializeToString(), Unpacker())


# --- on a stream


class Pair:
    """A link to region b and what listens there, which applies to a fake region."""

    def __init__(self, newest: int = FORMAT, oldest: int = 1) -> None:
        self.clock = SystemClock()
        self.b = FakeRegion("b", self.clock)
        self.b.create("t")
        self.b.control("update_table", name="t", replicas_add=["a"])
        self.b.control("set_replica", name="t", region="a", status="ACTIVE")
        self.address = f"127.0.0.1:{_free_port()}"
        self.hello = Hello("cluster", "b", "b/replicator-1", 1, newest, oldest)
        self.link = DestinationLink("b", self.address, "b/replicator-1", self.hello._replace(region="a"), Random(1))
        self.receipts: list[Receipt] = []
        self.server = self._server()

    def _server(self) -> ReplicationServer:
        async def refuse(_source: str, command: Command) -> Result:
            return Result(command.id, False)

        return ReplicationServer(
            self.address, self.hello, Applier(self.b, self.clock, lambda _ship, _ahead: None), refuse
        )

    async def __aenter__(self) -> Pair:
        await self.server.start()
        self.link.start()
        await until(lambda: self.link.connected, "the link is up")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.link.close()
        await self.server.close()

    async def send(self, first: int, count: int) -> None:
        goal = len(self.receipts) + count
        for number in range(first, first + count):
            at_us = self.clock.wall_us()
            change = Change(key_of(number), version(at_us, "a"), order(number), 9)
            table = self.b.table("t")
            self.link.ship("t", table.id, (change,) * 4, change_bytes(change), self.receipts.append)
        await until(lambda: len(self.receipts) == goal or not self.link.connected, "receipts")

    def keys(self) -> set[bytes]:
        return set(self.b.items("t"))


def test_a_stream_of_the_present_format_is_packed_and_its_bytes_are_counted() -> None:
    async def run() -> None:
        async with Pair() as pair:
            for first in range(0, 50, 10):
                await pair.send(first, 10)
            assert pair.keys() == set(map(key_of, range(50)))
            assert 0 < pair.link.sent_bytes < 0.5 * pair.link.encoded_bytes

    asyncio.run(run())


def test_an_older_peer_gets_nothing_packed() -> None:
    async def run() -> None:
        async with Pair(PACKED_FROM - 1) as pair:
            await pair.send(0, 50)
            assert pair.keys() == set(map(key_of, range(50)))
            assert pair.link.sent_bytes == pair.link.encoded_bytes > 0

    asyncio.run(run())


def test_after_a_break_both_ends_begin_with_a_new_context() -> None:
    async def run() -> None:
        async with Pair() as pair:
            await pair.send(0, 10)
            await pair.server.close()
            await until(lambda: not pair.link.connected, "the break is noticed")
            pair.server = pair._server()
            await pair.server.start()
            await until(lambda: pair.link.connected, "the link is up again")
            await pair.send(10, 10)
            assert pair.keys() == set(map(key_of, range(20)))

    asyncio.run(run())


def test_damage_in_a_packed_batch_ends_the_stream_and_nothing_of_it_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with Pair() as pair:
            await pair.send(0, 10)
            pack = Packer.pack

            async def damaged(packer: Packer, data: bytes) -> bytes:
                whole = wire.SourceBatch.FromString(await pack(packer, data))
                middle = len(whole.packed) // 2
                whole.packed = whole.packed[:middle] + bytes([whole.packed[middle] ^ 4]) + whole.packed[middle + 1 :]
                return whole.SerializeToString()

            monkeypatch.setattr(Packer, "pack", damaged)
            before = PROCESS_FAULTS.corrupt
            await pair.send(10, 10)
            monkeypatch.setattr(Packer, "pack", pack)
            assert PROCESS_FAULTS.corrupt == before + 1
            assert pair.keys() == set(map(key_of, range(10)))
            await until(lambda: pair.link.connected, "the link is up again")
            await pair.send(10, 10)
            assert pair.keys() == set(map(key_of, range(20)))

    asyncio.run(run())
