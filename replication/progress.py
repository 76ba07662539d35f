"""How far one partition has been replicated to one destination region: a pure state machine.

Positions are cursors of the partition's change feed. Four of them, never decreasing from right to left:

    committed <= acknowledged <= read position <= feed head

A batch is a page of the feed on its way. Batches are shipped in order, several at a time; `acknowledged` passes a
batch only when that batch and all before it have been applied at the destination; only `acknowledged` is ever
committed. After any trouble (lost stream, failed or held batch) the machine rewinds: it forgets the batches and
reads again from `acknowledged`. What is shipped twice by that is harmless: applying is idempotent and commutative.

A page that was trimmed (the cursor lies before what the feed retains) is answered by a scan of the partition; the
cursor is not committed before that scan has been applied, so a restart in the middle scans again.

Times in milliseconds of a clock that never goes back, unless the name says otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from geodyne.messages import FROM_COMMITTED, Change, FeedPage, FeedRecord
from geodyne.model.version import time_us
from replication.values import change_bytes


@dataclass(frozen=True, slots=True)
class ProgressSettings:
    """Bounds of one machine. `page_bytes` x `batches_max` bounds its memory (plus one item, at most 400 KB, a page)."""

    page_bytes: int = 256 * 1024
    batches_max: int = 4  # read and not acknowledged
    reads_max: int = 4  # outstanding; more than one only when a rewind made the earlier ones stale
    commit_every_ms: int = 200
    # A cursor that only passed changes of other regions matters to nobody but the feed's trimming.
    idle_commit_every_ms: int = 2_000
    retry_ms_min: int = 100
    retry_ms_max: int = 5_000

    def __post_init__(self) -> None:
        assert self.batches_max >= 1
        assert self.reads_max >= 2, "one current read must fit beside a stale one"
        assert 0 < self.commit_every_ms <= self.idle_commit_every_ms
        assert 0 < self.retry_ms_min <= self.retry_ms_max


class Batch(NamedTuple):
    """Changes of one page, at most one version of each key. `after` and `next` are the cursors around it."""

    number: int
    after: int
    next: int
    changes: tuple[Change, ...]
    size: int
    oldest_us: int  # version time of its oldest change
    newest_us: int
    safe_us: int = 0  # later pages bring larger versions only; 0: not known
    revision: int = 0  # of the definition under which later pages are written; 0: not known


class Read(NamedTuple):
    """Read the feed after this position; report by `on_page` or `on_read_failed` with the same `after`. A page without
    records is worth an answer when it says more than `safe_us`."""

    after: int
    safe_us: int = 1


class Send(NamedTuple):
    """Ship the batch; report by `on_applied` or `on_refused`. Silence is ended by `on_disconnected`."""

    batch: Batch


class Commit(NamedTuple):
    """Commit the cursor in the partition's log; report by `on_committed` or `on_commit_failed`."""

    sequence: int


class Scan(NamedTuple):
    """Ship all rows that the destination did not write itself; report by `on_scanned` when all have been applied."""

    number: int


Instruction = Read | Send | Commit | Scan


class _Waiting:
    """A batch and how far it is."""

    __slots__ = ("acknowledged", "batch", "sent")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.sent = False
        self.acknowledged = not batch.changes


class Progress:
    """One partition and destination. Feed it events, then ask `decide` for what to do, then wait until `wake_ms`."""

    def __init__(self, region: str, settings: ProgressSettings) -> None:
        self._own = region.encode()
        self._settings = settings
        self.position = FROM_COMMITTED
        self.acknowledged = FROM_COMMITTED
        self.committed = FROM_COMMITTED
        self.fence_us = 0  # of this region's changes, those of larger versions are not shipped; 0: all are
        self.watermark_us = 0  # all that the region wrote in the partition up to then is applied there; 0: not known
        self.passed_revision = 0  # likewise, all before the partition logged the definition of this revision
        self.connected = False
        self.held_records = 0  # of the batch that the destination's clock holds up; 0: none
        self.paused = False  # on request: nothing is read nor sent
        self.trouble = ""  # why it waits, for people
        self._batches: deque[_Waiting] = deque()
        self._next_number = 1
        self._reads: list[int] = []
        self._safe_us = 0  # the newest that a page said
        self._more = True  # the newest page did not reach the head of the feed
        self._pending_since_us = 0  # of batches that a rewind forgot, until they are read again
        self._not_before_ms = 0
        self._refusals = 0  # in a row
        self._read_failures = 0  # in a row
        self._committing = False
        self._commit_not_before_ms = 0
        self._last_commit_ms = -settings.idle_commit_every_ms
        self._shipped_since_commit = False
        self._scan = 0  # number of the scan under way; 0: none
        self._scan_wanted = False
        self._scans = 0

    # --- what an observer may ask

    @property
    def pending_records(self) -> int:
        """Changes read and not acknowledged; what has not been read is not counted."""
        return sum(len(w.batch.changes) for w in self._batches if not w.acknowledged)

    @property
    def pending_since_us(self) -> int:
        """Version time of the oldest change known here and not known to be applied there; 0: none."""
        times = [w.batch.oldest_us for w in self._batches if not w.acknowledged]
        if self._pending_since_us:
            times.append(self._pending_since_us)
        return min(times, default=0)

    @property
    def caught_up(self) -> bool:
        """All of the feed that was there at the last read has been acknowledged."""
        return not self._batches and not self._more and not self._scan and not self._scan_wanted

    # --- events

    def on_connected(self) -> None:
        """The stream to the destination is up; batches that wait may be shipped at once."""
        self.connected = True
        self._not_before_ms = 0

    def on_disconnected(self, now_ms: int) -> None:
        """The stream broke: what was sent on it and not acknowledged has an unknown outcome."""
        self.connected = False
        if any(w.sent for w in self._batches):
            self._rewind(now_ms)

    def on_page(self, after: int, page: FeedPage) -> None:
        """The answer to Read(after). A page that was asked for before a rewind is ignored."""
        self._reads.remove(after)
        if after != self.position:
            return
        self._read_failures = 0
        if page.trimmed:
            # A scan that begins from here on covers all that the feed ever held up to its head.
            self._batches.clear()
            self.position = self.acknowledged = max(page.head, page.next, after)
            self._scan_wanted = True
            self._more = True
            return
        batch = self._batch(after, page)
        self.position = batch.next
        self._more = page.next < page.head
        self._pending_since_us = 0
        if batch.changes or batch.next > after or batch.safe_us > self._safe_us:
            self._safe_us = max(self._safe_us, batch.safe_us)
            self._batches.append(_Waiting(batch))
            self._settle()

    def on_read_failed(self, after: int, now_ms: int, reason: str) -> None:
        """The feed could not be read just now."""
        self._reads.remove(after)
        if after == self.position:
            self.trouble = reason
            self._read_failures += 1
            self._pause(now_ms, self._read_failures)

    def on_applied(self, number: int) -> None:
        """The destination applied a batch durably. Answers to forgotten batches are ignored."""
        for waiting in self._batches:
            if waiting.batch.number == number:
                waiting.acknowledged = True
                self._shipped_since_commit = True
                self._refusals = 0
                self.held_records = 0
                self.trouble = ""
                self._settle()
                return

    def on_refused(self, number: int, now_ms: int, reason: str, retry_after_ms: int = 0, *, held: bool = False) -> None:
        """The destination did not apply a batch: all after the acknowledged position is read and shipped again.

        `held`: it lies in the destination's future and is tried again when time has caught up (or after the
        longest retry time, whichever is sooner: clocks are corrected).
        """
        waiting = next((w for w in self._batches if w.batch.number == number), None)
        if waiting is None:
            return
        self.held_records = len(waiting.batch.changes) if held else 0
        self.trouble = reason
        self._rewind(now_ms)
        if retry_after_ms:
            self._not_before_ms = now_ms + min(
                max(retry_after_ms, self._settings.retry_ms_min), self._settings.retry_ms_max
            )

    def on_committed(self, sequence: int) -> None:
        self._committing = False
        self.committed = max(self.committed, sequence)

    def on_commit_failed(self, now_ms: int) -> None:
        """The outcome is not known; committing again is harmless."""
        self._committing = False
        self._commit_not_before_ms = now_ms + self._settings.retry_ms_max

    def on_scanned(self, number: int) -> None:
        """All rows of the scan have been applied at the destination."""
        if number == self._scan:
            self._scan = 0

    # --- decisions

    def decide(self, now_ms: int, *, may_read: bool = True) -> list[Instruction]:
        """What to do now. `may_read` is false while the destination as a whole has too many bytes under way."""
        instructions: list[Instruction] = []
        if self._scan_wanted and not self._scan and not self.paused:
            self._scans += 1
            self._scan, self._scan_wanted = self._scans, False
            instructions.append(Scan(self._scan))
        if now_ms >= self._not_before_ms and not self.paused:
            if self.connected:
                for waiting in self._batches:
                    if not waiting.sent and not waiting.acknowledged:
                        waiting.sent = True
                        instructions.append(Send(waiting.batch))
            if may_read and self._wants_read():
                self._reads.append(self.position)
                instructions.append(Read(self.position, max(self._safe_us, 1)))
        if self._commit_due_ms() <= now_ms:
            self._committing = True
            self._last_commit_ms = now_ms
            self._shipped_since_commit = False
            instructions.append(Commit(self.acknowledged))
        return instructions

    def wake_ms(self, now_ms: int) -> int | None:
        """When `decide` may have more to do without a new event; None: only after an event."""
        times = []
        if self._not_before_ms > now_ms:
            times.append(self._not_before_ms)
        commit_due = self._commit_due_ms()
        if commit_due < _NEVER:
            times.append(commit_due)
        return min(times, default=None)

    def _wants_read(self) -> bool:
        if self.position in self._reads or len(self._reads) >= self._settings.reads_max:
            return False
        if len(self._batches) >= self._settings.batches_max:
            return False
        # While the stream is down one page is read, and no more: it shows how far behind the destination is.
        return all(w.sent or w.acknowledged for w in self._batches)

    def _commit_due_ms(self) -> int:
        if self._committing or self._scan or self._scan_wanted or self.acknowledged <= self.committed:
            return _NEVER
        every = self._settings.commit_every_ms if self._shipped_since_commit else self._settings.idle_commit_every_ms
        return max(self._last_commit_ms + every, self._commit_not_before_ms)

    # --- inside

    def _batch(self, after: int, page: FeedPage) -> Batch:
        """Newest version of each key on the page: several quick changes are replicated as one.

        Changes that arrived by replication are left out even if the feed's filter let them pass: sent on, they
        would travel in circles.
        """
        newest: dict[bytes, Change] = {}
        for record in page.records:
            version = record.change.version
            if version[8:] == self._own and (not self.fence_us or time_us(version) <= self.fence_us):
                change = record.change
                earlier = newest.get(change.key) if change.base is not None else None
                if earlier is not None and change.base == earlier.version:
                    change = change._replace(base=earlier.base)  # what the first of them had seen
                newest[change.key] = change
        changes = tuple(newest.values())
        versions = [change.version for change in changes]
        number = self._next_number
        self._next_number += 1
        return Batch(
            number,
            after,
            max(page.next, _last_sequence(page.records), after),
            changes,
            sum(map(change_bytes, changes)),
            time_us(min(versions)) if versions else 0,
            time_us(max(versions)) if versions else 0,
            page.safe_us if page.next >= page.head else 0,
            page.revision if page.next >= page.head else 0,
        )

    def _settle(self) -> None:
        while self._batches and self._batches[0].acknowledged:
            batch = self._batches.popleft().batch
            self.acknowledged = batch.next
            if not self._scan and not self._scan_wanted:  # while one is under way, older rows may be missing there
                self.watermark_us = max(self.watermark_us, batch.safe_us)
                self.passed_revision = max(self.passed_revision, batch.revision)

    def _rewind(self, now_ms: int) -> None:
        self._pending_since_us = self.pending_since_us
        self._batches.clear()
        self.position = self.acknowledged
        self._safe_us = self.watermark_us
        self._more = True
        self._refusals += 1
        self._pause(now_ms, self._refusals)

    def _pause(self, now_ms: int, failures: int) -> None:
        delay = self._settings.retry_ms_min << min(failures - 1, 16)
        self._not_before_ms = now_ms + min(delay, self._settings.retry_ms_max)


_NEVER = 1 << 62


def _last_sequence(records: Sequence[FeedRecord]) -> int:
    return records[-1].sequence if records else FROM_COMMITTED
