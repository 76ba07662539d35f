"""A node's own way to the other nodes of its region, as a client: global indexes and transactions need it.

The links are opened at the first use: a region whose tables have neither keeps no stream and no Watch for them. Calls
to partitions that this very node leads take a link inside the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Protocol

from geodyne.messages import Answer, Call
from geodyne.ports import ClientConnector, ClientLink, ClientLinkEvents, NodeHandler
from geodyne.rpc.catalogview import CatalogView
from geodyne.rpc.drive import Reply
from geodyne.rpc.local import LocalConnector
from geodyne.rpc.region import NodeAddress, RegionClient


class RegionCalls(Protocol):
    """What a duty of the node may ask of its region; see geodyne.rpc.region.RegionClient."""

    @property
    def catalog(self) -> CatalogView: ...

    def call(self, call: Call, *, timeout_ms: int, request_id: str = "") -> Reply[Answer]: ...

    def wait_revision(self, revision: int, timeout_ms: int = 2_500) -> Reply[bool]: ...


class RegionLink:
    """The client, once somebody needs it."""

    def __init__(self, region: str, node_id: str, members: Mapping[str, str], random: Random) -> None:
        """`members`: node id -> zone, this node included."""
        self._region = region
        self._node_id = node_id
        self._members = dict(members)
        self._random = random
        self._own: NodeHandler | None = None
        self._others: ClientConnector | None = None
        self._addresses: Mapping[str, str] = {}
        self._client: RegionClient | None = None

    def attach(self, own: NodeHandler, others: ClientConnector | None, addresses: Mapping[str, str]) -> None:
        """`others` opens links to the other members, None when there are none; `addresses`: node id -> host:port."""
        self._own = own
        self._others = others
        self._addresses = addresses

    async def members_changed(self, members: Mapping[str, str], addresses: Mapping[str, str]) -> None:
        """The region's nodes (id -> zone, this node included) and where they are, from now on."""
        self._members = dict(members)
        self._addresses = dict(addresses)
        if self._client is not None:
            await self._client.members_changed(self._nodes())

    def _nodes(self) -> list[NodeAddress]:
        return [NodeAddress(node, zone, self._addresses.get(node, "")) for node, zone in sorted(self._members.items())]

    @property
    def open(self) -> bool:
        return self._client is not None

    def client(self) -> RegionCalls:
        """Opens the links if they are not yet. Needs the node to be started."""
        if self._client is None:
            assert self._own is not None, "attach() comes first"
            self._client = RegionClient(
                self._region,
                self._members[self._node_id],
                self._nodes(),
                _Connector(self._node_id, self._own, self._others),
                router_incarnation=self._random.getrandbits(63),
            )
            self._client.start()
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


class _Connector:
    """Implements geodyne.ports.ClientConnector: local to this node, over the network to the others."""

    def __init__(self, node_id: str, own: NodeHandler, others: ClientConnector | None) -> None:
        self._node_id = node_id
        self._local = LocalConnector({node_id: own})
        self._others = others

    def open(self, node_id: str, address: str, events: ClientLinkEvents) -> ClientLink:
        if node_id == self._node_id:
            return self._local.open(node_id, address, events)
        assert self._others is not None, f"no way to {node_id} was given"
        return self._others.open(node_id, address, events)
