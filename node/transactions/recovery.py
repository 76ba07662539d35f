"""Asking the ledger on behalf of the partitions that this node leads.

Two reasons: a strong read met an item whose transaction may be decided; or a transaction has been prepared for too
long, because its coordinator died. Then this side decides: it writes the attempt among the cancelled ones, unless it is
committed; whatever the ledger says is carried out. Several may do so at once, and the coordinator may come back: the
ledger's row lets only one of the two outcomes happen.

Nothing runs while nothing is prepared.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from geodyne import ledger
from geodyne.errors import ApiError
from geodyne.ledger import LEDGER_TABLE, LedgerRow
from geodyne.messages import Found, Refused, Written
from geodyne.rpc.drive import drive
from node.group import Group
from node.storage.port import GroupDamaged
from node.transactions.participant import Decision, Reader
from node.transactions.state import Prepared

if TYPE_CHECKING:
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.transactions")

TICK_S = 0.5  # how often what is prepared is looked at, while anything is
LOOK_UP_MS = 2_000  # a reader waits no longer
CANCEL_MS = 5_000
ASKING_MAX = 256  # questions under way; the rest waits for the next tick, a reader is told to come back


class Recovery:
    """The duty of one node."""

    def __init__(self, service: NodeService) -> None:
        self._service = service
        self._watched: set[Group] = set()
        self._asking: set[tuple[int, bytes]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def adopt(self, group: Group) -> None:
        """A replica has come to life here."""
        group.participant.ask = lambda transaction: self._ask_for_readers(group, transaction)

    def watch(self, group: Group) -> None:
        """The group may hold transactions, and leads."""
        if group.participant.busy and not self._closed:
            self._watched.add(group)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        wall_us = self._service.clock.wall_us()
        watched, self._watched = self._watched, set()
        for group in watched:
            if not group.serving or self._service.groups.get(group.partition) is not group:
                continue
            for held in group.participant.overdue(wall_us):
                self._ask(group, held, cancel=True)
            self.watch(group)

    def _ask_for_readers(self, group: Group, transaction: bytes) -> None:
        held = group.participant.held(transaction)
        if held is None:
            readers = group.participant.take_readers(transaction)
            self._serve(group, readers, Decision.OPEN)
        else:
            self._ask(group, held, cancel=False)

    def _ask(self, group: Group, held: Prepared, *, cancel: bool) -> None:
        mark = (group.partition, held.transaction)
        if mark in self._asking:
            return  # who came meanwhile is served by the question after that one
        readers = group.participant.take_readers(held.transaction)
        if len(self._asking) >= ASKING_MAX:
            self._serve(group, readers, Decision.UNREACHABLE)
            return
        self._asking.add(mark)

        def answered(decision: Decision | None, error: BaseException | None) -> None:
            self._asking.discard(mark)
            if self._closed:
                return
            if error is not None:
                logger.error("the ledger's answer could not be read", exc_info=error)
            if group.serving and group.leading and self._service.groups.get(group.partition) is group:
                now_us = self._service.clock.wall_us()
                outcome = decision or Decision.UNREACHABLE
                if cancel and outcome in (Decision.COMMITTED, Decision.CANCELLED):
                    self._service.metrics.transactions_recovered.labels(outcome.name.lower()).inc()
                self._carry_out(group, held, outcome, readers, now_us)
                group.seal()  # this is no turn
                self._service.proposed(group)
                self._service.wake()
                if group.participant.awaited(held.transaction):
                    self._ask_for_readers(group, held.transaction)
            else:
                for reader in readers:
                    reader.asker.answer(group.not_leader())

        drive(self._decision(held, cancel), answered)

    def _carry_out(self, group: Group, held: Prepared, decision: Decision, readers: list[Reader], now_us: int) -> None:
        """What the ledger says; and the readers are answered, whatever damage is met."""
        try:
            group.participant.told(held.transaction, held.attempt, decision, now_us)
        except GroupDamaged as damage:  # it is prepared still: what is there to be read is not what was decided
            for reader in readers:
                reader.asker.answer(self._service.healing.answer(damage))
        else:
            self._serve(group, readers, decision)

    def _serve(self, group: Group, readers: list[Reader], decision: Decision) -> None:
        for reader in readers:
            try:
                group.participant.answer_reader(reader, decision)
            except GroupDamaged as damage:
                reader.asker.answer(self._service.healing.answer(damage))

    async def _decision(self, held: Prepared, cancel: bool) -> Decision:
        """What the ledger says of an attempt; with `cancel`, once it has been made to say something."""
        table = self._service.catalog.catalog.tables.get(LEDGER_TABLE)
        if table is None:
            return Decision.UNREACHABLE  # this copy of the catalog is behind
        at = ledger.ledger_key(table, held.transaction)
        client = self._service.region_link.client()
        try:
            if not cancel:
                found = await client.call(ledger.look_up(at), timeout_ms=LOOK_UP_MS)
                if not isinstance(found, Found):
                    return Decision.UNREACHABLE
                return _of(ledger.row_of(found.item), held.attempt) if found.item is not None else Decision.OPEN
            call = ledger.cancel(at, held.attempt, self._service.clock.wall_us())
            answer = await client.call(call, timeout_ms=CANCEL_MS)
        except ApiError:
            return Decision.UNREACHABLE
        if isinstance(answer, Written):
            logger.warning("a transaction without its coordinator was cancelled")
            return Decision.CANCELLED
        row = ledger.standing_row(answer) if isinstance(answer, Refused) else None
        return _of(row, held.attempt) if row is not None else Decision.UNREACHABLE


def _of(row: LedgerRow, attempt: int) -> Decision:
    if row.committed == attempt:
        return Decision.COMMITTED
    return Decision.CANCELLED if attempt in row.cancelled else Decision.OPEN
