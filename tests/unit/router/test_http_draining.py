"""How an HTTP server leaves: what is asked is answered, kept connections are told, and another may take its port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from geodyne.listen import open_listener
from geodyne.rpc.drive import Reply
from router.http.server import HttpServer, ServerLimits
from router.http.values import HttpRequest, HttpResponse
from tests.unit.router.test_http_server import echo, post, read_response

LONG = ServerLimits(drain_s=20.0, drain_idle_s=10.0)  # of which no test waits for the end
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(main, 8))

    return run


def connection_header(response: tuple[int, dict[bytes, bytes], bytes]) -> bytes:
    return response[1][b"connection"]


def test_the_next_answer_of_a_kept_connection_says_that_it_closes(run: Run) -> None:
    async def main() -> None:
        server = HttpServer(echo, limits=LONG)
        port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"one"))
        assert connection_header(await read_response(reader)) == b"keep-alive"
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        writer.write(post(b"two"))
        answer = await read_response(reader)
        assert (answer[0], answer[2], connection_header(answer)) == (200, b"two", b"close")
        assert await reader.read() == b""
        await stopping
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    run(main())


def test_a_connection_on_which_nothing_comes_is_closed_after_a_while(run: Run) -> None:
    async def main() -> None:
        server = HttpServer(echo, limits=ServerLimits(drain_s=20.0, drain_idle_s=0.01))
        reader, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1", 0))
        writer.write(post(b"one"))
        await read_response(reader)
        await server.stop()
        assert await reader.read() == b""
        writer.close()

    run(main())


def test_what_waits_behind_a_request_in_progress_is_answered_too_and_only_the_last_answer_closes(run: Run) -> None:
    async def main() -> None:
        replies: list[Reply[bytes]] = []

        async def handler(request: HttpRequest) -> HttpResponse:
            replies.append(Reply())
            return HttpResponse(200, await replies[-1])

        server = HttpServer(handler, limits=LONG)
        reader, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1", 0))
        writer.write(post(b"x") * 3)
        while not replies:  # noqa: ASYNC110 - the handler runs outside of any task and has no event to set
            await asyncio.sleep(0)
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        answers = []
        for number in range(3):
            replies[number].succeed(b"%d" % number)
            answers.append(await read_response(reader))
        assert [answer[2] for answer in answers] == [b"0", b"1", b"2"]
        assert list(map(connection_header, answers)) == [b"keep-alive", b"keep-alive", b"close"]
        await stopping
        writer.close()

    run(main())


def test_a_request_that_does_not_end_is_cut_off(run: Run) -> None:
    async def main() -> None:
        async def never(request: HttpRequest) -> HttpResponse:
            return HttpResponse(200, await Reply[bytes]())

        server = HttpServer(never, limits=ServerLimits(drain_s=0.02, drain_idle_s=0.01))
        reader, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1", 0))
        writer.write(post(b"x"))
        await server.stop()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        assert not server.connections
        writer.close()

    run(main())


def test_two_servers_take_from_one_listener_and_what_connects_between_them_waits(run: Run) -> None:
    async def main() -> None:
        listener = open_listener("127.0.0.1", 0)
        port = listener.getsockname()[1]

        async def answered() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post(b"x"))
            body = (await read_response(reader))[2]
            writer.close()
            return body

        def named(name: bytes) -> HttpServer:
            async def handler(request: HttpRequest) -> HttpResponse:
                return HttpResponse(200, name)

            return HttpServer(handler, limits=ServerLimits(drain_s=1.0, drain_idle_s=0.0))

        first, second, third = named(b"first"), named(b"second"), named(b"third")
        assert await first.start("127.0.0.1", port, listener.dup()) == port
        assert await answered() == b"first"
        await second.start("127.0.0.1", port, listener.dup())
        await first.stop()
        assert await answered() == b"second"
        await second.stop()
        early = asyncio.ensure_future(answered())
        await asyncio.sleep(0)
        await third.start("127.0.0.1", port, listener.dup())
        assert await early == b"third"
        await third.stop()
        listener.close()
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", port)

    run(main())
