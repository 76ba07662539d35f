"""One of the parallel lanes of a partition: records in their order, batch after batch, until each has ended.

A batch ends when the function took it, or when it was given up and its on-failure record was taken by the destination.
Only then is the next one looked at: the records of a key stay in their order, and none is passed over. What a failure
does to a batch (Lambda developer guide, "Error handling" of DynamoDB event sources):

- records that are too old are given up, also before their first try. Without a limit of the mapping they expire with
  the stream's retention, so that no batch blocks for ever;
- with `bisect` a failed batch of several records is split, which does not count as a retry;
- a partial response ends the records before the lowest one that failed; the rest is tried again, which counts as a
  retry, but is a split with `bisect`;
- a batch that did not reach the function is tried again without counting.

With tumbling windows a batch holds records of one window. The window's state is handed from call to call, and after
its last record a final call without records ends it. A restart forgets states, so the window's first record holds the
bookmark until the final call has succeeded: all of the window is then delivered again.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import orjson

from delivery.verdict import Outcome, Verdict
from geodyne.triggers.mapping import INFINITE, Mapping

PAYLOAD_BYTES_MAX = 6 * 1024 * 1024  # of a call: Lambda's quota for synchronous calls
STATE_BYTES_MAX = 1024 * 1024  # of a tumbling window
RETENTION_S = 86_400  # of a stream: what is older is not tried again
RETRY_MS_MIN = 250
RETRY_MS_MAX = 60_000
ENVELOPE_BYTES = 4 * 1024  # of an event around its records and its state
RETRIES_EXHAUSTED = "RetryAttemptsExhausted"
AGE_EXCEEDED = "RecordAgeExceeded"


class Arrival(NamedTuple):
    """A record that passed the filters. `event` is its JSON in the Lambda event; `time_us` when it was written."""

    sequence: int
    identifier: str  # its SequenceNumber
    lane_hash: int
    time_us: int
    event: bytes


class WindowSpan(NamedTuple):
    """What a function learns of its tumbling window. Times in microseconds of the wall clock, the end exclusive."""

    start_us: int
    end_us: int
    state: Any
    final: bool
    early: bool


class Invoke(NamedTuple):
    """Call the function; report by `Lane.on_verdict`. `number` grows with each call of the lane."""

    lane: int
    number: int
    arrivals: tuple[Arrival, ...]
    window: WindowSpan | None


class Discard(NamedTuple):
    """Hand the batch to the on-failure destination; report by `Lane.on_discarded` or `on_discard_failed`.

    `first`, `last` and `batch_size` are of the batch, or of the whole window when its final call failed, which has no
    records.
    """

    lane: int
    arrivals: tuple[Arrival, ...]
    first: Arrival
    last: Arrival
    batch_size: int
    condition: str  # RETRIES_EXHAUSTED or AGE_EXCEEDED
    invocations: int
    error: str  # functionError of the last call
    detail: str
    window: WindowSpan | None


class _Batch:
    __slots__ = ("arrivals", "attempts", "final", "invocations")

    def __init__(self, arrivals: tuple[Arrival, ...], attempts: int = 0, invocations: int = 0, final: bool = False):
        self.arrivals = arrivals
        self.attempts = attempts  # failed tries that count as such
        self.invocations = invocations
        self.final = final


class _Window:
    __slots__ = ("count", "early", "end_us", "first", "last", "start_us", "state")

    def __init__(self, start_us: int, end_us: int, first: Arrival) -> None:
        self.start_us = start_us
        self.end_us = end_us
        self.state: Any = {}
        self.early = False
        self.first = first
        self.last = first
        self.count = 0  # records that ended in it


class Lane:
    """Feed it arrivals and verdicts, ask `decide` for what to do, and again at `wake_ms`. Times in milliseconds of a
    clock that never goes back, `wall_us` apart."""

    def __init__(self, number: int, mapping: Mapping) -> None:
        self.number = number
        self._mapping = mapping
        self._queue: deque[tuple[Arrival, int]] = deque()  # with the time of arrival; bounded by progress.py
        self._work: list[_Batch] = []  # batches to be tried, the first one last; bounded: halvings of one batch
        self._flight: Invoke | Discard | None = None
        self._window: _Window | None = None
        self._not_before_ms = 0
        self._failures = 0  # in a row, of calls and of the destination
        self._calls = 0
        self._last = Verdict(Outcome.DONE)
        self.pending_records = 0
        self.pending_bytes = 0

    # --- what an observer may ask

    @property
    def idle(self) -> bool:
        return not self._queue and not self._work and self._window is None

    @property
    def busy(self) -> bool:
        """A call or a hand-over is under way."""
        return self._flight is not None

    @property
    def floor(self) -> Arrival | None:
        """The oldest record that has not ended; the bookmark stays before it."""
        if self._window is not None:
            return self._window.first
        if self._work:
            return self._work[-1].arrivals[0]
        return self._queue[0][0] if self._queue else None

    # --- events

    def on_arrival(self, arrival: Arrival, now_ms: int) -> None:
        self._queue.append((arrival, now_ms))
        self.pending_records += 1
        self.pending_bytes += len(arrival.event)

    def on_verdict(self, verdict: Verdict, now_ms: int, jitter: float) -> None:
        """The answer to Invoke. `jitter` in [0, 1) spreads the next try."""
        assert isinstance(self._flight, Invoke)
        self._flight = None
        self._last = verdict
        batch = self._work[-1]
        if verdict.outcome is not Outcome.NOT_REACHED:
            batch.invocations += 1
        match verdict.outcome:
            case Outcome.DONE:
                self._failures = 0
                self._end(batch, len(batch.arrivals), verdict)
            case Outcome.PARTLY:
                self._end(batch, verdict.done, verdict)
                if not self._mapping.bisect:
                    batch.attempts += 1
                self._back_off(now_ms, jitter)
            case Outcome.FAILED:
                if self._mapping.bisect and len(batch.arrivals) > 1:
                    self._split(batch)
                else:
                    batch.attempts += 1
                self._back_off(now_ms, jitter)
            case Outcome.NOT_REACHED:
                self._back_off(now_ms, jitter)
        if self._work and self._exhausted(self._work[-1]):
            self._not_before_ms = 0  # there is nothing to wait for

    def on_discarded(self) -> None:
        """The destination has the record, or there is none: the records have ended."""
        assert isinstance(self._flight, Discard)
        discarded, self._flight = self._flight, None
        self._failures = 0
        self._not_before_ms = 0
        self._end(self._work[-1], len(discarded.arrivals), None)

    def on_discard_failed(self, now_ms: int, jitter: float) -> None:
        """The destination did not take it: the lane waits for the destination, however long that takes."""
        assert isinstance(self._flight, Discard)
        self._flight = None
        self._back_off(now_ms, jitter)

    # --- decisions

    def decide(self, now_ms: int, wall_us: int, *, feed_us: int, hurry: bool, ended: bool) -> Invoke | Discard | None:
        """What to do now. Nothing written before `feed_us` can still arrive; `hurry`: nothing more is being read, so
        that waiting for a fuller batch is in vain; `ended`: nothing will ever arrive."""
        if self._flight is not None or now_ms < self._not_before_ms:
            return None
        if not self._work and not self._form(now_ms, feed_us, hurry or ended, ended):
            return None
        window = self._window
        if window is not None and window.early and not self._work[-1].final:
            self._work.append(_Batch((), final=True))  # the rest of a split batch goes into a new window
        batch = self._work[-1]
        self._flight = self._give_up(batch, wall_us) or self._call(batch)
        return self._flight

    def wake_ms(self, now_ms: int) -> int | None:
        """When `decide` may have more to do without an event; None: only after one."""
        if self._flight is not None or self.idle:
            return None
        if self._not_before_ms > now_ms:
            return self._not_before_ms
        if not self._work and self._queue and self._mapping.batching_window_s:
            return max(self._queue[0][1] + self._mapping.batching_window_s * 1000, now_ms)
        return None

    def _call(self, batch: _Batch) -> Invoke:
        self._calls += 1
        if self._mapping.tumbling_window_s and self._window is None:
            self._window = self._open_window(batch.arrivals[0])
        return Invoke(self.number, self._calls, batch.arrivals, self._span(batch.final))

    def _give_up(self, batch: _Batch, wall_us: int) -> Discard | None:
        mapping = self._mapping
        arrivals = batch.arrivals
        if self._exhausted(batch):
            return self._discard(batch, arrivals, RETRIES_EXHAUSTED)
        age_s_max = mapping.max_record_age_s
        if batch.attempts or batch.invocations or self._failures:
            age_s_max = RETENTION_S if age_s_max == INFINITE else min(age_s_max, RETENTION_S)
        if age_s_max == INFINITE:
            return None
        oldest_us = wall_us - age_s_max * 1_000_000
        if batch.final:
            assert self._window is not None
            return self._discard(batch, (), AGE_EXCEEDED) if self._window.last.time_us < oldest_us else None
        old = 0
        while old < len(arrivals) and arrivals[old].time_us < oldest_us:
            old += 1
        return self._discard(batch, arrivals[:old], AGE_EXCEEDED) if old else None

    def _exhausted(self, batch: _Batch) -> bool:
        return self._mapping.max_retries != INFINITE and batch.attempts > self._mapping.max_retries

    def _discard(self, batch: _Batch, arrivals: tuple[Arrival, ...], condition: str) -> Discard:
        first, last, count = arrivals[0] if arrivals else None, arrivals[-1] if arrivals else None, len(arrivals)
        if first is None or last is None:
            assert self._window is not None
            first, last, count = self._window.first, self._window.last, self._window.count
        error, detail = (self._last.error, self._last.detail) if batch.attempts or batch.invocations else ("", "")
        return Discard(
            self.number,
            arrivals,
            first,
            last,
            count,
            condition,
            batch.invocations,
            error,
            detail,
            self._span(batch.final),
        )

    # --- batches

    def _form(self, now_ms: int, feed_us: int, hurry: bool, ended: bool) -> bool:
        """Put the next batch on `_work`, if it is time for one."""
        window = self._window
        if window is not None:
            over = self._queue[0][0].time_us >= window.end_us if self._queue else ended or feed_us >= window.end_us
            if over or window.early:
                self._work.append(_Batch((), final=True))
                return True
        if not self._queue:
            return False
        length, full = self._batch_length(feed_us)
        window_ms = self._mapping.batching_window_s * 1000
        if not full and not hurry and now_ms < self._queue[0][1] + window_ms:
            return False
        self._work.append(_Batch(tuple(self._queue.popleft()[0] for _ in range(length))))
        return True

    def _batch_length(self, feed_us: int) -> tuple[int, bool]:
        """How many records the next batch takes, and whether none could be added by waiting."""
        size = ENVELOPE_BYTES
        end_us = 0
        if self._mapping.tumbling_window_s:
            size += STATE_BYTES_MAX if self._window is not None else 0
            end_us = self._window_end(self._queue[0][0].time_us)
        length = 0
        for arrival, _ in self._queue:
            size += len(arrival.event) + 1
            beyond = size > PAYLOAD_BYTES_MAX or (end_us and arrival.time_us >= end_us)
            if length == self._mapping.batch_size or (length and beyond):
                return length, True
            length += 1
        return length, length == self._mapping.batch_size or bool(end_us and feed_us >= end_us)

    def _end(self, batch: _Batch, count: int, verdict: Verdict | None) -> None:
        """The first `count` records of the batch have ended; with a verdict, because the function took them."""
        ended, batch.arrivals = batch.arrivals[:count], batch.arrivals[count:]
        self.pending_records -= len(ended)
        self.pending_bytes -= sum(len(arrival.event) for arrival in ended)
        window = self._window
        if batch.final:
            self._window = None
        elif window is not None and ended:
            window.last = ended[-1]
            window.count += len(ended)
            if verdict is not None:
                window.state = verdict.state
                window.early = len(orjson.dumps(window.state)) > STATE_BYTES_MAX
        if not batch.arrivals:
            self._work.pop()

    def _split(self, batch: _Batch) -> None:
        half = len(batch.arrivals) // 2
        self._work[-1:] = [
            _Batch(batch.arrivals[half:], batch.attempts, batch.invocations),
            _Batch(batch.arrivals[:half], batch.attempts, batch.invocations),
        ]

    def _back_off(self, now_ms: int, jitter: float) -> None:
        delay_ms = min(RETRY_MS_MIN << min(self._failures, 16), RETRY_MS_MAX)
        self._failures += 1
        self._not_before_ms = now_ms + int(delay_ms * (0.5 + jitter / 2))

    # --- tumbling windows

    def _window_end(self, time_us: int) -> int:
        length_us = self._mapping.tumbling_window_s * 1_000_000
        return (time_us // length_us + 1) * length_us

    def _open_window(self, first: Arrival) -> _Window:
        end_us = self._window_end(first.time_us)
        return _Window(end_us - self._mapping.tumbling_window_s * 1_000_000, end_us, first)

    def _span(self, final: bool) -> WindowSpan | None:
        window = self._window
        if window is None:
            return None
        return WindowSpan(window.start_us, window.end_us, window.state, final, window.early and final)
