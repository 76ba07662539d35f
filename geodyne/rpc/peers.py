"""Node to node: one stream for each pair of nodes, both directions on it.

The lexicographically smaller node id dials, so that two nodes never hold two streams.  When a peer dials again before
its old stream was noticed to be dead, the new one replaces the old: down is reported before up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from geodyne.peermessages import Hello, PeerMessage
from geodyne.ports import PeerHandler
from geodyne.rpc.codec import STREAM_FORMAT
from geodyne.rpc.peercodec import SINCE, decode_peer_batch, encode_peer_batch
from geodyne.rpc.stream import BatchStream, Contract, Destination, StreamDialer, StreamRefused, accept_stream
from geodyne.rpc.weights import peer_message_bytes

PEER_PATH = "/geodyne.node.v1.Peer/Exchange"
PEER_CONTRACT: Contract[PeerMessage, PeerMessage] = Contract(encode_peer_batch, decode_peer_batch, peer_message_bytes)

PeerStream = BatchStream[PeerMessage, PeerMessage]


class GrpcPeerNetwork:
    """Implements geodyne.ports.PeerNetwork. `peers` maps the ids of the other nodes to their addresses."""

    def __init__(
        self, hello: Hello, peers: Mapping[str, str], handler: PeerHandler, random: Random | None = None
    ) -> None:
        self._hello = hello
        self._own = hello.process_id
        self._handler = handler
        self._streams: dict[str, PeerStream] = {}
        self._random = random or Random()
        self._peers = {peer: address for peer, address in peers.items() if peer != self._own}
        self._dialers = {peer: self._dialer(peer) for peer in self._peers if self._own < peer}

    def _dialer(self, peer: str) -> StreamDialer[PeerMessage, PeerMessage]:
        destination = Destination(self._peers[peer], PEER_PATH, peer)
        return StreamDialer(destination, PEER_CONTRACT, self._hello, _DialledPeer(self, peer), self._random)

    def start(self) -> None:
        """Begin dialling. Needs a running loop."""
        for dialer in self._dialers.values():
            dialer.start()

    async def members_changed(self, peers: Mapping[str, str]) -> None:
        """From now on the other nodes are these (id -> address). Streams to those that stay where they are stay up;
        those to the others end, and no further one from them is taken."""
        wanted = {peer: address for peer, address in peers.items() if peer != self._own}
        gone = [peer for peer, address in self._peers.items() if wanted.get(peer) != address]
        fresh = [peer for peer, address in wanted.items() if self._peers.get(peer) != address]
        self._peers = wanted
        for peer in gone:
            dialer = self._dialers.pop(peer, None)
            if dialer is not None:
                await dialer.close()
            elif peer in self._streams and peer not in wanted:
                self._streams[peer].reset("the peer is no member any more")
        for peer in fresh:
            if self._own < peer and self._peers.get(peer) and peer not in self._dialers:
                self._dialers[peer] = dialer = self._dialer(peer)
                dialer.start()

    async def close(self) -> None:
        """Close all streams and stop dialling."""
        for dialer in self._dialers.values():
            await dialer.close()
        for stream in tuple(self._streams.values()):
            stream.reset("the node stops")

    def send(self, peer: str, message: PeerMessage) -> None:
        """Queue a message. A full queue resets the stream: consensus recovers from loss, not from growing lag. What an
        older peer would not understand is not sent to it."""
        stream = self._streams.get(peer)
        if stream is None or (stream.format < STREAM_FORMAT and stream.format < SINCE.get(type(message), 0)):
            return
        if not stream.send(message):
            stream.overflow("the queue towards the peer is full")

    def connected(self, peer: str) -> bool:
        return peer in self._streams

    async def accept(self, context: Any) -> None:
        """Serve a stream that a peer dialled: the gRPC handler of the Peer service."""
        await accept_stream(
            context,
            PEER_CONTRACT,
            self._hello,
            admit=self._admit,
            on_up=self._on_accepted,
            on_down=lambda stream, reason: self.on_down(stream.hello.process_id, stream, reason),
        )

    def _admit(self, hello: Hello) -> None:
        if hello.region != self._hello.region:
            raise StreamRefused(f"{hello.process_id} is of region {hello.region}, not of {self._hello.region}")
        if hello.process_id not in self._peers:
            raise StreamRefused(f"{hello.process_id} is no peer of {self._own}")
        if hello.process_id > self._own:
            raise StreamRefused(f"{self._own} dials {hello.process_id}, not the other way round")

    def _on_accepted(self, stream: PeerStream) -> Callable[[Sequence[PeerMessage]], None]:
        return self.on_up(stream.hello.process_id, stream)

    def on_up(self, peer: str, stream: PeerStream) -> Callable[[Sequence[PeerMessage]], None]:
        """A stream is established; returns the receiver of its batches."""
        old = self._streams.get(peer)
        if old is not None:
            old.reset("replaced by a newer stream")
            self.on_down(peer, old, "replaced by a newer stream")
        self._streams[peer] = stream
        self._handler.on_peer_connected(peer, stream.hello)
        deliver = self._handler.on_peer_messages

        def on_batch(messages: Sequence[PeerMessage]) -> None:
            if self._streams.get(peer) is stream:  # nothing from a stream that was reported down
                deliver(peer, messages)

        return on_batch

    def on_down(self, peer: str, stream: PeerStream | None, reason: str) -> None:
        """A stream ended; ignored when a newer one has taken its place."""
        if stream is not None and self._streams.get(peer) is stream:
            del self._streams[peer]
            self._handler.on_peer_disconnected(peer, reason)


class _DialledPeer:
    """Hears of the stream that this node dials to one peer."""

    def __init__(self, network: GrpcPeerNetwork, peer: str) -> None:
        self._network = network
        self._peer = peer
        self._stream: PeerStream | None = None
        self._on_batch: Callable[[Sequence[PeerMessage]], None] | None = None

    def on_stream_up(self, stream: PeerStream) -> None:
        self._stream = stream
        self._on_batch = self._network.on_up(self._peer, stream)

    def on_stream_batch(self, batch: Sequence[PeerMessage]) -> None:
        if self._on_batch is not None:
            self._on_batch(batch)

    def on_stream_down(self, reason: str) -> None:
        stream, self._stream = self._stream, None
        self._network.on_down(self._peer, stream, reason)
