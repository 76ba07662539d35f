"""`geodyne network` on real processes: paths between two regions are changed, cut and healed, replication is paused."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table, make_global
from tests.cluster.traffic import Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TOPOLOGY = """
round_trip_ms = 0

[global]
location = "us-east-1"

[regions.us-east-1]
zones = ["a"]

[regions.eu-west-1]
zones = ["a"]
"""
EAST, WEST = REGIONS = ("us-east-1", "eu-west-1")
TABLE = "paths"
OTHER_TABLE = "unpaused"
WRITES_IN_SILENCE = 40  # that show that nothing gets through
FAULT_S = 5.0
PAUSE_S = 8.0  # while which three things are looked at, one after another
RECOVERY_S_MAX = 10.0  # of a lag of a few seconds, once nothing is in the way
LAG_S_MAX = 1.0  # of replication that has recovered


class Side:
    """A region's client, and the newest number that another region's writer brought here."""

    def __init__(self, cluster: Cluster, region: str) -> None:
        self.region = region
        self.client = cluster.client(region)
        self.replicator = cluster.processes(region, "replicator")[0]

    def write(self, number: int, table: str = TABLE) -> None:
        self.client.put_item(TableName=table, Item={"pk": {"S": self.region}, "n": {"N": str(number)}})

    def seen_of(self, other: Side, table: str = TABLE) -> int:
        found = self.client.get_item(TableName=table, Key={"pk": {"S": other.region}}, ConsistentRead=True)
        return int(found["Item"]["n"]["N"]) if "Item" in found else -1

    def lag_s(self, destination: str) -> float:
        """As the replicator tells it; the supervisor is not asked."""
        connection = http.client.HTTPConnection(self.replicator.metrics, timeout=10)
        try:
            connection.request("GET", "/status")
            status = json.loads(connection.getresponse().read())
            return float(status["destinations"][destination]["lag_s"])
        finally:
            connection.close()


@pytest.fixture(scope="module")
def started_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("paths") / "data", TOPOLOGY)
    try:
        cluster.start()
        home = cluster.client(EAST)
        for name in (TABLE, OTHER_TABLE):
            create_table(home, name)
            make_global(cluster, EAST, name, REGIONS)
        home.close()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def pair(started_pair: Cluster) -> Cluster:
    """Nothing is cut, paused or slow at the start of a test."""
    started_pair.await_running()
    network(started_pair, "heal")
    for name in (TABLE, OTHER_TABLE):
        network(started_pair, "resume-replication", name)
    network(started_pair, "set", EAST, WEST, "--round-trip-ms", "0", "--jitter-ms", "0", "--loss", "0")
    return started_pair


def network(cluster: Cluster, *words: str) -> dict[str, Any]:
    done = cluster.run("network", *words, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert not answer["untold"]
    return dict(answer)


class Flow:
    """The writer of one region as another region sees it."""

    def __init__(self, origin: Side, target: Side, table: str = TABLE) -> None:
        self.origin, self.target, self.table = origin, target, table
        # One row is written again and again: numbers are never smaller than those of an earlier test.
        self.first = max(origin.seen_of(origin, table), target.seen_of(origin, table)) + 1
        self.traffic = Traffic(f"from {origin.region}", lambda number: origin.write(self.first + number, table))

    def arrives(self) -> bool:
        """Whether what is written from now on gets there, now or never."""
        goal = self.first + self.traffic.steps
        until(
            f"{self.target.region} sees {self.origin.region}",
            lambda: self.traffic.check() and self.target.seen_of(self.origin, self.table) >= goal,
        )
        return True

    def rests(self) -> bool:
        """Whether nothing gets there while many are written."""
        before, goal = self.target.seen_of(self.origin, self.table), self.traffic.steps + WRITES_IN_SILENCE
        until("it writes on", lambda: self.traffic.check() and self.traffic.steps >= goal)
        return before == self.target.seen_of(self.origin, self.table)


@contextmanager
def flow(cluster: Cluster, origin: str, target: str, table: str = TABLE) -> Iterator[Flow]:
    one = Flow(Side(cluster, origin), Side(cluster, target), table)
    try:
        with one.traffic:
            one.arrives()
            yield one
    finally:
        one.origin.client.close()
        one.target.client.close()


def recovers(one: Flow) -> float:
    """Seconds until the origin's replicator says that the target is no longer behind."""
    began = time.monotonic()
    until("no lag is left", lambda: one.origin.lag_s(one.target.region) < LAG_S_MAX, RECOVERY_S_MAX)
    one.arrives()
    return time.monotonic() - began


def test_nothing_passes_a_cut_until_it_is_healed_also_when_a_process_starts_meanwhile(pair: Cluster) -> None:
    with flow(pair, EAST, WEST) as there, flow(pair, WEST, EAST) as back:
        cuts = network(pair, "cut", EAST, WEST)["cuts"]
        assert {(cut["from"], cut["to"]) for cut in cuts} == {(EAST, WEST), (WEST, EAST)}
        until("nothing arrives", lambda: there.rests() and back.rests())
        pair.kill(there.origin.replicator.id)
        pair.await_running()
        assert there.rests()
        assert back.rests()
        assert not network(pair, "heal", WEST, EAST)["cuts"]
        print(f"recovered after {recovers(there):.2f} and {recovers(back):.2f} s")


def test_a_cut_of_one_direction_ends_by_itself(pair: Cluster) -> None:
    with flow(pair, EAST, WEST) as there:
        began = time.monotonic()
        cuts = network(pair, "cut", EAST, WEST, "--one-way", "--for", str(FAULT_S))["cuts"]
        assert [(cut["from"], cut["to"]) for cut in cuts] == [(EAST, WEST)]
        until("nothing arrives", there.rests, FAULT_S / 2)
        there.arrives()
        assert time.monotonic() - began >= FAULT_S
        print(f"recovered after {recovers(there):.2f} s")
    assert network(pair, "show")["cuts"] == []


def test_changes_arrive_later_over_a_path_that_was_made_longer(pair: Cluster) -> None:
    with flow(pair, EAST, WEST):
        pass
    here, there = Side(pair, EAST), Side(pair, WEST)
    path = network(pair, "set", EAST, WEST, "--round-trip-ms", "800", "--jitter-ms", "5", "--loss", "0.001")["paths"][0]
    assert (path["round_trip_ms"], path["jitter_ms"], path["loss"], path["changed"]) == (800, 5, 0.001, True)
    began = time.monotonic()
    number = here.seen_of(here) + 1
    here.write(number)
    until("it arrives", lambda: there.seen_of(here) == number)
    assert time.monotonic() - began >= 0.4  # one way
    here.client.close()
    there.client.close()


def test_replication_of_a_table_pauses_and_goes_on_by_itself_though_who_asked_is_gone(pair: Cluster) -> None:
    with flow(pair, EAST, WEST) as there, flow(pair, WEST, EAST) as back, flow(pair, EAST, WEST, OTHER_TABLE) as other:
        began = time.monotonic()
        pauses = network(pair, "pause-replication", TABLE, "--region", WEST, "--for", str(PAUSE_S))["pauses"]
        assert [(pause["table"], pause["region"]) for pause in pauses] == [(TABLE, WEST)]
        with supervisor_stopped(pair):  # the command has ended long ago
            until("nothing arrives", lambda: there.rests() and back.rests(), PAUSE_S / 2)
            until("the lag is told", lambda: there.origin.lag_s(WEST) > 0, PAUSE_S / 4)
            assert other.arrives()
            there.arrives()
            assert time.monotonic() - began >= PAUSE_S
            print(f"recovered after {recovers(there):.2f} and {recovers(back):.2f} s")
    assert network(pair, "show")["pauses"] == []


def test_a_pause_can_be_ended_before_its_time(pair: Cluster) -> None:
    with flow(pair, EAST, WEST) as there:
        network(pair, "pause-replication", TABLE, "--for", "3600")
        until("nothing arrives", there.rests)
        network(pair, "resume-replication", TABLE)
        recovers(there)


def test_a_region_that_the_global_endpoint_cannot_reach_serves_its_own_clients_only(pair: Cluster) -> None:
    client = pair.global_client()

    def served_by() -> str:
        answer = client.put_item(TableName=TABLE, Item={"pk": {"S": "anywhere"}})
        return str(answer["ResponseMetadata"]["HTTPHeaders"]["x-geodyne-region"])

    until("the nearest serves", lambda: served_by() == EAST)
    network(pair, "cut", EAST, "global")
    until("the other one serves", lambda: served_by() == WEST)
    with flow(pair, EAST, WEST) as there:
        assert there.arrives()
    network(pair, "heal", EAST)
    until("the nearest serves again", lambda: served_by() == EAST)
    client.close()


@contextmanager
def supervisor_stopped(cluster: Cluster) -> Iterator[None]:
    """It answers nobody and tells nobody anything."""
    pid = cluster.supervisor_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
