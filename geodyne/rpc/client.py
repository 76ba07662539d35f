"""Client links over gRPC: the connector that routers and replicators use towards the nodes of a region."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from geodyne.messages import Busy, Refused, Request, Response
from geodyne.peermessages import Hello
from geodyne.ports import ClientLinkEvents
from geodyne.rpc.codec import decode_node_batch, encode_client_batch
from geodyne.rpc.stream import ITEM_BYTES_MAX, BatchStream, Contract, Destination, StreamDialer
from geodyne.rpc.weights import request_bytes

NODE_PATH = "/geodyne.node.v1.Node/Exchange"
CLIENT_CONTRACT: Contract[Request, Response] = Contract(encode_client_batch, decode_node_batch, request_bytes)


class GrpcConnector:
    """Implements geodyne.ports.ClientConnector. `hello` introduces this process on each link."""

    def __init__(self, hello: Hello, random: Random | None = None) -> None:
        self._hello = hello
        self._random = random

    def open(self, node_id: str, address: str, events: ClientLinkEvents) -> GrpcClientLink:
        """A link to the node at `address` ("host:port"); dials until it is closed. Needs a running loop."""
        return GrpcClientLink(node_id, address, self._hello, events, self._random)


class GrpcClientLink:
    """Implements geodyne.ports.ClientLink."""

    def __init__(
        self, node_id: str, address: str, hello: Hello, events: ClientLinkEvents, random: Random | None
    ) -> None:
        self._node_id = node_id
        self._events = events
        self._stream: BatchStream[Request, Response] | None = None
        self._dialer = StreamDialer(Destination(address, NODE_PATH, node_id), CLIENT_CONTRACT, hello, self, random)
        self._dialer.start()

    @property
    def node_id(self) -> str:
        return self._node_id

    @property
    def connected(self) -> bool:
        return self._stream is not None

    def send(self, request: Request) -> None:
        """Queue a request; it is answered Busy when the queue is full, and Refused when it is too large to travel."""
        stream = self._stream
        if stream is None or stream.send(request) or stream.broken:
            return  # a broken stream is about to say so through on_disconnected
        answer = (
            Refused("RequestEntityTooLargeException", "The request is too large to be sent to a node")
            if request_bytes(request) > ITEM_BYTES_MAX
            else Busy("the queue towards the node is full")
        )
        asyncio.get_running_loop().call_soon(self._answer_locally, Response(request.id, answer))

    def _answer_locally(self, response: Response) -> None:
        if self._stream is not None:
            self._events.on_responses(self._node_id, (response,))

    async def close(self) -> None:
        await self._dialer.close()

    def on_stream_up(self, stream: BatchStream[Request, Response]) -> None:
        self._stream = stream
        self._events.on_connected(self._node_id)

    def on_stream_batch(self, batch: Sequence[Response]) -> None:
        self._events.on_responses(self._node_id, batch)

    def on_stream_down(self, reason: str) -> None:
        self._stream = None
        self._events.on_disconnected(self._node_id, reason)
