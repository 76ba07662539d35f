"""Nodes are added, drained, removed and rebuilt under clients that never stop, and nothing acknowledged is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli.__main__ import main
from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table
from tests.cluster.traffic import Attempts, Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "moving"
TOPOLOGY = f"[regions.{REGION}]\n"
REBUILD_AFTER_S = 3
KEYS = 200  # over all partitions
STEPS_AROUND = 30


class Writer:
    """Counts up under many keys; before each write it reads back what it wrote there the last time."""

    def __init__(self, name: str, client: Any) -> None:
        self.name = name
        self.client = client
        self.attempts = Attempts(client)
        self.acknowledged: dict[str, int] = {}

    def step(self, number: int) -> None:
        key = f"{self.name}-{number % KEYS}"
        self.check(key)
        self.client.put_item(TableName=TABLE, Item={"pk": {"S": key}, "n": {"N": str(number)}})
        self.acknowledged[key] = number

    def check(self, key: str) -> None:
        read = self.client.get_item(TableName=TABLE, Key={"pk": {"S": key}}, ConsistentRead=True)
        found = int(read["Item"]["n"]["N"]) if "Item" in read else None
        assert found == self.acknowledged.get(key), f"{key} is {found}, acknowledged is {self.acknowledged.get(key)}"


@pytest.fixture(scope="module")
def moving_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("nodes")
    cluster = Cluster(folder / "data", TOPOLOGY, "--rebuild-after", str(REBUILD_AFTER_S))
    try:
        cluster.start()
        client = cluster.client(REGION)
        create_table(client, TABLE)
        client.close()
        yield cluster
    finally:
        cluster.close()


@contextmanager
def writing(cluster: Cluster, what: str) -> Iterator[None]:
    """Two clients with the SDK's own retries, at work; at the end all that was acknowledged to them must be there."""
    with ExitStack() as stack:
        writers = [Writer(f"{what}-{number}", cluster.client(REGION)) for number in (1, 2)]
        traffics = [stack.enter_context(Traffic(writer.name, writer.step)) for writer in writers]
        _go_on(traffics)
        yield
        _go_on(traffics)
    for writer, traffic in zip(writers, traffics, strict=True):
        print(
            f"{writer.name}: {traffic.steps} steps, longest gap {traffic.gap_s_max * 1000:.0f} ms, "
            f"attempts {dict(writer.attempts.seen)}"
        )
        for key in writer.acknowledged:
            writer.check(key)
        writer.client.close()


def _go_on(traffics: list[Traffic]) -> None:
    goals = [(traffic, traffic.steps + STEPS_AROUND) for traffic in traffics]
    until("all clients go on", lambda: all(traffic.check() and traffic.steps >= goal for traffic, goal in goals))


def _node(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    done = cluster.run("node", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _members(cluster: Cluster) -> dict[str, dict[str, Any]]:
    return {member["node"]: member for member in cluster.status()["regions"][REGION]["members"]}


def _holders(cluster: Cluster) -> list[set[str]]:
    entries = cluster.status()["partitions"]
    return [set(entry["replicas"]) for entry in entries if entry["table"] == TABLE]


def test_a_node_is_added_another_one_drained_and_removed_under_clients_that_see_no_error(
    moving_cluster: Cluster,
) -> None:
    cluster = moving_cluster
    first, second = f"{REGION}/node-a", f"{REGION}/node-a-2"
    with writing(cluster, "moved"):
        added = _node(cluster, "add", "--zone", "a")
        assert added["node"] == second
        assert added["replicas"] > 0, "a new node gets its share"
        early = cluster.run("node", "remove", first)
        assert early.returncode == 1
        assert "drain it first" in early.stderr
        drained = _node(cluster, "drain", first)
        assert (drained["state"], drained["replicas"], drained["joining"]) == ("DRAINING", 0, 0)
        until("its leaders say so", lambda: all(first not in held and len(held) == 3 for held in _holders(cluster)))
        removed = _node(cluster, "remove", first)
        assert Path(removed["data_dir"]).is_dir()
        assert first not in {process.id for process in cluster.processes(REGION)}
        listed = _node(cluster, "list")["regions"][REGION]["members"]
        assert {member["node"]: member["state"] for member in listed}[first] == "LEFT"
    cluster.close()
    cluster.start()
    assert {process.id for process in cluster.processes(REGION, "node")} == {
        second,
        f"{REGION}/node-b",
        f"{REGION}/node-c",
    }
    with writing(cluster, "restarted"):
        last = cluster.run("node", "drain", second)
        assert last.returncode == 1
        assert "last active one of zone a" in last.stderr


def test_the_replicas_of_a_dead_node_are_rebuilt_on_another_one_of_its_zone(moving_cluster: Cluster) -> None:
    cluster = moving_cluster
    dead = f"{REGION}/node-b"
    other = _node(cluster, "add", "--zone", "b")["node"]
    until("both have a share", lambda: all(_members(cluster)[node]["replicas"] for node in (dead, other)))
    with writing(cluster, "died"):
        cluster.signal(cluster.process(dead), signal.SIGKILL)
        cluster.stop_processes([dead])

        def rebuilt() -> bool:
            members = _members(cluster)
            return members[dead]["state"] == "DOWN" and not members[dead]["replicas"]

        until("its replicas are elsewhere", rebuilt, poll_s=0.5)
        until("its leaders say so", lambda: all(dead not in held and other in held for held in _holders(cluster)))
    with writing(cluster, "returned"):
        cluster.start_processes([dead])
        until("it has its share again", lambda: _members(cluster)[dead]["state"] == "ACTIVE")
        until("it holds replicas", lambda: _members(cluster)[dead]["replicas"] > 0)


def test_every_mistake_of_an_operator_is_one_line_with_a_way_out(
    moving_cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, text in (
        (("add", "--zone", "z"), f"there is no zone z in {REGION}; its zones are a, b, c"),
        (("add", "--zone", "a", "--region", "mars-1"), "there is no region mars-1; there are us-east-1"),
        (("add", "--zone", "a", "--name", "Node!"), "a node's name is "),
        (("add", "--zone", "a", "--name", "node-c"), "there is a process us-east-1/node-c already"),
        (("add", "--zone", "a", "--name", "node-a"), "was the name of a node that was removed"),
        (("drain", "nobody"), "there is no node nobody; there are us-east-1/node-b"),
        (("drain", f"{REGION}/node-c"), "last active one of zone c"),
        (("remove", f"{REGION}/node-c"), "drain it first"),
        (("list", "--region", "mars-1"), "there is no region mars-1"),
    ):
        assert main(["node", *arguments, "--data-dir", str(moving_cluster.data_dir)]) == 1, arguments
        told = capsys.readouterr()
        assert text in told.err
        assert len(told.err.splitlines()) == 1
        assert told.out == ""
