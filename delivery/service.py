"""All runners of a region, kept in step with its catalog and its mappings.

One such service runs in a region: two would deliver everything twice, and out of order with each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from delivery.archive import ArchiveFunction
from delivery.destinations import open_destination
from delivery.events import Source
from delivery.functions import Function
from delivery.httpcalls import HttpFunction
from delivery.ports import Region
from delivery.runner import Figures, Runner, Surroundings
from delivery.stream import RegionStream
from delivery.worker import PythonFunction
from geodyne.catalog import TableRecord
from geodyne.streams import stream_arn
from geodyne.triggers.functions import ARCHIVE, HTTP, FunctionSpec
from geodyne.triggers.mapping import Mapping as EventSourceMapping

log = logging.getLogger(__name__)

LOOK_S = 0.25  # between two looks at catalog and mappings that nobody asked for
WORKERS_MAX = 16  # processes of one Python function; further calls wait


class Mappings(Protocol):
    """The mappings and functions of the region, as they are now."""

    def mappings(self) -> Sequence[EventSourceMapping]: ...

    def function(self, name: str) -> FunctionSpec | None:
        """None: there is no such function, or not yet; mappings to it wait."""


class Status(NamedTuple):
    """One mapping, for the API and for people."""

    last_result: str
    trouble: str
    partitions: int
    pending_records: int
    lag_s: float  # age of the oldest record that was read and has not ended; 0 when there is none
    calls: int
    failed_calls: int
    delivered: int
    filtered: int
    discarded: int
    kept: int  # of the discarded: the destination has them
    gaps: int


class _Key(NamedTuple):
    mapping: str
    partition: int
    epoch: int


class _Wanted(NamedTuple):
    mapping: EventSourceMapping
    spec: FunctionSpec
    source: Source


class Deliverer:
    """Runs every enabled mapping at every partition of its table."""

    def __init__(
        self,
        own_region: str,
        account: str,
        region: Region,
        mappings: Mappings,
        surroundings: Surroundings,
        make_figures: Callable[[], Figures] = Figures,
    ) -> None:
        """`account` is the one in ARNs. `make_figures` makes those of a mapping, with its observers."""
        self._own = own_region
        self._account = account
        self._region = region
        self._mappings = mappings
        self._surroundings = surroundings
        self._make_figures = make_figures
        self._runners: dict[_Key, tuple[_Wanted, Runner]] = {}
        self._closing: dict[_Key, asyncio.Task[None]] = {}
        self._functions: dict[str, tuple[FunctionSpec, Function]] = {}
        self._retired: set[asyncio.Task[None]] = set()  # functions that are being closed
        self._figures: dict[str, Figures] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Runners first, so that bookmarks are committed while there still is somebody to commit them."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(runner.close() for _, runner in self._runners.values()), *self._closing.values())
        self._runners.clear()
        await asyncio.gather(*(function.close() for _, function in self._functions.values()), *self._retired)
        self._functions.clear()

    def wake(self) -> None:
        """Look in the next loop turn, because something has changed."""
        self._wake.set()

    def status(self, mapping: str) -> Status | None:
        """None: nothing is known of such a mapping; it is disabled, or was never seen."""
        figures = self._figures.get(mapping)
        if figures is None:
            return None
        progress = [runner.progress for key, (_, runner) in self._runners.items() if key.mapping == mapping]
        oldest_us = min((p.pending_since_us for p in progress if p.pending_since_us), default=0)
        lag_us = self._surroundings.clock.wall_us() - oldest_us if oldest_us else 0
        return Status(
            figures.last_result,
            figures.trouble,
            len(progress),
            sum(p.pending_records for p in progress),
            max(lag_us, 0) / 1e6,
            figures.calls,
            figures.failed_calls,
            figures.delivered,
            figures.filtered,
            figures.discarded,
            figures.kept,
            figures.gaps,
        )

    def statuses(self) -> dict[str, Status]:
        """All mappings that run, by uuid."""
        return {uuid: status for uuid in self._figures if (status := self.status(uuid)) is not None}

    # --- following

    async def _follow(self) -> None:
        while True:
            try:
                self._look()
            except Exception:  # a defect in one look must not end all triggers
                log.exception("following the mappings failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            self._wake.clear()

    def _look(self) -> None:
        wanted = self._wanted()
        for key, (current, runner) in list(self._runners.items()):
            if wanted.get(key) != current:
                del self._runners[key]
                self._closing[key] = self._spawn(runner.close())
        for key in [key for key, task in self._closing.items() if task.done()]:
            del self._closing[key]
        self._retire_functions({one.spec.name: one.spec for one in wanted.values()})
        seen = {one.mapping.uuid for one in wanted.values()}
        for uuid in self._figures.keys() - seen:
            del self._figures[uuid]
        for key, one in wanted.items():
            # The one before it must have ended: two at a time would mix up the order, and their bookmarks.
            if key not in self._runners and key not in self._closing:
                self._runners[key] = (one, self._start(one))
        if self._surroundings.budget.has_room:
            for _, runner in self._runners.values():
                runner.wake()

    def _start(self, one: _Wanted) -> Runner:
        mapping, source = one.mapping, one.source
        stream = RegionStream(
            self._region,
            partition=source.partition,
            epoch=source.epoch,
            label=mapping.stream_label,
            bookmark=mapping.bookmark,
        )
        runner = Runner(
            mapping,
            source,
            stream=stream,
            function=self._function(one.spec),
            function_arn=self._function_arn(one.spec.name),
            destination=open_destination(mapping.on_failure),
            figures=self._figures_of(mapping.uuid),
            surroundings=self._surroundings,
        )
        runner.start()
        return runner

    def _figures_of(self, uuid: str) -> Figures:
        if uuid not in self._figures:
            self._figures[uuid] = self._make_figures()
        return self._figures[uuid]

    def _wanted(self) -> dict[_Key, _Wanted]:
        wanted: dict[_Key, _Wanted] = {}
        tables: Mapping[str, TableRecord] = self._region.catalog.tables
        for mapping in self._mappings.mappings():
            table = tables.get(mapping.table)
            spec = self._mappings.function(mapping.function)
            if not mapping.enabled or table is None or spec is None or mapping.bookmark not in table.bookmarks:
                continue
            view = next((stream.view for stream in table.streams if stream.label == mapping.stream_label), None)
            if view is None:
                continue
            arn = stream_arn(self._own, self._account, table.name, mapping.stream_label)
            schema = table.key_schema
            for partition in table.partitions:
                source = Source(arn, self._own, view, schema, partition.id, partition.epoch)
                wanted[_Key(mapping.uuid, partition.id, partition.epoch)] = _Wanted(mapping, spec, source)
        return wanted

    # --- functions

    def _function(self, spec: FunctionSpec) -> Function:
        known = self._functions.get(spec.name)
        if known is not None:
            return known[1]
        arn = self._function_arn(spec.name)
        function: Function
        if spec.kind == HTTP:
            function = HttpFunction(spec, arn=arn)
        elif spec.kind == ARCHIVE:
            function = ArchiveFunction(spec, region=self._own)
        else:
            function = PythonFunction(spec, arn=arn, region=self._own, workers_max=WORKERS_MAX)
        self._functions[spec.name] = (spec, function)
        return function

    def _retire_functions(self, wanted: Mapping[str, FunctionSpec]) -> None:
        """Runners of a function that has changed are being closed already: their calls end with them."""
        for name, (spec, function) in list(self._functions.items()):
            if wanted.get(name) != spec:
                del self._functions[name]
                task = self._spawn(function.close())
                self._retired.add(task)
                task.add_done_callback(self._retired.discard)

    def _function_arn(self, name: str) -> str:
        return f"arn:aws:lambda:{self._own}:{self._account}:function:{name}"

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)
