"""The global endpoint with real regions behind it: one dies in several ways under clients that never stop."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from geodyne.healthcheck import HEALTH_TABLE
from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table, make_global
from tests.cluster.traffic import Traffic, stalls
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TOPOLOGY = """
[global]
location = "us-east-1"
trusted_proxies = ["127.0.0.0/8"]

[global.networks]
"10.2.0.0/16" = "eu-west-1"

[regions.us-east-1]

[regions.eu-west-1]
zones = ["a"]
"""
NEAR, FAR = REGIONS = ("us-east-1", "eu-west-1")
TABLE = "geo-routing"
GAP_S_MAX = 5.0  # issue: fail-over within 5 s
STEPS_AROUND = 20
NO_RETRIES: dict[str, Any] = {"retries": {"total_max_attempts": 1}}


@pytest.fixture(scope="module")
def geo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("geo") / "data", TOPOLOGY)
    try:
        cluster.start()
        home = cluster.client(NEAR)
        create_table(home, TABLE)
        make_global(cluster, NEAR, TABLE, REGIONS)
        home.close()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def table(geo: Cluster) -> Iterator[Cluster]:
    """Both regions up, the endpoint's policy the default."""
    stopped = [process.id for process in geo.processes() if process.state == "stopped"]
    if stopped:
        geo.start_processes(stopped)
    geo.await_running()
    assert geo.run("routes", "reset").returncode == 0
    assert geo.run("routes", "reset", "--table", TABLE).returncode == 0
    until("both regions are up", lambda: all(known["healthy"] for known in routes(geo)["regions"].values()))
    yield geo
    print(geo.run("routes").stdout)


def routes(cluster: Cluster) -> dict[str, Any]:
    done = cluster.run("routes", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


class User:
    """Asks through the global endpoint, one request a step, and notes who answered; `writes` or reads strongly."""

    def __init__(self, cluster: Cluster, *, writes: bool, address: str = "", **config: Any) -> None:
        self.client = cluster.global_client(**config)
        self.writes = writes
        self.seen: list[tuple[str, str]] = []  # region and reason, whenever they change
        self.took_s_max = 0.0
        if address:
            self.client.meta.events.register("before-send.dynamodb.*", self._pretend)
        self._address = address

    def _pretend(self, request: Any, **_: Any) -> None:
        """To be a proxy that was asked from that address. A value in place of None would stand for the response."""
        request.headers["X-Forwarded-For"] = self._address

    @property
    def region(self) -> str:
        return self.seen[-1][0] if self.seen else ""

    def step(self, number: int) -> None:
        began = time.monotonic()
        key = {"pk": {"S": f"row-{number % 50}"}}
        if self.writes:
            answer = self.client.put_item(TableName=TABLE, Item=key)
        else:
            answer = self.client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)
        self.took_s_max = max(self.took_s_max, time.monotonic() - began)
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        decided = headers["x-geodyne-region"], headers["x-geodyne-reason"]
        if not self.seen or self.seen[-1] != decided:
            self.seen.append(decided)

    def ask(self) -> str:
        """One request; the region that answered."""
        self.step(0)
        return self.region

    def close(self) -> None:
        self.client.close()


class Outage:
    """Some processes of a region, stopped or killed as by a fault, and brought back."""

    def __init__(self, cluster: Cluster, region: str, roles: Sequence[str], number: signal.Signals) -> None:
        self._cluster = cluster
        self._number = number
        self._processes = [process for role in roles for process in cluster.processes(region, role)]

    def begin(self) -> None:
        for process in self._processes:
            self._cluster.signal(process, self._number)
        if self._number == signal.SIGKILL:  # and the supervisor is not to start them again at once
            self._cluster.stop_processes([process.id for process in self._processes])

    def end(self) -> None:
        if self._number == signal.SIGSTOP:
            for process in self._processes:
                self._cluster.signal(process, signal.SIGCONT)
        else:
            self._cluster.start_processes([process.id for process in self._processes])


@pytest.mark.parametrize(
    ("roles", "number"),
    [
        (("router", "node"), signal.SIGKILL),
        (("router", "node"), signal.SIGSTOP),
        (("node",), signal.SIGSTOP),  # the router is well, and has to find out that its region is not
    ],
    ids=["killed", "stopped", "nodes-stopped"],
)
def test_clients_of_a_region_that_dies_are_served_elsewhere_within_seconds_and_go_back_once(
    table: Cluster, roles: tuple[str, ...], number: signal.Signals
) -> None:
    users = [User(table, writes=True), User(table, writes=False)]
    outage = Outage(table, NEAR, roles, number)
    with stalls() as stalled, Traffic("w", users[0].step) as writes, Traffic("r", users[1].step) as reads:

        def all_go_on(region: str) -> None:
            until(f"{region} answers", lambda: writes.check() and reads.check() and all_at(users, region))
            goals = [(traffic, traffic.steps + STEPS_AROUND) for traffic in (writes, reads)]
            until("all go on", lambda: all(traffic.check() and traffic.steps >= goal for traffic, goal in goals))

        all_go_on(NEAR)
        outage.begin()
        try:
            all_go_on(FAR)
        finally:
            outage.end()
        all_go_on(NEAR)
    print(
        f"longest gaps {writes.gap_s_max:.2f} {reads.gap_s_max:.2f} s, longest requests {users[0].took_s_max:.2f} "
        f"{users[1].took_s_max:.2f} s, machine {stalled.gap_s_max:.2f} s"
    )
    for user, traffic in zip(users, (writes, reads), strict=True):
        assert user.seen == [(NEAR, "nearest"), (FAR, f"fail-over from {NEAR}"), (NEAR, "nearest")]
        assert traffic.gap_s_max - stalled.gap_s_max < GAP_S_MAX
        user.close()


def all_at(users: Sequence[User], region: str) -> bool:
    return all(user.region == region for user in users)


def test_the_death_of_one_node_moves_no_client_elsewhere(table: Cluster) -> None:
    status = table.status()["partitions"]
    leader = next(p["leader"] for p in status if (p["region"], p["table"]) == (NEAR, HEALTH_TABLE))
    user = User(table, writes=True)
    with Traffic("w", user.step) as writes:
        until("writes go on", lambda: writes.check() and writes.steps > STEPS_AROUND)
        began = time.monotonic()
        killed = table.kill(leader)
        until("another one is started", lambda: writes.check() and table.process(leader).pid not in (None, killed))
        table.await_running()
        until("checks are good again", lambda: not routes(table)["regions"][NEAR]["check"]["error"])
        up_for_s = routes(table)["regions"][NEAR]["for_ms"] / 1_000
    assert user.seen == [(NEAR, "nearest")]
    assert up_for_s > time.monotonic() - began
    user.close()


def test_a_pinned_table_is_refused_while_its_region_is_down_also_by_a_new_endpoint(table: Cluster) -> None:
    create = table.client(NEAR)
    if "other" not in create.list_tables()["TableNames"]:
        create_table(create, "other")
        make_global(table, NEAR, "other", REGIONS)
    create.close()
    done = table.run("routes", "set", "--table", TABLE, "pinned", NEAR)
    assert done.returncode == 0, done.stderr
    user = User(table, writes=False, address="10.2.0.9", **NO_RETRIES)
    until("it is pinned", lambda: user.ask() == NEAR)
    outage = Outage(table, NEAR, ("node",), signal.SIGSTOP)
    outage.begin()
    try:
        until("the region is down", lambda: not routes(table)["regions"][NEAR]["healthy"])
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(user.client.exceptions.ClientError) as caught:
                user.step(0)
            assert time.monotonic() - began < GAP_S_MAX
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
            text = str(caught.value)
            assert f"Table {TABLE} is pinned to region {NEAR}, which is down: its health check fails" in text
            answer = user.client.get_item(TableName="other", Key={"pk": {"S": "x"}})
            assert answer["ResponseMetadata"]["HTTPHeaders"]["x-geodyne-region"] == FAR
            assert table.run("restart", "global").returncode == 0  # what was set outlives the process
    finally:
        outage.end()
    until("its region serves it again", lambda: user_region(user) == NEAR)
    assert user.seen == [(NEAR, "pinned")]
    user.close()


def user_region(user: User) -> str:
    try:
        return user.ask()
    except user.client.exceptions.ClientError:
        return ""


def test_weights_share_clients_out_and_each_keeps_its_region(table: Cluster) -> None:
    assert table.run("routes", "set", "weighted", f"{NEAR}=2", f"{FAR}=1").returncode == 0
    users = [User(table, writes=False, address=f"10.9.0.{number}") for number in range(24)]
    served = [user.ask() for user in users]
    assert [user.ask() for user in users] == served
    assert 0 < served.count(FAR) < served.count(NEAR) < len(users)
    assert table.run("restart", "global").returncode == 0
    assert [user.ask() for user in users] == served
    for user in users:
        user.close()


def test_a_client_is_placed_by_its_network_and_the_answer_says_so(table: Cluster) -> None:
    user = User(table, writes=False, address="10.2.3.4")
    answer = user.client.get_item(TableName=TABLE, Key={"pk": {"S": "x"}})
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-geodyne-origin"] == f"{FAR} (network 10.2.0.0/16)"
    assert user.ask() == FAR
    user.close()
    found = table.run("routes", "--table", TABLE, "--from", FAR, "--json")
    route = json.loads(found.stdout)
    assert [one["region"] for one in route["routes"]] == [FAR, NEAR]
    assert [(one["region"], one["status"]) for one in route["replicas"]] == [(FAR, "ACTIVE"), (NEAR, "ACTIVE")]


def test_each_router_tells_where_the_nearest_replica_of_a_table_is_and_forwards_nothing(table: Cluster) -> None:
    router = table.processes(FAR, "router")[0]
    connection = http.client.HTTPConnection(router.metrics, timeout=10)
    connection.request("GET", f"/nearest?table={TABLE}&from={NEAR}")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert (answer["nearest"], [one["region"] for one in answer["replicas"]]) == (NEAR, [NEAR, FAR])
    home, far = table.client(NEAR), table.client(FAR)
    if "near-only" not in home.list_tables()["TableNames"]:
        create_table(home, "near-only")
    with pytest.raises(far.exceptions.ResourceNotFoundException):
        far.get_item(TableName="near-only", Key={"pk": {"S": "x"}})
    home.close()
    far.close()
