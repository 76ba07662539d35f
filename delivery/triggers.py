"""The triggers of a region as its catalog has them, run on one region client: in a process of their own, or beside a
router and a node in `geodyne dev`.

Until the region has a mapping there is nothing but a look at the catalog after each of its changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol, TypeVar
from uuid import UUID

from delivery.ports import CatalogCopy, Region
from delivery.runner import NOTHING_YET, STREAM_FAILED, Budget, Figures, Surroundings
from delivery.service import Deliverer, Status
from geodyne.catalog import ControlOperation, MappingState
from geodyne.errors import ApiError
from geodyne.messages import Control, ControlDone
from geodyne.ports import Clock
from geodyne.streams import ACCOUNT_ID
from geodyne.triggers.functions import FunctionSpec
from geodyne.triggers.functions import check as check_function
from geodyne.triggers.mapping import Mapping as EventSourceMapping
from geodyne.triggers.mapping import check as check_mapping

log = logging.getLogger(__name__)

REPORT_EVERY_S = 10.0  # between two reports of what became of the mappings' batches
REPORT_TIMEOUT_MS = 2_500

Record = Mapping[str, Any]
Value = TypeVar("Value")


class TriggerCatalog(CatalogCopy, Protocol):
    """The catalog's copy with its records of triggers, as JSON. An unchanged record is the same object as before."""

    @property
    def mappings(self) -> Mapping[str, Record]:
        """By uuid."""

    @property
    def functions(self) -> Mapping[str, Record]:
        """By name."""


class TriggerRegion(Region, Protocol):
    @property
    def region(self) -> str: ...

    @property
    def catalog(self) -> TriggerCatalog: ...


class CatalogMappings:
    """Implements delivery.service.Mappings. Records are parsed once; one that makes no sense here (a later version has
    written it) counts as absent, visibly."""

    def __init__(self, catalog: TriggerCatalog) -> None:
        self._catalog = catalog
        self._parsed: dict[str, tuple[Record, EventSourceMapping | None]] = {}
        self._specs: dict[str, tuple[Record, FunctionSpec | None]] = {}

    def mappings(self) -> Sequence[EventSourceMapping]:
        records = self._catalog.mappings
        for uuid in self._parsed.keys() - records.keys():
            del self._parsed[uuid]
        found = [
            _kept(self._parsed, uuid, record, _mapping_of)
            for uuid, record in records.items()
            if record.get("state") != MappingState.CREATING  # some partition does not know its bookmark yet
        ]
        return [mapping for mapping in found if mapping is not None]

    def function(self, name: str) -> FunctionSpec | None:
        record = self._catalog.functions.get(name)
        if record is None:
            self._specs.pop(name, None)
            return None
        return _kept(self._specs, name, record, _function_of)


def _mapping_of(record: Record) -> EventSourceMapping:
    """Raises ValueError for one that cannot run here: it must not keep the others from running."""
    mapping = EventSourceMapping.from_record(record)
    check_mapping(mapping)
    return mapping


def _function_of(record: Record) -> FunctionSpec:
    """Raises ValueError, likewise."""
    spec = FunctionSpec.from_record(record)
    check_function(spec)
    return spec


def _kept(
    parsed: dict[str, tuple[Record, Value | None]], name: str, record: Record, parse: Callable[[Record], Value]
) -> Value | None:
    known = parsed.get(name)
    if known is None or known[0] is not record:
        value: Value | None = None
        try:
            value = parse(record)
        except (TypeError, AttributeError, ValueError) as error:
            log.error("a record of a trigger is not understood", extra={"record": name, "cause": repr(error)})
        known = parsed[name] = (record, value)
    return known[1]


class Triggers:
    """Start it once the region client is started; close it before the client."""

    def __init__(
        self, region: TriggerRegion, *, clock: Clock, random: Random, make_figures: Callable[[], Figures] = Figures
    ) -> None:
        self._region = region
        self._make_figures = make_figures
        self._surroundings = Surroundings(
            clock, random, lambda: str(UUID(int=random.getrandbits(128), version=4)), Budget()
        )
        self._deliverer: Deliverer | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._closed = False

    def wake(self) -> None:
        """The catalog has changed."""
        if self._closed:
            return
        if self._deliverer is not None:
            self._deliverer.wake()
        elif self._region.catalog.mappings:
            self._start()

    def _start(self) -> None:
        region = self._region
        mappings = CatalogMappings(region.catalog)
        self._deliverer = Deliverer(region.region, ACCOUNT_ID, region, mappings, self._surroundings, self._make_figures)
        self._deliverer.start()
        self._reporting = asyncio.get_running_loop().create_task(self._report())

    async def close(self) -> None:
        """Calls under way may end if they end soon; bookmarks are committed."""
        self._closed = True
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        if self._deliverer is not None:
            await self._deliverer.close()

    def statuses(self) -> Mapping[str, Status]:
        """The mappings that run, by uuid."""
        return self._deliverer.statuses() if self._deliverer is not None else {}

    # --- what the Lambda API shows as LastProcessingResult

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            try:
                await self._report_changes()
            except Exception:  # a defect here must not end the reports of all others
                log.exception("reporting what became of mappings failed")

    async def _report_changes(self) -> None:
        for uuid, status in self.statuses().items():
            record = self._region.catalog.mappings.get(uuid)
            if record is None or not _is_news(status.last_result, str(record.get("result", ""))):
                continue
            report = Control(ControlOperation.MAPPING_RESULT, {"uuid": uuid, "result": status.last_result})
            try:
                answer = await self._region.call(report, timeout_ms=REPORT_TIMEOUT_MS)
            except ApiError as error:
                log.info("the result of a mapping was not taken", extra={"mapping": uuid, "cause": error.message})
                return  # for this time: the region does not answer
            if not isinstance(answer, ControlDone):
                log.info("the result of a mapping was not taken", extra={"mapping": uuid, "cause": str(answer)})


def _is_news(result: str, told: str) -> bool:
    """That no batch has ended since this process started says nothing of the one before, but that the stream can be
    read."""
    return result != told and (result != NOTHING_YET or told == STREAM_FAILED)
