"""Metrics, health, status and administration over HTTP; log lines."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from geodyne.cli import probe
from geodyne.listen import ListenError
from geodyne.observe.log import JsonFormatter
from geodyne.observe.server import ObserveServer, _names_this_machine
from geodyne.settings import ADMIN_TOKEN_HEADER

TOKEN = "0123456789abcdef" * 4
Fetch = Callable[[bytes], Coroutine[Any, Any, tuple[int, bytes]]]


def served(scenario: Callable[[Fetch, dict[str, Any]], Coroutine[Any, Any, None]], admin_token: str = "") -> None:
    async def run() -> None:
        registry = CollectorRegistry()
        Gauge("geodyne_example", "An example.", registry=registry).set(7)
        state: dict[str, Any] = {"healthy": True}

        def fails(arguments: dict[str, Any]) -> dict[str, Any]:
            raise KeyError("x")

        async def later(arguments: dict[str, Any]) -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"later": arguments}

        server = ObserveServer(
            "127.0.0.1",
            0,
            registry,
            health=lambda: state,
            status=lambda: {"partitions": []},
            admin={"now": lambda arguments: {"now": arguments}, "later": later, "fails": fails},
            pages={"/own": lambda query: (200 if query else 404, dict(query))},
            admin_token=admin_token,
        )
        port = await server.start()

        async def fetch(data: bytes) -> tuple[int, bytes]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
            writer.close()
            return int(head.split()[1]), body

        try:
            await scenario(fetch, state)
        finally:
            await server.stop()
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(run())


def get(path: str, host: str = "h") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def post(
    path: str, body: bytes, content_type: str = "application/json", host: str = "127.0.0.1", more: str = ""
) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}\r\n".encode() + body


def test_metrics_health_and_status_are_served() -> None:
    async def scenario(fetch: Fetch, state: dict[str, Any]) -> None:
        status, body = await fetch(get("/metrics"))
        assert status == 200
        assert b"geodyne_example 7.0" in body
        assert await fetch(get("/healthz")) == (200, b'{"healthy":true}')
        state["healthy"] = False
        assert await fetch(get("/healthz")) == (503, b'{"healthy":false}')
        assert await fetch(get("/status")) == (200, b'{"partitions":[]}')
        assert (await fetch(get("/other")))[0] == 404

    served(scenario)


def test_administration_takes_json_posts_and_awaits_calls_that_take_time() -> None:
    async def scenario(fetch: Fetch, state: dict[str, Any]) -> None:
        assert await fetch(post("/admin/now", b'{"a":1}')) == (200, b'{"now":{"a":1}}')
        assert await fetch(post("/admin/later", b"")) == (200, b'{"later":{}}')
        assert (await fetch(post("/admin/none", b"{}")))[0] == 404
        assert (await fetch(get("/admin/now", "localhost")))[0] == 405
        assert (await fetch(post("/admin/now", b"{", "application/json")))[0] == 400
        assert (await fetch(post("/admin/now", b"[]", "application/json")))[0] == 400
        assert (await fetch(post("/admin/now", b"{}", "text/plain")))[0] == 415
        status, body = await fetch(post("/admin/fails", b"{}"))
        assert (status, body) == (500, b'{"error":"KeyError"}')

    logging.disable(logging.CRITICAL)
    try:
        served(scenario)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9000", "localhost", "LocalHost:9000", "[::1]:9000", "[::1]"])
def test_administration_is_asked_for_at_an_address_or_localhost(host: str) -> None:
    async def scenario(fetch: Fetch, state: dict[str, Any]) -> None:
        assert (await fetch(post("/admin/now", b"{}", host=host)))[0] == 200

    served(scenario)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9000", "127.0.0.1.evil.example", "localhost.evil", "", "["]
)
def test_a_name_that_may_be_pointed_at_this_machine_gets_no_administration_but_the_other_pages(host: str) -> None:
    async def scenario(fetch: Fetch, state: dict[str, Any]) -> None:
        status, body = await fetch(post("/admin/now", b"{}", host=host))
        assert status == 403
        assert b"IP address or localhost" in body
        assert (await fetch(get("/admin/now", host)))[0] == 403
        for path in ("/metrics", "/healthz", "/status"):
            assert (await fetch(get(path, host)))[0] == 200

    served(scenario)


def test_the_host_that_is_listened_on_may_be_a_name() -> None:
    assert _names_this_machine("DB-1.internal:9000", "db-1.internal")
    assert not _names_this_machine("db-2.internal:9000", "db-1.internal")
    assert not _names_this_machine("db-1.internal:9000", "0.0.0.0")


def test_without_the_token_of_the_process_nothing_is_administered_or_told() -> None:
    async def scenario(fetch: Fetch, state: dict[str, Any]) -> None:
        wrong = ("", f"{ADMIN_TOKEN_HEADER}: {TOKEN[:-1]}\r\n", f"{ADMIN_TOKEN_HEADER}: {TOKEN}x\r\n")
        for header in (*wrong, f"{ADMIN_TOKEN_HEADER}: \xff\xfe\r\n", f"Authorization: {TOKEN}\r\n"):
            for name in ("now", "later", "none"):
                status, body = await fetch(post(f"/admin/{name}", b"{}", more=header))
                assert status == 403
                assert ADMIN_TOKEN_HEADER.encode() in body
                assert TOKEN[:-1].encode() not in body
        right = f"{ADMIN_TOKEN_HEADER.lower()}: {TOKEN}\r\n"
        assert await fetch(post("/admin/now", b"{}", more=right)) == (200, b'{"now":{}}')
        assert (await fetch(post("/admin/now", b"{}", host="evil.example", more=right)))[0] == 403
        assert TOKEN.encode() not in (await fetch(get("/status")))[1] + (await fetch(get("/metrics")))[1]

    served(scenario, TOKEN)


def test_the_commands_administer_with_the_token() -> None:
    async def run() -> None:
        def server(token: str) -> ObserveServer:
            admin = {"now": lambda arguments: {"now": arguments}}
            return ObserveServer(
                "127.0.0.1", 0, CollectorRegistry(), health=dict, status=dict, admin=admin, admin_token=token
            )

        for expected in (TOKEN, ""):  # a process of an earlier version's launch file has none, and asks for none
            asked = server(expected)
            address = f"127.0.0.1:{await asked.start()}"
            answer = await probe.administer(address, "now", {"a": 1}, TOKEN)
            assert answer is not None
            assert (answer.status, answer.json()) == (200, {"now": {"a": 1}})
            answer = await probe.administer(address, "now", {}, "")
            assert answer is not None
            assert answer.status == (403 if expected else 200)
            await asked.stop()

    asyncio.run(run())


def test_broken_and_oversized_requests_are_refused() -> None:
    async def scenario(fetch: Fetch, state: dict[str, Any]) -> None:
        assert (await fetch(b"HELO\r\n\r\n"))[0] == 400
        assert (await fetch(b"\xff\xfe / HTTP/1.1\r\n\r\n"))[0] == 405
        assert (await fetch(b"GET / HTTP/1.1\r\nA: " + b"a" * 20_000 + b"\r\n\r\n"))[0] == 431
        assert (await fetch(b"POST /admin/now HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"))[0] == 413
        assert (await fetch(b"POST /admin/now HTTP/1.1\r\nContent-Length: -1\r\n\r\n"))[0] == 400
        assert (await fetch(b"POST /admin/now HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"))[0] == 411

    served(scenario)


def test_a_port_in_use_is_a_clear_error() -> None:
    async def run() -> None:
        def server(port: int) -> ObserveServer:
            return ObserveServer("127.0.0.1", port, CollectorRegistry(), health=dict, status=dict)

        first = server(0)
        port = await first.start()
        with pytest.raises(ListenError, match=f"port {port}"):
            await server(port).start()
        await first.stop()

    asyncio.run(run())


def test_a_log_event_is_one_line_of_json_with_its_fields() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("us-east-1/router-1"))
    logger = logging.Logger("geodyne.test")
    logger.addHandler(handler)
    logger.info("region %s", "up", extra={"request_id": "R1", "odd": {1, 2}.__class__, "event": "not this"})
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("failed")
    first, second = stream.getvalue().splitlines()
    line = json.loads(first)
    assert (line["event"], line["level"], line["process"], line["request_id"]) == (
        "region up",
        "info",
        "us-east-1/router-1",
        "R1",
    )
    assert "two\nlines" in json.loads(second)["error"]


def test_an_address_that_a_predecessor_still_has_is_waited_for() -> None:
    async def run() -> None:
        def server(port: int) -> ObserveServer:
            return ObserveServer("127.0.0.1", port, CollectorRegistry(), health=dict, status=dict)

        first = server(0)
        port = await first.start()
        second = server(port)
        starting = asyncio.ensure_future(second.start(patience_s=20.0))
        with pytest.raises(ListenError):
            await server(port).start()
        assert not starting.done()
        await first.stop()
        assert await starting == port
        await second.stop()

    asyncio.run(run())


def test_a_process_has_pages_of_its_own_which_get_the_query() -> None:
    async def scenario(fetch: Fetch, state: dict[str, Any]) -> None:
        assert await fetch(b"GET /own?a=1&b=x%20y HTTP/1.1\r\n\r\n") == (200, b'{"a":"1","b":"x y"}')
        assert await fetch(b"GET /own HTTP/1.1\r\n\r\n") == (404, b"{}")
        assert (await fetch(b"GET /own?%b HTTP/1.1\r\n\r\n" % (b"a=1&" * 17)))[0] == 400
        assert (await fetch(b"POST /own HTTP/1.1\r\nContent-Type: application/json\r\n\r\n"))[0] == 405

    served(scenario)
