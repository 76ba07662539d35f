"""The delivery process, put together from its launch settings."""

from __future__ import annotations

import asyncio
import logging
from random import SystemRandom
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from delivery.kinesismetrics import KinesisCollector
from delivery.kinesisservice import KinesisDelivery, described
from delivery.metrics import DeliveryCollector, Observations
from delivery.triggers import Triggers
from geodyne.clock import SystemClock
from geodyne.observe.server import ObserveServer
from geodyne.peermessages import Hello
from geodyne.rpc.client import GrpcConnector
from geodyne.rpc.codec import OLDEST_STREAM_FORMAT, STREAM_FORMAT
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.faults import PROCESS_FAULTS
from geodyne.rpc.members import Members, member_administration
from geodyne.rpc.region import RegionClient
from geodyne.settings import ProcessConfig

log = logging.getLogger(__name__)


async def serve(config: ProcessConfig, stop: asyncio.Event) -> None:
    """Call the region's functions until `stop`. Raises AddressUnavailable or ListenError when it cannot start."""
    random = SystemRandom()
    links = DelayedLinks()
    members = Members(config, links)
    formats = STREAM_FORMAT, OLDEST_STREAM_FORMAT
    hello = Hello(config.cluster_id, config.region, config.process_id, random.getrandbits(63), *formats)
    client = RegionClient(
        config.region,
        config.zone,
        await members.addresses(),
        GrpcConnector(hello, random),
        router_incarnation=random.getrandbits(64),
    )
    observations = Observations()
    triggers = Triggers(client, clock=SystemClock(), random=random, make_figures=observations.figures)
    kinesis = KinesisDelivery(client, endpoint=config.kinesis_endpoint, clock=SystemClock(), random=random)
    observe = ObserveServer(
        config.metrics.host,
        config.metrics.port,
        _registry(observations, triggers, kinesis),
        health=lambda: _health(config, client, triggers),
        status=lambda: _status(client, triggers, kinesis),
        admin={**members.admin(client.members_changed), **member_administration(client)},
        admin_token=config.admin_token,
    )
    client.subscribe(triggers.wake)
    client.subscribe(kinesis.wake)
    client.start()
    try:
        await observe.start()
        log.info("ready")
        await stop.wait()
    finally:
        # Bookmarks are committed over the client, so it goes last.
        await asyncio.gather(triggers.close(), kinesis.close())
        await client.close()
        await links.close()
        await observe.stop()


def _registry(observations: Observations, triggers: Triggers, kinesis: KinesisDelivery) -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    for collector in (PROCESS_FAULTS, observations.age, observations.batch, DeliveryCollector(triggers.statuses)):
        registry.register(collector)
    registry.register(KinesisCollector(kinesis.reports))
    return registry


def _health(config: ProcessConfig, client: RegionClient, triggers: Triggers) -> dict[str, Any]:
    """A mapping in trouble does not make the process unhealthy: the trouble is its function's, or its destination's."""
    return {
        "healthy": client.ready,
        "role": config.role,
        "region": config.region,
        "nodes": client.status()["nodes"],
        "mappings": len(triggers.statuses()),
    }


def _status(client: RegionClient, triggers: Triggers, kinesis: KinesisDelivery) -> dict[str, Any]:
    mappings = {uuid: status._asdict() for uuid, status in triggers.statuses().items()}
    return {**client.status(), "mappings": mappings, "kinesis": described(kinesis)}
