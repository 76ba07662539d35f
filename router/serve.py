"""The router process of a region: the frontend over gRPC links, with its metrics page."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from pathlib import Path
from random import SystemRandom

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from geodyne.clock import SystemClock
from geodyne.listen import LEAVING, SERVING, supervision
from geodyne.messages import Hello
from geodyne.observe.server import ObserveServer
from geodyne.rpc.client import GrpcConnector
from geodyne.rpc.codec import STREAM_FORMAT
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.region import NodeAddress
from geodyne.settings import ProcessConfig
from router.auth import credentials
from router.frontend import Frontend, FrontendSettings

logger = logging.getLogger("geodyne.router")


async def serve(config: ProcessConfig, stop: asyncio.Event) -> None:
    """Run a regional router until `stop`. Raises ListenError or CredentialsError when it cannot start."""
    supervised = supervision(os.environ, config.listen.port)
    topology = config.topology
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    incarnation = secrets.randbits(63)
    links = DelayedLinks()
    nodes = [
        NodeAddress(node.id, node.zone, await links.via(node.address, topology.one_way_ms(config.spec, node)))
        for node in topology.regions[config.region].nodes
    ]
    hello = Hello(config.cluster_id, config.region, config.process_id, incarnation, STREAM_FORMAT)
    frontend = Frontend(
        FrontendSettings(
            config.region,
            config.zone,
            tuple(topology.regions),
            credentials.load(Path(config.credentials)) if config.auth else None,
        ),
        nodes,
        GrpcConnector(hello, SystemRandom()),
        clock=SystemClock(),
        incarnation=incarnation,
        registry=registry,
    )
    observe = ObserveServer(
        config.metrics.host, config.metrics.port, registry, health=frontend.health, status=frontend.region.status
    )
    await frontend.start(config.listen.host, config.listen.port, supervised.listener, once_ready=supervised.succeeds)
    supervised.say(SERVING)
    logger.info("listening", extra={"address": str(config.listen)})
    await observe.start(supervised.patience_s)
    await stop.wait()
    logger.info("leaving", extra={"address": str(config.listen)})
    # First what a successor waits for: the word that it is wanted, and the address of the metrics page.
    supervised.say(LEAVING)
    await observe.stop()
    await frontend.stop()
    await links.close()
