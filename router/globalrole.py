"""The global endpoint: forwards each request to the nearest healthy region that has its table.

The request has passed the same gates as in a region (router.http.dynamodb); its body travels on unchanged, signed anew
for the region it goes to. The response tells the region in `x-geodyne-region` and why in `x-geodyne-reason`.

A request that surely had no effect, and any read, is tried in the next region. A write whose outcome is not known is
answered 500, as DynamoDB does: only the client can tell whether it may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from geodyne.errors import ApiError
from router.auth.dates import basic_date
from router.auth.sigv4 import Credential, sign, signing_key
from router.geo import Choice, Geography, HealthLimits, RegionHealth, choose
from router.http.dynamodb import Call
from router.http.forward import Answer, ConnectionPool, NotSent, OutcomeUnknown, PoolFull, PoolLimits
from router.http.regionhealth import probe, read_report
from router.http.values import AMZ_JSON, HttpResponse

log = logging.getLogger("geodyne.global")

LOCATION_HEADER = b"x-geodyne-location"
REGION_HEADER = b"x-geodyne-region"
REASON_HEADER = b"x-geodyne-reason"

PROBE_EVERY_S = 0.5
PROBE_TIMEOUT_S = 1.0
FORWARD_TIMEOUT_S = 25.0  # longer than a region's own longest deadline: its answer is better than ours
_PROBE_POOL = PoolLimits(connections_max=1, waiting_max=1, connect_s=PROBE_TIMEOUT_S)


class GlobalEndpoint(Collector):
    """`execute` goes behind the gates of the global endpoint's front end.

    `routers` maps each region to host and port of its router; `credential` None forwards unsigned, for
    clusters that check no signatures.
    """

    def __init__(
        self,
        geography: Geography,
        routers: Mapping[str, tuple[str, int]],
        *,
        credential: Credential | None,
        wall_s: Callable[[], float],
        health_limits: HealthLimits | None = None,
    ) -> None:
        self._geography = geography
        self._credential = credential
        self._wall_s = wall_s
        self.health = {region: RegionHealth(health_limits) for region in routers}
        self._pools = {region: ConnectionPool(host, port) for region, (host, port) in routers.items()}
        self._probe_now = {region: asyncio.Event() for region in routers}
        self._probe_pools = {
            region: ConnectionPool(host, port, _PROBE_POOL, self._probe_now[region].set)
            for region, (host, port) in routers.items()
        }
        self._revisions = dict.fromkeys(routers, -1)
        self._forwarded = dict.fromkeys(routers, 0)
        self._keys: dict[str, tuple[bytes, bytes]] = {}  # region -> day, signing key
        self._probing: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Probe all regions once, then go on probing."""
        await asyncio.gather(*(self._probe(region) for region in self.health))
        self._probing = [asyncio.create_task(self._probe_forever(region)) for region in self.health]

    async def stop(self) -> None:
        for task in self._probing:
            task.cancel()
        await asyncio.gather(*self._probing, return_exceptions=True)
        for pool in (*self._pools.values(), *self._probe_pools.values()):
            await pool.close()

    def status(self) -> dict[str, Any]:
        """For /status and /healthz."""
        return {
            region: {"healthy": health.healthy, "reason": health.reason, "tables": len(health.tables)}
            for region, health in self.health.items()
        }

    def collect(self) -> Iterable[Metric]:
        # Not "region": whoever scrapes gives that label to the process that answers, which stands in none.
        label = ("destination",)
        up = GaugeMetricFamily("geodyne_region_up", "1 while the region takes requests.", labels=label)
        forwarded = CounterMetricFamily("geodyne_forwarded_requests", "Requests sent to a region.", labels=label)
        for region, health in self.health.items():
            up.add_metric((region,), 1.0 if health.healthy else 0.0)
            forwarded.add_metric((region,), self._forwarded[region])
        yield up
        yield forwarded

    # --- requests -------------------------------------------------------------------------------------

    async def execute(self, call: Call) -> HttpResponse:
        """Forward a request that passed the gates. Raises ApiError when no region can answer."""
        choices = self.route(call)
        writes = call.operation.is_write
        for position, choice in enumerate(choices):
            region = choice.region
            self._forwarded[region] += 1
            try:
                answer = await self._pools[region].exchange(self._signed(region, call), FORWARD_TIMEOUT_S)
            except PoolFull:
                raise ApiError("ServiceUnavailable", "Too many requests are under way") from None
            except NotSent as error:
                self._note(region, self.health[region].unreachable(self._now_ms(), str(error)))
                continue
            except OutcomeUnknown as error:
                self._note(region, self._broke(region, error))
                if writes:
                    raise ApiError("InternalServerError", "The outcome of the write is not known") from None
                continue
            if answer.status == 503 and not writes and position + 1 < len(choices):
                continue
            return _response(answer, choice)
        raise ApiError("ServiceUnavailable", "No region that has the table can be reached at this time")

    def route(self, call: Call) -> list[Choice]:
        """The regions to try, best first, by the client's location, the tables and the state of the regions."""
        location = call.http.headers.get(LOCATION_HEADER, b"").decode("utf-8", "replace")
        names, bound = set(), set()
        for name in call.operation.table_names(call.body):
            region, table = _table_of(name)
            names.add(table)
            if region in self.health:
                bound.add(region)
        nearest = self._geography.nearest(self._geography.origin(location))
        if len(bound) == 1:  # an ARN says which region's table it means
            nearest = tuple(bound)
        return choose(nearest, self.health, names)

    def _broke(self, region: str, error: OutcomeUnknown) -> bool:
        health = self.health[region]
        if error.timed_out:
            return health.failed(self._now_ms(), str(error))
        return health.unreachable(self._now_ms(), str(error))

    def _signed(self, region: str, call: Call) -> bytes:
        pool = self._pools[region]
        body = call.http.body
        headers = {
            b"host": f"{pool.host}:{pool.port}".encode(),
            b"content-type": call.content_type,
            b"x-amz-target": call.http.headers[b"x-amz-target"],
        }
        encoding = call.http.headers.get(b"content-encoding")
        if encoding is not None:  # the body travels on as it came
            headers[b"content-encoding"] = encoding
        if self._credential is not None:
            now_s = self._wall_s()
            key = self._signing_key(self._credential, region, basic_date(int(now_s))[:8])
            headers.update(sign(self._credential, region, headers, body, now_s, key=key))
        lines = [b"%b: %b\r\n" % header for header in headers.items()]
        return b"POST / HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (b"".join(lines), len(body), body)

    def _signing_key(self, credential: Credential, region: str, day: bytes) -> bytes:
        known = self._keys.get(region)
        if known is None or known[0] != day:
            key = signing_key(credential.secret_access_key, day.decode(), region, "dynamodb")
            known = self._keys[region] = (day, key)
        return known[1]

    # --- probes ---------------------------------------------------------------------------------------

    async def _probe_forever(self, region: str) -> None:
        """Probe at intervals, and at once when the connection of the probes breaks: how a dying router shows first."""
        now = self._probe_now[region]
        while True:
            try:
                async with asyncio.timeout(PROBE_EVERY_S):
                    await now.wait()
            except TimeoutError:
                log.debug("probing", extra={"region": region})
            now.clear()
            await self._probe(region)

    async def _probe(self, region: str) -> None:
        pool, health = self._probe_pools[region], self.health[region]
        try:
            answer = await pool.exchange(probe(f"{pool.host}:{pool.port}", self._revisions[region]), PROBE_TIMEOUT_S)
        except NotSent as error:
            self._note(region, health.unreachable(self._now_ms(), str(error)))
            return
        except OutcomeUnknown as error:
            self._note(region, self._broke(region, error))
            return
        report = read_report(answer.body) if answer.status == 200 else None
        if report is None:
            self._note(region, health.failed(self._now_ms(), "the region's router gives no report"))
        elif not report.healthy:
            self._note(region, health.failed(self._now_ms(), "the region says that it is not healthy"))
        else:
            self._revisions[region] = report.revision
            self._note(region, health.succeeded(self._now_ms(), report.tables))

    def _note(self, region: str, changed: bool) -> None:
        if not changed:
            return
        health = self.health[region]
        if health.healthy:
            log.info("region up", extra={"region": region})
        else:
            log.warning("region down", extra={"region": region, "reason": health.reason})
            self._pools[region].reset(health.reason)  # its reads go elsewhere now instead of waiting to the end

    def _now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)


def _table_of(name: str) -> tuple[str, str]:
    """Region ("" when it does not say) and table of a table's name or ARN."""
    if not name.startswith("arn:"):
        return "", name
    parts = name.split(":", 5)
    if len(parts) < 6 or not parts[5].startswith("table/"):
        return "", name
    return parts[3], parts[5].removeprefix("table/").partition("/")[0]


def _response(answer: Answer, choice: Choice) -> HttpResponse:
    headers = ((REGION_HEADER, choice.region.encode()), (REASON_HEADER, choice.reason.encode()))
    request_id = answer.headers.get(b"x-amzn-requestid", b"").decode("latin-1")
    content_type = answer.headers.get(b"content-type", AMZ_JSON)
    return HttpResponse(answer.status, answer.body, content_type, headers, request_id if request_id.isascii() else "")
