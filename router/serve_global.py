"""The process of the global endpoint: gates, choice of a region, forwarding; with its metrics page.

`/status` there tells regions and policies; `POST /admin/routes` changes policies (router.routeadmin).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from geodyne.clock import SystemClock
from geodyne.listen import SERVING, supervision
from geodyne.observe.server import ObserveServer
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.network import RegionNetwork
from geodyne.settings import ProcessConfig
from geodyne.topology import Topology
from router.api.registry import SERVICES
from router.auth import credentials
from router.auth.sigv4 import SignatureVerifier
from router.geo import Geography
from router.globalrole import GlobalEndpoint
from router.http.dynamodb import DynamoDb, health_answer
from router.http.server import HttpServer
from router.routeadmin import administration, described
from router.routebook import RouteBook

logger = logging.getLogger("geodyne.global")


async def _routers(topology: Topology, network: RegionNetwork) -> dict[str, tuple[str, int]]:
    """Host and port at which this process reaches the first router of each region."""
    found: dict[str, tuple[str, int]] = {}
    for region in topology.regions.values():
        host, _, port = (await network.dial(region.routers[0])).rpartition(":")
        found[region.name] = (host, int(port))
    return found


async def serve(config: ProcessConfig, stop: asyncio.Event) -> None:
    """Run the global endpoint until `stop`. Raises ListenError, CredentialsError or RouteBookError when it cannot
    start."""
    supervised = supervision(os.environ, config.listen.port)
    topology = config.topology
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    keys = credentials.load(Path(config.credentials)) if config.auth else None
    links = DelayedLinks()
    network = RegionNetwork(config, links, SystemClock())
    regions = tuple(topology.regions)
    endpoint = GlobalEndpoint(
        Geography(regions, topology.round_trip_ms, home=topology.global_location),
        await _routers(topology, network),
        credential=credentials.first(keys.values()) if keys is not None else None,
        wall_s=time.time,
        routes=RouteBook(topology.routing, regions, Path(config.routes_file) if config.routes_file else None),
        configured=topology.routing,
    )
    gates = DynamoDb(
        SERVICES,
        endpoint.execute,
        verifier=SignatureVerifier(tuple(topology.regions), keys.get) if keys is not None else None,
        wall_s=time.time,
        monotonic_s=time.perf_counter,
    )
    registry.register(gates.metrics)
    registry.register(endpoint)
    server = HttpServer(gates.handle, direct_get={b"/": health_answer("global")})
    observe = ObserveServer(
        config.metrics.host,
        config.metrics.port,
        registry,
        health=lambda: {
            "healthy": any(health.healthy for health in endpoint.health.values()),
            "regions": endpoint.status(),
        },
        status=lambda: described(endpoint),
        admin={"routes": administration(endpoint), **network.admin()},
        admin_token=config.admin_token,
    )
    network.start()
    await endpoint.start()
    await server.start(config.listen.host, config.listen.port, supervised.listener)
    supervised.say(SERVING)
    logger.info("listening", extra={"address": str(config.listen)})
    await observe.start(supervised.patience_s)
    await stop.wait()
    logger.info("leaving", extra={"address": str(config.listen)})
    await supervised.relieved(stop)
    await observe.stop()  # first: a successor waits for the address of the metrics page
    await server.stop()
    await endpoint.stop()
    network.close()
    await links.close()
