"""The replicator process, put together from its launch settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from random import Random, SystemRandom
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from geodyne.clock import SystemClock
from geodyne.observe.server import ObserveServer
from geodyne.peermessages import Hello
from geodyne.rpc.client import GrpcConnector
from geodyne.rpc.codec import OLDEST_STREAM_FORMAT, STREAM_FORMAT
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.faults import PROCESS_FAULTS
from geodyne.rpc.members import Members, member_administration
from geodyne.rpc.network import RegionNetwork
from geodyne.rpc.region import NodeAddress, RegionClient
from geodyne.settings import ProcessConfig
from replication.metrics import ReplicationCollector, latency_histogram
from replication.service import PeerReplicator, Replicator
from replication.values import FORMAT, OLDEST_FORMAT

log = logging.getLogger(__name__)


async def serve(config: ProcessConfig, stop: asyncio.Event) -> None:
    """Run a replicator until `stop`. Raises AddressUnavailable or ListenError when it cannot start."""
    random = SystemRandom()
    clock = SystemClock()
    incarnation = random.getrandbits(63)
    links = DelayedLinks()
    network = RegionNetwork(config, links, clock)
    members = Members(config, links)
    client = _region_client(config, await members.addresses(), random, incarnation)
    latency = latency_histogram()
    replicator = Replicator(
        Hello(config.cluster_id, config.region, config.process_id, incarnation, FORMAT, OLDEST_FORMAT),
        str(config.listen),
        await _peers(config, network),
        region=client,
        clock=clock,
        random=random,
        on_latency=lambda destination, seconds: latency.labels(config.region, destination).observe(seconds),
    )
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(PROCESS_FAULTS)
    registry.register(latency)
    figures = replicator.figures, replicator.applied, replicator.arrivals, replicator.comparing.figures
    registry.register(ReplicationCollector(config.region, *figures))

    def health() -> dict[str, Any]:
        return {
            "healthy": client.ready,
            "role": config.role,
            "region": config.region,
            "nodes": client.status()["nodes"],
        }

    observe = ObserveServer(
        config.metrics.host,
        config.metrics.port,
        registry,
        health=health,
        status=replicator.status,
        admin={
            **members.admin(client.members_changed),
            **member_administration(client),
            **network.admin(),
            "verify": replicator.comparing.administer,
            "writes": replicator.writing.administer,
            "forget": replicator.forgetting.administer,
            "conflicts": replicator.conflicts.administer,
        },
        admin_token=config.admin_token,
    )
    client.subscribe(replicator.wake)
    client.start()
    try:
        network.start(lambda state: replicator.set_pauses(state.pauses))
        await replicator.start()
        await observe.start()
        log.info("ready", extra={"address": str(config.listen)})
        await stop.wait()
    finally:
        await replicator.close()
        await client.close()
        network.close()
        await links.close()
        await observe.stop()


def _region_client(
    config: ProcessConfig, nodes: Sequence[NodeAddress], random: Random, incarnation: int
) -> RegionClient:
    formats = STREAM_FORMAT, OLDEST_STREAM_FORMAT
    hello = Hello(config.cluster_id, config.region, config.process_id, incarnation, *formats)
    return RegionClient(
        config.region, config.zone, nodes, GrpcConnector(hello, random), router_incarnation=random.getrandbits(64)
    )


async def _peers(config: ProcessConfig, network: RegionNetwork) -> dict[str, PeerReplicator]:
    """The first replicator of each other region: a second one would ship the same changes once more."""
    peers = {}
    for name, region in config.topology.regions.items():
        if name != config.region and region.replicators:
            peer = region.replicators[0]
            peers[name] = PeerReplicator(name, peer.id, await network.dial(peer))
    return peers
