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
from geodyne.listen import SERVING, supervision
from geodyne.observe.server import ObserveServer
from geodyne.peermessages import Hello
from geodyne.rpc.client import GrpcConnector
from geodyne.rpc.codec import OLDEST_STREAM_FORMAT, STREAM_FORMAT
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.faults import PROCESS_FAULTS
from geodyne.rpc.members import Members, member_administration
from geodyne.settings import ProcessConfig
from router.auth import credentials
from router.frontend import Frontend, FrontendSettings
from router.nearest import nearest_page

logger = logging.getLogger("geodyne.router")


async def serve(config: ProcessConfig, stop: asyncio.Event) -> None:
    """Run a regional router until `stop`. Raises ListenError or CredentialsError when it cannot start."""
    supervised = supervision(os.environ, config.listen.port)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(PROCESS_FAULTS)
    incarnation = secrets.randbits(63)
    links = DelayedLinks()
    members = Members(config, links)
    formats = STREAM_FORMAT, OLDEST_STREAM_FORMAT
    hello = Hello(config.cluster_id, config.region, config.process_id, incarnation, *formats)
    frontend = Frontend(
        FrontendSettings(
            config.region,
            config.zone,
            tuple(config.topology.regions),
            credentials.load(Path(config.credentials)) if config.auth else None,
            config.ttl_change_interval_s,
            config.process_id,
        ),
        await members.addresses(),
        GrpcConnector(hello, SystemRandom()),
        clock=SystemClock(),
        incarnation=incarnation,
        registry=registry,
    )
    observe = ObserveServer(
        config.metrics.host,
        config.metrics.port,
        registry,
        health=frontend.health,
        status=frontend.region.status,
        admin={
            **members.admin(frontend.region.members_changed),
            **member_administration(frontend.region),
            **frontend.trigger_administration(),
        },
        pages={"/nearest": nearest_page(frontend.catalog, config.topology, config.region)},
        admin_token=config.admin_token,
    )
    await frontend.start(config.listen.host, config.listen.port, supervised.listener, once_ready=supervised.succeeds)
    supervised.say(SERVING)
    logger.info("listening", extra={"address": str(config.listen)})
    await observe.start(supervised.patience_s)
    await stop.wait()
    logger.info("leaving", extra={"address": str(config.listen)})
    await supervised.relieved(stop)
    await observe.stop()  # first: a successor waits for the address of the metrics page
    await frontend.stop()
    await links.close()
