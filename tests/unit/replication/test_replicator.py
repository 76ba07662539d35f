"""Whole replicators over gRPC on loopback, in front of simulated regions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random, SystemRandom
from unittest.mock import patch

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from geodyne.cli.localports import INTERNAL_PORTS, is_free
from geodyne.clock import SystemClock
from geodyne.messages import Answer, ApplyChanges, Call, ReadRows
from geodyne.model.keys import hash_of
from geodyne.network import LinkQuality, Pause
from geodyne.peermessages import Hello
from geodyne.rpc.delay import DelayedLinks
from replication.link import DestinationLink, LinkDownError
from replication.metrics import ReplicationCollector
from replication.progress import ProgressSettings
from replication.service import PeerReplicator, Replicator
from replication.values import FORMAT, Operation
from replication.window import WINDOW_BYTES_MIN
from tests.unit.replication.fake_region import FakeRegion, key_of

SETTINGS = ProgressSettings(retry_ms_min=10, retry_ms_max=50, commit_every_ms=20, idle_commit_every_ms=40)
WAIT_S = 8.0
PORTS_TRIED_MAX = 100
FULL_MBIT = 4.0
FULL_ITEMS, FULL_ITEM_BYTES = 1_000, 2_000  # 4 s of that path


class Cluster:
    """Regions with a replicator each. Each pair of replicators is linked through forwarders that a test can block."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.clock = SystemClock()
        self.regions = {name: FakeRegion(name, self.clock) for name in names}
        self.replicators: dict[str, Replicator] = {}
        self.ports: dict[str, int] = {}
        self.links = {name: DelayedLinks() for name in names}

    async def __aenter__(self) -> Cluster:
        for name in self.names:
            self.ports[name] = _free_port()
        for name in self.names:
            await self.start(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self.replicators):
            await self.stop(name)
        for links in self.links.values():
            await links.close()

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    async def start(self, name: str, pauses: Sequence[Pause] = ()) -> None:
        peers = {
            other: PeerReplicator(other, f"{other}/replicator-1", await self.links[name].via(self.address(other), 2.0))
            for other in self.names
            if other != name
        }
        hello = Hello("cluster", name, f"{name}/replicator-1", 1, FORMAT)
        replicator = Replicator(
            hello,
            self.address(name),
            peers,
            region=self.regions[name],
            clock=self.clock,
            random=Random(1),
            settings=SETTINGS,
        )
        replicator.set_pauses(pauses)
        await replicator.start()
        self.replicators[name] = replicator

    async def stop(self, name: str) -> None:
        await self.replicators.pop(name).close()

    def same(self, table: str = "t") -> bool:
        if any(table not in region.catalog.tables for region in self.regions.values()):
            return False
        first, *others = (region.items(table) for region in self.regions.values())
        return all(other == first for other in others)

    def replicas(self, name: str, table: str = "t") -> dict[str, str]:
        record = self.regions[name].catalog.tables.get(table)
        return {} if record is None else dict(record.replicas)


def _free_port() -> int:
    """Outside the range from which the system gives connections theirs: nothing takes it before it is listened on."""
    candidates = SystemRandom().sample(INTERNAL_PORTS, PORTS_TRIED_MAX)
    return next(port for port in candidates if is_free(port))


async def until(condition: Callable[[], object], what: str, wait_s: float = WAIT_S) -> None:
    deadline = asyncio.get_running_loop().time() + wait_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.01)


def scenario(*names: str) -> Callable[[Callable[[Cluster], Awaitable[None]]], Callable[[], None]]:
    def wrap(body: Callable[[Cluster], Awaitable[None]]) -> Callable[[], None]:
        async def run() -> None:
            async with Cluster(*names) as cluster:
                await body(cluster)

        def test() -> None:
            asyncio.run(run())

        test.__doc__ = body.__doc__
        return test

    return wrap


@scenario("a", "b", "c")
async def test_a_table_with_rows_becomes_global_and_changes_flow_in_all_directions(cluster: Cluster) -> None:
    home = cluster.regions["a"]
    home.create("t")
    for number in range(60):
        home.write("t", key_of(number), b"before %d" % number)
    home.control("update_table", name="t", replicas_add=["b", "c"])
    everywhere = dict.fromkeys("abc", "ACTIVE")
    await until(lambda: all(cluster.replicas(n) == everywhere for n in "abc"), "all replicas become ACTIVE everywhere")
    assert cluster.same()
    for turn, (name, region) in enumerate(cluster.regions.items()):
        for number in range(turn, 60, 2):
            region.write("t", key_of(number), None if number % 5 == 0 else f"{name} {number}".encode())
    await until(cluster.same, "all regions hold the same items")
    await until(
        lambda: all(f.lag_s == 0 and f.caught_up == 4 for r in cluster.replicators.values() for f in r.figures()),
        "nothing is pending",
    )
    await until(lambda: not cluster.replicators["a"].status()["transitions"], "nothing is in transition")
    status = cluster.replicators["a"].status()
    assert status["destinations"]["b"]["connected"]


@scenario("a", "b", "c")
async def test_a_replica_that_joins_later_gets_all_rows_and_one_that_leaves_is_forgotten(cluster: Cluster) -> None:
    a, b = cluster.regions["a"], cluster.regions["b"]
    a.create("t")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a") == cluster.replicas("b") == dict.fromkeys("ab", "ACTIVE"), "a and b")
    for number in range(40):
        (a if number % 2 else b).write("t", key_of(number), b"%d" % number)
    b.control("update_table", name="t", replicas_add=["c"])
    everywhere = dict.fromkeys("abc", "ACTIVE")
    await until(lambda: all(cluster.replicas(n) == everywhere for n in "abc"), "c is ACTIVE everywhere")
    await until(cluster.same, "c holds all rows")
    a.control("update_table", name="t", replicas_remove=["c"])
    rest = dict.fromkeys("ab", "ACTIVE")
    await until(lambda: [cluster.replicas(n) for n in "abc"] == [rest, rest, {}], "c is forgotten")
    assert "t" not in cluster.regions["c"].catalog.tables


@scenario("a", "b", "c")
async def test_a_change_of_ttl_reaches_all_regions_and_the_later_of_two_holds_everywhere(cluster: Cluster) -> None:
    def settings() -> list[str]:
        return [cluster.regions[name].table("t").expires_by for name in "abc"]

    a, b, c = (cluster.regions[name] for name in "abc")
    a.create("t")
    a.control("set_ttl", name="t", attribute="before", enabled=True)
    a.control("update_table", name="t", replicas_add=["b", "c"])
    everywhere = dict.fromkeys("abc", "ACTIVE")
    await until(lambda: all(cluster.replicas(n) == everywhere for n in "abc"), "all replicas become ACTIVE everywhere")
    assert settings() == ["before"] * 3
    b.control("set_ttl", name="t", attribute="before", enabled=False)
    await until(lambda: settings() == [""] * 3, "it is off everywhere")
    c.control("set_ttl", name="t", attribute="one", enabled=True)
    b.control("set_ttl", name="t", attribute="other", enabled=True)  # before either has heard of the other's
    later = "one" if c.table("t").ttl_changed_ms > b.table("t").ttl_changed_ms else "other"
    await until(lambda: not any(region.table("t").index_news for region in (a, b, c)), "all are told")
    await until(lambda: settings() == [later] * 3, "the later one holds everywhere")


@scenario("a", "b")
async def test_settings_edited_in_one_region_reach_the_other(cluster: Cluster) -> None:
    a, b = cluster.regions["a"], cluster.regions["b"]
    a.create("t")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a").get("b") == "ACTIVE", "b is ACTIVE")
    b.control("update_table", name="t", read_units=5, write_units=6, deletion_protection=True)
    await until(lambda: (a.table("t").read_units, a.table("t").write_units) == (5, 6), "a has taken them over")
    await until(lambda: not b.table("t").index_news, "b knows that a was told")
    assert not a.table("t").deletion_protection
    assert not a.table("t").index_news


@scenario("a", "b")
async def test_a_restarted_replicator_goes_on_from_the_committed_cursor(cluster: Cluster) -> None:
    a, b = cluster.regions["a"], cluster.regions["b"]
    a.create("t")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a").get("b") == "ACTIVE", "b is ACTIVE")
    for number in range(20):
        a.write("t", key_of(number), b"one")
    parts = [a.parts[p.id] for p in a.table("t").partitions]
    await until(lambda: all(p.cursors.get("replica/b", 0) == p.head for p in parts), "cursors reach the head")
    await cluster.stop("a")
    for number in range(20):
        a.write("t", key_of(number), b"two")
        b.write("t", key_of(number + 100), b"from b")
    a.calls.clear()
    await cluster.start("a")
    await until(cluster.same, "both regions hold the same items")
    assert not any(isinstance(call, ReadRows) for call in a.calls), "no scan: the cursors were enough"
    shipped = cluster.replicators["a"].figures()[0].changes
    assert shipped == 20


@scenario("a", "b", "c")
async def test_a_region_that_is_cut_off_delays_no_other_and_catches_up(cluster: Cluster) -> None:
    a = cluster.regions["a"]
    a.create("t")
    a.control("update_table", name="t", replicas_add=["b", "c"])
    await until(lambda: cluster.replicas("a") == dict.fromkeys("abc", "ACTIVE"), "all are ACTIVE")
    await cluster.stop("c")
    for number in range(200):
        a.write("t", key_of(number), b"x" * 2_000)
    await until(lambda: len(cluster.regions["b"].items("t")) == 200, "b has all while c is away")
    figures = {f.destination: f for f in cluster.replicators["a"].figures()}
    await until(lambda: {f.destination: f for f in cluster.replicators["a"].figures()}["c"].lag_s > 0, "the lag shows")
    assert not figures["c"].connected
    await cluster.start("c")
    await until(cluster.same, "c catches up")


NEVER_MS = 1 << 50
ROWS = 400  # of which a replica is not filled between two looks


@scenario("a", "b", "c")
async def test_a_pause_rests_its_table_and_region_in_both_directions_and_nothing_else(cluster: Cluster) -> None:
    for name in ("t", "u"):
        cluster.regions["a"].create(name)
        cluster.regions["a"].control("update_table", name=name, replicas_add=["b", "c"])
    everywhere = dict.fromkeys("abc", "ACTIVE")
    await until(lambda: all(cluster.replicas(n, t) == everywhere for n in "abc" for t in "tu"), "all are ACTIVE")
    for replicator in cluster.replicators.values():
        replicator.set_pauses([Pause("t", "c", NEVER_MS)])
    for number, name in enumerate("abc"):
        cluster.regions[name].write("t", key_of(number), name.encode())
        cluster.regions[name].write("u", key_of(number), name.encode())
    await until(lambda: cluster.same("u"), "the other table is replicated everywhere")
    among_two = {key_of(0), key_of(1)}
    await until(
        lambda: among_two == set(cluster.regions["a"].items("t")) == set(cluster.regions["b"].items("t")), "a, b"
    )
    assert set(cluster.regions["c"].items("t")) == {key_of(2)}
    assert cluster.replicators["a"].status()["pauses"] == [{"table": "t", "region": "c"}]
    for replicator in cluster.replicators.values():
        replicator.set_pauses([])
    await until(cluster.same, "all that was written meanwhile arrives")


@scenario("a", "b")
async def test_a_pause_holds_for_tails_that_begin_and_links_that_break_meanwhile(cluster: Cluster) -> None:
    a = cluster.regions["a"]
    a.create("t")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("b").get("b") == "ACTIVE", "b is ACTIVE")
    await cluster.stop("a")
    a.write("t", key_of(1), b"x")
    await cluster.start("a", pauses=[Pause("t", "", NEVER_MS)])
    await until(lambda: cluster.replicators["a"].figures()[0].connected, "the link is up")
    await until(lambda: cluster.replicators["a"].figures()[0].partitions == 4, "all partitions are followed")
    assert not cluster.regions["b"].items("t")
    cluster.replicators["a"].set_pauses([])
    await until(cluster.same, "it arrives")


@scenario("a", "b")
async def test_a_replica_is_not_filled_while_its_table_is_paused(cluster: Cluster) -> None:
    a = cluster.regions["a"]
    a.create("t")
    for number in range(ROWS):
        a.write("t", key_of(number), b"%d" % number)
    for part in a.parts.values():
        part.trim(part.head)  # only a scan brings what is older
    replicator = cluster.replicators["a"]
    replicator.set_pauses([Pause("t", "b", NEVER_MS)])
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: replicator.figures()[0].scans, "the scan has begun")
    assert not cluster.regions["b"].items("t")
    assert cluster.replicas("a")["b"] == "CREATING"
    replicator.set_pauses([])
    await until(lambda: cluster.regions["b"].items("t"), "rows arrive")
    replicator.set_pauses([Pause("t", "", NEVER_MS)])
    await until(lambda: replicator.figures()[0].bytes_in_flight == 0, "what was under way has arrived")
    arrived = len(cluster.regions["b"].items("t"))
    assert arrived < ROWS, "a scan that runs pauses too"
    replicator.set_pauses([])
    await until(cluster.same, "it goes on where it was")
    await until(lambda: cluster.replicas("a").get("b") == "ACTIVE", "b is ACTIVE")


@scenario("a", "b")
async def test_a_name_that_is_taken_in_the_other_region_is_an_error_and_harms_nothing(cluster: Cluster) -> None:
    a, b = cluster.regions["a"], cluster.regions["b"]
    a.create("t")
    b.create("t")
    b.write("t", key_of(1), b"mine")
    a.write("t", key_of(2), b"theirs")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: any(t["errors"] for t in cluster.replicators["a"].status()["transitions"]), "the error shows")
    assert cluster.replicas("a")["b"] == "CREATING"
    assert set(b.items("t")) == {key_of(1)}
    a.control("update_table", name="t", replicas_remove=["b"])
    await until(lambda: cluster.replicas("a") == {}, "the replica is given up")
    assert set(b.items("t")) == {key_of(1)}, "the other table is not touched"


@scenario("a", "b")
async def test_metrics_name_source_and_destination(cluster: Cluster) -> None:
    a = cluster.regions["a"]
    a.create("t")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a").get("b") == "ACTIVE", "b is ACTIVE")
    a.write("t", key_of(1), b"x")
    await until(lambda: cluster.replicators["a"].figures()[0].changes == 1, "one change is replicated")
    registry = CollectorRegistry()
    replicator = cluster.replicators["a"]
    registry.register(ReplicationCollector("a", replicator.figures, replicator.applied, replicator.arrivals))
    text = generate_latest(registry).decode()
    assert 'geodyne_replicated_changes_total{destination="b",source="a"} 1.0' in text
    assert 'geodyne_replication_connected{destination="b",source="a"} 1.0' in text
    assert 'geodyne_replication_lag_seconds{destination="b",source="a"}' in text


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello("another", "x", "x/replicator-1", 1, FORMAT), "cluster"),
        (Hello("cluster", "x", "x/replicator-1", 1, FORMAT + 1), "format"),
        (Hello("cluster", "a", "a/replicator-2", 1, FORMAT), "same region"),
    ],
)
def test_a_stranger_is_refused_and_told_why(hello: Hello, reason: str) -> None:
    async def run() -> None:
        async with Cluster("a") as cluster:
            link = DestinationLink("a", cluster.address("a"), "a/replicator-1", hello, Random(1))
            link.start()
            await until(lambda: link._dialer._last_reason, "a reason")
            assert reason in link._dialer._last_reason
            with pytest.raises(LinkDownError):
                await link.command(Operation.DELETE, "t", "i")
            await link.close()

    asyncio.run(run())


@scenario("a", "b")
async def test_a_partition_that_applies_nothing_does_not_hold_up_the_others(cluster: Cluster) -> None:
    """Its changes have arrived: they count no longer among those that are on the path."""
    a, b = cluster.regions["a"], cluster.regions["b"]
    a.create("t")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a") == dict.fromkeys("ab", "ACTIVE"), "both are ACTIVE")
    stuck = b.table("t").partitions[0].id
    free = asyncio.Event()
    call = b.call

    async def slow(asked: Call, *, timeout_ms: int) -> Answer:
        if isinstance(asked, ApplyChanges) and asked.partition == stuck:
            await free.wait()
        return await call(asked, timeout_ms=timeout_ms)

    with patch.object(b, "call", slow):
        keys = [key_of(number) for number in range(400)]
        held = [key for key in keys if b.table("t").partition_of(hash_of(key)).id == stuck]
        for key in held:
            a.write("t", key, b"x" * 2_000)
        link = cluster.replicators["a"]._links["b"]
        await until(lambda: link.bytes_in_flight >= WINDOW_BYTES_MIN, "as much is under way as may be at first")
        others = set(keys) - set(held)
        for key in others:
            a.write("t", key, b"x" * 2_000)
        await until(lambda: set(b.items("t")) == others, "the other partitions have all")
    free.set()
    await until(cluster.same, "and then this one")


@scenario("a", "b")
async def test_a_path_that_is_full_carries_on_and_catches_up(cluster: Cluster) -> None:
    """More is under way at first than the path takes in the time that a ping may need."""
    a = cluster.regions["a"]
    a.create("t")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a") == dict.fromkeys("ab", "ACTIVE"), "both are ACTIVE")
    links = cluster.links["a"]
    links.set_quality(cluster.address("b"), LinkQuality(20.0, 0.0, 0.0, FULL_MBIT))
    shipped = cluster.replicators["a"]._links["b"]
    broken: list[str] = []
    shipped.subscribe(_Breaks(broken))
    random = Random(2)
    for number in range(FULL_ITEMS):
        a.write("t", key_of(number), random.randbytes(FULL_ITEM_BYTES))
    seconds = FULL_ITEMS * FULL_ITEM_BYTES * 8 / (FULL_MBIT * 1e6)
    await until(cluster.same, "all has arrived", 3 * seconds + WAIT_S)
    assert broken == []


class _Breaks:
    """Hears of breaks of a link."""

    def __init__(self, breaks: list[str]) -> None:
        self._breaks = breaks

    def on_connected(self) -> None: ...

    def on_disconnected(self) -> None:
        self._breaks.append("down")

    def on_room(self) -> None: ...
