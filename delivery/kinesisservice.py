"""The Kinesis destinations of a region's tables as its catalog has them: enabled, run, and given up.

Until the region has a destination there is nothing but a look at the catalog after each of its changes. Two such
services in a region would put everything twice, and lose nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from random import Random
from typing import Any, NamedTuple, Protocol

from delivery.kinesisclient import NOT_FOUND, BotocoreClient, KinesisClient, KinesisError, stream_name
from delivery.kinesisrecords import TableSource
from delivery.kinesisrunner import KinesisFigures, KinesisRunner, KinesisSettings
from delivery.ports import Region, StreamUnavailable
from delivery.stream import RegionStream
from geodyne.catalog import (
    ControlOperation,
    KinesisDestination,
    KinesisStatus,
    TableRecord,
    TableStatus,
    kinesis_consumer,
)
from geodyne.errors import ApiError
from geodyne.messages import FROM_COMMITTED, Control, ControlDone
from geodyne.ports import Clock

log = logging.getLogger(__name__)

LOOK_S = 0.25  # between two looks while a destination changes
ENABLE_S_MAX = 20.0  # for the endpoint to answer that the data stream is ready
ENABLE_RETRY_S = 0.5
REPORT_TIMEOUT_MS = 5_000
NO_ENDPOINT = "No Kinesis endpoint is configured (--kinesis-endpoint)"
_READY = frozenset({"ACTIVE", "UPDATING"})  # StreamStatus of a data stream that takes records

OpenClient = Callable[[str, str], KinesisClient]


class KinesisRegion(Region, Protocol):
    @property
    def region(self) -> str: ...


class KinesisReport(NamedTuple):
    """One destination, for people and metrics."""

    table: str
    stream_arn: str
    age_s: float  # of the oldest change that was read and is not in the data stream; 0 when there is none
    delivered: int
    throttled: int
    repeated: int
    failed: int
    gaps: int
    trouble: str


class _Key(NamedTuple):
    destination: str
    partition: int
    epoch: int


class _Wanted(NamedTuple):
    stream_arn: str
    precision: str
    source: TableSource


class KinesisDelivery:
    """Start the region client before the first `wake`, close it after this. `endpoint` "" means that there is none."""

    def __init__(
        self,
        region: KinesisRegion,
        *,
        endpoint: str,
        clock: Clock,
        random: Random,
        settings: KinesisSettings | None = None,
        open_client: OpenClient = BotocoreClient,
    ) -> None:
        self._region = region
        self._endpoint = endpoint
        self._clock = clock
        self._random = random
        self._settings = settings or KinesisSettings()
        self._open_client = open_client
        self._client: KinesisClient | None = None
        self._runners: dict[_Key, tuple[_Wanted, KinesisRunner]] = {}
        self._closing: dict[_Key, asyncio.Task[None]] = {}
        self._changing: dict[str, asyncio.Task[None]] = {}  # by destination: one at a time
        self._figures: dict[str, KinesisFigures] = {}
        self._reported: dict[str, int] = {}  # by destination: the catalog revision that knows what was told of it
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._unreachable = ""  # why the destinations that there are do not run

    def wake(self) -> None:
        """The catalog has changed."""
        self._wake.set()
        if self._task is None and not self._closed and any(True for _ in self._held()):
            self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Cursors are committed."""
        self._closed = True
        tasks = [task for task in (self._task, *self._changing.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(runner.close() for _, runner in self._runners.values()), *self._closing.values())
        self._runners.clear()
        if self._client is not None:
            self._client.close()

    @property
    def unreachable(self) -> str:
        """Why destinations that are enabled do not run; "" when they do."""
        return self._unreachable

    def reports(self) -> dict[str, KinesisReport]:
        """The destinations that run, by id."""
        now_us = self._clock.wall_us()
        ages: dict[str, float] = {}
        tables: dict[str, _Wanted] = {}
        for key, (wanted, runner) in self._runners.items():
            since_us = runner.pending_since_us
            age_s = max(now_us - since_us, 0) / 1e6 if since_us else 0.0
            ages[key.destination] = max(ages.get(key.destination, 0.0), age_s)
            tables[key.destination] = wanted
        return {id_: _report(tables[id_], age_s, self._figures[id_]) for id_, age_s in ages.items()}

    # --- following

    async def _follow(self) -> None:
        while True:
            self._wake.clear()
            try:
                self._look()
            except Exception:  # a defect in one look must not end all destinations
                log.exception("following the Kinesis destinations failed")
            if self._changing or self._closing or any(self._unsettled()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._wake.wait()
            else:
                await self._wake.wait()

    def _held(self) -> Iterator[tuple[TableRecord, KinesisDestination]]:
        for table in self._region.catalog.tables.values():
            if table.kinesis and table.status is not TableStatus.DELETING:
                yield from ((table, one) for one in table.kinesis if one.holds)

    def _unsettled(self) -> Iterator[bool]:
        return (one.status is not KinesisStatus.ACTIVE for _, one in self._held())

    def _look(self) -> None:
        wanted = self._wanted()
        for key, (current, runner) in list(self._runners.items()):
            if wanted.get(key) != current:
                del self._runners[key]
                self._closing[key] = self._spawn(runner.close())
        for key in [key for key, task in self._closing.items() if task.done()]:
            del self._closing[key]
        for id_ in [id_ for id_, task in self._changing.items() if task.done()]:
            del self._changing[id_]
        held = {one.id for _, one in self._held()}
        for id_ in self._figures.keys() - held:
            del self._figures[id_]
        for id_ in self._reported.keys() - held:
            del self._reported[id_]
        for key, one in wanted.items() if self._may_run(wanted) else ():
            # The one before it must have ended: two at a time would mix up the order.
            if key not in self._runners and key not in self._closing:
                self._runners[key] = (one, self._start(key, one))
        for table, destination in self._held():
            if destination.status is not KinesisStatus.ACTIVE and self._may_change(destination):
                self._changing[destination.id] = self._spawn(self._change(table.name, destination))

    def _may_run(self, wanted: Mapping[_Key, _Wanted]) -> bool:
        """False, visibly, while destinations are enabled that this process has no way to reach."""
        reason = ""
        if wanted:
            try:
                self._opened()
            except KinesisError as error:
                reason = str(error)
        if reason and reason != self._unreachable:
            log.error("changes cannot go to Kinesis", extra={"cause": reason})
        self._unreachable = reason
        return not self._unreachable

    def _may_change(self, destination: KinesisDestination) -> bool:
        known = self._region.catalog.revision >= self._reported.get(destination.id, 0)
        closing = any(key.destination == destination.id for key in self._closing)
        return known and not closing and destination.id not in self._changing

    def _wanted(self) -> dict[_Key, _Wanted]:
        wanted: dict[_Key, _Wanted] = {}
        for table, destination in self._held():
            if destination.status is KinesisStatus.ENABLING:
                continue
            schema = table.key_schema
            for partition in table.partitions:
                source = TableSource(
                    destination.id, table.name, self._region.region, schema, partition.id, partition.epoch
                )
                key = _Key(destination.id, partition.id, partition.epoch)
                wanted[key] = _Wanted(destination.stream_arn, destination.precision, source)
        return wanted

    def _start(self, key: _Key, one: _Wanted) -> KinesisRunner:
        def give_up(reason: str) -> None:
            if key.destination not in self._changing:
                running = (KinesisStatus.ACTIVE, KinesisStatus.UPDATING)
                work = self._tell(one.source.table, key.destination, running, KinesisStatus.DISABLING, reason)
                self._changing[key.destination] = self._spawn(work)
                self._wake.set()

        runner = KinesisRunner(
            one.stream_arn,
            one.precision,
            one.source,
            stream=self._stream(key.destination, key.partition, key.epoch),
            client=self._opened(),
            figures=self._figures.setdefault(key.destination, KinesisFigures()),
            clock=self._clock,
            random=self._random,
            settings=self._settings,
            on_given_up=give_up,
        )
        runner.start()
        return runner

    def _stream(self, destination: str, partition: int, epoch: int) -> RegionStream:
        consumer = kinesis_consumer(destination)
        return RegionStream(self._region, partition=partition, epoch=epoch, label="", bookmark=consumer)

    def _opened(self) -> KinesisClient:
        """The client. Raises KinesisError."""
        if self._client is None:
            if not self._endpoint:
                raise KinesisError(NO_ENDPOINT)
            self._client = self._open_client(self._endpoint, self._region.region)
        return self._client

    # --- changes of status

    async def _change(self, table: str, destination: KinesisDestination) -> None:
        """Enable a destination, or let an update be done: its runners have the new precision by now."""
        if destination.status is KinesisStatus.UPDATING:
            await self._tell(table, destination.id, (KinesisStatus.UPDATING,), KinesisStatus.ACTIVE, "")
            return
        status, reason = KinesisStatus.ACTIVE, ""
        try:
            await self._find(destination)
            if not await self._is_held(table, destination):
                return  # looked at again
        except KinesisError as error:
            status, reason = KinesisStatus.ENABLE_FAILED, str(error)
        await self._tell(table, destination.id, (KinesisStatus.ENABLING,), status, reason)

    async def _find(self, destination: KinesisDestination) -> None:
        """Returns when the data stream is ready. Raises KinesisError when it is not, in time."""
        client = self._opened()
        name = stream_name(destination.stream_arn)
        end_ms = self._clock.lease_ms() + ENABLE_S_MAX * 1_000
        while True:
            try:
                status = await client.status(name)
                if status in _READY:
                    return
                failure = KinesisError(f"The data stream is {status}")
            except KinesisError as error:
                if error.code == NOT_FOUND or error.unfit:
                    raise
                failure = error
            if self._clock.lease_ms() >= end_ms:
                raise failure
            await asyncio.sleep(ENABLE_RETRY_S)

    async def _is_held(self, name: str, destination: KinesisDestination) -> bool:
        """Whether all partitions of the table keep changes for the destination by now."""
        table = self._region.catalog.tables.get(name)
        for partition in table.partitions if table is not None else ():
            stream = self._stream(destination.id, partition.id, partition.epoch)
            try:
                await stream.read(FROM_COMMITTED, limit=0, max_bytes=0, wait_ms=0)
            except StreamUnavailable:
                await asyncio.sleep(LOOK_S)
                return False
        return table is not None

    async def _tell(
        self, table: str, id_: str, expected: tuple[KinesisStatus, ...], status: KinesisStatus, reason: str
    ) -> None:
        extra = {"table": table, "destination": id_, "status": status.value, "cause": reason}
        log.log(logging.WARNING if reason else logging.INFO, "a Kinesis destination changes", extra=extra)
        body = {
            "name": table,
            "id": id_,
            "expected": [one.value for one in expected],
            "status": status.value,
            "description": reason,
        }
        try:
            answer = await self._region.call(
                Control(ControlOperation.KINESIS_RESULT, body), timeout_ms=REPORT_TIMEOUT_MS
            )
        except ApiError as error:
            log.info("the status of a destination was not taken", extra={**extra, "cause": error.message})
            await asyncio.sleep(ENABLE_RETRY_S)
            return
        if isinstance(answer, ControlDone):
            self._reported[id_] = answer.revision
        else:
            await asyncio.sleep(ENABLE_RETRY_S)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)


def _report(wanted: _Wanted, age_s: float, figures: KinesisFigures) -> KinesisReport:
    return KinesisReport(
        wanted.source.table,
        wanted.stream_arn,
        age_s,
        figures.delivered,
        figures.throttled,
        figures.repeated,
        figures.failed,
        figures.gaps,
        figures.trouble,
    )


def described(delivery: KinesisDelivery) -> dict[str, Any]:
    """For the process's status page."""
    destinations = {id_: report._asdict() for id_, report in delivery.reports().items()}
    return {"destinations": destinations, "unreachable": delivery.unreachable}
