"""Whether the region of this router serves: a durable write and a strong read, again and again while somebody asks.

The first question begins the checks, and they end a while after the last one: a region that no global endpoint looks at
is left in peace. One check is under way at a time, and none begins sooner than EVERY_S after the one before. The region
serves while the last good check is not older than GOOD_FOR_S, which is more than an election takes with a check before
it: so the death of one node does not move the clients of a region elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from geodyne.catalog import ControlOperation, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.healthcheck import HEALTH_TABLE, check_calls
from geodyne.messages import Answer, Call, Control, Found, Moved, Refused, Written
from geodyne.rpc.drive import Reply

_log = logging.getLogger("geodyne.health")

EVERY_S: Final = 0.5
GOOD_FOR_S: Final = 2.5
ASKED_WITHIN_S: Final = 10.0
CALL_TIMEOUT_MS: Final = 2_500


class Catalog(Protocol):
    @property
    def tables(self) -> Mapping[str, TableRecord]: ...


class Region(Protocol):
    """What a check needs of a RegionClient."""

    @property
    def ready(self) -> bool: ...

    @property
    def catalog(self) -> Catalog: ...

    def call(self, call: Call, *, timeout_ms: int, request_id: str = "") -> Reply[Answer]: ...


class Verdict(NamedTuple):
    """What the checks say. `checked` False: none has ended yet, so nothing is known. Times in milliseconds; `age_ms` is
    since the last good check, None before one. `error` is that of the last check, "" when it was good."""

    healthy: bool
    checked: bool
    age_ms: int | None
    write_ms: float
    read_ms: float
    error: str


class _CheckFailed(Exception):
    """The text says what the check met."""


class HealthCheck(Collector):
    """The checks of one router, whose process id is `router`. Belongs to one loop."""

    def __init__(self, region: Region, router: str) -> None:
        self._region = region
        self._router = router
        self._running: asyncio.Task[None] | None = None
        self._asked_s = 0.0
        self._good_s: float | None = None
        self._checked = False
        self._unknown_here = False  # the nodes are of a version that has no such table
        self._error = ""
        self._write_ms = self._read_ms = 0.0
        self._number = 0
        self._outcomes = {"good": 0, "failed": 0}

    def verdict(self) -> Verdict:
        """What is known now; asking keeps the checks going."""
        loop = asyncio.get_running_loop()
        self._asked_s = now = loop.time()
        if self._running is None:
            self._checked, self._good_s, self._error = False, None, "not checked yet"
            self._running = loop.create_task(self._check_while_asked())
        age_s = None if self._good_s is None else now - self._good_s
        healthy = self._region.ready and (self._unknown_here or (age_s is not None and age_s <= GOOD_FOR_S))
        age_ms = None if age_s is None else int(age_s * 1_000)
        error = self._error if healthy or self._error else f"none has ended for {age_s or 0.0:.1f} s"
        return Verdict(healthy, self._checked, age_ms, self._write_ms, self._read_ms, error)

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def collect(self) -> Iterable[Metric]:
        checks = CounterMetricFamily(
            "geodyne_health_checks", "Writes and reads of the health check.", labels=("result",)
        )
        for result, count in self._outcomes.items():
            checks.add_metric((result,), count)
        yield checks
        yield GaugeMetricFamily(
            "geodyne_health_check_failing", "1 while checks fail.", float(self._checked and self._error != "")
        )

    async def _check_while_asked(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while (began := loop.time()) - self._asked_s <= ASKED_WITHIN_S:
                await self._check()
                await asyncio.sleep(max(0.0, EVERY_S - (loop.time() - began)))
        finally:
            self._running = None

    async def _check(self) -> None:
        try:
            await self._write_and_read()
        except (ApiError, _CheckFailed) as error:
            self._ended(str(error) if isinstance(error, _CheckFailed) else error.reason)
        else:
            self._good_s = asyncio.get_running_loop().time()
            self._ended("")

    def _ended(self, error: str) -> None:
        self._checked = True
        self._outcomes["failed" if error else "good"] += 1
        if error and not self._error:
            _log.warning("the health check fails", extra={"reason": error})
        elif self._error and not error:
            _log.info("the health check is good", extra={"write_ms": round(self._write_ms, 1)})
        self._error = error

    async def _write_and_read(self) -> None:
        """Raises ApiError or _CheckFailed."""
        table = await self._table()
        self._number += 1
        clock = asyncio.get_running_loop().time
        calls = check_calls(table, self._router, self._number)
        began = clock()
        self._expect(Written, "write", await self._region.call(calls.write, timeout_ms=CALL_TIMEOUT_MS))
        wrote = clock()
        found = await self._region.call(calls.read, timeout_ms=CALL_TIMEOUT_MS)
        self._expect(Found, "read", found)
        self._write_ms, self._read_ms = (wrote - began) * 1_000, (clock() - wrote) * 1_000
        if isinstance(found, Found) and found.item != calls.image:
            raise _CheckFailed("a strong read did not find what was written before it")

    def _expect(self, kind: type[Answer], what: str, answer: Answer) -> None:
        if isinstance(answer, Refused):
            raise _CheckFailed(f"the {what} was refused: {answer.message or answer.code}")
        if isinstance(answer, Moved):
            raise _CheckFailed("the partition of the check is moving")
        if not isinstance(answer, kind):
            raise _CheckFailed(f"the {what} was answered by {type(answer).__name__}")

    async def _table(self) -> TableRecord:
        """The table of the checks, made if there is none yet. Raises ApiError or _CheckFailed."""
        table = self._region.catalog.tables.get(HEALTH_TABLE)
        if table is not None and table.status is not TableStatus.CREATING:
            self._unknown_here = False
            return table
        if not self._region.ready:
            raise _CheckFailed("the region's catalog is not known yet")
        made = await self._region.call(Control(str(ControlOperation.ENSURE_HEALTH), {}), timeout_ms=CALL_TIMEOUT_MS)
        self._unknown_here = isinstance(made, Refused) and made.code == "UnknownOperationException"
        if self._unknown_here:
            raise _CheckFailed("the nodes of the region are of a version without the table of the check")
        raise _CheckFailed("the table of the check is being made")
