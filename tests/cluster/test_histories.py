"""Histories of clients on real processes that are killed, stopped and cut apart: could each item's have happened one
operation at a time?

The plan of faults follows from the seed, which is printed; GEODYNE_HISTORY_SEED=N repeats it. When exactly which
request meets which fault is up to the machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from geodyne.checkers.linearizability import FOREVER, Operation
from tests.cluster.clusters import Cluster
from tests.cluster.histories import ABSENT, PUT, PUT_IF, READ, TABLE, Call, History, Key, Recorder, value_of
from tests.cluster.nemesis import CUTS, ELECTION_S, KILLS, KINDS, STOPS, WITHOUT_WIRES, Nemesis, Step, all_led, plan
from tests.cluster.sabotagednode import RULES
from tests.cluster.tables import create_table, partition_terms
from tests.cluster.traffic import Traffic
from tests.cluster.waiting import until, until_none
from tests.cluster.wiredclusters import REGION, Wired, wired_cluster

pytestmark = pytest.mark.cluster

SEED_VARIABLE = "GEODYNE_HISTORY_SEED"
CLIENTS = 6  # over three routers
READERS = 3  # as well: one at each
QUICK_STEPS = 6
LONG_STEPS = 25
LONG_SEEDS = (11, 12, 13, 14)
SABOTAGED_STEPS = 15
MOVING_STEPS = 15
MOVING_SEEDS = (31, 32)
MOVED_S_MAX = 90.0  # one command, whatever else goes on
BESIDE_STEPS = 3  # every node, once
BESIDE_S_MAX = 3 * MOVED_S_MAX
# What leaves a leader in place that others have replaced.
STALE_LEADERS = ("isolate a node from nodes", "cut a node and a router off", "stop a node that a router cannot replace")
HEALED_S_MAX = 30.0  # after the last fault: until everything is led and answered
# A request that meets a stopped process is given up, so that its client goes on; by every other client so soon that
# it asks that process again before it goes on, for what has been written elsewhere meanwhile.
READ_TIMEOUTS_S = (6.0, 0.6)
LOOK_TIMEOUT_S = 0.15  # of a reader: less than an old leader has until it gives up
CONFIG: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "connect_timeout": 3}


@pytest.fixture(autouse=True)
def _shows_the_logs(request: pytest.FixtureRequest, keep_log: list[Path]) -> None:
    if "wired" in request.fixturenames:
        cluster = request.getfixturevalue("wired").cluster
        keep_log += sorted((cluster.data_dir / "logs").rglob("*.log"))


def seed_or(default: int) -> int:
    return int(os.environ.get(SEED_VARIABLE, default))


def run(wired: Wired, seed: int, steps: Sequence[Step], beside: Traffic | None = None, aimed: bool = False) -> None:
    """Clients at work while the steps are carried out (`aimed`: on leaders), and what goes on beside them; then
    everything heals, and the history is judged."""
    print(f"repeat with {SEED_VARIABLE}={seed}")
    cluster = wired.cluster
    cluster.await_running()
    make_table(cluster)
    history = History(seed)
    nemesis = Nemesis(cluster, wired.wires, REGION, TABLE if aimed else "")
    before = partition_terms(cluster, REGION, TABLE)
    with ExitStack() as stack:
        recorders = []
        clients = []
        for number in range(CLIENTS + READERS):
            timeout_s = READ_TIMEOUTS_S[number % 2] if number < CLIENTS else LOOK_TIMEOUT_S
            client = cluster.client(REGION, zone="abc"[number % 3], read_timeout=timeout_s, **CONFIG)
            stack.callback(client.close)
            clients.append(client)
            recorders.append(Recorder(client, history, number))
        with ExitStack() as going:
            traffics = [
                going.enter_context(Traffic(f"client {number}", recorder.step if number < CLIENTS else recorder.look))
                for number, recorder in enumerate(recorders)
            ]
            if beside is not None:
                going.enter_context(beside)
            until("the clients have begun", lambda: history.outcomes["done"] >= 20)
            for step in steps:
                done = history.outcomes["done"]
                nemesis.perform(step)
                print(f"{step}: {history.outcomes['done'] - done} operations")
                for traffic in traffics:
                    traffic.check()
            if beside is not None:
                until(f"{beside.name} is done", lambda: beside.check() and beside.steps >= BESIDE_STEPS, BESIDE_S_MAX)
        relented = time.monotonic()
        heal(wired, history, recorders)
        print(f"healed in {time.monotonic() - relented:.1f} s")
        problems = history.violations()
        terms = partition_terms(cluster, REGION, TABLE)
        changes = sum(terms[partition] - before[partition] for partition in before)
        print(f"{history}; the terms of {len(before)} partitions grew by {changes}")
        assert not problems, "\n".join(problems)
        await_same_replicas(history, clients)


def make_table(cluster: Cluster) -> None:
    client = cluster.client(REGION)
    if TABLE not in client.list_tables()["TableNames"]:
        create_table(client, TABLE)
    client.close()


def heal(wired: Wired, history: History, recorders: Sequence[Recorder]) -> None:
    """Everything is led and answered again; what every item holds in the end is part of its history."""
    wired.cluster.await_running()
    until("all are led", lambda: all_led(wired.cluster, REGION, TABLE), HEALED_S_MAX, 0.2)
    for recorder in recorders[:3]:
        for key in history.keys:
            until(f"{key.name} is read", lambda r=recorder, k=key: r.read(k), HEALED_S_MAX)  # type: ignore[misc]


def await_same_replicas(history: History, clients: Sequence[Any]) -> None:
    """The replica in each zone comes to hold what a strong read finds."""

    def read(client: Any, key: Key, strong: bool) -> int:
        answer = client.get_item(TableName=TABLE, Key={"pk": {"S": key.name}}, ConsistentRead=strong)
        return value_of(answer.get("Item"))

    def difference() -> str | None:
        for key in history.keys:
            expected = read(clients[0], key, True)
            for number, client in enumerate(clients[:3]):
                if (found := read(client, key, False)) != expected:
                    return f"{key.name}: {found} in zone {'abc'[number]}, {expected} at the leader"
        return None

    until_none("the replicas are alike", difference, HEALED_S_MAX)


def test_histories_are_linearizable_while_processes_are_killed_stopped_and_cut_apart(wired: Wired) -> None:
    seed = seed_or(int(time.time()))
    run(wired, seed, short(plan(seed, QUICK_STEPS)))


def short(steps: Sequence[Step]) -> list[Step]:
    return [step._replace(hold_s=min(step.hold_s, 2.0), pause_s=min(step.pause_s, 0.5)) for step in steps]


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_long_histories_are_linearizable(wired: Wired, seed: int) -> None:
    run(wired, seed_or(seed), plan(seed_or(seed), LONG_STEPS))


@pytest.mark.long
@pytest.mark.parametrize("kinds", [KILLS, STOPS, CUTS], ids=["kills", "stops", "cuts"])
def test_long_histories_are_linearizable_under_one_family_of_faults(wired: Wired, kinds: Sequence[str]) -> None:
    seed = seed_or(21)
    run(wired, seed, plan(seed, LONG_STEPS, kinds))


class Mover:
    """Replaces the nodes of one zone after the other: adds one, drains and removes the one before."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.nodes = {zone: f"{REGION}/node-{zone}" for zone in "abc"}

    def step(self, number: int) -> None:
        zone = "abc"[number % 3]
        name = f"node-{zone}-{number + 2}"
        self._do("add", "--zone", zone, "--name", name, "--no-wait")
        self._do("drain", self.nodes[zone])
        self._do("remove", self.nodes[zone])
        self.nodes[zone] = f"{REGION}/{name}"

    def _do(self, *command: str) -> None:
        """Until it is done: one that meets a fault may fail, or have been done and not have heard of it."""

        def done() -> bool:
            result = self._cluster.run("node", *command)
            if result.returncode == 0 or "already" in result.stderr:
                return True
            print(f"{' '.join(command)}: {result.stderr.strip()}")
            return command[0] == "remove" and not any(p.id == command[1] for p in self._cluster.processes(REGION))

        until(" ".join(command), done, MOVED_S_MAX)


@pytest.mark.long
@pytest.mark.parametrize("seed", MOVING_SEEDS)
def test_histories_are_linearizable_while_all_nodes_are_replaced_by_others(tmp_path: Path, seed: int) -> None:
    with wired_cluster(tmp_path) as wired:
        mover = Mover(wired.cluster)
        moving = Traffic("mover", mover.step, BESIDE_S_MAX)
        run(wired, seed_or(seed), plan(seed_or(seed), MOVING_STEPS, WITHOUT_WIRES), moving)
        print(f"{moving.steps} nodes were replaced")
        found = {process.id for process in wired.cluster.processes(REGION, "node")}
        assert found == set(mover.nodes.values())


@pytest.mark.long
@pytest.mark.parametrize("rule", RULES)
def test_histories_show_a_rule_that_was_left_out(tmp_path: Path, rule: str) -> None:
    with wired_cluster(tmp_path, rule) as sabotaged, pytest.raises(AssertionError, match="VIOLATION"):
        run(sabotaged, 1, one_by_one(plan(1, SABOTAGED_STEPS, STALE_LEADERS)), aimed=True)


def one_by_one(steps: Sequence[Step]) -> list[Step]:
    """Each fault by itself, so that the others keep a majority and go on, and for longer than an old leader has."""
    return [step._replace(faults=step.faults[:1], hold_s=ELECTION_S + 0.5, pause_s=1.0) for step in steps]


def test_a_plan_follows_from_its_seed_and_uses_every_fault() -> None:
    assert plan(5, 40) == plan(5, 40) != plan(6, 40)
    assert {fault.kind for step in plan(5, 40) for fault in step.faults} == set(KINDS)


def test_a_history_with_a_stale_read_is_found_and_shown_up_to_where_it_went_wrong() -> None:
    history = History(0)
    key = history.keys[0]
    for number in range(40):
        before = number * 100 if number else ABSENT
        key.history.append(Operation(number, number + 0.5, Call(PUT, (number + 1) * 100, held=True, seen=before)))
    key.history.append(Operation(20.6, 20.9, Call(READ, seen=2100)))
    assert history.violations() == []
    key.history.append(Operation(30.6, 30.9, Call(READ, seen=3000)))  # 3100 was acknowledged at 30.5
    (found,) = history.violations()
    assert "VIOLATION" in found
    assert found.splitlines()[-1].endswith("read      saw 3000")


def test_what_was_never_answered_may_have_happened_or_not() -> None:
    for seen in (ABSENT, 100):
        history = History(0)
        history.keys[0].history += [
            Operation(0.0, FOREVER, Call(PUT_IF, 100, ABSENT)),
            Operation(1.0, 2.0, Call(READ, seen=seen)),
            Operation(3.0, 4.0, Call(READ, seen=100)),
        ]
        assert history.violations() == []
        history.keys[0].history.append(Operation(5.0, 6.0, Call(READ, seen=ABSENT)))
        assert len(history.violations()) == 1
