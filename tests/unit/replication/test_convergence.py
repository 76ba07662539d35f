"""Regions that write the same items end with the same bytes, whatever the network and the processes do."""

from __future__ import annotations

import random

import pytest

from geodyne.messages import Change, ReadFeed
from replication.progress import Batch, Commit, Progress, ProgressSettings, Read, Scan, Send
from tests.unit.replication.fake_region import FakePartition, key_of, version

SETTINGS = ProgressSettings(page_bytes=60, batches_max=3)


class Direction:
    """From one region to another: the real machine, a lossy network."""

    def __init__(self, source: str, destination: str, parts: dict[str, FakePartition], rng: random.Random) -> None:
        self.source, self.destination = source, destination
        self.feed, self.there = parts[source], parts[destination]
        self.consumer = f"replica/{destination}"
        self.rng = rng
        self.start()

    def start(self) -> None:
        self.machine = Progress(self.source, SETTINGS)
        self.reads: list[int] = []
        self.flying: list[Batch] = []
        self.answers: list[int] = []
        self.commits: list[int] = []
        self.scans: list[int] = []

    def step(self, now: int, faults: bool) -> None:
        events = ["connect", "page", "arrive", "answer", "commit", "scan"]
        if faults:
            events += ["cut", "restart"]
        match self.rng.choice(events):
            case "connect" if not self.machine.connected:
                self.machine.on_connected()
            case "page" if self.reads:
                after = self.reads.pop(0)
                call = ReadFeed(1, 1, self.consumer, after, SETTINGS.page_bytes, 0, self.source)
                self.machine.on_page(after, self.feed.page(call))
            case "arrive" if self.flying:
                batch = self.flying.pop(self.rng.randrange(len(self.flying)))
                for change in batch.changes:
                    self.there.store(change)
                self.answers.append(batch.number)
            case "answer" if self.answers:
                self.machine.on_applied(self.answers.pop(0))
            case "commit" if self.commits:
                sequence = self.commits.pop(0)
                self.feed.cursors[self.consumer] = max(self.feed.cursors.get(self.consumer, 0), sequence)
                self.machine.on_committed(sequence)
            case "scan" if self.scans:
                for change in list(self.feed.rows.values()):
                    if change.version[8:] != self.destination.encode():
                        self.there.store(change)
                self.machine.on_scanned(self.scans.pop(0))
            case "cut" if self.machine.connected and self.rng.random() < 0.3:
                self.flying, self.answers = [], []
                self.machine.on_disconnected(now)
            case "restart" if self.rng.random() < 0.1:
                self.start()
        for instruction in self.machine.decide(now):
            match instruction:
                case Read(after):
                    self.reads.append(after)
                case Send(batch):
                    self.flying.append(batch)
                case Commit(sequence):
                    self.commits.append(sequence)
                case Scan(number):
                    self.scans.append(number)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("count", [2, 3])
def test_all_regions_end_with_the_newest_version_of_every_item(seed: int, count: int) -> None:
    rng = random.Random(seed)
    regions = ["east", "north", "west"][:count]
    parts = {name: FakePartition() for name in regions}
    directions = [Direction(s, d, parts, rng) for s in regions for d in regions if s != d]
    newest: dict[bytes, bytes] = {}
    clocks = {name: rng.randrange(1, 50) for name in regions}  # the regions' clocks differ
    now = 0
    for _ in range(600):
        now += rng.randrange(60)
        if rng.random() < 0.25:
            name, key = rng.choice(regions), key_of(rng.randrange(5))
            clocks[name] += rng.randrange(1, 4)
            stored = parts[name].rows.get(key)
            us = max(clocks[name], int.from_bytes(stored.version[:8]) + 1 if stored else 0)
            image = None if rng.random() < 0.2 else b"%d" % rng.randrange(1000)
            change = Change(key, version(us, name), image, 1)
            assert parts[name].store(change)
            newest[key] = max(newest.get(key, b""), change.version)
        if rng.random() < 0.01:  # the feed's retention overtakes a slow consumer
            part = parts[rng.choice(regions)]
            part.trim(rng.randrange(part.head + 1))
        rng.choice(directions).step(now, faults=True)
    for _ in range(600):
        now += 1_000
        for direction in directions:
            direction.step(now, faults=False)
    versions = {name: {key: c.version for key, c in part.rows.items()} for name, part in parts.items()}
    assert all(rows == newest for rows in versions.values())
    images = [{key: c.image for key, c in part.rows.items()} for part in parts.values()]
    assert all(image == images[0] for image in images)
    assert all(direction.machine.caught_up for direction in directions)
