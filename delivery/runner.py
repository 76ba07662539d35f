"""One mapping at one partition: performs what `delivery.progress` decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from delivery.destinations import Destination, DestinationError
from delivery.events import Source, arrival, failure_document, invocation_event, shard_of, split_by_shard
from delivery.functions import Function
from delivery.lane import Discard, Invoke
from delivery.ports import PartitionStream, StreamUnavailable
from delivery.progress import WINDOW_GRACE_US, Commit, Progress, ProgressSettings, Read
from delivery.verdict import NotReached, Outcome, Reply, judge
from geodyne.messages import Shards, StreamPage
from geodyne.ports import Clock
from geodyne.triggers.mapping import Mapping
from geodyne.triggers.patterns import parse_pattern

log = logging.getLogger(__name__)

HELD_BYTES_MAX = 256 * 1024 * 1024  # of records read and not ended, of all mappings of a process
LAST_COMMIT_S_MAX = 2.0
LAST_CALLS_S_MAX = 2.0  # how long calls under way may still take once a runner is to end
TROUBLE_LOG_EVERY_MS = 10_000

# What the Lambda API shows as LastProcessingResult.
NOTHING_YET = "No records processed"
WELL = "OK"
CALL_FAILED = "PROBLEM: Function call failed"
NOT_REACHED = "PROBLEM: The function could not be reached"
DESTINATION_FAILED = "PROBLEM: The on-failure destination does not take records"
STREAM_FAILED = "PROBLEM: The stream cannot be read"
RECORDS_TRIMMED = "PROBLEM: Records were removed from the stream before they were processed"


@dataclass(slots=True)
class Figures:
    """Of one mapping since the process started, over all its partitions."""

    calls: int = 0
    failed_calls: int = 0
    delivered: int = 0  # records that the function took
    filtered: int = 0
    discarded: int = 0  # records given up, with or without a destination
    kept: int = 0  # of these: the destination has them
    gaps: int = 0  # times that a partition's stream had been trimmed beyond the bookmark
    last_result: str = NOTHING_YET
    trouble: str = ""  # why it waits, for people
    on_batch: Callable[[int], None] = field(default=lambda _records: None)  # how many a call is given
    on_age: Callable[[float], None] = field(default=lambda _seconds: None)  # of the last record of each ended batch


class Budget:
    """What all runners of a process hold in memory."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self.held_bytes = 0

    @property
    def has_room(self) -> bool:
        return self.held_bytes < self._bytes_max


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a runner is given besides its work. `new_id` makes request ids."""

    clock: Clock
    random: Random
    new_id: Callable[[], str]
    budget: Budget
    settings: ProgressSettings = field(default_factory=ProgressSettings)


class Runner:
    """Delivers one partition's records for one mapping until it is closed."""

    def __init__(
        self,
        mapping: Mapping,
        source: Source,
        *,
        stream: PartitionStream,
        function: Function,
        function_arn: str,
        destination: Destination | None,
        figures: Figures,
        surroundings: Surroundings,
    ) -> None:
        self.mapping = mapping
        self.source = source
        self.progress = Progress(mapping, surroundings.settings)
        self._patterns = tuple(parse_pattern(text) for text in mapping.filters)
        self._stream = stream
        self._function = function
        self._function_arn = function_arn
        self._destination = destination
        self._figures = figures
        self._surroundings = surroundings
        self._clock = surroundings.clock
        self._shards = Shards((), 0)
        self._request_ids: dict[int, str] = {}  # of the last call of each lane
        self._held_bytes = 0  # as the budget knows it
        self._tasks: set[asyncio.Task[None]] = set()  # bounded: a read, a commit
        self._calls: set[asyncio.Task[None]] = set()  # bounded: one a lane
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._trouble_logged_ms = -TROUBLE_LOG_EVERY_MS

    def start(self) -> None:
        self._pump()

    async def close(self) -> None:
        """Begin nothing new. Calls under way that do not end soon are abandoned, and their records delivered again
        after the next start. What has ended is committed, if that does not take long."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=LAST_CALLS_S_MAX)
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._calls, return_exceptions=True)
        self._surroundings.budget.held_bytes -= self._held_bytes
        self._held_bytes = 0
        if self.progress.acknowledged > self.progress.committed:
            try:
                async with asyncio.timeout(LAST_COMMIT_S_MAX):
                    await self._stream.commit(self.progress.acknowledged)
            except (StreamUnavailable, TimeoutError) as error:
                log.info(
                    "the last bookmark was not committed", extra={"mapping": self.mapping.uuid, "cause": str(error)}
                )

    def wake(self) -> None:
        """There may be room again."""
        self._pump()

    # --- performing

    def _pump(self) -> None:
        if self._closed:
            return
        now_ms = self._clock.lease_ms()
        # One that holds nothing may always read a page: others that are blocked must not starve it.
        may_read = self._surroundings.budget.has_room or self.progress.pending_records == 0
        for instruction in self.progress.decide(now_ms, self._clock.wall_us(), may_read=may_read):
            match instruction:
                case Read():
                    self._perform(self._read(instruction), self._tasks)
                case Invoke():
                    self._perform(self._invoke(instruction), self._calls)
                case Discard():
                    self._perform(self._discard(instruction), self._calls)
                case Commit(sequence):
                    self._perform(self._commit(sequence), self._tasks)
        self._set_timer(self.progress.wake_ms(now_ms), now_ms)
        held_bytes = sum(lane.pending_bytes for lane in self.progress.lanes)
        self._surroundings.budget.held_bytes += held_bytes - self._held_bytes
        self._held_bytes = held_bytes

    def _set_timer(self, wake_ms: int | None, now_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_ms is not None:
            # One millisecond more, so that rounding never wakes it just before the time.
            delay_s = (max(wake_ms - now_ms, 0) + 1) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump)

    def _perform(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _read(self, read: Read) -> None:
        settings = self._surroundings.settings
        try:
            if not self._shards.shards:
                self._shards = await self._stream.shards()
            page = await self._stream.read(
                read.after, limit=settings.page_records, max_bytes=settings.page_bytes, wait_ms=read.wait_ms
            )
            self._take(read, page)
        except StreamUnavailable as error:
            self._trouble(STREAM_FAILED, str(error))
            self.progress.on_read_failed(self._clock.lease_ms())
        except Exception as error:  # a record that is none of this table, or a defect: nothing is passed over for it
            self._defect(STREAM_FAILED, error)
            self.progress.on_read_failed(self._clock.lease_ms())
        self._pump()

    def _take(self, read: Read, page: StreamPage) -> None:
        arrivals = [one for record in page.records if (one := arrival(record, self.source, self._patterns)) is not None]
        self._figures.filtered += len(page.records) - len(arrivals)
        if self._figures.last_result == STREAM_FAILED:  # a quiet stream has no batch that would say so
            self._over(WELL if self._figures.delivered else NOTHING_YET)
        if page.trimmed:
            self._figures.gaps += 1
            self._trouble(RECORDS_TRIMMED, f"from {read.after} to {page.next} in partition {self.source.partition}")
        quiet = not page.records and page.next == read.after
        feed_us = page.records[-1].wall_us if page.records else 0
        if quiet:
            feed_us = self._clock.wall_us() - WINDOW_GRACE_US
        self.progress.on_page(
            arrivals, page.next, self._clock.lease_ms(), feed_us=feed_us, more=not quiet, ended=page.closed
        )

    async def _invoke(self, invoke: Invoke) -> None:
        figures = self._figures
        request_id = self._request_ids[invoke.lane] = self._surroundings.new_id()
        shard = ""
        if invoke.window is not None:
            last = invoke.arrivals[-1].sequence if invoke.arrivals else self.progress.position
            shard = shard_of(self._shards.shards, last, self.source)
        event = invocation_event(invoke.arrivals, invoke.window, self.source.arn, shard)
        figures.calls += 1
        figures.on_batch(len(invoke.arrivals))
        reply = await self._call(event, request_id)
        verdict = judge(
            reply,
            [one.identifier for one in invoke.arrivals],
            report_failures=self.mapping.report_failures,
            windowed=invoke.window is not None,
        )
        if verdict.outcome is Outcome.DONE:
            self._over(WELL)
        else:
            figures.failed_calls += 1
            self._trouble(NOT_REACHED if verdict.outcome is Outcome.NOT_REACHED else CALL_FAILED, verdict.detail)
        if verdict.done:
            figures.delivered += verdict.done
            figures.on_age(max(self._clock.wall_us() - invoke.arrivals[verdict.done - 1].time_us, 0) / 1e6)
        self.progress.on_verdict(invoke.lane, verdict, self._clock.lease_ms(), self._surroundings.random.random())
        self._pump()

    async def _call(self, event: bytes, request_id: str) -> Reply:
        try:
            return await self._function.call(event, request_id)
        except Exception as error:  # a defect here must neither end the lane nor pass for the function's failure
            log.exception("calling a function failed", extra={"mapping": self.mapping.uuid, "request_id": request_id})
            return NotReached(repr(error))

    async def _discard(self, discard: Discard) -> None:
        now = {
            "mapping": self.mapping.uuid,
            "function": self.mapping.function,
            "partition": self.source.partition,
            "records": discard.batch_size,
        }
        try:
            if self._destination is not None:
                await self._hand_over(discard)
        except (DestinationError, StreamUnavailable) as error:
            self._trouble(DESTINATION_FAILED, str(error))
            self._keep(discard)
        except Exception as error:  # a defect must not lose the record
            self._defect(DESTINATION_FAILED, error)
            self._keep(discard)
        else:
            log.warning(
                "records given up",
                extra={
                    **now,
                    "condition": discard.condition,
                    "first": discard.first.identifier,
                    "last": discard.last.identifier,
                    "kept": self._destination is not None,
                    "cause": discard.detail,
                },
            )
            if self._figures.last_result == DESTINATION_FAILED:
                self._over(CALL_FAILED)
            self._figures.discarded += len(discard.arrivals)
            if self._destination is not None:
                self._figures.kept += len(discard.arrivals)
            self.progress.on_discarded(discard.lane)
        self._pump()

    def _keep(self, discard: Discard) -> None:
        jitter = self._surroundings.random.random()
        self.progress.on_discard_failed(discard.lane, self._clock.lease_ms(), jitter)

    async def _hand_over(self, discard: Discard) -> None:
        assert self._destination is not None
        self._shards = await self._stream.shards()  # a new shard may have begun since they were last looked at
        for shard, part in split_by_shard(discard, self._shards.shards, self.source):
            document = failure_document(
                part,
                self.source,
                mapping=self.mapping.uuid,
                function_arn=self._function_arn,
                shard=shard,
                wall_us=self._clock.wall_us(),
                request_id=self._request_ids.get(discard.lane, "") if discard.invocations else "",
            )
            await self._destination.put(document)

    async def _commit(self, sequence: int) -> None:
        try:
            await self._stream.commit(sequence)
        except StreamUnavailable as error:
            self._trouble(STREAM_FAILED, f"bookmark: {error}")
            self.progress.on_commit_failed(self._clock.lease_ms())
        except Exception as error:  # a defect: without bookmarks all comes again after a restart, and nothing is lost
            self._defect(STREAM_FAILED, error)
            self.progress.on_commit_failed(self._clock.lease_ms())
        else:
            self.progress.on_committed(sequence)
        self._pump()

    def _defect(self, result: str, error: Exception) -> None:
        self._trouble(result, repr(error))
        log.error("delivery failed in itself", extra={"mapping": self.mapping.uuid}, exc_info=error)

    def _over(self, result: str) -> None:
        self._figures.last_result = result
        self._figures.trouble = ""

    def _trouble(self, result: str, detail: str) -> None:
        self._figures.last_result = result
        self._figures.trouble = detail
        now_ms = self._clock.lease_ms()
        if now_ms >= self._trouble_logged_ms + TROUBLE_LOG_EVERY_MS:
            self._trouble_logged_ms = now_ms
            where = {
                "mapping": self.mapping.uuid,
                "function": self.mapping.function,
                "partition": self.source.partition,
            }
            log.warning(result.removeprefix("PROBLEM: ").lower(), extra={**where, "cause": detail})
