"""The global endpoint before real regional servers on loopback: routing, fail-over, what a lost answer means."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from geodyne.errors import ApiError
from geodyne.routing import Policy, PolicyKind, Routing
from geodyne.rpc.drive import Reply
from router.auth.sigv4 import Credential, Principal, SignatureVerifier
from router.geo import Geography, HealthLimits
from router.globalrole import PROBE_EVERY_S, GlobalEndpoint
from router.healthcheck import Verdict
from router.http import regionhealth
from router.http.dynamodb import Call, DynamoDb, execute_locally
from router.http.forward import ConnectionPool, NotSent, OutcomeUnknown, PoolFull, PoolLimits
from router.http.regionhealth import read_report, region_health
from router.http.server import HttpServer
from router.http.values import HttpRequest, HttpResponse
from router.routeadmin import administration

ANA = Credential("AKIAANA", "secret", None, "ana")
REGIONS = ("us-east-1", "eu-west-1")
DISTANCES = {frozenset(REGIONS): 76.0}


async def until(happened: Collection[Any]) -> None:
    """The other side has been reached."""
    while not happened:  # noqa: ASYNC110 - handlers run outside of any task and have no event to set
        await asyncio.sleep(0)


class Op(NamedTuple):
    name: str
    is_write: bool
    handler: Callable[[dict[str, Any], Any], Awaitable[bytes]] | None = None

    def table_names(self, body: dict[str, Any]) -> list[str]:
        return [body["TableName"]] if "TableName" in body else []


class Region:
    """A regional router with signatures on. `mode`: answer, hang, or cut (break the connection without an answer)."""

    def __init__(self, name: str, tables: set[str]) -> None:
        self.name = name
        self.tables = tables
        self.mode = "answer"
        self.healthy = self.checked = True
        self.bodies: list[dict[str, Any]] = []
        self.probes: list[bytes] = []

        async def handler(body: dict[str, Any], context: Any) -> bytes:
            self.bodies.append(body)
            if self.mode == "busy":
                raise ApiError("ServiceUnavailable", "busy")
            if self.mode == "cut":
                for connection in list(self.server.connections):
                    if connection._current is not None:  # not that of the probes
                        connection.abort()
            if self.mode != "answer":
                await Reply[None]()
            return orjson.dumps({"region": self.name})

        operations = {name: Op(name, name == "PutItem", handler) for name in ("GetItem", "PutItem")}
        gates = DynamoDb(
            {"DynamoDB_20120810": operations},
            execute_locally(lambda request_id, principal: None),
            verifier=SignatureVerifier([name], {"AKIAANA": ANA}.get),
            wall_s=time.time,
            monotonic_s=time.monotonic,
        )
        health = region_health(self.verdict, lambda: len(self.tables), lambda: self.tables)

        def probed(request: HttpRequest) -> HttpResponse:
            self.probes.append(request.query)
            return health(request)

        self.server = HttpServer(gates.handle, direct_get={regionhealth.PATH: probed})

    def verdict(self) -> Verdict:
        return Verdict(self.healthy, self.checked, 100, 1.0, 1.0, "" if self.healthy else "no majority")


def request(
    operation: str, table: str | None = "t", location: bytes = b"", peer: tuple[str, int] = ("", 0), key: str = ""
) -> Call:
    body = {} if table is None else {"TableName": table}
    headers = {b"x-amz-target": b"DynamoDB_20120810." + operation.encode(), b"x-geodyne-location": location}
    http = HttpRequest(b"POST", b"/", b"", headers, orjson.dumps(body), "", peer)
    principal = Principal(key, "", "")
    return Call(Op(operation, operation == "PutItem"), body, principal, b"application/x-amz-json-1.0", http)


Scenario = Callable[[GlobalEndpoint, Region, Region], Awaitable[None]]


def cluster(scenario: Scenario, routing: Routing | None = None) -> None:
    async def run() -> None:
        regions = [Region(name, {"t"}) for name in REGIONS]
        ports = {region.name: ("127.0.0.1", await region.server.start("127.0.0.1", 0)) for region in regions}
        endpoint = GlobalEndpoint(
            Geography(REGIONS, DISTANCES, home="us-east-1"),
            ports,
            credential=ANA,
            wall_s=time.time,
            health_limits=HealthLimits(failures_to_down=2, successes_to_up=2, down_ms_min=0),
            configured=routing,
        )
        await endpoint.start()
        try:
            await asyncio.wait_for(scenario(endpoint, *regions), 5)
        finally:
            await endpoint.stop()
            for region in regions:
                await region.server.stop(0)

    asyncio.run(run())


async def region_of(endpoint: GlobalEndpoint, call: Call) -> tuple[str, str]:
    response = await endpoint.execute(call)
    assert response.status == 200, response.body
    told = dict(response.headers)
    region = told[b"x-geodyne-region"].decode()
    assert orjson.loads(response.body) == {"region": region}
    assert len(response.request_id) == 52
    return region, told[b"x-geodyne-reason"].decode()


def test_a_request_goes_to_the_nearest_region_of_the_client_and_says_so() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        assert await region_of(endpoint, request("GetItem")) == ("us-east-1", "nearest")
        assert await region_of(endpoint, request("PutItem", location=b"eu-west-1")) == ("eu-west-1", "nearest")
        assert await region_of(endpoint, request("GetItem", None)) == ("us-east-1", "nearest")
        arn = "arn:aws:dynamodb:eu-west-1:000000000000:table/t"
        assert (await region_of(endpoint, request("GetItem", arn)))[0] == "eu-west-1"
        assert east.bodies[0] == {"TableName": "t"}

    cluster(scenario)


def test_a_compressed_body_travels_on_as_it_came() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        call = request("PutItem")
        headers = {**call.http.headers, b"content-encoding": b"gzip", b"accept-encoding": b"gzip"}
        compressed = call.http._replace(headers=headers, body=gzip.compress(call.http.body))
        assert (await region_of(endpoint, call._replace(http=compressed)))[0] == "us-east-1"
        assert east.bodies == [{"TableName": "t"}]

    cluster(scenario)


def test_a_table_of_one_region_is_served_from_there() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        west.tables = {"t", "only"}
        await endpoint._probe("eu-west-1")
        assert await region_of(endpoint, request("GetItem", "only")) == ("eu-west-1", "nearest with the table")

    cluster(scenario)


def test_reads_and_writes_fail_over_when_a_router_is_gone() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        assert (await region_of(endpoint, request("PutItem")))[0] == "us-east-1"
        await east.server.stop(0)
        await asyncio.sleep(0.01)
        expected = ("eu-west-1", "fail-over from us-east-1")
        assert (await region_of(endpoint, request("PutItem")))[0] == "eu-west-1"
        assert await region_of(endpoint, request("PutItem")) == expected
        assert await region_of(endpoint, request("GetItem")) == expected
        assert not endpoint.status()["us-east-1"]["healthy"]

    cluster(scenario)


def test_a_router_that_dies_is_noticed_before_the_next_probe_is_due() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        began = time.monotonic()
        await east.server.stop(0)
        while endpoint.health["us-east-1"].healthy:  # noqa: ASYNC110 - health has no event to wait for
            await asyncio.sleep(0)
        assert time.monotonic() - began < PROBE_EVERY_S
        assert (await region_of(endpoint, request("PutItem")))[0] == "eu-west-1"

    cluster(scenario)


def test_a_read_whose_answer_is_lost_is_tried_elsewhere_and_a_write_is_not() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        east.mode = "cut"
        with pytest.raises(ApiError, match="InternalServerError"):
            await endpoint.execute(request("PutItem"))
        assert west.bodies == []
        for _ in range(4):
            await endpoint._probe("us-east-1")
        assert endpoint.health["us-east-1"].healthy
        assert (await region_of(endpoint, request("GetItem")))[0] == "eu-west-1"

    cluster(scenario)


def test_a_read_that_hangs_moves_on_when_probes_find_the_region_unhealthy() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        east.mode = "hang"
        reading = asyncio.create_task(region_of(endpoint, request("GetItem")))
        await until(east.bodies)
        east.healthy = False
        await endpoint._probe("us-east-1")
        assert (await reading)[0] == "eu-west-1"
        assert endpoint.status()["us-east-1"]["reason"] == "its health check fails: no majority"

    cluster(scenario)


def test_a_router_that_has_only_begun_to_check_its_region_is_asked_again_before_it_counts_as_down() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        east.healthy = east.checked = False
        await endpoint._probe("us-east-1")
        assert endpoint.health["us-east-1"].healthy
        await endpoint._probe("us-east-1")
        assert not endpoint.health["us-east-1"].healthy

    cluster(scenario)


PINNED = Routing(tables={"t": Policy(PolicyKind.PINNED, ("us-east-1",))})


def test_a_pinned_table_is_served_by_its_region_or_by_none() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        assert await region_of(endpoint, request("GetItem", location=b"eu-west-1")) == ("us-east-1", "pinned")
        east.healthy = False
        await endpoint._probe("us-east-1")
        for operation in ("GetItem", "PutItem"):
            with pytest.raises(ApiError) as caught:
                await endpoint.execute(request(operation))
            assert caught.value.kind.status == 503
            assert caught.value.message == (
                "Table t is pinned to region us-east-1, which is down: its health check fails: no majority"
            )
        assert west.bodies == []
        assert (await region_of(endpoint, request("GetItem", None)))[0] == "eu-west-1"
        with pytest.raises(ApiError, match="ValidationException"):
            await endpoint.execute(request("GetItem", "arn:aws:dynamodb:eu-west-1:000000000000:table/t"))

    cluster(scenario, PINNED)


def test_a_list_is_tried_in_its_order_and_nothing_else_is() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        assert await region_of(endpoint, request("GetItem")) == ("eu-west-1", "failover")
        west.healthy = False
        await endpoint._probe("eu-west-1")
        assert await region_of(endpoint, request("GetItem")) == ("us-east-1", "fail-over from eu-west-1")

    cluster(scenario, Routing(policy=Policy(PolicyKind.FAILOVER, ("eu-west-1", "us-east-1"))))


def test_clients_are_shared_out_by_weight_and_keep_their_region() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        served = {}
        for number in range(60):
            call = request("GetItem", peer=(f"10.0.0.{number}", 1), key="AKIAANA")
            served[number] = (await region_of(endpoint, call))[0]
            again = request("GetItem", peer=(f"10.0.0.{number}", 2), key="AKIAANA")
            assert (await region_of(endpoint, again))[0] == served[number]
        assert 30 < sum(region == "us-east-1" for region in served.values()) < 58
        east.healthy = False
        await endpoint._probe("us-east-1")
        for number, region in served.items():
            expected = "weighted" if region == "eu-west-1" else "fail-over from us-east-1"
            call = request("GetItem", peer=(f"10.0.0.{number}", 3), key="AKIAANA")
            assert await region_of(endpoint, call) == ("eu-west-1", expected)

    cluster(scenario, Routing(policy=Policy(PolicyKind.WEIGHTED, REGIONS, (3, 1))))


def test_the_answer_says_where_the_client_was_taken_to_be() -> None:
    async def origin(endpoint: GlobalEndpoint, call: Call) -> bytes:
        return dict((await endpoint.execute(call)).headers)[b"x-geodyne-origin"]

    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        assert await origin(endpoint, request("GetItem")) == b"us-east-1 (default)"
        assert await origin(endpoint, request("GetItem", location=b"cork")) == b"eu-west-1 (header)"
        inside = request("GetItem", peer=("10.2.3.4", 5))
        assert await origin(endpoint, inside) == b"eu-west-1 (network 10.2.0.0/16)"

    cluster(scenario, Routing(places={"cork": "eu-west-1"}, networks={"10.2.0.0/16": "eu-west-1"}))


def test_an_operator_sees_and_changes_policies_while_requests_go_on() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        routes = administration(endpoint)
        policy = {"policy": "pinned", "region": "eu-west-1"}
        answer = await routes({"operation": "set", "table": "t", "policy": policy})
        assert answer["result"]["tables"] == {"t": {**policy, "source": "run time"}}
        assert answer["result"]["regions"]["us-east-1"]["check"]["write_ms"] == 1.0
        assert (await region_of(endpoint, request("GetItem")))[0] == "eu-west-1"
        found = (await routes({"operation": "find", "table": "t", "from": "us-east-1"}))["result"]
        assert (found["origin"], found["routes"]) == ("us-east-1", [{"region": "eu-west-1", "reason": "pinned"}])
        assert found["regions"] == [{"region": "eu-west-1", "healthy": True, "has_table": True, "round_trip_ms": 76.0}]
        await routes({"operation": "reset", "table": "t"})
        assert (await region_of(endpoint, request("GetItem")))[0] == "us-east-1"

    cluster(scenario)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "operation must be one of"),
        ({"operation": "set", "table": 1}, "operation must be one of"),
        ({"operation": "set"}, "a policy with its parameters is expected"),
        ({"operation": "set", "policy": {"policy": "pinned", "region": "mars"}}, "'mars' is not a region"),
        ({"operation": "find", "from": "mars"}, "'mars' is neither a region nor a place"),
    ],
)
def test_an_operator_is_told_what_cannot_be(arguments: dict[str, Any], error: str) -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        assert error in (await administration(endpoint)(arguments))["error"]

    cluster(scenario)


def test_metrics_have_a_bounded_set_of_labels() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        registry = CollectorRegistry()
        registry.register(endpoint)
        before = generate_latest(registry).decode().splitlines()
        await region_of(endpoint, request("GetItem"))
        east.healthy = False
        await endpoint._probe("us-east-1")
        await region_of(endpoint, request("GetItem", "unknown"))
        after = generate_latest(registry).decode().splitlines()
        assert len(before) == len(after)
        assert 'geodyne_routes_total{outcome="first",policy="nearest"} 1.0' in after
        assert 'geodyne_routes_total{outcome="fail-over",policy="nearest"} 1.0' in after
        assert 'geodyne_region_changes_total{destination="us-east-1",state="down"} 1.0' in after

    cluster(scenario)


def test_a_read_refused_for_want_of_a_majority_is_tried_elsewhere() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        east.mode = "busy"
        assert (await region_of(endpoint, request("GetItem")))[0] == "eu-west-1"
        assert (await endpoint.execute(request("PutItem"))).status == 503

    cluster(scenario)


def test_with_no_region_left_the_client_is_told_so() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        await east.server.stop(0)
        await west.server.stop(0)
        await asyncio.sleep(0.01)
        for operation in ("GetItem", "PutItem"):
            with pytest.raises(ApiError, match="ServiceUnavailable"):
                await endpoint.execute(request(operation))

    cluster(scenario)


def test_probes_of_an_unchanged_catalog_carry_no_tables() -> None:
    async def scenario(endpoint: GlobalEndpoint, east: Region, west: Region) -> None:
        await endpoint._probe("us-east-1")
        assert east.probes[:2] == [b"revision=-1", b"revision=1"]
        assert endpoint.health["us-east-1"].tables == {"t"}

    cluster(scenario)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"healthy":1,"revision":1}',
        b'{"healthy":true}',
        b'{"healthy":true,"revision":1,"tables":[1]}',
        b'{"healthy":true,"revision":1,"check":1}',
    ],
)
def test_an_answer_that_is_no_report_is_not_taken_for_one(body: bytes) -> None:
    assert read_report(body) is None


def test_a_pool_is_bounded_and_tells_what_was_never_sent_from_what_may_have_been() -> None:
    async def run() -> None:
        hanging: set[asyncio.StreamWriter] = set()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            hanging.add(writer)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pool = ConnectionPool("127.0.0.1", port, PoolLimits(connections_max=1, waiting_max=1))
        first = pool.exchange(b"GET / HTTP/1.1\r\n\r\n", 0.05)
        await until(hanging)
        second = pool.exchange(b"GET / HTTP/1.1\r\n\r\n", 0.02)
        with pytest.raises(PoolFull):
            await pool.exchange(b"GET / HTTP/1.1\r\n\r\n", 5)
        with pytest.raises(NotSent):
            await second
        with pytest.raises(OutcomeUnknown) as caught:
            await first
        assert caught.value.timed_out
        await pool.close()
        server.close()
        await server.wait_closed()
        unreachable = ConnectionPool("127.0.0.1", port)
        with pytest.raises(NotSent):
            await unreachable.exchange(b"GET / HTTP/1.1\r\n\r\n", 5)
        await unreachable.close()

    asyncio.run(run())
