"""How far one mapping is with one partition: a pure state machine over its parallel lanes.

    committed <= acknowledged <= read position

The partition's records are read in order and dealt out to the lanes by the hash of their partition key, so that the
records of a key stay in one lane. `acknowledged` is just before the oldest record of any lane that has not ended; only
that is ever committed as the mapping's bookmark. After a restart everything behind the bookmark is delivered again: at
least once. Records that the filters reject end where they are read.

Memory is bounded by `pending_records_max` and `pending_bytes_max`, plus one page: beyond them nothing is read, and the
lanes no longer wait for fuller batches. A lane that is blocked by a record that keeps failing so holds up the others
only when that much has gathered behind it.

Times in milliseconds of a clock that never goes back, unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from delivery.lane import PAYLOAD_BYTES_MAX, Arrival, Discard, Invoke, Lane
from delivery.verdict import Verdict
from geodyne.messages import FROM_COMMITTED
from geodyne.triggers.mapping import Mapping

# Clocks of a region's leaders may differ by about this; a tumbling window waits it out before a quiet feed ends it.
WINDOW_GRACE_US = 1_000_000


@dataclass(frozen=True, slots=True)
class ProgressSettings:
    """Bounds of one machine."""

    page_records: int = 1_000
    page_bytes: int = 1024 * 1024
    pending_records_max: int = 20_000
    pending_bytes_max: int = 32 * 1024 * 1024
    commit_every_ms: int = 250
    # A bookmark that only passed records that were filtered out matters to nobody but a restart.
    idle_commit_every_ms: int = 5_000
    read_wait_ms: int = 10_000  # how long a node may hold a read of a quiet feed
    window_read_wait_ms: int = 1_000  # the same with tumbling windows: the answer's time ends them
    retry_ms_min: int = 100
    retry_ms_max: int = 5_000

    def __post_init__(self) -> None:
        assert self.pending_bytes_max >= PAYLOAD_BYTES_MAX, "a full batch fits"
        assert 0 < self.commit_every_ms <= self.idle_commit_every_ms
        assert 0 < self.retry_ms_min <= self.retry_ms_max


class Read(NamedTuple):
    """Read the stream after this position; report by `on_page` or `on_read_failed`."""

    after: int
    wait_ms: int


class Commit(NamedTuple):
    """Commit the bookmark; report by `on_committed` or `on_commit_failed`."""

    sequence: int


Instruction = Read | Invoke | Discard | Commit


class Progress:
    """One mapping and partition. Feed it events, then ask `decide` for what to do, then wait until `wake_ms`."""

    def __init__(self, mapping: Mapping, settings: ProgressSettings) -> None:
        self._mapping = mapping
        self._settings = settings
        self.lanes = tuple(Lane(number, mapping) for number in range(mapping.parallelization_factor))
        self.position = FROM_COMMITTED
        self.committed = FROM_COMMITTED
        self.ended = False  # the stream has ended and was read to its end
        self.behind = False  # the newest page did not reach the stream's end
        self._feed_us = 0  # nothing older can still arrive
        self._reading = False
        self._read_failures = 0  # in a row
        self._read_not_before_ms = 0
        self._committing = False
        self._commit_not_before_ms = 0
        self._last_commit_ms = -settings.idle_commit_every_ms
        self._ended_since_commit = False

    # --- what an observer may ask

    @property
    def acknowledged(self) -> int:
        """All records up to here have ended, or were filtered out."""
        floors = [floor.sequence for lane in self.lanes if (floor := lane.floor) is not None]
        return min(floors) - 1 if floors else self.position

    @property
    def pending_records(self) -> int:
        """Records read that have not ended."""
        return sum(lane.pending_records for lane in self.lanes)

    @property
    def pending_since_us(self) -> int:
        """When the oldest record that has not ended was written; 0: none is known."""
        return min((floor.time_us for lane in self.lanes if (floor := lane.floor) is not None), default=0)

    @property
    def finished(self) -> bool:
        """The stream has ended, and all of it has been delivered and committed."""
        return self.ended and all(lane.idle for lane in self.lanes) and self.committed >= self.position

    # --- events

    def on_page(
        self, arrivals: Sequence[Arrival], following: int, now_ms: int, *, feed_us: int, more: bool, ended: bool
    ) -> None:
        """The answer to Read: what passed the filters, and the position after it. `feed_us` is the time of the newest
        record read, the filtered ones included, or, when there was none, of the answer; `more`: the stream goes on
        already; `ended`: it never will."""
        assert self._reading
        self._reading = False
        self._read_failures = 0
        self.position = max(self.position, following)
        self.behind = more
        self.ended = ended
        self._feed_us = max(self._feed_us, feed_us)
        for arrival in arrivals:
            self.lanes[arrival.lane_hash % len(self.lanes)].on_arrival(arrival, now_ms)

    def on_read_failed(self, now_ms: int) -> None:
        """The stream could not be read just now."""
        self._reading = False
        delay_ms = min(self._settings.retry_ms_min << min(self._read_failures, 16), self._settings.retry_ms_max)
        self._read_failures += 1
        self._read_not_before_ms = now_ms + delay_ms

    def on_verdict(self, lane: int, verdict: Verdict, now_ms: int, jitter: float) -> None:
        self._ended_since_commit = True
        self.lanes[lane].on_verdict(verdict, now_ms, jitter)

    def on_discarded(self, lane: int) -> None:
        self._ended_since_commit = True
        self.lanes[lane].on_discarded()

    def on_discard_failed(self, lane: int, now_ms: int, jitter: float) -> None:
        self.lanes[lane].on_discard_failed(now_ms, jitter)

    def on_committed(self, sequence: int) -> None:
        self._committing = False
        self.committed = max(self.committed, sequence)

    def on_commit_failed(self, now_ms: int) -> None:
        """The outcome is not known; committing again is harmless."""
        self._committing = False
        self._commit_not_before_ms = now_ms + self._settings.retry_ms_max

    # --- decisions

    def decide(self, now_ms: int, wall_us: int, *, may_read: bool = True) -> list[Instruction]:
        """What to do now. `may_read` is false while the process as a whole holds too much."""
        instructions: list[Instruction] = []
        room = may_read and self._has_room()
        for lane in self.lanes:
            if not lane.busy and not lane.idle:
                work = lane.decide(now_ms, wall_us, feed_us=self._feed_us, hurry=not room, ended=self.ended)
                if work is not None:
                    instructions.append(work)
        if room and not self._reading and not self.ended and now_ms >= self._read_not_before_ms:
            self._reading = True
            settings = self._settings
            wait_ms = settings.window_read_wait_ms if self._mapping.tumbling_window_s else settings.read_wait_ms
            if self._read_failures:
                wait_ms = 0  # that the stream can be read again must show at once, on a quiet one too
            instructions.append(Read(self.position, wait_ms))
        if self._commit_due_ms() <= now_ms:
            self._committing = True
            self._last_commit_ms = now_ms
            self._ended_since_commit = False
            instructions.append(Commit(self.acknowledged))
        return instructions

    def wake_ms(self, now_ms: int) -> int | None:
        """When `decide` may have more to do without a new event; None: only after an event."""
        times = [time for lane in self.lanes if (time := lane.wake_ms(now_ms)) is not None]
        if not self._reading and not self.ended and self._read_not_before_ms > now_ms:
            times.append(self._read_not_before_ms)
        commit_due = self._commit_due_ms()
        if commit_due < _NEVER:
            times.append(commit_due)
        return min(times, default=None)

    def _has_room(self) -> bool:
        return (
            sum(lane.pending_records for lane in self.lanes) < self._settings.pending_records_max
            and sum(lane.pending_bytes for lane in self.lanes) < self._settings.pending_bytes_max
        )

    def _commit_due_ms(self) -> int:
        if self._committing or self.acknowledged <= self.committed:
            return _NEVER
        quick = self._ended_since_commit or self.ended
        every = self._settings.commit_every_ms if quick else self._settings.idle_commit_every_ms
        return max(self._last_commit_ms + every, self._commit_not_before_ms)


_NEVER = 1 << 62
