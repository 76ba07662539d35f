"""One Kinesis destination at one partition of its table: reads what is held for it, puts it, moves its cursor.

One request is under way at a time. The cursor passes a record once the data stream has it, or once it is certain that
the stream never takes it, so everything arrives at least once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from delivery.kinesisclient import KinesisClient, KinesisError, stream_name
from delivery.kinesisrecords import REQUEST_RECORDS_MAX, DataRecord, TableSource, data_record, request_of, to_repeat
from delivery.ports import PartitionStream, StreamUnavailable
from geodyne.messages import FROM_COMMITTED
from geodyne.ports import Clock

log = logging.getLogger(__name__)

THROTTLED = "ProvisionedThroughputExceededException"
TROUBLE_LOG_EVERY_MS = 10_000
LAST_COMMIT_S_MAX = 2.0


@dataclass(frozen=True, slots=True)
class KinesisSettings:
    """Pages and pauses. `give_up_s`: a record that a destination has not taken for so long has it disabled; DynamoDB's
    time (Developer Guide, "Monitoring change data capture with Kinesis Data Streams")."""

    give_up_s: float = 168 * 3_600.0
    give_up_tries: int = 5  # in a row, none of which got anything through
    page_records: int = 1_000
    page_bytes: int = 4 * 1024 * 1024
    read_wait_ms: int = 10_000
    commit_every_ms: int = 250
    retry_ms_min: int = 50
    retry_ms_max: int = 10_000


@dataclass(slots=True)
class KinesisFigures:
    """Of one destination since the process started, over all partitions."""

    delivered: int = 0
    throttled: int = 0  # entries that the data stream put off (ThrottledPutRecordCount)
    repeated: int = 0  # entries that had to be sent again
    failed: int = 0  # records that it will never take (FailedToReplicateRecordCount)
    gaps: int = 0  # times that records had been trimmed before they were read
    trouble: str = ""


class KinesisRunner:
    """Runs from `start` to `close`. `on_given_up` is told why, again with each further failure until it is closed."""

    def __init__(
        self,
        stream_arn: str,
        precision: str,
        source: TableSource,
        *,
        stream: PartitionStream,
        client: KinesisClient,
        figures: KinesisFigures,
        clock: Clock,
        random: Random,
        settings: KinesisSettings,
        on_given_up: Callable[[str], None],
    ) -> None:
        self._name = stream_name(stream_arn)
        self._precision = precision
        self._source = source
        self._stream = stream
        self._client = client
        self._figures = figures
        self._clock = clock
        self._random = random
        self._settings = settings
        self._on_given_up = on_given_up
        self._position = FROM_COMMITTED
        self._committed = FROM_COMMITTED
        self._committed_ms = 0
        self._tries = 0  # without success in a row
        self._records_max = REQUEST_RECORDS_MAX
        self._logged_ms = -TROUBLE_LOG_EVERY_MS
        self._task: asyncio.Task[None] | None = None
        self.pending_since_us = 0  # of the oldest record read that the data stream has not got; 0 when there is none

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """A request under way is abandoned; what the data stream has got is committed, if that does not take long."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._position > self._committed:
            with suppress(StreamUnavailable, TimeoutError):
                async with asyncio.timeout(LAST_COMMIT_S_MAX):
                    await self._stream.commit(self._position)

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except StreamUnavailable as error:
                await self._fail(f"the changes cannot be read: {error}")
            except Exception as error:  # a defect, or a record of another table: nothing is passed over for it
                log.error("delivery to Kinesis failed in itself", exc_info=error)
                await self._fail(repr(error))

    async def _turn(self) -> None:
        settings = self._settings
        uncommitted = self._position > self._committed
        wait_ms = settings.commit_every_ms if uncommitted else settings.read_wait_ms
        page = await self._stream.read(
            self._position, limit=settings.page_records, max_bytes=settings.page_bytes, wait_ms=wait_ms
        )
        if page.trimmed:
            self._figures.gaps += 1
            self._tell(f"changes were trimmed before they were read, up to {page.next}")
        await self._send([data_record(record, self._source, self._precision) for record in page.records])
        self._position = page.next
        if self._committed == FROM_COMMITTED and not page.records and not page.trimmed:
            self._committed = page.next
        quiet = not page.records
        if self._position > self._committed and (quiet or page.trimmed or self._commit_due()):
            await self._stream.commit(self._position)
            self._committed, self._committed_ms = self._position, self._clock.lease_ms()
        if not self.pending_since_us:
            self._tries = 0

    def _commit_due(self) -> bool:
        return self._clock.lease_ms() - self._committed_ms >= self._settings.commit_every_ms

    async def _send(self, pending: Sequence[DataRecord]) -> None:
        """Returns once the data stream has all of them, or never takes the others."""
        while pending:
            self.pending_since_us = pending[0].wall_us
            request = request_of(pending, self._records_max)
            rest = pending[len(request) :]
            try:
                codes = await self._client.put(self._name, request)
            except KinesisError as error:
                if not error.unfit:
                    await self._put_off(error, len(request))
                elif len(request) > 1:
                    self._records_max = len(request) // 2  # which of them it is shows by halving
                else:
                    self._figures.failed += 1
                    self._tell(f"a record was not taken and is left out: {error}")
                    pending = rest
                continue
            pending = await self._settle(request, codes, rest)
        self.pending_since_us = 0

    async def _settle(
        self, request: Sequence[DataRecord], codes: Sequence[str], rest: Sequence[DataRecord]
    ) -> Sequence[DataRecord]:
        """After an answer: what is still to be sent, once it is time."""
        failed = {place for place, code in enumerate(codes) if code}
        figures = self._figures
        figures.delivered += len(request) - len(failed)
        if not failed:
            self._tries = 0
            self._records_max = min(2 * self._records_max, REQUEST_RECORDS_MAX)
            figures.trouble = ""
            return rest
        again = to_repeat(request, failed)
        figures.throttled += sum(code == THROTTLED for code in codes)
        figures.repeated += len(again)
        if len(failed) < len(request):
            self._tries = 0
        pending = [*again, *rest]
        self.pending_since_us = pending[0].wall_us
        await self._fail(f"records were put off: {codes[min(failed)]}")
        return pending

    async def _put_off(self, error: KinesisError, count: int) -> None:
        if error.code == THROTTLED:
            self._figures.throttled += count
        self._figures.repeated += count
        await self._fail(str(error))

    async def _fail(self, text: str) -> None:
        """Wait a while, longer each time, and tell when that has gone on for too long."""
        self._tell(text)
        self._tries += 1
        settings = self._settings
        age_us = self._clock.wall_us() - self.pending_since_us
        if self.pending_since_us and self._tries >= settings.give_up_tries and age_us > settings.give_up_s * 1e6:
            self._on_given_up(f"Records were not taken for {settings.give_up_s / 3_600:g} hours: {text}")
        most_ms = min(settings.retry_ms_min * 2 ** min(self._tries - 1, 20), settings.retry_ms_max)
        await asyncio.sleep(most_ms * self._random.uniform(0.5, 1.0) / 1_000)

    def _tell(self, text: str) -> None:
        self._figures.trouble = text
        now_ms = self._clock.lease_ms()
        if now_ms >= self._logged_ms + TROUBLE_LOG_EVERY_MS:
            self._logged_ms = now_ms
            extra = {"table": self._source.table, "partition": self._source.partition, "cause": text}
            log.warning("a Kinesis data stream does not get all changes", extra=extra)
