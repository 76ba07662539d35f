"""Drills: what may happen to regions, on real processes and under writes of both. Afterwards both are the same: by
`geodyne verify`, by a scan of each, and with every row that was answered and can be there.

Each prints its figures; run with -s to see them.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pytest

from geodyne.cli.datadir import ClusterDirectory
from geodyne.cli.verify import EXIT_EQUAL
from tests.cluster.clockup import set_clock
from tests.cluster.clusters import Cluster
from tests.cluster.tables import await_same_everywhere, contents, create_table, make_global, process_status
from tests.cluster.traffic import RegionWriter, Traffic
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

EAST, WEST = REGIONS = ("us-east-1", "eu-west-1")
TOPOLOGY: Final = f'round_trip_ms = 80\n[global]\nlocation = "{EAST}"\n[regions.{EAST}]\n[regions.{WEST}]\n'
STEPS: Final = 150  # of each writer, before, during and after a fault
SKEW_S: Final = 30.0
ROUNDS: Final = 8  # of killing the replicators
STEPS_BETWEEN: Final = (5, 60)
LAG_S_MAX: Final = 1.0  # of replication that has recovered
RECOVERY_S_MAX: Final = 60.0
EQUAL_S_MAX: Final = 90.0


@dataclass(frozen=True)
class Place:
    cluster: Cluster
    clocks: Path

    def set_clocks(self, region: str, offset_s: float) -> None:
        """Of all machines of a region."""
        for role in ("node", "replicator"):
            for process in self.cluster.processes(region, role):
                set_clock(self.clocks, process.id, offset_s)

    def network(self, *words: str) -> None:
        done = self.cluster.run("network", *words)
        assert done.returncode == 0, done.stderr

    def link(self, source: str, destination: str) -> dict[str, Any]:
        """What the source's replicator tells of the destination."""
        replicator = self.cluster.processes(source, "replicator")[0]
        return dict(process_status(replicator.metrics)["destinations"][destination])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("drills")

    def program(*arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "tests.cluster.clockup", str(folder), *arguments]

    cluster = Cluster(folder / "data", TOPOLOGY, "--capacity", "account", program=program)
    try:
        cluster.start()
        yield Place(cluster, folder)
    finally:
        cluster.close()


@pytest.fixture(autouse=True)
def _shows_the_logs(place: Place, keep_log: list[Path]) -> None:
    keep_log += sorted((place.cluster.data_dir / "logs").rglob("*.log"))


class Drill:
    """A global table of two regions, and a writer in each from entering the block to `ends_equal`, or its end."""

    def __init__(self, place: Place, table: str) -> None:
        self.place = place
        self.table = table
        self.clients = {region: place.cluster.client(region) for region in REGIONS}
        self.writers: dict[str, RegionWriter] = {}
        self.traffic: dict[str, Traffic] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for client in self.clients.values():
            self._stack.callback(client.close)
        create_table(self.clients[EAST], self.table)
        make_global(self.place.cluster, EAST, self.table, REGIONS)
        for seed, region in enumerate(REGIONS):
            self.write_in(region, seed)
        self.go_on()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write_in(self, region: str, seed: int) -> None:
        writer = self.writers[region] = RegionWriter(self.clients[region], self.table, region, seed)
        self.traffic[region] = self._stack.enter_context(Traffic(region, writer.step))

    def check(self) -> bool:
        return all(traffic.check() for traffic in self.traffic.values())

    def until(self, what: str, condition: Callable[[], Any], seconds_max: float = RECOVERY_S_MAX) -> float:
        """Seconds that it took while no writer saw an error."""
        began = time.monotonic()
        until(what, lambda: self.check() and condition(), seconds_max)
        return time.monotonic() - began

    def go_on(self, steps: int = STEPS, *regions: str) -> None:
        """Until the writers (all, unless named) have done so many steps more."""
        goals = {region: self.traffic[region].steps + steps for region in regions or self.traffic}
        self.until("they write", lambda: all(self.traffic[region].steps >= goal for region, goal in goals.items()))

    def missing(self, source: str, destination: str) -> dict[str, float]:
        """Of the source's own rows that are answered now, those that are not in the destination then, with the Unix
        times of their answers."""
        answered = dict(self.writers[source].own)
        held = contents(self.clients[destination], self.table)
        return {name: at for name, at in answered.items() if (f'{{"S": "{name}"}}',) not in held}

    def show_behind(self, when: str) -> None:
        for source, destination in ((EAST, WEST), (WEST, EAST)):
            now = time.time()
            missing = self.missing(source, destination).values()
            oldest_s = now - min(missing, default=now)
            print(f"  {when}: {destination} lacks {len(missing)} of {source}'s rows, the oldest {oldest_s:.2f} s old")

    def recovers(self) -> float:
        """Seconds until neither side is behind the other any more, under writes."""

        def none_is_behind() -> bool:
            found = [self.place.link(*pair) for pair in ((EAST, WEST), (WEST, EAST))]
            return all(link["connected"] and not link["held_records"] and link["lag_s"] < LAG_S_MAX for link in found)

        return self.until("nobody is behind", none_is_behind)

    def arrives(self, source: str, destination: str) -> None:
        """What is written from now on gets there."""
        first = len(self.writers[source].own)
        self.go_on(2, source)
        name = list(self.writers[source].own)[first]
        key = {"pk": {"S": name}}
        found = self.clients[destination].get_item
        self.until(f"{name} arrives", lambda: "Item" in found(TableName=self.table, Key=key, ConsistentRead=True))

    def arrives_not(self, source: str, destination: str) -> None:
        """What is written from now on does not get there while many are written."""
        first = len(self.writers[source].own)
        self.go_on(STEPS, source)
        key = {"pk": {"S": list(self.writers[source].own)[first]}}
        assert "Item" not in self.clients[destination].get_item(TableName=self.table, Key=key, ConsistentRead=True)

    def ends_equal(self, lost: frozenset[str] = frozenset()) -> None:
        """`lost`: rows that were answered and must not be expected."""
        for traffic in self.traffic.values():
            traffic.end()
        began = time.monotonic()
        items = await_same_everywhere(self.clients, self.table, seconds_max=EQUAL_S_MAX)
        same_s = time.monotonic() - began
        until("verify says equal", self._verified, EQUAL_S_MAX)
        equal_s = time.monotonic() - began
        expected = {name for writer in self.writers.values() for name in writer.own} - lost
        assert not [name for name in expected if (f'{{"S": "{name}"}}',) not in items]
        gaps = ", ".join(f"{traffic.gap_s_max:.2f} s in {region}" for region, traffic in self.traffic.items())
        print(
            f"  the same {len(items)} items {same_s:.1f} s after the last write, verified after {equal_s:.1f} s; "
            f"longest gap of a writer {gaps}"
        )

    def _verified(self) -> bool:
        return self.place.cluster.run("verify", self.table).returncode == EXIT_EQUAL


@contextmanager
def drill(place: Place, table: str) -> Iterator[Drill]:
    print(f"\n{table}")
    place.cluster.await_running()
    with Drill(place, table) as one:
        yield one


def test_both_sides_write_on_while_one_is_isolated_and_are_the_same_once_it_is_not(place: Place) -> None:
    user = place.cluster.global_client()
    regions: list[str] = []

    def step(number: int) -> None:
        answer = user.put_item(TableName="isolated", Item={"pk": {"S": f"global-{number}"}})
        regions.append(answer["ResponseMetadata"]["HTTPHeaders"]["x-geodyne-region"])

    with drill(place, "isolated") as one, Traffic("global", step) as everywhere:
        began = time.monotonic()
        place.network("cut", EAST)
        one.until("both notice", lambda: not place.link(EAST, WEST)["connected"])
        one.until("both notice", lambda: not place.link(WEST, EAST)["connected"])
        one.until("the global endpoint serves from the other side", lambda: regions[-1] == WEST)
        one.arrives_not(EAST, WEST)
        one.arrives_not(WEST, EAST)
        one.show_behind(f"isolated for {time.monotonic() - began:.1f} s")
        place.network("heal")
        print(f"  nobody behind {one.recovers():.2f} s after it was healed")
        one.until("the global endpoint comes back", lambda: everywhere.check() and regions[-1] == EAST)
        everywhere.end()
        print(f"  longest gap of the global endpoint {everywhere.gap_s_max:.2f} s")
        one.ends_equal()
    user.close()


@pytest.mark.parametrize(("source", "destination"), [(EAST, WEST), (WEST, EAST)], ids=["there", "back"])
def test_nothing_is_lost_where_one_direction_fails(place: Place, source: str, destination: str) -> None:
    with drill(place, f"one-way-from-{source}") as one:
        began = time.monotonic()
        place.network("cut", source, destination, "--one-way")
        one.until("it notices", lambda: not place.link(source, destination)["connected"])
        one.arrives_not(source, destination)
        one.show_behind(f"cut for {time.monotonic() - began:.1f} s")
        place.network("heal")
        print(f"  nobody behind {one.recovers():.2f} s after it was healed")
        one.ends_equal()


@pytest.mark.parametrize("offset_s", [SKEW_S, -SKEW_S], ids=["ahead", "behind"])
def test_changes_from_the_future_are_held_and_alarmed_until_clocks_are_right_and_none_is_dropped(
    place: Place, offset_s: float
) -> None:
    # Of two clocks it is always the one ahead whose changes are held.
    ahead, behind = (EAST, WEST) if offset_s > 0 else (WEST, EAST)
    with drill(place, f"clocks-{offset_s:+.0f}".replace("+", "ahead-")) as one:
        try:
            began = time.monotonic()
            place.set_clocks(EAST, offset_s)
            held_s = one.until("they are held", lambda: place.link(ahead, behind)["held_records"])
            one.arrives_not(ahead, behind)
            one.arrives(behind, ahead)
            assert place.link(ahead, behind)["held_records"], "the alarm stays on"
            print(f"  held {held_s:.1f} s after the clocks of {EAST} were {offset_s:+.0f} s off")
            one.show_behind(f"off for {time.monotonic() - began:.1f} s")
        finally:
            place.set_clocks(EAST, 0)
        print(f"  nobody behind {one.recovers():.2f} s after clocks were right")
        one.ends_equal()


def test_replicators_that_are_killed_again_and_again_lose_nothing(place: Place) -> None:
    chance = random.Random(6)
    replicators = [place.cluster.processes(region, "replicator")[0].id for region in REGIONS]
    with drill(place, "killed-replicators") as one:
        began = time.monotonic()
        for _ in range(ROUNDS):
            for replicator in replicators:
                place.cluster.kill(replicator)
                one.go_on(chance.randint(*STEPS_BETWEEN))
            one.until("both run", lambda: all(place.cluster.process(each).state == "running" for each in replicators))
        print(f"  {2 * ROUNDS} kills in {time.monotonic() - began:.1f} s")
        one.show_behind("after the last")
        print(f"  nobody behind {one.recovers():.2f} s later")
        one.ends_equal()


def test_a_region_whose_disks_are_gone_is_taken_out_and_filled_again_under_writes(place: Place) -> None:
    cluster, table = place.cluster, "wiped"
    with drill(place, table) as one:
        lost = cluster.processes(WEST)
        place.network("cut", WEST)
        one.go_on()
        one.traffic[WEST].end()  # it would see that its region is gone
        for process in lost:
            cluster.signal(process, signal.SIGKILL)
        cluster.stop_processes([process.id for process in lost])
        place.network("heal")
        through_s = _watermark_us(cluster, table, WEST, EAST) / 1e6
        gone = one.missing(WEST, EAST)
        assert gone
        assert all(at > through_s for at in gone.values()), "the watermark says up to when all are there"
        own = one.writers[WEST].own.values()
        print(
            f"  {len(gone)} answered rows of {WEST} died with it, the oldest of them answered "
            f"{min(gone.values()) - through_s:.2f} s after the watermark, the newest {max(own) - through_s:.2f} s"
        )
        for process in lost:
            if process.role == "node":
                shutil.rmtree(ClusterDirectory(cluster.data_dir).node_data(process.id))
        one.go_on(STEPS, EAST)

        began = time.monotonic()
        cluster.start_processes([process.id for process in lost])
        cluster.await_running()
        one.until("it has no tables", lambda: one.clients[WEST].list_tables()["TableNames"] == [])
        print(f"  runs {time.monotonic() - began:.1f} s after its empty start")
        home = one.clients[EAST]
        home.update_table(TableName=table, ReplicaUpdates=[{"Delete": {"RegionName": WEST}}])
        one.until("it is out", lambda: _replicas(home, table) == ("ACTIVE", []))
        began = time.monotonic()
        make_global(cluster, EAST, table, REGIONS)
        print(f"  filled again {time.monotonic() - began:.1f} s after it was asked for")
        one.write_in(WEST, seed=2)
        one.go_on()
        print(f"  nobody behind {one.recovers():.2f} s later")
        one.ends_equal(lost=frozenset(gone))


def _watermark_us(cluster: Cluster, table: str, source: str, destination: str) -> int:
    pair = (table, source, destination)
    found = cluster.status()["watermarks"]
    return next(int(w["watermark_us"]) for w in found if (w["table"], w["source"], w["destination"]) == pair)


def _replicas(client: Any, table: str) -> tuple[str, list[str]]:
    described = client.describe_table(TableName=table)["Table"]
    return described["TableStatus"], [replica["RegionName"] for replica in described.get("Replicas", [])]
