"""The global endpoint: forwards each request to the region that the client's place, the policies and health decide on.

The request has passed the same gates as in a region (router.http.dynamodb); its body travels on unchanged, signed anew
for the region it goes to. The response tells the region in `x-geodyne-region`, why in `x-geodyne-reason`, and where the
client was taken to be in `x-geodyne-origin`.

A request that surely had no effect, and any read, is tried in the next region. A write whose outcome is not known is
answered 500, as DynamoDB does: only the client can tell whether it may be repeated. What is under way in a region that
is found to be down ends at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from geodyne.errors import ApiError
from geodyne.routing import PolicyKind, Routing
from router.auth.dates import basic_date
from router.auth.sigv4 import Credential, sign, signing_key
from router.geo import Geography, HealthLimits, RegionHealth
from router.http.dynamodb import Call
from router.http.forward import Answer, ConnectionPool, NotSent, OutcomeUnknown, PoolFull, PoolLimits
from router.http.regionhealth import probe, read_report
from router.http.values import AMZ_JSON, HttpResponse
from router.placement import Origin, Placement
from router.policies import Choice, Client, NoCommonRegion, Rule, choose, preferred, rule_of
from router.routebook import RouteBook

log = logging.getLogger("geodyne.global")

LOCATION_HEADER = b"x-geodyne-location"
FORWARDED_HEADER = b"x-forwarded-for"
REGION_HEADER = b"x-geodyne-region"
REASON_HEADER = b"x-geodyne-reason"
ORIGIN_HEADER = b"x-geodyne-origin"

PROBE_EVERY_S = 0.5
PROBE_TIMEOUT_S = 1.0
FIRST_PROBES_MAX = 6  # until regions that have only begun to check themselves are known
FORWARD_TIMEOUT_S = 25.0  # of all attempts together; longer than a region's longest deadline, which answers better
_PROBE_POOL = PoolLimits(connections_max=1, waiting_max=1, connect_s=PROBE_TIMEOUT_S)
_FIRST, _FAIL_OVER, _NOWHERE = "first", "fail-over", "none"


class Route(NamedTuple):
    """What was decided for a request: where it may go, best first, and from what that follows."""

    choices: list[Choice]
    rule: Rule
    origin: Origin
    names: tuple[str, ...]
    order: tuple[str, ...]  # of all regions that may serve, healthy or not


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
        routes: RouteBook | None = None,
        configured: Routing | None = None,
    ) -> None:
        self.geography = geography
        configured = configured or Routing()
        self.routes = routes or RouteBook(configured, geography.regions, None)
        self.placement = Placement(configured, geography.regions, geography.home)
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
        self._checks: dict[str, dict[str, Any]] = {region: {} for region in routers}
        self._changed = {(region, state): 0 for region in routers for state in ("up", "down")}
        outcomes = (_FIRST, _FAIL_OVER, _NOWHERE)
        self._decided = {(str(kind), outcome): 0 for kind in PolicyKind for outcome in outcomes}

    async def start(self) -> None:
        """Probe all regions until each is known to be up or is in trouble, then go on probing."""
        for _ in range(FIRST_PROBES_MAX):
            known = await asyncio.gather(*(self._probe(region) for region in self.health))
            if all(known):
                break
            await asyncio.sleep(PROBE_EVERY_S / FIRST_PROBES_MAX)
        self._probing = [asyncio.create_task(self._probe_forever(region)) for region in self.health]

    async def stop(self) -> None:
        for task in self._probing:
            task.cancel()
        await asyncio.gather(*self._probing, return_exceptions=True)
        for pool in (*self._pools.values(), *self._probe_pools.values()):
            await pool.close()

    def status(self) -> dict[str, Any]:
        """For /status and /healthz."""
        now_ms = self._now_ms()
        return {
            region: {
                "healthy": health.healthy,
                "reason": health.reason,
                "for_ms": health.state_ms(now_ms),
                "tables": len(health.tables),
                "check": self._checks[region],
            }
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
        changes = CounterMetricFamily(
            "geodyne_region_changes", "Times that a region went up or down.", labels=("destination", "state")
        )
        for change, count in self._changed.items():
            changes.add_metric(change, count)
        decided = CounterMetricFamily("geodyne_routes", "Requests by policy and outcome.", labels=("policy", "outcome"))
        for decision, count in self._decided.items():
            decided.add_metric(decision, count)
        yield from (up, forwarded, changes, decided)

    # --- requests -------------------------------------------------------------------------------------

    async def execute(self, call: Call) -> HttpResponse:
        """Forward a request that passed the gates. Raises ApiError when no region can answer."""
        route = self.route(call)
        choices = route.choices
        kind = str(route.rule.policy.kind)
        writes = call.operation.is_write
        now_s = asyncio.get_running_loop().time
        latest_s = now_s() + FORWARD_TIMEOUT_S
        for position, choice in enumerate(choices):
            region = choice.region
            if position and not self.health[region].healthy:
                continue  # it went down while the one before was tried
            self._forwarded[region] += 1
            try:
                answer = await self._pools[region].exchange(self._signed(region, call), max(0.0, latest_s - now_s()))
            except PoolFull:
                raise ApiError("ServiceUnavailable", "Too many requests are under way") from None
            except NotSent as error:
                self._request_failed(region, error)
                continue
            except OutcomeUnknown as error:
                self._request_failed(region, error)
                if writes:
                    raise ApiError("InternalServerError", "The outcome of the write is not known") from None
                continue
            if answer.status == 503 and not writes and position + 1 < len(choices):
                continue
            self._decided[kind, _FIRST if region == route.order[0] else _FAIL_OVER] += 1
            return _response(answer, choice, route.origin)
        self._decided[kind, _NOWHERE] += 1
        raise ApiError("ServiceUnavailable", self._why_nowhere(route))

    def route(self, call: Call) -> Route:
        """The regions to try, best first, by the client's place, the tables' policies and the state of the regions.
        Raises ApiError when the policies of the request's tables contradict each other."""
        headers = call.http.headers
        key = call.principal.access_key_id
        host, port = call.http.peer
        location = headers.get(LOCATION_HEADER, b"")
        origin = self.placement.origin(location, host, headers.get(FORWARDED_HEADER, b""), key)
        client = Client(f"{key} {origin.address}", f"{host} {port}")
        return self.decide(call.operation.table_names(call.body), origin, client)

    def decide(self, named: Iterable[str], origin: Origin, client: Client) -> Route:
        """The same for tables as a request names them. Raises ApiError."""
        names: dict[str, None] = {}
        bound = set()
        for name in named:
            region, table = _table_of(name)
            names[table] = None
            if region in self.health:
                bound.add(region)
        try:
            rule = rule_of(self.routes.routing, tuple(names))
            if len(bound) == 1:  # an ARN says which region's table it means
                rule = rule.within(bound)
        except NoCommonRegion as error:
            raise ApiError("ValidationException", str(error)) from None
        nearest = self.geography.nearest(origin.region)
        choices = choose(rule, nearest, client, self.health, names)
        return Route(choices, rule, origin, tuple(names), tuple(preferred(rule, nearest, client)))

    def _why_nowhere(self, route: Route) -> str:
        whose = f"Table {route.rule.table}" if route.rule.table else "This endpoint"
        if route.rule.policy.kind is PolicyKind.PINNED:
            region = route.rule.policy.regions[0]
            return f"{whose} is pinned to region {region}, which is down: {self.health[region].reason}"
        if route.rule.policy.regions:
            regions = ", ".join(route.order)
            return f"{whose} is served by {regions} alone, and none of them can be reached at this time"
        return "No region that has the table can be reached at this time"

    def _request_failed(self, region: str, error: NotSent | OutcomeUnknown) -> None:
        """What ends because its region is known to be down says nothing new of it."""
        if not self.health[region].healthy:
            return
        if isinstance(error, OutcomeUnknown):
            self._note(region, self._broke(region, error))
        else:
            self._note(region, self.health[region].lost(self._now_ms(), str(error)))

    def _broke(self, region: str, error: OutcomeUnknown) -> bool:
        health = self.health[region]
        if error.timed_out:
            return health.failed(self._now_ms(), str(error))
        return health.lost(self._now_ms(), str(error))

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

    async def _probe(self, region: str) -> bool:
        """Returns whether something is known of the region now: it may only have begun to look after itself."""
        pool, health = self._probe_pools[region], self.health[region]
        try:
            answer = await pool.exchange(probe(f"{pool.host}:{pool.port}", self._revisions[region]), PROBE_TIMEOUT_S)
        except NotSent as error:
            self._note(region, health.lost(self._now_ms(), str(error)))
            return True
        except OutcomeUnknown as error:
            self._note(region, self._broke(region, error))
            return True
        report = read_report(answer.body) if answer.status == 200 else None
        if report is None:
            self._note(region, health.failed(self._now_ms(), "the region's router gives no report"))
            return True
        self._checks[region] = report.check
        if report.healthy:
            self._revisions[region] = report.revision
            self._note(region, health.succeeded(self._now_ms(), report.tables))
        elif report.checked:
            # It has tried for longer than an election takes: no need to ask again.
            self._note(region, health.lost(self._now_ms(), report.trouble))
        else:
            self._note(region, health.failed(self._now_ms(), report.trouble))
        return report.checked

    def _note(self, region: str, changed: bool) -> None:
        if not changed:
            return
        health = self.health[region]
        if health.healthy:
            self._changed[region, "up"] += 1
            log.info("region up", extra={"region": region, "check": self._checks[region]})
        else:
            self._changed[region, "down"] += 1
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


def _response(answer: Answer, choice: Choice, origin: Origin) -> HttpResponse:
    headers = (
        (REGION_HEADER, choice.region.encode()),
        (REASON_HEADER, choice.reason.encode()),
        (ORIGIN_HEADER, f"{origin.region} ({origin.reason})".encode()),
    )
    request_id = answer.headers.get(b"x-amzn-requestid", b"").decode("latin-1")
    content_type = answer.headers.get(b"content-type", AMZ_JSON)
    return HttpResponse(answer.status, answer.body, content_type, headers, request_id if request_id.isascii() else "")
