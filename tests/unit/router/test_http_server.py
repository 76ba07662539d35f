"""The HTTP server over real loopback connections: order, limits, broken input, draining."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.listen import ListenError
from geodyne.rpc.drive import Reply
from router.http.server import HttpServer, ServerLimits, _Connection
from router.http.values import HttpRequest, HttpResponse

POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b"


_loop: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}


@pytest.fixture(params=["asyncio", "uvloop"], scope="module", autouse=True)
def event_loop_kind(request: pytest.FixtureRequest) -> None:
    """Both event loops: their transports differ in details that matter here."""
    _loop["factory"] = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop


def post(body: bytes) -> bytes:
    return POST % (len(body), body)


async def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, request.body)


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:-2])}
    return int(lines[0].split()[1]), headers, await reader.readexactly(int(headers.get(b"content-length", b"0")))


async def until(replies: list[Any]) -> None:
    """The handler has been reached."""
    while not replies:  # noqa: ASYNC110 - the handler runs outside of any task and has no event to set
        await asyncio.sleep(0)


Scenario = Callable[[asyncio.StreamReader, asyncio.StreamWriter, HttpServer], Awaitable[None]]


def serve(
    scenario: Scenario,
    handler: Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]] = echo,
    limits: ServerLimits | None = None,
) -> None:
    async def run() -> None:
        server = HttpServer(
            handler, direct_get={b"/direct": lambda request: HttpResponse(200, request.query)}, limits=limits
        )
        port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.wait_for(scenario(reader, writer, server), 5)
        finally:
            writer.close()
            await server.stop(0.2)
        assert server.buffered_bytes == 0
        assert not server.connections

    with asyncio.Runner(loop_factory=_loop["factory"]) as runner:
        runner.run(run())


def test_every_response_has_the_headers_that_sdks_look_for() -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        seen = set()
        for body in (b"{}", b"", b"x" * 100_000):
            writer.write(post(body))
            status, headers, received = await read_response(reader)
            assert (status, received) == (200, body)
            assert int(headers[b"x-amz-crc32"]) == zlib.crc32(body)
            assert re.fullmatch(rb"[A-Z0-9]{52}", headers[b"x-amzn-requestid"])
            assert headers[b"content-type"] == b"application/x-amz-json-1.0"
            assert headers[b"server"]
            assert headers[b"date"].endswith(b"GMT")
            seen.add(headers[b"x-amzn-requestid"])
        assert len(seen) == 3

    serve(scenario)


def test_pipelined_requests_are_answered_in_order_though_the_first_waits() -> None:
    replies: list[Reply[bytes]] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        if request.body != b"0":
            return HttpResponse(200, request.body)
        reply: Reply[bytes] = Reply()
        replies.append(reply)
        return HttpResponse(200, await reply)

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"".join(post(b"%d" % n) for n in range(500)))
        await until(replies)
        replies[0].succeed(b"0")
        for n in range(500):
            assert (await read_response(reader))[2] == b"%d" % n

    serve(scenario, handler)


def test_a_request_may_come_in_single_bytes_and_a_body_in_chunks() -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        chunked = (
            b"POST /a?b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\nX-Trailer: t\r\n\r\n"
        )
        for byte in chunked:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await read_response(reader))[2] == b"abc"
        writer.write(post(b"next"))
        assert (await read_response(reader))[2] == b"next"

    serve(scenario)


def test_expect_continue_is_answered_before_the_body_comes() -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await read_response(reader))[2] == b"ok"

    serve(scenario)


def test_connection_close_and_http_1_0_are_honoured() -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nok")
        status, headers, body = await read_response(reader)
        assert (status, body, headers[b"connection"]) == (200, b"ok", b"close")
        assert await reader.read() == b""

    async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        for version in (b"1.0", b"1.1", b"1.0"):
            writer.write(b"POST / HTTP/%b\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok" % version)
            assert (await read_response(reader))[1][b"connection"] == b"keep-alive"

    async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        assert (await read_response(reader))[1][b"connection"] == b"close"
        assert await reader.read() == b""

    serve(scenario)
    serve(kept)
    serve(closed)


def test_a_half_closed_client_still_gets_its_answer() -> None:
    replies: list[Reply[bytes]] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        reply: Reply[bytes] = Reply()
        replies.append(reply)
        return HttpResponse(200, await reply)

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(post(b"x"))
        writer.write_eof()
        await until(replies)
        await asyncio.sleep(0.02)
        replies[0].succeed(b"late")
        assert (await read_response(reader))[2] == b"late"
        assert await reader.read() == b""

    serve(scenario, handler)


def test_an_upgrade_is_declined_by_answering_the_request() -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        upgrade = (
            b"POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok"
        )
        writer.write(upgrade + post(b"next"))
        assert (await read_response(reader))[2] == b"ok"
        assert (await read_response(reader))[2] == b"next"
        writer.write(b"CONNECT a:1 HTTP/1.1\r\n\r\n")
        assert (await read_response(reader))[0] == 400

    serve(scenario)


def test_a_direct_get_is_answered_without_the_handler() -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        raise AssertionError

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"GET /direct?a=b HTTP/1.1\r\n\r\n")
        assert (await read_response(reader))[2] == b"a=b"

    serve(scenario, handler)


def test_a_failing_handler_is_answered_500_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        raise RuntimeError("of no business to the client")

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        for _ in range(2):
            writer.write(post(b"x"))
            status, _, body = await read_response(reader)
            assert status == 500
            assert b"business" not in body

    with caplog.at_level(logging.CRITICAL):
        serve(scenario, handler)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),  # TLS
        (b"HELO there\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: abc\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nBad Header: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nA: " + b"b" * 70_000, 431),
        (b"POST /" + b"a" * 70_000, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
    ],
)
def test_broken_or_oversized_input_is_refused_and_the_connection_closed(request_bytes: bytes, status: int) -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(post(b"good"))
        if len(request_bytes) < 60_000:  # in one piece with the good one, otherwise after it
            writer.write(request_bytes)
        assert (await read_response(reader))[0] == 200
        if len(request_bytes) >= 60_000:
            writer.write(request_bytes)
        assert (await read_response(reader))[0] == status
        assert await reader.read() == b""

    serve(scenario)


def test_a_client_that_sends_a_body_over_the_limit_reads_the_refusal() -> None:
    limits = ServerLimits(body_bytes_max=100_000, buffered_bytes_max=1_000_000)

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(30):
            writer.write(b"x" * 100_000)
            await writer.drain()
        status, _, body = await read_response(reader)
        assert status == 413
        assert b"RequestEntityTooLargeException" in body

    serve(scenario, limits=limits)


def test_a_chunked_body_over_the_limit_is_refused() -> None:
    limits = ServerLimits(body_bytes_max=1000, buffered_bytes_max=10_000)

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n")
        for _ in range(10):
            writer.write(b"64\r\n" + b"x" * 100 + b"\r\n")
        assert (await read_response(reader))[0] == 413

    serve(scenario, limits=limits)


def test_bodies_held_by_all_connections_together_are_bounded() -> None:
    limits = ServerLimits(body_bytes_max=1000, buffered_bytes_max=1500)
    replies: list[Reply[bytes]] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        reply: Reply[bytes] = Reply()
        replies.append(reply)
        return HttpResponse(200, await reply)

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        port = next(iter(server.connections))._transport.get_extra_info("sockname")[1]  # type: ignore[union-attr]
        writer.write(post(b"x" * 1000))
        await until(replies)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        other_writer.write(post(b"x" * 1000))
        assert (await read_response(other_reader))[0] == 503
        other_writer.close()
        replies[0].succeed(b"done")
        assert (await read_response(reader))[0] == 200

    serve(scenario, handler, limits)


def test_more_connections_than_the_limit_are_told_so() -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(post(b"1"))
        await read_response(reader)
        port = writer.get_extra_info("peername")[1]
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await read_response(other_reader))[0] == 503
        assert await other_reader.read() == b""
        other_writer.close()

    serve(scenario, limits=ServerLimits(connections_max=1))


class _Transport(asyncio.Transport):
    """A transport whose fate a test reads."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.state = "open"
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.state != "open"

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def connected(server: HttpServer) -> tuple[_Connection, _Transport]:
    transport, connection = _Transport(), _Connection(server)
    connection.connection_made(transport)
    return connection, transport


def test_a_request_that_trickles_in_is_cut_off_in_time() -> None:
    async def run() -> None:
        server = HttpServer(echo, limits=ServerLimits(request_s=3, discard_s=2))
        connection, transport = connected(server)
        for tick in range(server.tick + 1, server.tick + 5):
            server.tick = tick
            connection.data_received(b"POST / HTTP/1.1\r\n" if tick == 2 else b"A: b\r\n")
            connection.on_tick(tick)
        assert transport.written == b""
        server.tick += 1
        connection.on_tick(server.tick)
        assert b" 408 " in transport.written
        for _ in range(3):
            server.tick += 1
            connection.on_tick(server.tick)
        assert transport.state == "aborted"
        await server.stop(0)

    asyncio.run(run())


def test_idle_and_unread_connections_are_closed_in_time_but_waiting_ones_are_not() -> None:
    async def never(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, await Reply[bytes]())

    async def run() -> None:
        limits = ServerLimits(idle_s=3, stall_s=3)
        waiting = connected(HttpServer(never, limits=limits))
        waiting[0].data_received(post(b"x"))
        idle = connected(HttpServer(echo, limits=limits))
        unread = connected(HttpServer(echo, limits=limits))
        unread[0].pause_writing()
        unread[0].data_received(post(b"x"))
        assert not unread[1].reading
        for tick in range(2, 7):
            for connection, _ in (waiting, idle, unread):
                connection.on_tick(tick)
        assert [transport.state for _, transport in (waiting, idle, unread)] == ["open", "aborted", "aborted"]
        assert unread[1].written == b""

    asyncio.run(run())


def test_reading_pauses_while_many_requests_wait_and_goes_on_after() -> None:
    replies: list[Reply[bytes]] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        replies.append(Reply())
        return HttpResponse(200, await replies[-1])

    async def run() -> None:
        server = HttpServer(handler, limits=ServerLimits(pipelined_max=2))
        connection, transport = connected(server)
        connection.data_received(post(b"x") * 3)
        assert not transport.reading
        for answered in range(3):
            replies[answered].succeed(b"")
        assert transport.reading
        assert transport.written.count(b"200 OK") == 3
        await server.stop(0)

    asyncio.run(run())


def test_a_client_that_has_gone_leaves_nothing_behind() -> None:
    replies: list[Reply[bytes]] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        replies.append(Reply())
        return HttpResponse(200, await replies[-1])

    async def run() -> None:
        server = HttpServer(handler)
        connection, transport = connected(server)
        connection.data_received(post(b"x" * 10) * 3 + post(b"y" * 10)[:-2])
        assert server.buffered_bytes == 38
        connection.connection_lost(None)
        assert server.buffered_bytes == 10
        replies[0].succeed(b"")
        assert server.buffered_bytes == 0
        assert len(replies) == 1
        assert transport.written == b""
        await server.stop(0)

    asyncio.run(run())


@pytest.mark.parametrize("sent", [post(b"x" * 10)[:-2], post(b"x" * 10), b"nonsense\r\n\r\n"])
def test_a_closed_connection_is_freed_without_the_cycle_collector(sent: bytes) -> None:
    """The collector is set to come seldom, and a body may be 16 MB."""

    def alive() -> int:
        return sum(type(thing) is _Connection for thing in gc.get_objects())

    async def run() -> None:
        server = HttpServer(echo)
        connection, transport = connected(server)
        connection.data_received(sent)
        connection.connection_lost(None)
        del connection, transport
        assert alive() == before
        await server.stop(0)

    gc.collect()
    before = alive()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_stopping_lets_a_request_in_progress_finish_and_closes_idle_connections() -> None:
    replies: list[Reply[bytes]] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        replies.append(Reply())
        return HttpResponse(200, await replies[-1])

    async def run() -> None:
        server = HttpServer(handler)
        port = await server.start("127.0.0.1", 0)
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"x"))
        await until(replies)
        stopping = asyncio.create_task(server.stop(5))
        assert await idle_reader.read() == b""
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection("127.0.0.1", port)
        replies[0].succeed(b"done")
        _, headers, body = await read_response(reader)
        assert (body, headers[b"connection"]) == (b"done", b"close")
        await stopping
        writer.close()
        idle_writer.close()

    asyncio.run(run())


def test_a_port_in_use_is_named_in_one_line() -> None:
    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ListenError, match=f"port {port} on 127.0.0.1 is already in use"):
                await HttpServer(echo).start("127.0.0.1", port)

    asyncio.run(run())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from(
            [
                post(b"ab"),
                b"POST / HTTP/1.1\r\n",
                b"A: b\r\n",
                b"\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"2\r\nab\r\n",
            ]
        ),
        max_size=8,
    )
)
def test_no_bytes_break_a_connection_object(parts: list[bytes]) -> None:
    async def run() -> None:
        server = HttpServer(echo)
        connection, transport = connected(server)
        for part in parts:
            if transport.state == "open":
                connection.data_received(part)
        connection.connection_lost(None)
        assert server.buffered_bytes == 0
        assert b" 500 " not in transport.written
        await server.stop(0)

    asyncio.run(run())


def test_a_request_knows_the_other_end_of_its_connection() -> None:
    async def peer(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, f"{request.peer[0]} {request.peer[1]}".encode())

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        host, port = writer.get_extra_info("sockname")[:2]
        for _ in range(2):
            writer.write(post(b"x"))
            assert (await read_response(reader))[2] == f"{host} {port}".encode()

    serve(scenario, peer)
