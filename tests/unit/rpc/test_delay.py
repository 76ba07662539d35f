"""Delayed links over real sockets; times are lower bounds only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from geodyne.network import LinkQuality
from geodyne.rpc import delay
from geodyne.rpc.delay import DelayedLinks, Direction

ONE_WAY_MS = 20
BOUND_S = 8.0


class Rig:
    """An echo server behind a link, and the bytes it received."""

    def __init__(self) -> None:
        self.links = DelayedLinks()
        self.received = bytearray()
        self.reading = asyncio.Event()
        self.reading.set()
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def start(self, one_way_ms: float, echo: bool = True) -> str:
        self.echo = echo
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.target = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return await self.links.via(self.target, one_way_ms, always=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end: BaseException | None = None
        try:
            while True:
                await self.reading.wait()
                data = await reader.read(65_536)
                if not data:
                    break
                self.received += data
                if self.echo:
                    writer.write(data)
                    await writer.drain()
            if self.echo:
                writer.write(b"bye")  # after the half-close of the other side
        except ConnectionError as error:
            end = error
        finally:
            if not self.ended.done():
                self.ended.set_result(end)
            writer.close()


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address.split(":")
    return await asyncio.open_connection(host, int(port))


def with_rig(test: Callable[[Rig], Awaitable[None]]) -> None:
    async def main() -> None:
        rig = Rig()
        try:
            await test(rig)
        finally:
            await rig.links.close()
            rig.server.close()

    def bounded() -> Coroutine[Any, Any, None]:
        return asyncio.wait_for(main(), BOUND_S)

    asyncio.run(bounded())


def test_no_delay_is_no_forwarder():
    async def main() -> None:
        assert await DelayedLinks().via("10.0.0.1:8000", 0) == "10.0.0.1:8000"

    asyncio.run(main())


def test_bytes_take_a_handshake_and_a_round_trip_and_keep_their_order():
    async def test(rig: Rig) -> None:
        address = await rig.start(ONE_WAY_MS)
        loop = asyncio.get_running_loop()
        began = loop.time()
        reader, writer = await dial(address)
        sent = b"".join(bytes([n]) * 5_000 for n in range(200))
        writer.write(sent[:3])
        assert await reader.readexactly(3) == sent[:3]
        assert loop.time() - began >= 4 * ONE_WAY_MS / 1_000  # handshake, there, and back
        began = loop.time()
        writer.write(sent[3:])
        assert await reader.readexactly(len(sent) - 3) == sent[3:]
        assert loop.time() - began >= 2 * ONE_WAY_MS / 1_000
        assert await rig.links.via(rig.target, ONE_WAY_MS) == address
        writer.close()

    with_rig(test)


def test_a_half_close_passes_and_the_other_direction_goes_on():
    async def test(rig: Rig) -> None:
        reader, writer = await dial(await rig.start(ONE_WAY_MS))
        writer.write(b"x")
        writer.write_eof()
        assert await reader.read() == b"xbye"
        writer.close()
        assert await rig.ended is None

    with_rig(test)


def test_a_reset_passes_as_a_reset():
    async def test(rig: Rig) -> None:
        reader, writer = await dial(await rig.start(ONE_WAY_MS))
        writer.write(b"x")
        await reader.readexactly(1)
        side = next(iter(rig.links._links.values())).connections
        assert len(side) == 1
        import socket
        import struct

        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        assert isinstance(await rig.ended, ConnectionResetError)
        assert not side

    with_rig(test)


def test_a_refused_target_is_a_reset_after_the_delay():
    async def test(rig: Rig) -> None:
        await rig.start(0)
        rig.server.close()
        await rig.server.wait_closed()
        rig.links.set_delay(rig.target, ONE_WAY_MS)
        loop = asyncio.get_running_loop()
        began = loop.time()
        reader, writer = await dial(await rig.links.via(rig.target, ONE_WAY_MS))
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert loop.time() - began >= 2 * ONE_WAY_MS / 1_000
        writer.close()

    with_rig(test)


@pytest.mark.parametrize("direction", [Direction.OUT, Direction.IN, Direction.BOTH])
def test_a_blocked_direction_keeps_its_bytes_until_it_is_unblocked(direction):
    async def test(rig: Rig) -> None:
        reader, writer = await dial(await rig.start(1))
        writer.write(b"a")
        await reader.readexactly(1)
        rig.links.block(rig.target, direction)
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
        assert bytes(rig.received) == (b"ab" if direction is Direction.IN else b"a")
        rig.links.unblock(rig.target, direction)
        assert await reader.readexactly(1) == b"b"
        writer.close()

    with_rig(test)


@pytest.mark.parametrize("after", [Direction(0), Direction.OUT, Direction.IN, Direction.BOTH])
@pytest.mark.parametrize("before", [Direction(0), Direction.OUT, Direction.IN, Direction.BOTH])
def test_the_directions_that_are_named_are_blocked_and_no_others(before, after):
    async def test(rig: Rig) -> None:
        reader, writer = await dial(await rig.start(0))
        writer.write(b"a")
        await reader.readexactly(1)
        rig.links.set_blocked(rig.target, before)
        writer.write(b"b")
        rig.links.set_blocked(rig.target, after)
        if after:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(1), 0.05)
            rig.links.set_blocked(rig.target, Direction(0))
        assert await reader.readexactly(1) == b"b"
        writer.close()

    with_rig(test)


def test_no_connection_is_made_while_one_direction_is_blocked():
    async def test(rig: Rig) -> None:
        address = await rig.start(0)
        rig.links.set_blocked(rig.target, Direction.IN)
        reader, writer = await dial(address)
        writer.write(b"a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.05)
        assert not rig.received
        rig.links.set_blocked(rig.target, Direction(0))
        assert await reader.readexactly(1) == b"a"
        writer.close()

    with_rig(test)


def test_a_path_that_is_changed_shapes_what_is_sent_from_then_on():
    async def test(rig: Rig) -> None:
        reader, writer = await dial(await rig.start(0))
        writer.write(b"a")
        await reader.readexactly(1)
        loop = asyncio.get_running_loop()
        for quality, least_s in (
            (LinkQuality(100), 0.1),
            (LinkQuality(bandwidth_mbit=1), 2 * 0.08),  # 10 kB take 80 ms, and so they do on their way back
        ):
            rig.links.set_quality(rig.target, quality)
            began = loop.time()
            writer.write(b"x" * 10_000)
            await reader.readexactly(10_000)
            assert loop.time() - began >= least_s
        rig.links.set_quality(rig.target, LinkQuality())
        writer.write(b"last")
        assert await reader.readexactly(4) == b"last"
        writer.close()

    with_rig(test)


def test_what_is_held_is_bounded_and_the_sender_is_slowed(monkeypatch):
    monkeypatch.setattr(delay, "LINK_BYTES_MAX", 1 << 18)
    monkeypatch.setattr(delay, "RESUME_BYTES", 1 << 17)

    async def test(rig: Rig) -> None:
        address = await rig.start(0, echo=False)
        _, writer = await dial(address)
        writer.write(b"x")
        rig.links.block(rig.target)
        size = 16 << 20
        writer.write(bytes(size))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.2)
        link = next(iter(rig.links._links.values()))
        assert max(pipe._bytes for pipe in link.pipes) < (1 << 18) + (1 << 20)
        rig.links.unblock(rig.target)
        await writer.drain()
        writer.close()
        await rig.ended
        assert len(rig.received) == size + 1

    with_rig(test)


def test_a_shortened_delay_lets_nothing_overtake():
    async def test(rig: Rig) -> None:
        reader, writer = await dial(await rig.start(1))
        writer.write(b"a")
        await reader.readexactly(1)
        rig.links.set_delay(rig.target, 100)
        writer.write(b"b")
        await asyncio.sleep(0.01)
        rig.links.set_delay(rig.target, 0)
        writer.write(b"c")
        assert await reader.readexactly(2) == b"bc"
        writer.close()

    with_rig(test)


def test_close_ends_the_connections():
    async def test(rig: Rig) -> None:
        reader, writer = await dial(await rig.start(1))
        writer.write(b"a")
        await reader.readexactly(1)
        await rig.links.close()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert isinstance(await rig.ended, ConnectionResetError)
        writer.close()

    with_rig(test)
