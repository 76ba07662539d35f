"""The front end while it opens: before the catalog is known no table may be called missing."""

from __future__ import annotations

import asyncio
import http.client
import json

import pytest
from prometheus_client import CollectorRegistry

from geodyne.clock import SystemClock
from geodyne.messages import METADATA_PARTITION, Request, Response, Watch, Watched
from geodyne.ports import ClientLinkEvents
from geodyne.rpc.region import NodeAddress
from router import frontend as frontends
from router.api.registry import SERVICE
from router.frontend import Frontend, FrontendSettings


class Node:
    """The link to a region's only node, which tells its catalog, without tables, when the test wants it."""

    node_id = "n"
    connected = True

    def __init__(self) -> None:
        self._events: ClientLinkEvents | None = None
        self._watch: Request | None = None

    def open(self, node_id: str, address: str, events: ClientLinkEvents) -> Node:
        self._events = events
        asyncio.get_running_loop().call_soon(events.on_connected, node_id)
        return self

    def send(self, request: Request) -> None:
        if isinstance(request.call, Watch):
            self._watch = request

    def tell(self) -> None:
        assert self._events is not None
        assert self._watch is not None
        watched = Watched(7, True, (), 1, ((METADATA_PARTITION, 1),))
        self._events.on_responses("n", [Response(self._watch.id, watched)])

    async def close(self) -> None:
        self._events = None


def opening(node: Node) -> Frontend:
    return Frontend(
        FrontendSettings("r", "a", ("r",), None),
        [NodeAddress("n", "a", "")],
        node,
        clock=SystemClock(),
        incarnation=1,
        registry=CollectorRegistry(),
    )


def get_item(port: int) -> tuple[int, str]:
    """Status and error type."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {
        "X-Amz-Target": f"{SERVICE}.GetItem",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/r/dynamodb/aws4_request, "
        "SignedHeaders=host, Signature=b",
        "X-Amz-Date": "20260101T000000Z",
    }
    try:
        connection.request("POST", "/", json.dumps({"TableName": "table", "Key": {"pk": {"S": "a"}}}), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())["__type"].partition("#")[2]
    finally:
        connection.close()


def test_a_request_that_comes_before_the_catalog_waits_for_it() -> None:
    async def run() -> None:
        node = Node()
        frontend = opening(node)
        port = await frontend.start("127.0.0.1", 0)
        asking = asyncio.create_task(asyncio.to_thread(get_item, port))
        while not frontend.early:  # noqa: ASYNC110 - it waits outside of any task and has no event to set
            await asyncio.sleep(0.001)
        assert not asking.done()
        node.tell()
        assert await asking == (400, "ResourceNotFoundException")
        assert frontend.early == 0
        await frontend.stop()

    asyncio.run(run())


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontends, "READY_S_MAX", 0.01)

    async def run() -> None:
        frontend = opening(Node())
        port = await frontend.start("127.0.0.1", 0)
        assert (await asyncio.to_thread(get_item, port))[0] == 503
        await frontend.stop()

    asyncio.run(run())


def test_a_successor_opens_its_door_only_when_it_can_answer() -> None:
    async def run() -> None:
        node = Node()
        frontend = opening(node)
        starting = asyncio.create_task(frontend.start("127.0.0.1", 0, once_ready=True))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not starting.done()
        node.tell()
        assert await asyncio.to_thread(get_item, await starting) == (400, "ResourceNotFoundException")
        await frontend.stop()

    asyncio.run(run())
