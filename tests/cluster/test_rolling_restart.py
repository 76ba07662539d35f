"""Processes of a region are replaced one after the other, and a router is killed, under clients that never stop."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from tests.cluster.clusters import Cluster, Process
from tests.cluster.tables import create_table
from tests.cluster.traffic import Attempts, Traffic, stalls
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "rolling-restart"
GAP_S_MAX = 0.5  # of a restart, beyond what the machine itself kept the clients from running
KEYS = 50  # over all partitions
STEPS_AROUND = 30
SDK_DEFAULT: dict[str, Any] = {}
SDK_STANDARD: dict[str, Any] = {"retries": {"mode": "standard"}}
NO_RETRIES: dict[str, Any] = {"retries": {"total_max_attempts": 1}}


class Client:
    """Writes and reads back, one request a step, over keys in all partitions."""

    def __init__(self, name: str, client: Any) -> None:
        self.name = name
        self.client = client
        self.attempts = Attempts(client)

    def _key(self, number: int) -> dict[str, Any]:
        return {"pk": {"S": f"{self.name}-{number % KEYS}"}}

    def step(self, number: int) -> None:
        turn = number // 2
        if number % 2 == 0:
            self.client.put_item(TableName=TABLE, Item={**self._key(turn), "turn": {"N": str(turn)}})
        else:
            read = self.client.get_item(TableName=TABLE, Key=self._key(turn), ConsistentRead=True)
            assert read["Item"]["turn"]["N"] == str(turn)


@contextmanager
def going(cluster: Cluster, configs: dict[str, dict[str, Any]]) -> Iterator[list[tuple[Client, Traffic]]]:
    """A client of each of these configurations, at work, in the region."""
    with ExitStack() as stack:
        pairs = []
        for name, config in configs.items():
            client = Client(name, cluster.client(REGION, **config))
            stack.callback(client.client.close)
            pairs.append((client, stack.enter_context(Traffic(name, client.step))))
        go_on(pairs)
        yield pairs
        go_on(pairs)


def go_on(pairs: Sequence[tuple[Client, Traffic]]) -> None:
    goals = [(traffic, traffic.steps + STEPS_AROUND) for _, traffic in pairs]
    until("all clients go on", lambda: all(traffic.check() and traffic.steps >= goal for traffic, goal in goals))


def replaced(cluster: Cluster, before: Process) -> bool:
    return cluster.process(before.id).pid not in (None, before.pid)


def report(what: str, pairs: Sequence[tuple[Client, Traffic]]) -> None:
    for client, traffic in pairs:
        print(
            f"{what}: {client.name}: {traffic.steps} steps, longest gap {traffic.gap_s_max * 1000:.0f} ms, "
            f"attempts {dict(client.attempts.seen)}"
        )


@pytest.fixture
def table(world: Cluster) -> Cluster:
    client = world.client(REGION)
    if TABLE not in client.list_tables()["TableNames"]:
        create_table(client, TABLE)
    client.close()
    return world


def test_a_rolling_restart_of_all_nodes_shows_a_client_no_error(table: Cluster) -> None:
    before = {process.id: process.pid for process in table.processes(REGION, "node")}
    with going(table, {"default": SDK_DEFAULT, "standard": SDK_STANDARD}) as pairs:
        done = table.run("restart", REGION, "--role", "node", "--json")
    report("nodes", pairs)
    assert done.returncode == 0, done.stderr
    assert [entry["id"] for entry in json.loads(done.stdout)["restarted"]] == list(before)
    assert all(process.pid != before[process.id] for process in table.processes(REGION, "node"))
    assert all(client.attempts.failed == {} for client, _ in pairs)


def test_a_rolling_restart_of_all_routers_is_not_seen_even_by_a_client_without_retries(table: Cluster) -> None:
    before = {process.id: process.pid for process in table.processes(REGION, "router")}
    configs = {"default": SDK_DEFAULT, "standard": SDK_STANDARD, "no-retries": NO_RETRIES}
    with going(table, configs) as pairs:
        done = table.run("restart", REGION, "--role", "router")
    report("routers", pairs)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(before)
    assert all(process.pid != before[process.id] for process in table.processes(REGION, "router"))
    assert all(client.attempts.failed == {} for client, _ in pairs)


def test_a_restart_of_the_global_endpoint_and_of_the_routers_behind_it_is_not_seen_through_it(table: Cluster) -> None:
    user = Client("global", table.global_client(**NO_RETRIES))
    with Traffic("global", user.step) as traffic:
        go_on([(user, traffic)])
        for what in ((REGION, "--role", "router"), ("global",)):
            done = table.run("restart", *what)
            assert done.returncode == 0, done.stderr
            go_on([(user, traffic)])
    report("global endpoint", [(user, traffic)])
    user.client.close()
    assert user.attempts.failed == {}


@pytest.mark.long
@pytest.mark.parametrize("role", ["node", "router"])
def test_a_rolling_restart_leaves_no_long_gap(table: Cluster, role: str) -> None:
    """A figure, so it is asked for where a machine has nothing else to do."""
    with stalls() as stalled, going(table, {"default": SDK_DEFAULT, "standard": SDK_STANDARD}) as pairs:
        assert table.run("restart", REGION, "--role", role).returncode == 0
    report(role, pairs)
    assert all(traffic.gap_s_max - stalled.gap_s_max < GAP_S_MAX for _, traffic in pairs)


@pytest.mark.long
@pytest.mark.parametrize("role", ["node", "router"])
def test_a_process_that_is_told_to_end_by_hand_leaves_no_long_gap_either(table: Cluster, role: str) -> None:
    with stalls() as stalled, going(table, {"default": SDK_DEFAULT, "standard": SDK_STANDARD}) as pairs:
        for process in table.processes(REGION, role):
            table.signal(process, signal.SIGTERM)
            until("another one is there", partial(replaced, table, process))
            table.await_running()
            go_on(pairs)
    report(f"{role} told to end", pairs)
    assert all(client.attempts.failed == {} for client, _ in pairs)
    assert all(traffic.gap_s_max - stalled.gap_s_max < GAP_S_MAX for _, traffic in pairs)


def test_no_connection_is_refused_while_a_killed_router_comes_back(table: Cluster) -> None:
    router = table.processes(REGION, "router")[0]
    host, _, port = router.address.rpartition(":")
    connected = 0
    ending = threading.Event()
    refused: list[OSError] = []

    def connect() -> None:
        nonlocal connected
        while not ending.is_set():
            try:
                with socket.create_connection((host, int(port)), timeout=10):
                    connected += 1
            except OSError as error:
                refused.append(error)
            ending.wait(0.01)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    try:
        with going(table, {"default": SDK_DEFAULT}) as pairs:
            table.kill(router.id)
            until("the router is back", lambda: table.process(router.id).pid not in (None, router.pid))
            until("it serves", lambda: table.process(router.id).state == "running")
    finally:
        ending.set()
        thread.join(15)
    report(f"killed router, {connected} connections made", pairs)
    assert refused == []
    assert connected > 0


def test_a_router_that_is_told_to_end_by_anyone_is_replaced_and_ends_what_it_has(table: Cluster) -> None:
    router = table.processes(REGION, "router")[0]
    with going(table, {"no-retries": NO_RETRIES}) as pairs:
        table.signal(router, signal.SIGTERM)
        until("another one is there", lambda: table.process(router.id).pid not in (None, router.pid))
        until("it serves", lambda: table.process(router.id).state == "running")
    report("router told to end", pairs)
    assert pairs[0][0].attempts.failed == {}
