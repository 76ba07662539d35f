"""A node's gRPC server: client streams to the NodeHandler, peer streams to the GrpcPeerNetwork."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from geodyne.messages import Refused, Request, Response
from geodyne.peermessages import Hello
from geodyne.ports import NodeHandler
from geodyne.rpc.codec import decode_client_batch, encode_node_batch
from geodyne.rpc.peers import GrpcPeerNetwork
from geodyne.rpc.stream import (
    ITEM_BYTES_MAX,
    KEEPALIVE_TIMEOUT_MS,
    BatchStream,
    Contract,
    StreamRefused,
    accept_stream,
    server_options,
)
from geodyne.rpc.weights import response_bytes

SERVER_CONTRACT: Contract[Response, Request] = Contract(encode_node_batch, decode_client_batch, response_bytes)
STOP_GRACE_S: Final = 0.25

_log = logging.getLogger(__name__)


class AddressUnavailable(OSError):
    """The server cannot listen there: the port is in use, or the host is not one of this machine's."""


class GrpcServer:
    """Listens on one address for streams of any contract. The generic half of GrpcNodeServer."""

    def __init__(self, address: str = "127.0.0.1:0", ping_ms: int = KEEPALIVE_TIMEOUT_MS) -> None:
        """A stream ends when the answer to a ping takes longer than `ping_ms`."""
        self._address = address
        self._ping_ms = ping_ms
        self._server: grpc.aio.Server | None = None
        self._methods: dict[str, Callable[[Any, Any], Any]] = {}
        self.port = 0

    def add(self, path: str, handle: Callable[[Any], Any]) -> None:
        """Serve `path` ("/package.Service/Method") by `handle(context)`, to be called before `start`.

        `handle` is a coroutine function, normally around geodyne.rpc.stream.accept_stream.
        """

        async def stream(_requests: Any, context: Any) -> None:
            await handle(context)

        self._methods[path] = stream

    async def start(self) -> int:
        """Listen; returns the port. Raises AddressUnavailable."""
        server = grpc.aio.server(options=server_options(self._ping_ms))
        for path, stream in self._methods.items():
            _, service, method = path.split("/")
            handler = grpc.stream_stream_rpc_method_handler(stream)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        try:
            port = int(server.add_insecure_port(self._address))
        except RuntimeError as error:
            await server.stop(None)  # or its collection warns, at any later time, that nobody did
            raise AddressUnavailable(f"cannot listen on {self._address}: {error}") from error
        if port == 0:
            await server.stop(None)
            raise AddressUnavailable(f"cannot listen on {self._address}: the address is in use or not local")
        await server.start()
        self._server = server
        self.port = port
        return port

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Accept nothing more, then end the streams that are left after the grace (seconds)."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)


class GrpcNodeServer:
    """The node's listener. `peers`, when given, takes the peer streams that arrive."""

    def __init__(
        self, address: str, hello: Hello, node_handler: NodeHandler, peers: GrpcPeerNetwork | None = None
    ) -> None:
        self._hello = hello
        self._handler = node_handler
        self._streams: set[BatchStream[Response, Request]] = set()
        self._peers = peers
        self._server = GrpcServer(address)
        self._server.add("/geodyne.node.v1.Node/Exchange", self._serve_client)
        if peers is not None:
            self._server.add("/geodyne.node.v1.Peer/Exchange", peers.accept)

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def clients(self) -> int:
        """How many client streams are up."""
        return len(self._streams)

    async def start(self) -> int:
        """Listen; returns the port. Raises AddressUnavailable."""
        return await self._server.start()

    async def stop(self) -> None:
        """End all client streams and stop listening. Peer links are closed by their own network."""
        for stream in tuple(self._streams):
            stream.reset("the node stops")
        await self._server.stop()

    async def _serve_client(self, context: Any) -> None:
        await accept_stream(
            context, SERVER_CONTRACT, self._hello, admit=self._admit, on_up=self._on_up, on_down=self._on_down
        )

    def _admit(self, hello: Hello) -> None:
        """Any process of the region may be a client: the others reach it over their own region's."""
        if hello.region != self._hello.region:
            raise StreamRefused(f"{hello.process_id} is of region {hello.region}, not of {self._hello.region}")

    def _on_up(self, stream: BatchStream[Response, Request]) -> Callable[[Sequence[Request]], None]:
        self._streams.add(stream)

        def reply(response: Response) -> None:
            if stream.send(response) or stream.broken:
                return  # answers for a client that went away have nowhere to go
            if response_bytes(response) > ITEM_BYTES_MAX:
                _log.error("an answer to %s is too large to be sent", stream.hello.process_id)
                stream.send(Response(response.id, Refused("InternalServerError", "The answer is too large")))
                return
            stream.overflow("the client does not read its answers")

        on_requests = self._handler.on_requests

        def on_batch(requests: Sequence[Request]) -> None:
            on_requests(requests, reply)

        return on_batch

    def _on_down(self, stream: BatchStream[Response, Request], reason: str) -> None:
        self._streams.discard(stream)
