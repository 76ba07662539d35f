"""A node's disk is full, or can no longer be written, under clients that never stop: they do not see it, the node says
it, and it takes part again when the disk does."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from geodyne.cli.datadir import ClusterDirectory
from tests.cluster.clusters import Cluster
from tests.cluster.mounts import Disk, in_own_namespace, require_namespaces
from tests.cluster.nemesis import all_led
from tests.cluster.tables import contents, create_table
from tests.cluster.traffic import Attempts, Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "disks"
HURT = f"{REGION}/node-b"
TOPOLOGY = f"[regions.{REGION}]\nrouters = 3\n"
SIZE_MB = 96
KEYS = 40
STEPS_MEANWHILE = 300
REJOINED_S_MAX = 60.0
FILE_BYTES_MAX = 256 * 1024  # clients write more within seconds; what the process tells people is less


class Place(NamedTuple):
    cluster: Cluster
    disk: Disk
    log: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("disks")
    (folder / "probe").mkdir()
    require_namespaces(folder / "probe")
    cluster = Cluster(folder / "data", TOPOLOGY, program=in_own_namespace)
    try:
        cluster.start()
        client = cluster.client(REGION)
        create_table(client, TABLE)
        client.close()
        cluster.stop_processes([HURT])
        directory = ClusterDirectory(cluster.data_dir)
        disk = Disk(int((directory.read_run() or {})["pid"]), directory.node_data(HURT))
        disk.mount(SIZE_MB)
        cluster.start_processes([HURT])
        yield Place(cluster, disk, directory.log_file(HURT))
    finally:
        cluster.close()


@pytest.fixture(autouse=True)
def _shows_the_logs(place: Place, keep_log: list[Path]) -> None:
    keep_log += sorted((place.cluster.data_dir / "logs").rglob("*.log"))


class Writer:
    """Overwrites items in all partitions and reads them back strongly; knows what each holds."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.last: dict[str, int] = {}

    def step(self, number: int) -> None:
        name = f"item-{number % KEYS}"
        item = {"pk": {"S": name}, "n": {"N": str(number)}, "ballast": {"S": "x" * 1_000}}
        self.client.put_item(TableName=TABLE, Item=item)
        self.last[name] = number
        read = self.client.get_item(TableName=TABLE, Key={"pk": {"S": name}}, ConsistentRead=True)
        assert int(read["Item"]["n"]["N"]) == number


def fill(place: Place) -> None:
    place.disk.fill()


def make_read_only(place: Place) -> None:
    """As a file system that was found broken: the node is gone, and what starts in its place may write nothing."""

    def made() -> bool:
        try:
            place.disk.make_read_only()
        except AssertionError:
            return False
        return True

    place.cluster.kill(HURT)
    until("the disk is read-only", made, poll_s=0.01)


def let_no_file_grow(place: Place) -> None:
    """For this process, not for the one that takes its place: a quota that was used up for a while."""
    pid = place.cluster.process(HURT).pid
    assert pid is not None
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, hard))


def free(place: Place) -> None:
    place.disk.free()


def nothing(place: Place) -> None:
    pass


def make_writable(place: Place) -> None:
    place.disk.make_writable()


@pytest.mark.parametrize(
    ("hurt", "mend", "says"),
    [
        (fill, free, "No space left on device"),
        pytest.param(make_read_only, make_writable, "Read-only file system", marks=pytest.mark.long),
        # Not by its name: SQLite, if it meets the limit before the log does, knows it as an I/O error only.
        pytest.param(let_no_file_grow, nothing, "storage failed", marks=pytest.mark.long),
    ],
    ids=["full", "read-only", "limited"],
)
def test_a_disk_that_takes_no_more_writes_is_not_seen_by_clients(place: Place, hurt: Any, mend: Any, says: str) -> None:
    cluster = place.cluster
    cluster.await_running()
    client = cluster.client(REGION)
    attempts = Attempts(client)
    writer = Writer(client)
    until("it leads something", lambda: leads(cluster, HURT))
    logged = place.log.stat().st_size
    with Traffic("writer", writer.step) as traffic:
        until("it has begun", lambda: traffic.check() and traffic.steps >= KEYS)
        hurt(place)
        try:
            enough = traffic.steps + STEPS_MEANWHILE
            until("clients go on without it", lambda: traffic.check() and traffic.steps >= enough)
            until("it says so", lambda: says in said_since(place.log, logged))
            if mend is not nothing:
                until("it is seen", lambda: cluster.process(HURT).state != "running")
                until("others lead", lambda: not leads(cluster, HURT) and all_led(cluster, REGION, TABLE))
        finally:
            mend(place)
        until("it is back", lambda: traffic.check() and cluster.process(HURT).state == "running", REJOINED_S_MAX)
        enough = traffic.steps + STEPS_MEANWHILE
        until("clients go on with it", lambda: traffic.check() and traffic.steps >= enough)
    print(f"{traffic.steps} steps, longest gap {traffic.gap_s_max:.2f} s, attempts {dict(attempts.seen)}")
    assert attempts.failed == {}
    assert_takes_part(cluster, writer)
    client.close()


def said_since(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="replace")


def leads(cluster: Cluster, node: str) -> int:
    """How many partitions of the table that node leads."""
    entries = [p for p in cluster.status()["partitions"] if (p["region"], p["table"]) == (REGION, TABLE)]
    return sum(entry["leader"] == node for entry in entries)


def assert_takes_part(cluster: Cluster, writer: Writer) -> None:
    """Its replicas hold everything, and a majority that needs them commits."""
    there = cluster.client(REGION, zone=cluster.process(HURT).zone)

    def held() -> dict[str, int]:
        pages = there.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=False)
        return {item["pk"]["S"]: int(item["n"]["N"]) for page in pages for item in page["Items"]}

    until("it has caught up", lambda: held() == writer.last)
    other = next(p.id for p in cluster.processes(REGION, "node") if p.id != HURT)
    cluster.stop_processes([other])
    try:
        writer.step(max(writer.last.values()) + 1)
        assert len(contents(there, TABLE)) == len(writer.last)
    finally:
        cluster.start_processes([other])
        there.close()
