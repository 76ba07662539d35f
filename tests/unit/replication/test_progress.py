"""The state machine of one partition and destination."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from geodyne.messages import FROM_COMMITTED, Change, FeedPage, FeedRecord, ReadFeed
from replication.progress import (
    Batch,
    Commit,
    Instruction,
    Progress,
    ProgressSettings,
    Read,
    Scan,
    Send,
)
from tests.unit.replication.fake_region import FakePartition, key_of, version

SETTINGS = ProgressSettings(page_bytes=100, batches_max=3)
HERE = "here"


def record(sequence: int, *, key: int = 0, region: str = HERE) -> FeedRecord:
    return FeedRecord(sequence, Change(key_of(key), version(sequence, region), b"%d" % sequence, 1), None)


def page(*records: FeedRecord, next: int | None = None, head: int | None = None, trimmed: bool = False) -> FeedPage:
    following = next if next is not None else records[-1].sequence
    return FeedPage(records, following, head if head is not None else following, trimmed)


def connected() -> Progress:
    progress = Progress(HERE, SETTINGS)
    progress.on_connected()
    assert progress.decide(0) == [Read(FROM_COMMITTED)]
    return progress


def sent(instructions: Sequence[Instruction]) -> list[Batch]:
    return [i.batch for i in instructions if isinstance(i, Send)]


def test_the_first_read_is_from_the_committed_cursor_and_follows_the_page() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(record(7)))
    [batch] = sent(progress.decide(0))
    assert batch.next == 7
    assert progress.position == 7


def test_nothing_is_committed_before_it_is_applied() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(record(7)))
    assert not any(isinstance(i, Commit) for i in progress.decide(0) + progress.decide(60_000))
    progress.on_applied(1)
    assert Commit(7) in progress.decide(60_000)


def test_a_batch_is_acknowledged_only_with_all_before_it() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(record(1), head=9))
    progress.decide(0)
    progress.on_page(1, page(record(2), head=9))
    progress.decide(0)
    progress.on_applied(2)
    assert progress.acknowledged == FROM_COMMITTED
    progress.on_applied(1)
    assert progress.acknowledged == 2


def test_several_batches_are_in_flight_up_to_the_bound() -> None:
    progress = connected()
    for number, after in enumerate((FROM_COMMITTED, 1, 2)):
        progress.on_page(after, page(record(number + 1), head=9))
        instructions = progress.decide(0)
        assert len(sent(instructions)) == 1
    assert not any(isinstance(i, Read) for i in instructions), "batches_max are under way"
    progress.on_applied(1)
    assert Read(3) in progress.decide(0)


def test_a_broken_stream_rewinds_to_what_was_acknowledged() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(record(1), head=3))
    progress.decide(0)
    progress.on_applied(1)
    progress.on_page(1, page(record(2), head=3))
    progress.decide(0)
    progress.on_disconnected(0)
    assert progress.position == 1
    assert progress.pending_since_us == 2, "the lag stays visible while the change is read again"
    progress.on_connected()
    assert Read(1) in progress.decide(10)


def test_a_page_asked_for_before_a_rewind_is_ignored() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(record(1), head=3))
    progress.decide(0)
    progress.on_disconnected(0)
    progress.on_connected()
    progress.decide(10)
    progress.on_page(1, page(record(2)))
    assert progress.position == FROM_COMMITTED
    assert progress.pending_records == 0


def test_while_the_stream_is_down_one_page_is_read_and_shows_the_lag() -> None:
    progress = Progress(HERE, SETTINGS)
    assert progress.decide(0) == [Read(FROM_COMMITTED)]
    progress.on_page(FROM_COMMITTED, page(record(5), head=9))
    assert progress.decide(0) == []
    assert progress.pending_since_us == 5
    progress.on_connected()
    assert len(sent(progress.decide(0))) == 1


def test_changes_of_other_regions_are_never_sent_on() -> None:
    progress = connected()
    progress.on_page(
        FROM_COMMITTED, page(record(1, region="there"), record(2, key=1), record(3, key=2, region="there"))
    )
    [batch] = sent(progress.decide(0))
    assert [change.version for change in batch.changes] == [version(2, HERE)]


def test_a_page_of_others_changes_moves_the_cursor_lazily() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(next=5))
    assert Commit(5) in progress.decide(0)
    progress.on_committed(5)
    progress.on_page(5, page(next=6))
    assert not any(isinstance(i, Commit) for i in progress.decide(SETTINGS.commit_every_ms))
    assert progress.wake_ms(SETTINGS.commit_every_ms) == SETTINGS.idle_commit_every_ms
    assert Commit(6) in progress.decide(SETTINGS.idle_commit_every_ms)


def test_several_versions_of_one_item_on_a_page_travel_as_the_newest() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(record(1), record(2), record(3)))
    [batch] = sent(progress.decide(0))
    assert [change.image for change in batch.changes] == [b"3"]


def test_what_travels_for_several_versions_has_the_base_of_the_first_unless_another_region_came_between() -> None:
    def based(sequence: int, base: bytes | None) -> FeedRecord:
        return FeedRecord(sequence, record(sequence).change._replace(base=base), None)

    def base(*records: FeedRecord) -> bytes | None:
        progress = connected()
        progress.on_page(FROM_COMMITTED, page(*records))
        [batch] = sent(progress.decide(0))
        [change] = batch.changes
        return change.base

    before, foreign, own = version(1, "there"), version(3, "there"), [version(sequence, HERE) for sequence in range(6)]
    assert base(based(2, before), based(4, own[2]), based(5, own[4])) == before
    assert base(based(2, before), based(4, foreign), based(5, own[4])) == foreign
    assert base(based(2, None), based(4, own[2])) is None  # the log was switched on in between
    assert base(based(2, None), based(4, foreign)) == foreign


def test_commits_are_coalesced_and_the_last_one_comes_when_idle() -> None:
    progress = connected()
    now = 0
    commits = 0
    for sequence in range(1, 11):
        progress.on_page(FROM_COMMITTED if sequence == 1 else sequence - 1, page(record(sequence)))
        for instruction in progress.decide(now):
            if isinstance(instruction, Send):
                progress.on_applied(instruction.batch.number)
        for instruction in progress.decide(now):
            if isinstance(instruction, Commit):
                commits += 1
                progress.on_committed(instruction.sequence)
        now += 20
    assert commits == 1
    wake = progress.wake_ms(now)
    assert wake is not None
    assert wake <= now + SETTINGS.commit_every_ms
    assert Commit(10) in progress.decide(wake)


def test_a_held_batch_waits_for_the_time_it_was_told_and_is_never_dropped() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(record(1)))
    progress.decide(0)
    progress.on_refused(1, 0, "from the future", 3_000, held=True)
    assert progress.held_records == 1
    assert progress.decide(2_999) == []
    assert progress.wake_ms(2_999) == 3_000
    assert Read(FROM_COMMITTED) in progress.decide(3_000)


def test_refusals_back_off_up_to_the_bound() -> None:
    progress = connected()
    now, pauses = 0, []
    for number in range(1, 10):
        progress.on_page(FROM_COMMITTED, page(record(1)))
        progress.decide(now)
        progress.on_refused(number, now, "table is not here")
        wake = progress.wake_ms(now)
        assert wake is not None
        pauses.append(wake - now)
        now = wake
        progress.decide(now)
    assert pauses[0] == SETTINGS.retry_ms_min
    assert pauses == sorted(pauses)
    assert pauses[-1] == SETTINGS.retry_ms_max


def test_a_trimmed_feed_is_scanned_before_the_cursor_moves() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(next=0, head=50, trimmed=True))
    assert progress.decide(0) == [Scan(1), Read(50)]
    progress.on_page(50, page(record(60)))
    [batch] = sent(progress.decide(0))
    progress.on_applied(batch.number)
    assert not any(isinstance(i, Commit) for i in progress.decide(60_000))
    assert not progress.caught_up
    progress.on_scanned(1)
    assert Commit(60) in progress.decide(60_000)


def test_no_more_is_read_while_the_destination_has_no_room() -> None:
    progress = Progress(HERE, SETTINGS)
    assert progress.decide(0, may_read=False) == []
    assert progress.decide(0, may_read=True) == [Read(FROM_COMMITTED)]


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_lost_and_nothing_committed_unapplied_under_any_interleaving(seed: int) -> None:
    """Loss, duplicates, reconnects, restarts and late pages in random order."""
    rng = random.Random(seed)
    feed, there = FakePartition(), FakePartition()
    applied_through: dict[int, int] = {}  # sequence -> version that must be there
    machine = Progress(HERE, SETTINGS)
    reads: list[int] = []
    ships: list[Batch] = []
    answers: list[int] = []
    commits: list[int] = []
    clock = now = 0
    for step in range(400):
        now += rng.randrange(0, 120)
        if step < 250 and rng.random() < 0.4:
            clock += 1
            origin = HERE if rng.random() < 0.8 else "there"
            feed.store(Change(key_of(rng.randrange(6)), version(clock, origin), b"%d" % clock, 1))
            applied_through[feed.head] = clock
        events = ["tick", "page", "apply", "answer", "commit", "connect"]
        if step < 300:
            events += ["drop", "restart", "duplicate", "refuse"]
        match rng.choice(events):
            case "page" if reads:
                after = reads.pop(rng.randrange(len(reads)))
                machine.on_page(after, feed.page(ReadFeed(1, 1, "c", after, SETTINGS.page_bytes, 0, HERE)))
            case "apply" if ships:
                batch = ships.pop(rng.randrange(len(ships)))
                for change in batch.changes:
                    there.store(change)
                answers.append(batch.number)
            case "duplicate" if ships:
                for change in rng.choice(ships).changes:
                    there.store(change)
            case "answer" if answers:
                machine.on_applied(answers.pop(rng.randrange(len(answers))))
            case "refuse" if ships:
                machine.on_refused(ships.pop(rng.randrange(len(ships))).number, now, "failed")
            case "commit" if commits:
                sequence = commits.pop()
                feed.cursors["c"] = max(feed.cursors.get("c", 0), sequence)
                machine.on_committed(sequence)
            case "connect" if not machine.connected:
                machine.on_connected()
            case "drop" if machine.connected:
                ships, answers = [], []
                machine.on_disconnected(now)
            case "restart":
                machine, reads, ships, answers, commits = Progress(HERE, SETTINGS), [], [], [], []
            case _:
                now += SETTINGS.retry_ms_max
        _perform(machine, now, reads, ships, commits)
        _check_cursor(feed, there)
    for _ in range(200):  # a quiet time without faults
        now += SETTINGS.retry_ms_max
        if not machine.connected:
            machine.on_connected()
        _perform(machine, now, reads, ships, commits)
        for after in (*reads,):
            reads.remove(after)
            machine.on_page(after, feed.page(ReadFeed(1, 1, "c", after, SETTINGS.page_bytes, 0, HERE)))
        for batch in ships:
            for change in batch.changes:
                there.store(change)
            machine.on_applied(batch.number)
        ships.clear()
        for number in answers:
            machine.on_applied(number)
        answers.clear()
        for sequence in commits:
            feed.cursors["c"] = max(feed.cursors.get("c", 0), sequence)
            machine.on_committed(sequence)
        commits.clear()
    assert feed.cursors.get("c", 0) == feed.head, "the cursor reaches the head once all is quiet"
    assert machine.caught_up
    assert machine.pending_since_us == 0
    _check_cursor(feed, there)


def _perform(machine: Progress, now: int, reads: list[int], ships: list[Batch], commits: list[int]) -> None:
    for instruction in machine.decide(now):
        match instruction:
            case Read(after):
                reads.append(after)
            case Send(batch):
                ships.append(batch)
            case Commit(sequence):
                commits.append(sequence)
    assert machine.committed <= machine.acknowledged <= machine.position


def _check_cursor(feed: FakePartition, there: FakePartition) -> None:
    """Everything this region wrote up to the committed cursor is there, or something newer is."""
    cursor = feed.cursors.get("c", 0)
    for sequence, change, *_ in feed.feed:
        if sequence <= cursor and change.version[8:] == HERE.encode():
            assert there.rows[change.key].version >= change.version


def test_while_it_is_paused_nothing_is_read_or_sent_and_what_was_sent_is_committed() -> None:
    progress = connected()
    progress.on_page(FROM_COMMITTED, page(record(7), head=9))
    [first] = sent(progress.decide(0))
    progress.paused = True
    progress.on_page(7, page(record(9, key=1)))
    assert progress.decide(0) == []
    progress.on_applied(first.number)
    assert progress.decide(SETTINGS.commit_every_ms) == [Commit(7)]
    progress.on_committed(7)
    assert progress.decide(10_000) == []
    progress.paused = False
    [second] = sent(progress.decide(10_000))
    assert second.next == 9


def test_a_scan_does_not_begin_while_it_is_paused() -> None:
    progress = connected()
    progress.paused = True
    progress.on_page(FROM_COMMITTED, page(next=0, head=50, trimmed=True))
    assert progress.decide(0) == []
    progress.paused = False
    assert Scan(1) in progress.decide(0)
