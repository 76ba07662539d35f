"""Watermarks tell the truth, and tombstones that go by them bring nothing back, whatever the network does."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from geodyne.messages import Change, ReadFeed
from geodyne.model.version import next_time_us, time_us
from replication.progress import Batch
from replication.values import Watermark
from replication.watermarks import Watermarks
from tests.unit.replication.fake_region import FakePartition, key_of, version
from tests.unit.replication.test_convergence import SETTINGS, Direction

TABLE = "t-1"
REGIONS = ("east", "north", "west")


class Way(Direction):
    """A direction in which batches also arrive late and twice: a stream broke while they were being applied."""

    def start(self) -> None:
        super().start()
        self.late: list[Batch] = getattr(self, "late", [])

    def step(self, now: int, faults: bool) -> None:
        if faults and self.flying and self.rng.random() < 0.1:
            self.late.append(self.rng.choice(self.flying))
        if faults and self.scans and self.rng.random() < 0.3:  # a page of a scan that is read now and arrives later
            rows = (row for row in self.feed.rows.values() if row.version[8:] != self.destination.encode())
            self.late.append(Batch(0, 0, 0, tuple(rows), 0, 0, 0))
        if self.late and self.rng.random() < 0.05:
            for change in self.late.pop(self.rng.randrange(len(self.late))).changes:
                self.there.store(change)
        super().step(now, faults)


class World:
    """Regions with the real machines and the real bookkeeping; `stable` says what may be collected."""

    def __init__(self, seed: int, stable: Callable[[World, str], int]) -> None:
        self.rng = random.Random(seed)
        self.stable = stable
        self.parts = {name: FakePartition() for name in REGIONS}
        for part in self.parts.values():  # each consumer has been there from the beginning
            part.cursors = {f"replica/{name}": 0 for name in REGIONS}
        self.ways = [Way(s, d, self.parts, self.rng) for s in REGIONS for d in REGIONS if s != d]
        self.heard = {name: Watermarks(name) for name in REGIONS}
        self.last = dict.fromkeys(REGIONS, 0)
        self.clocks = {name: self.rng.randrange(1, 50) for name in REGIONS}
        self.written: dict[str, list[Change]] = {name: [] for name in REGIONS}
        self.newest: dict[bytes, Change] = {}
        self.graves: dict[str, dict[bytes, bytes]] = {name: {} for name in REGIONS}  # versions of collected tombstones
        self.collected: dict[str, int] = dict.fromkeys(REGIONS, 0)

    def others(self, name: str) -> list[str]:
        return [other for other in REGIONS if other != name]

    def write(self) -> None:
        name, key = self.rng.choice(REGIONS), key_of(self.rng.randrange(4))
        part = self.parts[name]
        self.clocks[name] += self.rng.randrange(4)
        stored = part.rows.get(key)
        us = next_time_us(self.clocks[name], self.last[name], stored.version if stored is not None else None)
        self.last[name] = us
        change = Change(key, version(us, name), None if self.rng.random() < 0.5 else b"%d" % us, 1)
        assert part.store(change)
        self.written[name].append(change)
        if key not in self.newest or self.newest[key].version < change.version:
            self.newest[key] = change

    def promise(self, name: str) -> None:
        self.clocks[name] += self.rng.randrange(4)
        self.last[name] = self.parts[name].safe_us = max(self.last[name], self.clocks[name])

    def tell(self, way: Way) -> None:
        if us := way.machine.watermark_us:
            arrived_us = self.heard[way.source].arrived_us(TABLE, self.others(way.source))
            self.heard[way.destination].hear(way.source, Watermark("t", TABLE, us, arrived_us))

    def collect(self, name: str) -> None:
        part, limit = self.parts[name], self.stable(self, name)
        for key, row in list(part.rows.items()):
            if row.image is None and time_us(row.version) <= limit:
                part.arrived = {other: self.heard[name].us(TABLE, other) for other in self.others(name)}
                del part.rows[key]
                self.graves[name][key] = row.version
                self.collected[name] += 1

    def check_watermarks(self) -> None:
        for way in self.ways:
            us = self.heard[way.destination].us(TABLE, way.source)
            for change in self.written[way.source]:
                if time_us(change.version) > us:
                    continue
                row = way.there.rows.get(change.key)
                held = row.version if row is not None else self.graves[way.destination].get(change.key, b"")
                assert held >= change.version, "a watermark passed a change that is not there"

    def run(self) -> None:
        now = 0
        for step in range(900):
            now += self.rng.randrange(60)
            if self.rng.random() < 0.1:
                self.write()
            if self.rng.random() < 0.2:
                self.promise(self.rng.choice(REGIONS))
            if self.rng.random() < 0.01:
                part = self.parts[self.rng.choice(REGIONS)]
                part.trim(self.rng.randrange(part.head + 1))
            for way in self.rng.sample(self.ways, 4):
                way.step(now, faults=step % 300 < 200)
                if self.rng.random() < 0.3:
                    self.tell(way)
            self.check_watermarks()
            if self.rng.random() < 0.2:
                self.collect(self.rng.choice(REGIONS))
        self.settle(now)
        live = {key: change for key, change in self.newest.items() if change.image is not None}
        for part in self.parts.values():
            rows = {key: row for key, row in part.rows.items() if row.image is not None}
            assert rows == live

    def settle(self, now: int) -> None:
        for name in REGIONS:
            self.promise(name)
        for _ in range(800):
            now += 1_000
            for way in self.ways:
                way.step(now, faults=False)
                self.tell(way)


def everywhere(world: World, name: str) -> int:
    """As the product has it."""
    return min(world.heard[name].stable_us(TABLE, world.others(name)), world.parts[name].safe_us)


@pytest.mark.parametrize("seed", range(25))
def test_what_was_deleted_stays_deleted_when_its_tombstone_has_been_collected(seed: int) -> None:
    World(seed, everywhere).run()


def test_tombstones_are_collected_at_all() -> None:
    worlds = [World(seed, everywhere) for seed in range(5)]
    for world in worlds:
        world.run()
    assert sum(sum(world.collected.values()) for world in worlds) >= 10


def shown(stable: Callable[[World, str], int]) -> bool:
    """Whether some seed shows a difference."""
    for seed in range(40):
        try:
            World(seed, stable).run()
        except AssertionError:
            return True
    return False


def test_collecting_everything_at_once_is_caught() -> None:
    assert shown(lambda world, name: world.last[name])


def test_collecting_before_the_other_regions_have_what_is_hidden_is_caught() -> None:
    assert shown(lambda world, name: max(world.heard[name].us(TABLE, other) for other in world.others(name)))


def test_a_region_that_is_cut_off_keeps_every_newer_tombstone_elsewhere() -> None:
    world = World(1, everywhere)
    ways = [way for way in world.ways if "west" not in (way.source, way.destination)]
    for _ in range(200):
        world.write()
        for name in REGIONS:
            world.promise(name)
        for way in ways:
            way.step(0, faults=False)
            world.tell(way)
        for name in REGIONS:
            world.collect(name)
    assert sum(world.collected.values()) == 0


def test_the_word_of_a_replica_that_is_filled_anew_takes_back_the_earlier_one() -> None:
    heard = Watermarks("east")
    heard.hear("west", Watermark("t", TABLE, 50, 40))
    heard.hear("west", Watermark("t", TABLE, 45, 41))
    assert (heard.us(TABLE, "west"), heard.stable_us(TABLE, ["west"])) == (50, 41)
    heard.hear("west", Watermark("t", TABLE, 0, 0))
    assert (heard.us(TABLE, "west"), heard.stable_us(TABLE, ["west"])) == (0, 0)


def test_a_page_that_does_not_reach_the_head_moves_no_watermark() -> None:
    part = FakePartition()
    for us in range(1, 40):
        part.store(Change(key_of(us), version(us, "east"), b"x" * 40, 40))
    part.safe_us = 39
    page = part.page(ReadFeed(1, 1, "c", 0, SETTINGS.page_bytes, 0, "east"))
    assert page.next < page.head
    assert page.safe_us == 0
