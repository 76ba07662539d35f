"""Promises and the collection of tombstones on three real nodes, through kills, power cuts, snapshots and restarts.

The other region is a model that keeps every row: what its replicator would say and do, and whether what the nodes do
about it is right.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.errors import ApiError
from geodyne.messages import (
    AdvanceCursor,
    Answer,
    Applied,
    ApplyChanges,
    Change,
    ControlDone,
    FeedPage,
    ReadFeed,
    Write,
    WriteKind,
    Written,
)
from geodyne.model import version as versions
from geodyne.model.keys import hash_of
from geodyne.model.values import dumps, item_size, loads
from geodyne.peermessages import Entry
from geodyne.sim.items import Items, judge, key_of
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import Violation
from geodyne.sim.region import REGION, Region, SimNode, region
from node import handover
from node.entries import decode
from node.feed import duty, tombstones
from node.formatmark import FormatMark
from node.group import Group
from node.storage.directory import FORMAT_FILE, WATERMARKS_FORMAT
from node.storage.wal import Wal

OTHER = "eu-west-1"
CONSUMER = f"replica/{OTHER}"
SHARED = tuple(f"shared{number}" for number in range(8))  # written in both regions
EXPIRING = tuple(f"due{number}" for number in range(4))  # likewise, with a time that has come
OWN = tuple(f"own{number}" for number in range(4))  # written here only, and judged
TIMEOUT_MS = 3_000
QUIET_S = 30.0  # within which all has gone that may go, once there are no faults
SKEW_US = 400_000  # less than would make a node stand back (node.clocks)


class Abroad:
    """The other region and the replicators of both, for all partitions of table T."""

    def __init__(self, here: Region, seed: int) -> None:
        self.here = here
        self.random = Random(seed)
        self.rows: dict[bytes, Change] = {}  # it collects nothing
        self.sent: list[Change] = []
        self.outbox: list[Change] = []
        self.positions: dict[int, int] = {}
        self.said_us: dict[int, int] = {}  # by partition: what the pages promised, once everything before is here
        self.last_us = 0
        self.arrived_us = 0
        self.told_us = 0
        self.collected: list[tuple[bytes, bytes]] = []

    @property
    def partitions(self) -> list[int]:
        return [partition.id for partition in self.here.client.catalog.tables["T"].partitions]

    def partition_of(self, key: bytes) -> int:
        return self.here.client.catalog.tables["T"].partition_of(hash_of(key)).id

    async def call(self, call: Any) -> Answer | None:
        """None: not known what came of it."""
        try:
            return await self.here.client.call(call, timeout_ms=TIMEOUT_MS)
        except ApiError:
            return None

    # --- to there -----------------------------------------------------------------------------------------------

    async def read(self, partition: int) -> bool:
        """A page of what was written here. True when it was the last one."""
        after = self.positions.get(partition, -1)
        said_us = self.said_us.get(partition, 0)
        page = await self.call(ReadFeed(partition, 1, CONSUMER, after, 4_000, 20, REGION, said_us + 1))
        if not isinstance(page, FeedPage):
            return False
        if page.trimmed:
            raise Violation(f"partition {partition}: trimmed beyond {after}")
        for record in page.records:
            us = versions.time_us(record.change.version)
            if us <= said_us and not record.expired:
                raise Violation(f"partition {partition}: {record.change.key!r} has version {us}, promised {said_us}")
            self.store(record.change)
        self.positions[partition] = page.next
        self.said_us[partition] = max(said_us, page.safe_us)
        if page.next >= page.head or self.random.random() < 0.5:
            await self.call(AdvanceCursor(partition, 1, CONSUMER, page.next))
        return page.next >= page.head

    def store(self, change: Change) -> None:
        known = self.rows.get(change.key)
        if known is None or known.version < change.version:
            self.rows[change.key] = change

    # --- from there ---------------------------------------------------------------------------------------------

    def write(self, pk: str, value: str | None, **attributes: Any) -> None:
        key, clock_us = key_of(pk), self.here.nodes[0].clock.wall_us() + self.random.randint(-SKEW_US, SKEW_US)
        known = self.rows.get(key)
        self.last_us = versions.next_time_us(clock_us, self.last_us, known.version if known is not None else None)
        item = {"pk": {"S": pk}, "v": {"S": value or ""}, **attributes}
        image = dumps(item) if value is not None else None
        version = versions.make(self.last_us, OTHER.encode())
        change = Change(key, version, image, item_size(item) if image is not None else 0)
        self.store(change)
        self.outbox.append(change)
        self.sent.append(change)

    async def ship(self) -> None:
        """The oldest changes, in order; what is acknowledged is there."""
        going = self.outbox[:5]
        for change in going:
            while not isinstance(await self.apply(change), Applied):
                await self.here.run_for(0.1)
        del self.outbox[: len(going)]
        if not self.outbox:
            self.arrived_us = self.last_us  # what is written later has larger versions

    async def apply(self, change: Change) -> Answer | None:
        return await self.call(ApplyChanges(self.partition_of(change.key), 1, (change,)))

    async def tell(self) -> None:
        arrived_us = self.arrived_us
        stable_us = min([arrived_us, *(self.said_us.get(partition, 0) for partition in self.partitions)])
        if not stable_us:
            return
        self.told_us = max(self.told_us, stable_us)
        for partition in self.partitions:
            await self.call(AdvanceCursor(partition, 1, CONSUMER, 0, stable_us, ((OTHER, arrived_us),)))

    def promise(self) -> None:
        """Nothing is on its way, and what is written later has larger versions."""
        self.last_us = self.arrived_us = max(self.last_us, self.here.nodes[0].clock.wall_us() + SKEW_US)

    async def caught_up(self) -> None:
        """All that was written here has been read."""
        for partition in self.partitions:
            while not await self.read(partition):
                pass

    # --- what must hold -----------------------------------------------------------------------------------------

    def check_going(self, going: Sequence[tuple[bytes, bytes]]) -> None:
        for key, version in going:
            known = self.rows.get(key)
            if known is None or known.version < version:
                self.here.problem(f"{key!r} {version!r} is collected before it is in {OTHER}")
            if versions.time_us(version) > self.told_us:
                self.here.problem(f"{key!r} {version!r} is collected beyond {self.told_us}")
            if any(change.key == key and change.version < version for change in self.outbox):
                self.here.problem(f"{key!r} {version!r} is collected, and something older is on its way")
        self.collected.extend(going)

    def rows_here(self) -> dict[bytes, Change]:
        found: dict[bytes, Change] = {}
        for partition in self.partitions:
            leader = self.here.leader(partition)
            assert leader is not None
            for key, row in self.here.dump(leader, partition)["rows"]:
                found[key] = Change(key, row.version, row.value, row.size)
        return found

    def check_equal(self) -> None:
        ours = {key: row for key, row in self.rows_here().items() if row.image is not None}
        theirs = {key: row for key, row in self.rows.items() if row.image is not None}
        if ours != theirs:
            differing = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
            raise Violation("; ".join(f"{key!r}: {ours.get(key)} here, {theirs.get(key)} there" for key in differing))

    async def quiet(self) -> None:
        """Until everything is everywhere, and every tombstone that may go has gone."""
        until = self.here.loop.time() + QUIET_S
        while True:
            while self.outbox:
                await self.ship()
            self.promise()
            await self.caught_up()
            await self.tell()
            left = [key for key, row in self.rows_here().items() if row.image is None]
            if not left:
                return
            if self.here.loop.time() > until:
                raise Violation(f"tombstones are still there: {left}")
            await self.here.run_for(0.3)


class Stage:
    """Table T with a replica in the other region."""

    def __init__(self, here: Region, seed: int) -> None:
        self.here = here
        self.abroad = Abroad(here, seed)
        self.items = Items(here, {}, here.clients[1].region)
        self.random = Random(seed ^ 0xB1ADE)

    async def prepare(self) -> None:
        while not isinstance(await self.here.control("set_ttl", TTL), ControlDone):
            await self.here.run_for(0.1)  # it is not known yet what all nodes speak
        await self.here.until(lambda: self.here.client.catalog.tables["T"].ttl_status == "ENABLED", "expiry is on")
        await self.here.control("update_table", {"name": "T", "replicas_add": [OTHER]})
        await self.here.active()
        await self.here.until(lambda: all(self.safe_us(partition) for partition in self.abroad.partitions), "promises")

    def safe_us(self, partition: int) -> int:
        leader = self.here.leader(partition)
        group = self.here.group(leader, partition) if leader is not None else None
        return group.state.safe_us if group is not None else 0

    def all_beyond(self, us: int) -> bool:
        return all(self.safe_us(partition) > us for partition in self.abroad.partitions)

    async def write(self, pk: str, value: str | None, due: bool = False) -> bool:
        """False when the outcome is not known."""
        key, item = key_of(pk), {"pk": {"S": pk}, "v": {"S": value or ""}}
        if due:
            item["expires"] = {"N": str(self.wall_us() // 1_000_000 + 5)}
        kind, image = (WriteKind.PUT, dumps(item)) if value is not None else (WriteKind.DELETE, b"")
        call = Write(self.abroad.partition_of(key), 1, kind, key, image, item_size(item) if image else 0, None, None)
        return isinstance(await self.abroad.call(call), Written)

    # --- the tasks of a run -------------------------------------------------------------------------------------

    async def writing(self, rounds: int) -> None:
        for number in range(rounds):
            pk = self.random.choice(SHARED + EXPIRING)
            deleted = pk in SHARED and self.random.random() < 0.5
            await self.write(pk, None if deleted else f"here {number}", due=pk in EXPIRING)
            own = self.random.choice(OWN)
            if self.random.random() < 0.4:
                await self.items.delete(own)
            else:
                await self.items.put(own, f"{number}")
            await self.items.read(own)
            await asyncio.sleep(self.random.uniform(0, 0.3))

    async def writing_there(self, rounds: int) -> None:
        for number in range(rounds):
            pk = self.random.choice(SHARED + EXPIRING)
            deleted = pk in SHARED and self.random.random() < 0.5
            due = str(self.wall_us() // 1_000_000)
            expires = {"expires": {"N": due}} if pk in EXPIRING and self.random.random() < 0.5 else {}
            self.abroad.write(pk, None if deleted else f"there {number}", **expires)
            await asyncio.sleep(self.random.uniform(0, 0.4))

    async def replicating(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.abroad.ship()
            for partition in self.abroad.partitions:
                await self.abroad.read(partition)
            if self.random.random() < 0.3:
                await self.abroad.tell()
            await asyncio.sleep(self.random.uniform(0, 0.2))

    async def repeating(self, done: asyncio.Event) -> None:
        """What a stream that broke had on its way arrives as well."""
        while not done.is_set():
            acknowledged = len(self.abroad.sent) - len(self.abroad.outbox)
            if acknowledged:
                await self.abroad.apply(self.abroad.sent[self.random.randrange(acknowledged)])
            await asyncio.sleep(self.random.uniform(0, 0.2))

    async def killing(self, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(self.random.uniform(0.5, 2.5))
            leader = self.here.leader(self.random.choice(self.abroad.partitions))
            victim = leader if self.random.random() < 0.7 else self.random.choice(self.here.nodes)
            if victim is None or any(not node.alive for node in self.here.nodes):
                continue
            for node in self.here.nodes:
                node.clock.skew_us = self.random.randint(-SKEW_US, SKEW_US) // 2
            await victim.kill(power_loss=self.random.random() < 0.5)
            await victim.revive(self.random.choice([0.3, 1.0, 5.0]))  # the last: it needs a snapshot

    def wall_us(self) -> int:
        return self.here.nodes[0].clock.wall_us()

    def has(self, pk: str, value: str) -> bool:
        """The other region has this."""
        row = self.abroad.rows.get(key_of(pk))
        return row is not None and row.image is not None and loads(row.image)["v"]["S"] == value

    def has_promised(self, partition: int) -> bool:
        """Just now. The leader's clock is ahead of all others'."""
        leader = self.here.leader(partition)
        group = self.here.group(leader, partition) if leader is not None else None
        for node in self.here.nodes:
            node.clock.skew_us = SKEW_US if node is leader else -SKEW_US
        return leader is not None and group is not None and group.state.safe_us > leader.clock.wall_us() - 50_000

    def led_by_another(self, partition: int, than: SimNode) -> bool:
        return self.here.leader(partition) not in (None, than)

    def leader(self, pk: str) -> SimNode:
        leader = self.here.leader(self.abroad.partition_of(key_of(pk)))
        assert leader is not None
        return leader

    async def at_peace(self) -> None:
        await self.here.revived()
        await self.here.settle(self.abroad.partitions)
        await self.abroad.quiet()
        for change in self.abroad.sent:
            await self.abroad.apply(change)
        await self.here.settle(self.abroad.partitions)
        await self.abroad.quiet()  # meanwhile another item may have expired
        self.abroad.check_equal()
        judge(self.items.histories)


TTL = {"name": "T", "attribute": "expires", "enabled": True}


def format_of(directory: Path) -> int:
    return int(json.loads((directory / FORMAT_FILE).read_bytes())["format"])


@contextmanager
def watched(abroad: Abroad) -> Iterator[None]:
    """Small bounds, so that every path is taken, and a look at everything that is collected."""
    real = Group.collect

    def collect(group: Group, going: Sequence[tuple[bytes, bytes]], arrived: Any, wall_us: int) -> None:
        abroad.check_going(going)
        real(group, going, arrived, wall_us)

    def add(wal: Wal, batch: Any, partition: int, held: Any, entries: Sequence[Entry]) -> None:
        for entry in entries:
            payload = decode(entry).payload
            if payload.safe_us or payload.arrived or payload.collected:
                mark = format_of(wal._directory.parent)
                if mark < WATERMARKS_FORMAT:
                    abroad.here.problem(f"{wal._directory} would be opened by an older version: format {mark}")
        really_add(wal, batch, partition, held, entries)

    really_add = Wal._add_entries
    bounds = {"SLICE_ROWS": 3, "COLLECTED_MAX": 2, "REST_MS": 300, "SLICES_PER_STEP": 3}
    with ExitStack() as stack:
        for name, bound in bounds.items():
            stack.enter_context(patch.object(tombstones, name, bound))
        stack.enter_context(patch.object(Group, "collect", collect))
        stack.enter_context(patch.object(Wal, "_add_entries", add))
        yield


def play(path: Path, scenario: Callable[[Stage], Awaitable[None]], seed: int = 1) -> Stage:
    async def run() -> Stage:
        async with region(seed, path) as here:
            await here.create_table()
            stage = Stage(here, seed)
            partitions = stage.abroad.partitions
            await here.until(lambda: all(here.leader(partition) for partition in partitions), "leaders")
            with watched(stage.abroad):
                await stage.prepare()
                await scenario(stage)
                await stage.at_peace()
                here.check()
            return stage

    return run_simulated(run())


def under_faults(path: Path, seed: int, kills: int = 6, rounds: int = 60) -> Stage:
    async def scenario(stage: Stage) -> None:
        done = asyncio.Event()
        others = [asyncio.ensure_future(each(done)) for each in (stage.replicating, stage.repeating)]
        await asyncio.gather(
            stage.writing(rounds), stage.writing(rounds), stage.writing_there(rounds), stage.killing(kills)
        )
        await stage.here.revived()
        done.set()
        await asyncio.gather(*others)

    return play(path, scenario, seed)


# --- what holds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_through_kills_power_cuts_and_snapshots_nothing_that_was_deleted_comes_back(tmp_path: Path, seed: int) -> None:
    stage = under_faults(tmp_path, seed)
    assert len(stage.abroad.collected) >= len(SHARED) // 2


async def deleted_and_collected(stage: Stage, pk: str) -> Change:
    """The other region's item of that name, whose tombstone has gone everywhere here."""
    stage.abroad.write(pk, "old")
    item = stage.abroad.sent[-1]
    await stage.abroad.ship()
    assert await stage.write(pk, None)
    await stage.abroad.quiet()
    await stage.here.settle(stage.abroad.partitions)
    assert key_of(pk) in [key for key, _ in stage.abroad.collected]
    return item


def test_a_late_duplicate_of_a_collected_item_is_refused_by_each_later_leader(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        here, pk = stage.here, SHARED[0]
        item = await deleted_and_collected(stage, pk)
        assert await stage.abroad.apply(item) == Applied(0)
        partition = stage.abroad.partition_of(item.key)
        for node in here.nodes:
            await node.kill(power_loss=True)  # then it knows from its disk alone
            await node.revive(0)
            await here.settle(stage.abroad.partitions)
            await here.until(here.lead_by(partition, node), "it leads")
            assert await stage.abroad.apply(item) == Applied(0)
        newer = item._replace(version=versions.make(stage.abroad.arrived_us + 1, OTHER.encode()))
        stage.abroad.store(newer)
        assert await stage.abroad.apply(newer) == Applied(1)

    play(tmp_path, scenario)


def test_a_replica_that_a_snapshot_built_refuses_it_as_well(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        here, pk = stage.here, SHARED[0]
        partition = stage.abroad.partition_of(key_of(pk))
        away = here.others(stage.leader(pk))[0]
        await away.kill()
        item = await deleted_by_two(stage, pk)
        for number in range(200):
            await stage.write(pk, f"{number}")
        assert await stage.write(pk, None)
        await here.run_for(4)  # the log is cut beyond what it has
        await away.revive(0)
        await stage.abroad.quiet()
        await here.settle(stage.abroad.partitions)
        assert away.count("geodyne_snapshots_total", direction="received", result="ok") > 0
        await here.until(here.lead_by(partition, away), "the rebuilt node leads")
        assert await stage.abroad.apply(item) == Applied(0)

    play(tmp_path, scenario)


async def deleted_by_two(stage: Stage, pk: str) -> Change:
    """As above, while a node is away."""
    stage.abroad.write(pk, "old")
    item = stage.abroad.sent[-1]
    await stage.abroad.ship()
    assert await stage.write(pk, None)
    await stage.abroad.quiet()
    assert key_of(pk) in [key for key, _ in stage.abroad.collected]
    return item


@pytest.mark.parametrize("killed", [True, False])
def test_the_next_leader_keeps_what_one_promised_whose_clock_is_ahead(tmp_path: Path, killed: bool) -> None:
    async def scenario(stage: Stage) -> None:
        here, abroad, pk = stage.here, stage.abroad, SHARED[0]
        partition = abroad.partition_of(key_of(pk))
        for _ in range(3):
            await here.until(partial(stage.has_promised, partition), "the promise of a quiet partition moves on")
            ahead = stage.leader(pk)
            await abroad.caught_up()
            said_us = abroad.said_us[partition]
            if killed:
                await ahead.kill(power_loss=True)
                await here.until(partial(stage.led_by_another, partition, ahead), "another leader")
            else:
                await here.until(here.lead_by(partition, here.others(ahead)[0]), "another leader")
            assert await stage.write(pk, f"after {said_us}")
            while not stage.has(pk, f"after {said_us}"):
                await abroad.read(partition)  # raises when it is not later than what was promised
            assert versions.time_us(abroad.rows[key_of(pk)].version) > said_us
            if killed:
                await ahead.revive(0)
            await here.settle(abroad.partitions)

    play(tmp_path, scenario)


def test_with_more_quiet_partitions_than_a_step_promises_for_each_has_its_turn(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        here = stage.here
        leader = here.nodes[0]
        with patch.object(duty, "PROMISES_PER_STEP", 1), patch.object(handover, "STEADY_MS", 1_000_000):
            for partition in stage.abroad.partitions:
                await here.until(here.lead_by(partition, leader), "one node leads all")
            for _ in range(2):
                now_us = stage.wall_us() + SKEW_US
                await here.until(partial(stage.all_beyond, now_us), "each has had its turn", 5)

    play(tmp_path, scenario)


def test_while_the_other_region_reads_nothing_every_newer_tombstone_stays(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        for pk in SHARED:
            assert await stage.write(pk, "x")
        await stage.abroad.quiet()
        for pk in SHARED:
            assert await stage.write(pk, None)
        for _ in range(10):
            await stage.abroad.tell()
            await stage.here.run_for(1)
        assert stage.abroad.collected == []
        rows = stage.abroad.rows_here()
        assert all(rows[key_of(pk)].image is None for pk in SHARED)

    play(tmp_path, scenario)


def test_while_something_older_of_the_other_region_is_on_its_way_a_tombstone_stays(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.abroad.quiet()
        for pk in SHARED:
            stage.abroad.write(pk, "older")
        await stage.here.run_for(1)
        for pk in SHARED:
            assert await stage.write(pk, "x")
            assert await stage.write(pk, None)
        for _ in range(10):
            await stage.abroad.caught_up()
            await stage.abroad.tell()
            await stage.here.run_for(1)
        assert stage.abroad.collected == []

    play(tmp_path, scenario)


def test_the_tombstone_of_an_expired_item_stays_until_the_other_region_has_it(tmp_path: Path) -> None:
    """Its version is older than what was promised."""

    async def scenario(stage: Stage) -> None:
        abroad, pk = stage.abroad, EXPIRING[0]
        assert await stage.write(pk, "x", due=True)
        later_us = stage.wall_us() + SKEW_US
        while min(abroad.said_us.get(partition, 0) for partition in abroad.partitions) < later_us:
            await abroad.caught_up()
        abroad.promise()
        await stage.here.until(lambda: abroad.rows_here()[key_of(pk)].image is None, "it has expired")
        for _ in range(10):
            await abroad.tell()
            await stage.here.run_for(0.5)
        assert abroad.collected == []

    play(tmp_path, scenario)


def test_an_item_that_is_written_again_when_its_tombstone_is_about_to_go_stays(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        abroad, pk = stage.abroad, SHARED[0]
        for _ in range(12):
            assert await stage.write(pk, None)
            await stage.here.run_for(2)  # all partitions promise more than that
            await abroad.caught_up()
            abroad.promise()
            await abroad.tell()
            await stage.here.run_for(stage.random.uniform(0, 0.7))
            assert await stage.write(pk, "again")
            await stage.here.run_for(1)
            row = abroad.rows_here().get(key_of(pk))
            assert row is not None
            assert row.image is not None

    play(tmp_path, scenario)


def test_a_snapshot_with_a_promise_marks_the_directory_that_takes_it_over(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        here = stage.here
        away = here.others(stage.leader(SHARED[0]))[0]
        await away.kill()
        away.lose_disk()
        for number in range(200):
            await stage.write(SHARED[0], f"{number}")
        await here.run_for(4)
        with patch.object(FormatMark, "entries", lambda mark, entries: None):  # what it logs is another matter
            await away.revive(0)
            await here.until(lambda: format_of(away.data) == WATERMARKS_FORMAT, "it is marked")
        here.problems.clear()

    play(tmp_path, scenario)


def test_a_page_that_does_not_reach_the_end_promises_nothing(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        pk = SHARED[0]
        for number in range(60):
            assert await stage.write(pk, f"{number:0>200}")
        for _ in range(5):  # raises where a later page has what one promised not to come
            await stage.abroad.read(stage.abroad.partition_of(key_of(pk)))

    play(tmp_path, scenario)
