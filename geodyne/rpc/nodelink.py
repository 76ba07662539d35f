"""One node as a region's client sees it: the link, and the one Watch that is outstanding on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from geodyne.messages import Answer, Refused, Request, Response, Watch, Watched
from geodyne.ports import ClientConnector, ClientLink
from geodyne.rpc.catalogview import NO_REVISION

WATCH_RETRY_MS: Final = 200
WATCH_GRACE_MS: Final = 5_000  # a node that is this late with a Watch answer has lost the request

_log = logging.getLogger(__name__)


class NodeAddress(NamedTuple):
    """A node of the region and where its gRPC server listens ("host:port"; "" for a local one)."""

    id: str
    zone: str
    address: str


class NodeLinkOwner(Protocol):
    """What hears of a node's answers and of its coming and going."""

    @property
    def watch_ms(self) -> int: ...

    @property
    def catalog_revision(self) -> int: ...

    def next_id(self) -> int: ...

    def on_node_up(self, node: NodeLink) -> None: ...

    def on_node_down(self, node: NodeLink) -> None: ...

    def on_responses(self, node: NodeLink, responses: Sequence[Response]) -> None: ...

    def on_watched(self, node: NodeLink, watched: Watched) -> None: ...


def _unopened(request: Request) -> None:
    raise AssertionError("the link was never opened")


class NodeLink:
    """One node: its link and its outstanding Watch."""

    __slots__ = (
        "_client",
        "_counts_version",
        "_leads_version",
        "_link",
        "_loop",
        "_timer",
        "address",
        "connected",
        "id",
        "send",
        "watch_id",
        "zone",
    )

    def __init__(self, client: NodeLinkOwner, node: NodeAddress) -> None:
        self._client = client
        self.id, self.zone, self.address = node
        self.connected = False
        self.watch_id = 0
        self._link: ClientLink | None = None
        self.send: Callable[[Request], None] = _unopened
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leads_version = NO_REVISION
        self._counts_version = 0
        self._timer: asyncio.TimerHandle | None = None

    def open(self, connector: ClientConnector, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._link = connector.open(self.id, self.address, self)
        self.send = self._link.send

    async def close(self) -> None:
        self._stop_timer()
        if self._link is not None:
            await self._link.close()

    def on_connected(self, node_id: str) -> None:
        self.connected = True
        self._leads_version = NO_REVISION  # a restarted node counts anew
        self._counts_version = 0
        self._watch()
        self._client.on_node_up(self)

    def on_responses(self, node_id: str, responses: Sequence[Response]) -> None:
        self._client.on_responses(self, responses)

    def on_disconnected(self, node_id: str, reason: str) -> None:
        self.connected = False
        self.watch_id = 0
        self._stop_timer()
        self._client.on_node_down(self)

    def on_watch_answer(self, answer: Answer) -> None:
        if isinstance(answer, Watched):
            self._leads_version = answer.leads_version
            self._counts_version = answer.counts_version
            self._client.on_watched(self, answer)
            if self.connected:
                self._watch()
        else:
            if isinstance(answer, Refused):
                _log.warning("node %s refuses to be watched: %s %s", self.id, answer.code, answer.message)
            self.watch_id = 0
            self._watch_after(WATCH_RETRY_MS)

    def _watch(self) -> None:
        """Ask for news, and again should no answer come."""
        client = self._client
        wait_ms = client.watch_ms
        self.watch_id = client.next_id()
        call = Watch(client.catalog_revision, self._leads_version, wait_ms, self._counts_version)
        self.send(Request(self.watch_id, call, None, wait_ms + WATCH_GRACE_MS))
        self._watch_after(wait_ms + WATCH_GRACE_MS)

    def _watch_after(self, delay_ms: int) -> None:
        self._stop_timer()
        if self._loop is not None:
            self._timer = self._loop.call_later(delay_ms / 1_000, self._watch_again)

    def _watch_again(self) -> None:
        self._timer = None
        if self.connected:
            self._watch()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
