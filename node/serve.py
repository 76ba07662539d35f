"""The node process: a node with its gRPC listener, its peers and its metrics page."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import NoReturn

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from geodyne.clock import SystemClock
from geodyne.observe.server import ObserveServer
from geodyne.peermessages import Hello
from geodyne.rpc.client import GrpcConnector
from geodyne.rpc.codec import OLDEST_STREAM_FORMAT, STREAM_FORMAT
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.faults import PROCESS_FAULTS
from geodyne.rpc.members import Members
from geodyne.rpc.nodelink import NodeAddress
from geodyne.rpc.peers import GrpcPeerNetwork
from geodyne.rpc.server import GrpcNodeServer
from geodyne.settings import ProcessConfig
from node.compose import Node, NodePlace, open_node
from node.feed.retention import FeedSettings
from node.ttl import TtlSettings
from node.waiting import opened_when_usable

logger = logging.getLogger("geodyne.node")

EXIT_FAILED = 70  # the supervisor starts the process again; it recovers from disk


def _fatal(reason: str) -> NoReturn:
    """Nothing in memory can be trusted any more: stop at once, without running what would write."""
    logger.critical("stopping", extra={"reason": reason})
    logging.shutdown()
    os._exit(EXIT_FAILED)


def _peers(nodes: Sequence[NodeAddress]) -> dict[str, str]:
    """node id -> where to dial it, without this node, which has no address."""
    return {node.id: node.address for node in nodes if node.address}


def _open(config: ProcessConfig) -> tuple[Node, CollectorRegistry]:
    """The node of this data directory, and what its metrics are registered with. Raises as open_node."""
    region = config.topology.regions[config.region]
    place = NodePlace(
        config.cluster_id,
        config.region,
        config.process_id,
        region.members(),
        Path(config.data_dir),
        region.founded(),
    )
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(PROCESS_FAULTS)
    node = open_node(
        place,
        clock=SystemClock(),
        random=SystemRandom(),
        registry=registry,
        fatal=_fatal,
        rebuild_after_s=config.rebuild_after_s,
        ttl=TtlSettings(config.ttl_interval_s),
        feed=FeedSettings.of(config.shard_life_s, config.feed_mb),
        clock_offset_ms_max=config.clock_offset_ms_max,
    )
    return node, registry


async def serve(config: ProcessConfig, stop: asyncio.Event) -> None:
    """Run a node until `stop`. Raises StorageError, AddressUnavailable or OSError when it cannot start."""
    opened = await opened_when_usable(Path(config.data_dir), config.metrics, partial(_open, config), stop)
    if opened is None:
        return
    node, registry = opened
    formats = STREAM_FORMAT, OLDEST_STREAM_FORMAT
    hello = Hello(config.cluster_id, config.region, config.process_id, node.incarnation, *formats)
    links = DelayedLinks()
    members = Members(config, links)
    addresses = _peers(await members.addresses())
    network = GrpcPeerNetwork(hello, addresses, node.service)
    server = GrpcNodeServer(str(config.listen), hello, node.service, network)

    async def on_members(nodes: Sequence[NodeAddress]) -> None:
        zones = {other.id: other.zone for other in nodes}
        # First the ways to the others, then the word of whom there is to talk to.
        await network.members_changed(_peers(nodes))
        await node.region_link.members_changed(zones, _peers(nodes))
        node.members_changed(zones)

    conflicts = node.service.conflicts
    assert conflicts is not None
    observe = ObserveServer(
        config.metrics.host,
        config.metrics.port,
        registry,
        health=node.health,
        status=node.status,
        admin={**members.admin(on_members), "conflicts": conflicts.administer},
        admin_token=config.admin_token,
    )
    await server.start()
    node.start(network, GrpcConnector(hello, SystemRandom()), addresses)
    network.start()
    await observe.start()
    logger.info("ready", extra={"address": str(config.listen)})
    await stop.wait()
    await node.hand_over()
    # Peers first hear from us no more, then clients; what was acknowledged is on disk already.
    await network.close()
    await server.stop()
    await node.stop()
    await links.close()
    await observe.stop()
