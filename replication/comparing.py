"""The comparisons that a replicator makes: those that are asked for, and each table in turn in the background.

Of two regions the one whose name comes first compares in the background, so that nothing is done twice. What was found
last is kept for each table and other region.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from geodyne.catalog import ReplicaStatus, TableRecord
from geodyne.ports import Clock
from replication.digests import NoAnswerError, OwnItems, PeerItems
from replication.link import DestinationLink
from replication.metrics import VerifiedFigures
from replication.ports import Region
from replication.values import Command, Result
from replication.verify import Comparison, Verdict, Verifier

log = logging.getLogger(__name__)

ASKED_AT_ONCE_MAX: Final = 4  # tables; comparing is work for the nodes
BACKGROUND_REST_S = 1.0  # between two questions: at most 16 leaves, of 256 rows or 256 KB, a second
FIRST_MS = 5 * 60_000  # after the start
AGAIN_MS = 6 * 3_600_000  # after the last comparison of a table
UNKNOWN_AGAIN_MS = 10 * 60_000  # and after one that came to nothing
LOOK_S = 5.0


class Comparing:
    """All comparisons of one replicator. `own_items` also answers what other regions ask."""

    def __init__(
        self, own: str, region: Region, own_items: OwnItems, links: Mapping[str, DestinationLink], clock: Clock
    ) -> None:
        self._own = own
        self._region = region
        self._items = own_items
        self._links = links
        self._clock = clock
        self._asked: dict[str, list[Comparison]] = {}  # by table id: the last that was asked for
        self._running: dict[str, asyncio.Task[None]] = {}  # by table id
        self._due_ms: dict[tuple[str, str], int] = {}  # by table id and other region, in the background
        self._verified: dict[tuple[str, str], tuple[float, int]] = {}  # likewise: (Unix time, items that differ)
        self._started_ms = clock.lease_ms()
        self._background: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._background = asyncio.get_running_loop().create_task(self._run_background())

    async def close(self) -> None:
        tasks = [*self._running.values(), *([self._background] if self._background is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def on_command(self, command: Command) -> Result:
        """What another region asks."""
        return await self._items.on_command(command)

    # --- asked for

    def administer(self, request: dict[str, Any]) -> dict[str, Any]:
        """{"result": {"running", "comparisons"}} or {"error"} of {"operation": "start" or "show", "table", "repair"}. A
        start while one runs joins it."""
        try:
            table = self._items.table(str(request.get("table")))
        except NoAnswerError as error:
            return {"error": str(error)}
        match request.get("operation"):
            case "start":
                if table.id not in self._running:
                    if len(self._running) >= ASKED_AT_ONCE_MAX:
                        return {"error": "too many tables are being compared"}
                    self._begin(table, bool(request.get("repair")))
            case "show":
                pass
            case _:
                return {"error": "the operation must be start or show"}
        comparisons = [each.to_json() for each in self._asked.get(table.id, ())]
        running = table.id in self._running
        return {"result": {"region": self._own, "running": running, "comparisons": comparisons}}

    def _begin(self, table: TableRecord, repair: bool) -> None:
        verifiers = [self._verifier(table, name, repair=repair) for name in self._others(table)]
        known = {each.id for each in self._region.catalog.tables.values()}
        self._asked = {table_id: asked for table_id, asked in self._asked.items() if table_id in known}
        self._asked[table.id] = [verifier.state for verifier in verifiers]
        self._running[table.id] = asyncio.get_running_loop().create_task(self._run(table, verifiers))

    async def _run(self, table: TableRecord, verifiers: list[Verifier]) -> None:
        try:
            for verifier in verifiers:
                await self._compare(table, verifier)
        finally:
            del self._running[table.id]

    def _others(self, table: TableRecord) -> list[str]:
        """All replicas, those under construction too: of them nothing is known, and that is said."""
        return sorted(name for name in table.replicas if name in self._links)

    def _verifier(self, table: TableRecord, other: str, *, repair: bool = False, rest_s: float = 0.0) -> Verifier:
        peer = PeerItems(self._links[other])
        return Verifier(table, self._items, peer, self._own, self._clock, repair=repair, rest_s=rest_s)

    async def _compare(self, table: TableRecord, verifier: Verifier) -> None:
        state = verifier.state
        try:
            await verifier.run()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a defect of ours, or an answer that makes no sense, is a verdict: not known
            log.exception("comparison failed", extra={"table": table.name, "other": state.other})
            state.reason, state.verdict = repr(error), Verdict.UNKNOWN
        key = table.id, state.other
        unknown = state.verdict is Verdict.UNKNOWN
        if not unknown:
            self._verified[key] = self._clock.wall_us() / 1e6, state.differing - state.repaired
        self._due_ms[key] = self._clock.lease_ms() + (UNKNOWN_AGAIN_MS if unknown else AGAIN_MS)

    # --- in the background

    async def _run_background(self) -> None:
        while True:
            due = self._next_due()
            if due is None:
                await asyncio.sleep(LOOK_S)
                continue
            table, other = due
            await self._compare(table, self._verifier(table, other, rest_s=BACKGROUND_REST_S))

    def _next_due(self) -> tuple[TableRecord, str] | None:
        """The complete table and other region that have waited longest, when their time has come."""
        wanted = {
            (table.id, other): (table, other)
            for table in self._region.catalog.tables.values()
            for other in self._others(table)
            if table.replicas[other] == ReplicaStatus.ACTIVE
        }
        self._due_ms = {key: due_ms for key, due_ms in self._due_ms.items() if key in wanted}
        self._verified = {key: figures for key, figures in self._verified.items() if key in wanted}
        first_ms = self._started_ms + FIRST_MS
        due = [(self._due_ms.get(key, first_ms), key) for key in wanted if self._own < key[1]]
        due_ms, key = min(due, default=(first_ms, None))
        if key is None or due_ms > self._clock.lease_ms():
            return None
        return wanted[key]

    def figures(self) -> list[VerifiedFigures]:
        """One entry for each other region with which a table was compared: the oldest time, and all that differs."""
        times: dict[str, float] = {}
        differing: dict[str, int] = {}
        for (_, other), (time_s, count) in self._verified.items():
            times[other] = min(time_s, times.get(other, time_s))
            differing[other] = differing.get(other, 0) + count
        return [VerifiedFigures(self._own, other, times[other], differing[other]) for other in sorted(times)]
