"""The comparisons that a replicator makes: those that are asked for, and each table in turn in the background.

Of two regions the one whose name comes first compares in the background, so that nothing is done twice. What was found
last is kept for each table and other region.

Where a replica was removed or left, the catalog asks for a comparison of those that remain (TO_COMPARE of a table's
record): what the removed one had sent to some of them alone nobody sends on. Each region compares once it has dropped
that replica, so the last of two that does compares after both. Its differences are repaired, and it is made again until
it says "equal"; then the catalog is told. A restart begins it anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from geodyne.catalog import TO_COMPARE, ControlOperation, ReplicaStatus, TableRecord
from geodyne.errors import ApiError
from geodyne.ports import Clock
from replication.digests import NoAnswerError, OwnItems, PeerItems
from replication.link import DestinationLink
from replication.metrics import VerifiedFigures
from replication.ports import Region
from replication.steps import control
from replication.values import Command, Result
from replication.verify import PATIENCE_S, Comparison, Verdict, Verifier

log = logging.getLogger(__name__)

ASKED_AT_ONCE_MAX: Final = 4  # tables; comparing is work for the nodes
BACKGROUND_REST_S = 1.0  # between two questions: at most 16 leaves, of 256 rows or 256 KB, a second
FIRST_MS = 5 * 60_000  # after the start
AGAIN_MS = 6 * 3_600_000  # after the last comparison of a table
UNKNOWN_AGAIN_MS = 10 * 60_000  # and after one that came to nothing
LOOK_S = 5.0
NEEDED_FIRST_MS = 15_000  # after it is asked for: what had been taken before has been applied (APPLY_TIMEOUT_MS)
NEEDED_AGAIN_MS = 60_000  # after a comparison that the catalog asks for and that did not end with "equal"


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
        self._needed_ms: dict[tuple[str, str, int], int] = {}  # by table id, other region, revision: not before
        self._background: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loops: list[Coroutine[Any, Any, None]] = [self._run_background(), self._run_needed()]
        self._background = [asyncio.get_running_loop().create_task(each) for each in loops]

    async def close(self) -> None:
        tasks = [*self._running.values(), *self._background]
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
        how = {"rest_s": rest_s, "patience_s": PATIENCE_S}
        return Verifier(table, self._items, peer, self._own, self._clock, repair=repair, **how)

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

    async def _run_needed(self) -> None:
        """What the catalog asks for, one comparison at a time, at the pace of the others in the background."""
        while True:
            needed = self._next_needed()
            if needed is None:
                await asyncio.sleep(LOOK_S)
                continue
            table, other, revision = needed
            self._needed_ms[table.id, other, revision] = self._clock.lease_ms() + NEEDED_AGAIN_MS
            verifier = self._verifier(table, other, repair=True, rest_s=BACKGROUND_REST_S)
            await self._compare(table, verifier)
            if verifier.state.verdict is Verdict.EQUAL:
                await self._compared(table, other, revision)

    def _next_needed(self) -> tuple[TableRecord, str, int] | None:
        """A table and other region that are to be compared now, and the revision at which that was asked for."""
        first_ms = self._clock.lease_ms() + NEEDED_FIRST_MS
        needed = {
            (table.id, other, revision): (table, other, revision)
            for table in self._region.catalog.tables.values()
            for other, revision in table.extra.get(TO_COMPARE, {}).items()
            if other in self._links and table.replicas.get(other) == ReplicaStatus.ACTIVE
        }
        self._needed_ms = {key: self._needed_ms.get(key, first_ms) for key in needed}
        at_ms, key = min(((at_ms, key) for key, at_ms in self._needed_ms.items()), default=(0, None))
        return needed[key] if key is not None and at_ms <= self._clock.lease_ms() else None

    async def _compared(self, table: TableRecord, other: str, revision: int) -> None:
        """Tell the catalog. What it does not take is compared again."""
        active = ReplicaStatus.ACTIVE.value
        body = {"name": table.name, "table_id": table.id, "region": other, "status": active, "expected": active}
        try:
            await control(self._region, ControlOperation.SET_REPLICA.value, {**body, "compared": revision})
        except ApiError as error:
            log.warning("comparison not noted", extra={"table": table.name, "other": other, "reason": error.message})

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
