"""Routers of a simulated region: the real front door and operations above the simulated streams, without the socket.

A router is a process of its own: it dies with whatever it was doing, and the next one in its place is another writer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry

from geodyne.rpc.drive import Drive, drive
from geodyne.sim.loop import SimClock
from router.api.registry import OPERATIONS, SERVICE
from router.frontend import Frontend, FrontendSettings
from router.http.values import AMZ_JSON, Handler, HttpRequest, HttpResponse

if TYPE_CHECKING:
    from geodyne.sim.region import Region

Body = dict[str, Any]
_HEADERS: Mapping[str, dict[bytes, bytes]] = {
    name: {b"x-amz-target": f"{SERVICE}.{name}".encode(), b"content-type": AMZ_JSON} for name in OPERATIONS
}


class NoAnswer(Exception):
    """The connection broke, or the client's time was up: what became of the request is not known."""


class Response(NamedTuple):
    """What an SDK makes of an answer: `code` is empty for a success."""

    code: str
    body: Body


class _Door:
    """Stands for router.http.server.HttpServer: requests come as values."""

    PORT = 8_000

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def start(self, host: str, port: int, listener: socket.socket | None) -> int:
        return self.PORT

    async def stop(self) -> None:
        return None


class SimRouter:
    """The routers that one after the other hold one place: that of the region's client of that number."""

    def __init__(self, here: Region, number: int) -> None:
        self.number = number
        self.life = 0
        self.alive = False
        self.requests = 0
        self._here = here
        self._clock = SimClock(here.loop, rate=1.0, lease_offset_ms=0, skew_us=0)
        self._open: dict[asyncio.Future[HttpResponse], Drive[HttpResponse]] = {}
        self._frontend: Frontend | None = None
        self._door: _Door | None = None

    async def start(self) -> None:
        """Another process in the place of the one before, of its own identity."""
        here, client = self._here, self._here.clients[self.number]
        self.life += 1
        frontend = Frontend(
            FrontendSettings(client.region.region, client.region.zone, [client.region.region], None),
            here.node_addresses(),
            client.connector,
            clock=self._clock,
            incarnation=here.random.getrandbits(63),
            registry=CollectorRegistry(),
        )
        old, client.region = client.region, frontend.region
        await old.close()
        door = _Door(frontend._handle_early)
        vars(frontend).update(_server=door)
        await frontend.start("127.0.0.1", _Door.PORT)
        self._frontend, self._door = frontend, door
        self.alive = True

    async def kill(self) -> None:
        """The process is gone: its streams are cut, its requests have no answer, nothing of it runs any more."""
        frontend, self._frontend, self._door = self._frontend, None, None
        assert frontend is not None
        self.alive = False
        self._here.world.cut(self._here.clients[self.number].id, reason="the router died")
        under_way, self._open = self._open, {}
        for answer, driven in under_way.items():
            driven.cancel()
            if not answer.done():
                answer.set_exception(NoAnswer("the router died"))
        await frontend.stop()

    async def request(self, operation: str, body: Body, timeout_s: float) -> Response:
        """One request of a client that waits that long. Raises NoAnswer."""
        if self._door is None:
            raise NoAnswer("connection refused")
        self.requests += 1
        name = f"{self.number}-{self.life}-{self.requests}"
        request = HttpRequest(b"POST", b"/", b"", _HEADERS[operation], orjson.dumps(body), name)
        answer: asyncio.Future[HttpResponse] = self._here.loop.create_future()

        def done(response: HttpResponse | None, error: BaseException | None) -> None:
            self._open.pop(answer, None)
            if not answer.done() and response is not None:
                answer.set_result(response)

        def out_of_patience() -> None:
            if not answer.done():
                answer.set_exception(NoAnswer("timed out"))

        driven = drive(self._door.handler(request), done)
        if not driven.done:
            self._open[answer] = driven
        timer = self._here.loop.call_later(timeout_s, out_of_patience)
        try:
            response = await answer
        finally:
            timer.cancel()
        decoded: Body = orjson.loads(response.body)
        code = "" if response.status == 200 else str(decoded["__type"]).rpartition("#")[2]
        return Response(code, decoded)
