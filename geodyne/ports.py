"""Ports to the outside world: time and network are passed in, so that tests and simulations can own them.

The disk, which only nodes have, is node.storage.port.Disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from geodyne.messages import Request, Response
from geodyne.peermessages import Hello, PeerMessage


class Clock(Protocol):
    """Two clocks. The wall clock orders writes between regions; the lease clock only measures durations."""

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch; may jump."""

    def lease_ms(self) -> int:
        """Milliseconds that never go back and count the time that the machine was suspended."""


class ClientLink(Protocol):
    """The client's end of one client-to-node stream. What is sent in one loop turn travels together."""

    @property
    def node_id(self) -> str: ...

    @property
    def connected(self) -> bool: ...

    def send(self, request: Request) -> None:
        """Queue a request. Silently dropped when not connected: the caller sees `on_disconnected`."""

    async def close(self) -> None: ...


class ClientLinkEvents(Protocol):
    """What the owner of a ClientLink implements."""

    def on_connected(self, node_id: str) -> None: ...

    def on_responses(self, node_id: str, responses: Sequence[Response]) -> None: ...

    def on_disconnected(self, node_id: str, reason: str) -> None:
        """Everything sent and not yet answered on this link has an unknown outcome."""


class ClientConnector(Protocol):
    """Opens client links; keeps each one up (reconnects with bounded back-off) until it is closed."""

    def open(self, node_id: str, address: str, events: ClientLinkEvents) -> ClientLink: ...


class NodeHandler(Protocol):
    """The node's side of client streams."""

    def on_requests(self, requests: Sequence[Request], reply: Callable[[Response], None]) -> None:
        """Take a batch; `reply` is called once for each request, in any order, at any later time."""


class PeerNetwork(Protocol):
    """Node to node. Messages between two connected nodes arrive in order or the stream breaks."""

    def send(self, peer: str, message: PeerMessage) -> None:
        """Queue a message; dropped when the peer is not connected or its queue is full (bounded)."""

    def connected(self, peer: str) -> bool: ...


class PeerHandler(Protocol):
    def on_peer_connected(self, peer: str, hello: Hello) -> None: ...

    def on_peer_messages(self, peer: str, messages: Sequence[PeerMessage]) -> None: ...

    def on_peer_disconnected(self, peer: str, reason: str) -> None: ...
