"""Which losses are told: the rule beside an oracle that knows what each region had seen, over any order of arrival."""

from __future__ import annotations

import random
from collections import deque
from typing import Any, NamedTuple

import pytest

from geodyne.messages import Change, FeedPage, FeedRecord
from geodyne.model import version as versions
from geodyne.wire import log_v1_pb2 as log
from node.feed.conflicts import base_of, loss
from node.state import outdated
from node.storage.port import Row
from replication.progress import Commit, Progress, ProgressSettings, Read, Send

KEYS = 3
STEPS = 400
SETTINGS = ProgressSettings(page_bytes=100, batches_max=3)


class Loss(NamedTuple):
    key: bytes
    lost: bytes
    won: bytes


class Place:
    """A region: its rows, its feed, and what the oracle knows of it."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.rows: dict[bytes, Row] = {}
        self.feed: list[FeedRecord] = []
        self.seen: dict[bytes, set[bytes]] = {}  # by key: versions that were the row here, or of which such a row knew
        self.skew_us = world.random.randint(-3, 3) * 5
        self.last_us = 0

    def write(self, key: bytes, image: bytes | None) -> None:
        prior = self.rows.get(key)
        if image is None and (prior is None or prior.value is None):
            return
        us = versions.next_time_us(self.world.now_us + self.skew_us, self.last_us, prior.version if prior else None)
        self.last_us = us
        version = versions.make(us, self.name.encode())
        self._put(Change(key, version, image, 1, base_of(prior, {})))
        self.world.known[version] = frozenset(self.seen[key])

    def arrive(self, change: Change) -> None:
        prior = self.rows.get(change.key)
        if outdated(change, prior, {}):
            return
        if prior is not None and prior.version[8:] == self.name.encode():
            told = loss(change, prior, self.name.encode(), expires=False)
            one = Loss(change.key, prior.version, change.version)
            conflict = prior.version not in self.world.known[change.version]
            if told is None:
                assert not conflict, (self.name, one)
            elif told.perhaps:
                self.world.perhaps += 1
            else:
                assert conflict, (self.name, one)
                assert told.version == prior.version
                assert one not in self.world.told
                self.world.told.add(one)
        self._put(change._replace(base=None))
        self.seen[change.key] |= self.world.known[change.version]

    def _put(self, change: Change) -> None:
        self.rows[change.key] = Row(change.image, change.version, 1)
        self.seen.setdefault(change.key, set()).add(change.version)
        self.feed.append(FeedRecord(len(self.feed) + 1, change, None))


class Path:
    """From one region to another, by the real state machine of the source."""

    def __init__(self, source: Place, target: Place, world: World) -> None:
        self.source, self.target, self.world = source, target, world
        self.progress = Progress(source.name, SETTINGS)
        self.progress.on_connected()
        self.reads: deque[int] = deque()
        self.sent: deque[Send] = deque()
        self.up = True

    def step(self, now_ms: int) -> None:
        for instruction in self.progress.decide(now_ms):
            match instruction:
                case Read(after):
                    self.reads.append(after)
                case Send():
                    self.sent.append(instruction)
                case Commit(sequence):
                    self.progress.on_committed(sequence)

    def answer_read(self) -> None:
        if self.reads:
            after = self.reads.popleft()
            start = max(after, 0)
            records = self.source.feed[start : start + self.world.random.randint(1, 6)]
            following = records[-1].sequence if records else start
            self.progress.on_page(after, FeedPage(tuple(records), following, len(self.source.feed), False))

    def deliver(self, answered: bool = True) -> None:
        if self.up and self.sent:
            batch = self.sent.popleft().batch
            for change in batch.changes:
                self.target.arrive(change)
            if answered:
                self.progress.on_applied(batch.number)

    def break_(self, now_ms: int) -> None:
        self.sent.clear()
        self.progress.on_disconnected(now_ms)
        self.up = False

    def mend(self) -> None:
        self.up = True
        self.progress.on_connected()

    @property
    def idle(self) -> bool:
        return self.progress.caught_up and self.progress.acknowledged >= len(self.source.feed)


class World:
    def __init__(self, regions: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_us = 1_000
        self.known: dict[bytes, frozenset[bytes]] = {}  # by version: what its maker had seen of the item
        self.told: set[Loss] = set()
        self.perhaps = 0
        self.places = [Place(name, self) for name in "abc"[:regions]]
        self.paths = [Path(one, other, self) for one in self.places for other in self.places if one is not other]

    def run(self) -> None:
        for step in range(STEPS):
            self.now_us += self.random.randint(0, 4)
            path, dice = self.random.choice(self.paths), self.random.random()
            if dice < 0.3:
                image = None if self.random.random() < 0.2 else b"%d" % step
                self.random.choice(self.places).write(bytes([self.random.randrange(KEYS)]), image)
            elif dice < 0.5:
                path.answer_read()
            elif dice < 0.9:
                path.deliver(answered=self.random.random() < 0.9)
            elif dice < 0.93 and path.up:
                path.break_(step * 100)
            elif not path.up:
                path.mend()
            path.step(step * 100)
        self._settle()

    def _settle(self) -> None:
        now_ms = STEPS * 100
        while not all(path.idle for path in self.paths):
            now_ms += 10_000
            for path in self.paths:
                path.break_(now_ms)
                path.mend()
                for _ in range(8):
                    path.step(now_ms + 9_000)
                    path.answer_read()
                    path.deliver()
        assert all(place.rows == self.places[0].rows for place in self.places)


@pytest.mark.parametrize("seed", range(40))
def test_of_two_regions_exactly_the_writes_that_lost_unseen_are_told_and_each_once(seed: int) -> None:
    world = World(2, seed)
    world.run()
    assert world.told
    assert not world.perhaps


@pytest.mark.parametrize("seed", range(40))
def test_of_three_regions_what_is_told_for_certain_is_so_and_no_loss_is_left_out(seed: int) -> None:
    world = World(3, seed)
    world.run()
    assert world.told


def _row(us: int, region: bytes, image: bytes | None = b"{}") -> Row:
    return Row(image, versions.make(us, region), 1)


def _change(us: int, region: bytes, base: bytes | None, image: bytes | None = b"{}") -> Change:
    return Change(b"key", versions.make(us, region), image, 1, base)


OWN = b"a"


@pytest.mark.parametrize(
    ("prior", "change", "told"),
    [
        (_row(5, OWN), _change(9, b"b", versions.make(5, OWN)), None),  # it had seen it
        (_row(5, OWN), _change(9, b"b", b""), "certain"),  # its maker had no row
        (_row(5, OWN), _change(9, b"b", versions.make(4, b"b")), "certain"),
        (_row(5, OWN, None), _change(9, b"b", versions.make(4, b"b")), "certain"),  # a deletion that lost
        (_row(5, OWN), _change(9, b"b", versions.make(4, b"b"), None), "certain"),  # and one that won
        (_row(5, OWN), _change(9, b"b", versions.make(4, b"b"), b"{}"), "certain"),  # though the images are equal
        (_row(5, OWN), _change(9, b"b", versions.make(7, b"c")), "perhaps"),  # a third region's, which may have seen it
        (_row(5, OWN), _change(9, b"b", versions.make(7, b"b")), None),
        (_row(5, OWN), _change(9, b"b", None), None),  # a scan, an older version, before the log was on
        (_row(5, b"c"), _change(9, b"b", b""), None),  # told where the loser was made
        (None, _change(9, b"b", b""), None),
        (_row(5, OWN, None), _change(9, b"b", versions.make(8, b"")), None),  # it was there, and collected
    ],
)
def test_what_a_change_makes_of_the_row_that_it_replaces(prior: Row | None, change: Change, told: str | None) -> None:
    lost = loss(change, prior, OWN, expires=False)
    assert (lost and ("perhaps" if lost.perhaps else "certain")) == told


def test_a_deletion_for_an_items_time_is_nobodys_write() -> None:
    seen = versions.make(5, b"b")
    change = _change(9, b"b", seen)
    assert loss(change, _row(6, OWN, None), OWN, expires=True) is None
    assert loss(change, _row(6, OWN, None), OWN, expires=False) is not None
    assert loss(change, _row(7, OWN, None), OWN, expires=True) is not None
    assert loss(change, _row(6, OWN), OWN, expires=True) is not None


def test_the_base_of_a_change_that_finds_no_row_says_what_may_have_been_collected() -> None:
    assert base_of(None, {}) == b""
    base = base_of(None, {"b": 70, "c": 60})
    assert loss(_change(90, b"b", base), _row(60, OWN, None), OWN, expires=False) is None
    assert loss(_change(90, b"b", base), _row(62, OWN, None), OWN, expires=False) is not None


def test_an_image_that_lost_is_cut_and_its_size_is_kept() -> None:
    image = b"x" * 5_000
    lost = loss(_change(9, b"b", b""), _row(5, OWN, image), OWN, expires=False)
    assert lost is not None
    assert (len(lost.image), lost.image_bytes) == (4_096, 5_000)
    gone = loss(_change(9, b"b", b""), _row(5, OWN, None), OWN, expires=False)
    assert gone is not None
    assert not gone.HasField("image")


def _whatever_is_replaced(change: Change, prior: Row | None, own: bytes, expires: bool) -> log.Lost | None:
    return None if prior is None else log.Lost(version=prior.version)


def _nothing_of_what_came_before(change: Change, prior: Row | None, own: bytes, expires: bool) -> log.Lost | None:
    return _true_loss(change._replace(base=prior.version if prior is not None else b""), prior, own, expires)


_true_loss = loss


@pytest.mark.parametrize("broken", [_whatever_is_replaced, _nothing_of_what_came_before])
def test_a_rule_that_does_not_look_at_bases_is_noticed(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "loss", broken)
    with pytest.raises(AssertionError):
        _run_some()


def _run_some() -> None:
    for seed in range(5):
        World(2, seed).run()
