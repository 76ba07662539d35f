"""The node process: a node with its gRPC listener, its peers and its metrics page."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from random import SystemRandom
from typing import NoReturn

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from geodyne.clock import SystemClock
from geodyne.messages import Hello
from geodyne.observe.server import ObserveServer
from geodyne.rpc.client import GrpcConnector
from geodyne.rpc.codec import STREAM_FORMAT
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.peers import GrpcPeerNetwork
from geodyne.rpc.server import GrpcNodeServer
from geodyne.settings import ProcessConfig
from node.compose import NodePlace, open_node

logger = logging.getLogger("geodyne.node")

EXIT_FAILED = 70  # the supervisor starts the process again; it recovers from disk


def _fatal(reason: str) -> NoReturn:
    """Nothing in memory can be trusted any more: stop at once, without running what would write."""
    logger.critical("stopping", extra={"reason": reason})
    logging.shutdown()
    os._exit(EXIT_FAILED)


async def serve(config: ProcessConfig, stop: asyncio.Event) -> None:
    """Run a node until `stop`. Raises StorageError, AddressUnavailable or OSError when it cannot start."""
    region = config.topology.regions[config.region]
    place = NodePlace(
        config.cluster_id,
        config.region,
        config.process_id,
        {node.id: node.zone for node in region.nodes},
        Path(config.data_dir),
    )
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    node = open_node(place, clock=SystemClock(), random=SystemRandom(), registry=registry, fatal=_fatal)
    hello = Hello(config.cluster_id, config.region, config.process_id, node.incarnation, STREAM_FORMAT)
    links = DelayedLinks()
    addresses = {
        peer.id: await links.via(peer.address, config.topology.one_way_ms(config.spec, peer))
        for peer in region.nodes
        if peer.id != config.process_id
    }
    network = GrpcPeerNetwork(hello, addresses, node.service)
    server = GrpcNodeServer(str(config.listen), hello, node.service, network)
    observe = ObserveServer(
        config.metrics.host, config.metrics.port, registry, health=node.health, status=node.status, admin={}
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
