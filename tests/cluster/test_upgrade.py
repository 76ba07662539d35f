"""A region of the first released version becomes one of this version, process by process, under clients at work.

Needs the history of the repository: the released version is built from it. Without it (a shallow clone, an unpacked
archive) the tests are skipped and say so.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli.datadir import ClusterDirectory
from node.storage.directory import NEWEST_FORMAT
from tests.cluster.clusters import COMMAND_S_MAX, REPOSITORY, Cluster, command_line, environment
from tests.cluster.tables import create_table
from tests.cluster.traffic import Attempts, Traffic
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

FIRST_RELEASE = "4b9bb74"  # streams of format 2: what every later version must be able to replace
REGION = "us-east-1"
TABLE = "upgraded"
TOPOLOGY = f'[global]\nport = 0\n\n[regions.{REGION}]\nport = 0\nzones = ["a", "b", "c"]\nrouters = 2\n'
KEYS = 40  # over all partitions
STEPS_AROUND = 40
BULK_ITEMS, BULK_BYTES = 90, 300_000  # more than a partition's log is kept for those who were away


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the first released version, its bindings generated."""
    packed = subprocess.run(["git", "-C", str(REPOSITORY), "archive", FIRST_RELEASE], capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.skip(f"the first released version, {FIRST_RELEASE}, is not in this copy's history: {packed.stderr!r}")
    code = tmp_path_factory.mktemp("released")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(code, filter="data")
    contracts = [str(path.relative_to(code)) for path in sorted((code / "proto").rglob("*.proto"))]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", "--python_out=.", *contracts]
    subprocess.run(protoc, cwd=code, check=True)
    subprocess.run([sys.executable, "-m", "router.api.generate_shapes"], cwd=code, check=True)
    return code


class Upgradable(Cluster):
    """A region whose processes are started from the code that `installed` points to; the supervisor, and the commands
    that talk to it, stay of the released version."""

    def __init__(self, directory: Path, released: Path) -> None:
        self._released = released
        self._installed = directory / "installed"
        self.install(released)
        super().__init__(directory / "data", TOPOLOGY, program=self._program_of_release)

    def _program_of_release(self, *arguments: str) -> list[str]:
        return ["env", f"PYTHONPATH={self._installed}", *command_line(*arguments)]

    def install(self, code: Path) -> None:
        """Processes that start from now on are of this code."""
        fresh = self._installed.with_suffix(".new")
        fresh.symlink_to(code)
        fresh.replace(self._installed)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line(*arguments, "--data-dir", str(self.data_dir)),
            env={**environment(self.state), "PYTHONPATH": str(self._released)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * COMMAND_S_MAX,
            check=False,
        )

    def emptied(self, node: str) -> None:
        """Stop a node, take its data away, start it again from what is installed."""
        self.stop_processes([node])
        shutil.rmtree(ClusterDirectory(self.data_dir).node_data(node))
        self.start_processes([node])
        self.await_running()

    def speaks(self, node: str) -> str:
        """Of which version a running node is: only this one tells of faults of its streams."""
        return "this" if b"geodyne_stream_faults_total" in self.metrics(node) else "released"

    def metrics(self, node: str) -> bytes:
        connection = http.client.HTTPConnection(self.process(node).metrics, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read()
        finally:
            connection.close()

    def snapshots_received(self, node: str) -> int:
        found = re.search(rb'geodyne_snapshots_total\{direction="received",result="ok"\} (\d+)', self.metrics(node))
        return int(found.group(1)) if found else 0


@pytest.fixture
def region(tmp_path: Path, released: Path, keep_log: list[Path]) -> Iterator[Upgradable]:
    cluster = Upgradable(tmp_path, released)
    try:
        cluster.start()
        keep_log += sorted((cluster.data_dir / "logs").rglob("*.log"))
        yield cluster
    finally:
        cluster.close()


class Counter:
    """Counts up in items of all partitions, each by a condition on what was acknowledged last, and reads back."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.attempts = Attempts(client)
        self.acknowledged: dict[str, int] = {}

    def step(self, number: int) -> None:
        key, turn = f"key-{number % KEYS}", number // KEYS
        self._client.update_item(
            TableName=TABLE,
            Key={"pk": {"S": key}, "sk": {"S": "-"}},
            UpdateExpression="SET turn = :turn",
            ConditionExpression="attribute_not_exists(turn) OR turn < :turn",
            ExpressionAttributeValues={":turn": {"N": str(turn)}},
        )
        self.acknowledged[key] = turn
        if number % 3 == 0:
            assert self.read(key) == turn

    def read(self, key: str) -> int:
        found = self._client.get_item(TableName=TABLE, Key={"pk": {"S": key}, "sk": {"S": "-"}}, ConsistentRead=True)
        return int(found["Item"]["turn"]["N"])


def goes_on(traffic: Traffic) -> None:
    goal = traffic.steps + STEPS_AROUND
    until("the client goes on", lambda: traffic.check() and traffic.steps >= goal)


def fill(client: Any) -> None:
    """One partition gets more than its log keeps, so that an empty replica needs a snapshot."""
    for number in range(BULK_ITEMS):
        key = {"pk": {"S": "bulk"}, "sk": {"S": f"{number:04d}"}}
        client.put_item(TableName=TABLE, Item={**key, "text": {"S": "x" * BULK_BYTES}})


def checkpointed(cluster: Upgradable, node: str) -> bool:
    found = re.search(rb"geodyne_checkpoints_total ([\d.]+)", cluster.metrics(node))
    return found is not None and float(found.group(1)) > 0


def test_a_region_is_upgraded_process_by_process_without_an_error_and_loses_nothing(
    region: Upgradable, released: Path
) -> None:
    client = region.client(REGION)
    create_table(client, TABLE, sort_key="sk")
    fill(client)
    first, second, third = (process.id for process in region.processes(REGION, "node"))
    until("logs have been cut", lambda: all(checkpointed(region, node) for node in (first, second, third)))
    assert region.speaks(first) == "released"
    counter = Counter(client)
    with Traffic("counter", counter.step) as traffic:
        goes_on(traffic)

        region.install(REPOSITORY)
        region.emptied(second)  # filled by leaders of the released version
        until("it took snapshots", lambda: region.snapshots_received(second) > 0)
        goes_on(traffic)

        region.install(released)
        killed = region.process(third).pid
        region.kill(third)  # a release and this version elect
        until("it is back", lambda: region.process(third).pid not in (None, killed))
        region.await_running()
        goes_on(traffic)

        region.install(REPOSITORY)
        region.stop_processes([first])
        region.start_processes([first])
        region.await_running()
        region.install(released)
        region.emptied(third)  # filled by leaders of this version
        until("it took snapshots", lambda: region.snapshots_received(third) > 0)
        assert [region.speaks(node) for node in (first, second, third)] == ["this", "this", "released"]
        goes_on(traffic)

        region.install(REPOSITORY)
        done = region.run("restart", REGION)
        assert done.returncode == 0, done.stderr
        goes_on(traffic)
    assert [region.speaks(node) for node in (first, second, third)] == ["this"] * 3
    print(f"{traffic.steps} steps, longest gap {traffic.gap_s_max * 1000:.0f} ms, {dict(counter.attempts.seen)}")
    for node in (first, second, third):  # and all of them from disk
        region.signal(region.process(node), signal.SIGKILL)
    region.await_running()
    assert {key: counter.read(key) for key in counter.acknowledged} == counter.acknowledged
    pages = client.get_paginator("query").paginate(
        TableName=TABLE,
        KeyConditionExpression="pk = :bulk",
        ExpressionAttributeValues={":bulk": {"S": "bulk"}},
        ConsistentRead=True,
    )
    assert sum(page["Count"] for page in pages) == BULK_ITEMS
    client.close()


def test_a_node_goes_back_only_while_its_data_can_be_read_by_the_release(region: Upgradable, released: Path) -> None:
    client = region.client(REGION)
    create_table(client, TABLE, sort_key="sk")
    region.install(REPOSITORY)
    done = region.run("restart", REGION)
    assert done.returncode == 0, done.stderr
    client.put_item(TableName=TABLE, Item={"pk": {"S": "kept"}, "sk": {"S": "-"}})
    node = region.processes(REGION, "node")[0].id
    region.install(released)
    region.stop_processes([node])
    region.start_processes([node])
    region.await_running()
    assert region.speaks(node) == "released"
    # As a change of members leaves it (node.storage.directory.DataDirectory.grow).
    region.stop_processes([node])
    marker = ClusterDirectory(region.data_dir).node_data(node) / "FORMAT"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": NEWEST_FORMAT}), encoding="utf-8")
    refused = region.run("start", node)
    assert refused.returncode != 0
    assert f"has data format {NEWEST_FORMAT}; this version reads format 1" in refused.stderr
    region.install(REPOSITORY)
    region.start_processes([node])
    region.await_running()
    assert client.get_item(TableName=TABLE, Key={"pk": {"S": "kept"}, "sk": {"S": "-"}}, ConsistentRead=True)["Item"]
    client.close()
