"""A regional router put together: front door, operations and the way to the region's nodes.

Used by the router process (nodes over gRPC) and by `geodyne dev` (the node in the same process).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from geodyne.errors import ApiError
from geodyne.healthcheck import HEALTH_TABLE
from geodyne.ports import ClientConnector, Clock
from geodyne.rpc.catalogview import CatalogView
from geodyne.rpc.drive import Reply
from geodyne.rpc.region import NodeAddress, RegionClient
from router.api.context import Api, ApiSettings, Context
from router.api.registry import SERVICES
from router.auth.sigv4 import Credential, SignatureVerifier
from router.healthcheck import HealthCheck
from router.http import regionhealth
from router.http.dynamodb import DynamoDb, execute_locally, health_answer
from router.http.lambdafront import LambdaFront
from router.http.server import HttpServer
from router.http.values import HttpRequest, HttpResponse, error_response
from router.lambdaapi.administration import administration

if TYPE_CHECKING:
    from geodyne.rpc.members import AdminCall

logger = logging.getLogger("geodyne.router")

COMPLETE_S_MAX = 5.0  # how long a successor waits for all leaders of its region before it takes over
COMPLETE_STEPS = 250
READY_S_MAX = 2.5  # how long a request waits for the region's catalog; as long as a call waits for a leader


@dataclass(frozen=True, slots=True)
class FrontendSettings:
    """`credentials` None: signatures are not checked. `regions`: all regions of the cluster. A table's Time to Live may
    be changed once in `ttl_change_interval_s`. `router` is what this router's health checks are kept under."""

    region: str
    zone: str
    regions: Sequence[str]
    credentials: Mapping[str, Credential] | None
    ttl_change_interval_s: float = 0.0
    router: str = "router"


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
        lambda_verifier = None
        if credentials is not None:
            lambda_verifier = SignatureVerifier([settings.region], credentials.get, "lambda")
        self._dynamodb = DynamoDb(
            SERVICES,
            execute_locally(self._context),
            verifier=verifier,
            wall_s=self._wall_s,
            monotonic_s=time.perf_counter,
            beside=LambdaFront(self._context, verifier=lambda_verifier, wall_s=self._wall_s),
        )
        registry.register(self._dynamodb.metrics)
        self._check = HealthCheck(self.region, settings.router)
        registry.register(self._check)
        self._early: set[Reply[bool]] = set()  # requests that came before the catalog was known; one a connection
        self._opening: asyncio.Task[None] | None = None
        self._server = HttpServer(
            self._handle_early,
            direct_get={
                b"/": health_answer(settings.region),
                regionhealth.PATH: regionhealth.region_health(
                    self._check.verdict,
                    lambda: self.region.catalog.revision,
                    lambda: self.region.catalog.tables,
                ),
            },
        )

    async def start(
        self, host: str, port: int, listener: socket.socket | None = None, *, once_ready: bool = False
    ) -> int:
        """Open the door; returns the port. Raises ListenError. Calls wait until the region is ready; with `once_ready`
        the door does, for however long it takes: another process serves `listener` meanwhile."""
        self.region.start()
        if once_ready:
            await self.region.wait_ready()
            await self._wait_complete()
        bound = await self._server.start(host, port, listener)
        self._api = Api(
            self.region,
            region=self._settings.region,
            now_ms=lambda: self._clock.wall_us() // 1_000,
            settings=ApiSettings(
                regions=tuple(self._settings.regions),
                endpoint=f"{host}:{bound}",
                ttl_change_interval_ms=int(self._settings.ttl_change_interval_s * 1_000),
            ),
        )
        self._opening = asyncio.get_running_loop().create_task(self._open())
        return bound

    async def _wait_complete(self) -> None:
        """For a bounded time: a partition may be without a leader for long."""
        for _ in range(COMPLETE_STEPS):
            # A global endpoint that asks this process in the place of the one before finds it with its check done.
            checked = HEALTH_TABLE not in self.region.catalog.tables or self._check.verdict().checked
            if self.region.complete and checked:
                return
            await asyncio.sleep(COMPLETE_S_MAX / COMPLETE_STEPS)

    async def _open(self) -> None:
        """From the time at which the catalog is known requests go straight to their operations."""
        await self.region.wait_ready()
        self._server.handler = self._dynamodb.handle
        for waiting in tuple(self._early):
            waiting.succeed(True)

    async def _handle_early(self, request: HttpRequest) -> HttpResponse:
        """Before the catalog is known no table may be called missing: wait for it, for a bounded time."""
        opened: Reply[bool] = Reply()
        self._early.add(opened)
        timer = asyncio.get_running_loop().call_later(READY_S_MAX, opened.succeed, False)
        is_open = await opened
        timer.cancel()
        self._early.discard(opened)
        if not is_open:
            return error_response(
                ApiError("ServiceUnavailable", "The service is temporarily unable to handle the request")
            )
        return await self._dynamodb.handle(request)

    @property
    def early(self) -> int:
        """How many requests wait for the catalog."""
        return len(self._early)

    async def stop(self) -> None:
        """Finish what is in progress, then let go of the nodes."""
        await self._server.stop()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._check.stop()
        await self.region.close()

    def health(self) -> dict[str, Any]:
        return {"healthy": self.region.ready, **self.region.status()}

    def catalog(self) -> CatalogView | None:
        """The region's catalog, once it is known."""
        return self.region.catalog if self.region.ready else None

    def trigger_administration(self) -> dict[str, AdminCall]:
        """For the metrics page: `triggers`, what an operator asks about functions and mappings."""
        return {"triggers": administration(self._administrator)}

    def _administrator(self) -> Context | None:
        return None if self._api is None or not self.region.ready else self._api.context()

    def _wall_s(self) -> float:
        return self._clock.wall_us() / 1e6

    def _context(self, request_id: str, principal: object) -> Context:
        assert self._api is not None
        return self._api.context(request_id, principal)
