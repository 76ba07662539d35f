"""A regional router put together: front door, operations and the way to the region's nodes.

Used by the router process (nodes over gRPC) and by `geodyne dev` (the node in the same process).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from geodyne.ports import ClientConnector, Clock
from geodyne.rpc.region import NodeAddress, RegionClient
from router.api.context import Api, ApiSettings
from router.api.registry import OPERATIONS
from router.auth.sigv4 import Credential, SignatureVerifier
from router.http import regionhealth
from router.http.dynamodb import DynamoDb, execute_locally, health_answer
from router.http.server import HttpServer

logger = logging.getLogger("geodyne.router")

SERVICE = "DynamoDB_20120810"


@dataclass(frozen=True, slots=True)
class FrontendSettings:
    """`credentials` None: signatures are not checked. `regions`: all regions of the cluster."""

    region: str
    zone: str
    regions: Sequence[str]
    credentials: Mapping[str, Credential] | None


class Frontend:
    """Start order: the region's links, then, once the catalog is known, the door. Stop order: the reverse."""

    def __init__(
        self,
        settings: FrontendSettings,
        nodes: Sequence[NodeAddress],
        connector: ClientConnector,
        *,
        clock: Clock,
        incarnation: int,
        registry: CollectorRegistry,
    ) -> None:
        self.region = RegionClient(settings.region, settings.zone, nodes, connector, router_incarnation=incarnation)
        self._settings = settings
        self._clock = clock
        credentials = settings.credentials
        verifier = None if credentials is None else SignatureVerifier([settings.region], credentials.get)
        self._api: Api | None = None
        self._dynamodb = DynamoDb(
            {SERVICE: OPERATIONS},
            execute_locally(self._context),
            verifier=verifier,
            wall_s=lambda: clock.wall_us() / 1e6,
            monotonic_s=time.perf_counter,
        )
        registry.register(self._dynamodb.metrics)
        self._server = HttpServer(
            self._dynamodb.handle,
            direct_get={
                b"/": health_answer(settings.region),
                regionhealth.PATH: regionhealth.region_health(
                    lambda: self.region.ready,
                    lambda: self.region.catalog.revision,
                    lambda: self.region.catalog.tables,
                ),
            },
        )

    async def start(self, host: str, port: int) -> int:
        """Open the door; returns the port. Raises ListenError. Calls wait until the region is ready."""
        self.region.start()
        bound = await self._server.start(host, port)
        self._api = Api(
            self.region,
            region=self._settings.region,
            now_ms=lambda: self._clock.wall_us() // 1_000,
            settings=ApiSettings(regions=tuple(self._settings.regions), endpoint=f"{host}:{bound}"),
        )
        return bound

    async def stop(self) -> None:
        """Finish what is in progress, then let go of the nodes."""
        await self._server.stop()
        await self.region.close()

    def health(self) -> dict[str, Any]:
        return {"healthy": self.region.ready, **self.region.status()}

    def _context(self, request_id: str, principal: object) -> object:
        assert self._api is not None
        return self._api.context(request_id, principal)
