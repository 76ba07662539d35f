"""Client links inside one process: the values themselves change hands, one batch in each direction a loop turn.

`geodyne dev` runs router and node on one loop.  The same batching as over gRPC keeps the node's turn worth its cost:
what the router queues in one turn reaches the node as one batch, and the answers of one turn travel back as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from geodyne.messages import Request, Response
from geodyne.ports import ClientLinkEvents, NodeHandler


class LocalConnector:
    """Implements geodyne.ports.ClientConnector for nodes of this process, by node id."""

    def __init__(self, nodes: Mapping[str, NodeHandler]) -> None:
        self._nodes = nodes

    def open(self, node_id: str, address: str, events: ClientLinkEvents) -> LocalLink:
        """A link to the node; it is up from the next loop turn on. Raises KeyError for a node that is not here."""
        return LocalLink(node_id, self._nodes[node_id], events)


class LocalLink:
    """Implements geodyne.ports.ClientLink."""

    __slots__ = ("_connected", "_connecting", "_events", "_handler", "_loop", "_node_id", "_requests", "_responses")

    def __init__(self, node_id: str, handler: NodeHandler, events: ClientLinkEvents) -> None:
        self._node_id = node_id
        self._handler = handler
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._requests: list[Request] = []
        self._responses: list[Response] = []
        self._connected = False
        self._connecting: asyncio.Handle | None = self._loop.call_soon(self._connect)

    @property
    def node_id(self) -> str:
        return self._node_id

    @property
    def connected(self) -> bool:
        return self._connected

    def send(self, request: Request) -> None:
        """Queue a request for this turn's batch; dropped when the link is closed."""
        if not self._connected:
            return
        if not self._requests:
            self._loop.call_soon(self._hand_over)
        self._requests.append(request)

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connected:
            self._connected = False
            self._requests.clear()
            self._responses.clear()
            self._events.on_disconnected(self._node_id, "closed")

    def _connect(self) -> None:
        self._connecting = None
        self._connected = True
        self._events.on_connected(self._node_id)

    def _hand_over(self) -> None:
        requests, self._requests = self._requests, []
        if requests:
            self._handler.on_requests(requests, self._reply)

    def _reply(self, response: Response) -> None:
        if not self._connected:
            return
        if not self._responses:
            self._loop.call_soon(self._hand_back)
        self._responses.append(response)

    def _hand_back(self) -> None:
        responses, self._responses = self._responses, []
        if responses:
            self._events.on_responses(self._node_id, responses)
