"""The simulation of several regions must be able to fail: with each rule of replication switched off, one of the first
seeds shows it. Each test prints the seed that caught it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from itertools import count, islice
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.catalog import ReplicaStatus, TableRecord
from geodyne.messages import ApplyChanges, FeedPage
from geodyne.sim.globalfaults import draw
from geodyne.sim.globalrun import run_seed
from geodyne.sim.run import Outcome
from node.applying import Outcome as Applying
from node.entries import Decided
from node.feed import conflicts, tombstones
from node.group import Group
from node.state import GroupState
from node.window import Window
from replication import apply, service, values, watermarks
from replication.apply import Applier
from replication.backfill import PartitionScan
from replication.comparing import Comparing
from replication.progress import Progress
from replication.tail import Tail
from replication.values import Receipt, Ship
from replication.verify import Standing, Verifier
from replication.watermarks import Watermarks

SEEDS_MAX = 60
Mutation = Callable[[], AbstractContextManager[Any]]


def cursors_do_not_wait_for_receipts() -> AbstractContextManager[Any]:
    real = Progress.on_page

    def on_page(self: Progress, after: int, page: FeedPage) -> None:
        real(self, after, page)
        self.acknowledged = max(self.acknowledged, self.position)

    return patch.object(Progress, "on_page", on_page)


class _Contrary(bytes):
    """A version that is taken for smaller where it is larger."""

    def __le__(self, other: bytes) -> bool:
        return bytes(self) >= bytes(other)


def the_smaller_version_wins() -> AbstractContextManager[Any]:
    real = Group.apply_changes

    def apply_changes(self: Group, call: ApplyChanges, *rest: Any) -> None:
        changes = tuple(change._replace(version=_Contrary(change.version)) for change in call.changes)
        real(self, call._replace(changes=changes), *rest)

    return patch.object(Group, "apply_changes", apply_changes)


def deletions_leave_no_tombstones() -> AbstractContextManager[Any]:
    """What else a table of several regions has, promises of its leaders above all, goes on."""
    real = Applying.apply

    def apply(self: Applying, state: GroupState, window: Window, decided: Decided) -> None:
        real(self, state, window, decided)
        deleted = [effect[0] for effect in decided.effects if effect[1] is not None and effect[1].value is None]
        self.rows.update(dict.fromkeys(deleted))

    return patch.object(Applying, "apply", apply)


class _Everywhere(bytes):
    """The region of any version."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        return True


def arrived_changes_are_sent_on() -> AbstractContextManager[Any]:
    real = Tail.__init__

    def begin(self: Tail, *arguments: Any, **named: Any) -> None:
        real(self, *arguments, **named)
        self._own_region = ""
        self.progress._own = _Everywhere()

    return patch.object(Tail, "__init__", begin)


def _receipts(change: Callable[[Ship, Receipt], Receipt]) -> AbstractContextManager[Any]:
    real = Applier.submit

    def submit(self: Applier, ship: Ship, reply: Callable[[Receipt], None], *rest: Any) -> None:
        real(self, ship, lambda receipt: reply(change(ship, receipt)), *rest)

    return patch.object(Applier, "submit", submit)


def changes_from_the_future_are_dropped() -> AbstractContextManager[Any]:
    def change(ship: Ship, receipt: Receipt) -> Receipt:
        return Receipt(ship.id, values.Outcome.APPLIED) if receipt.outcome is values.Outcome.HELD else receipt

    return _receipts(change)


def failed_batches_are_acknowledged() -> AbstractContextManager[Any]:
    def change(ship: Ship, receipt: Receipt) -> Receipt:
        return Receipt(ship.id, values.Outcome.APPLIED) if receipt.outcome is values.Outcome.FAILED else receipt

    return _receipts(change)


def changes_from_the_future_are_applied() -> AbstractContextManager[Any]:
    return patch.object(apply, "CLOCK_SKEW_MS_MAX", 1 << 40)


def receipts_leave_before_it_is_applied() -> AbstractContextManager[Any]:
    real = Applier._enqueue

    def enqueue(self: Applier, table: Any, ship: Ship, reply: Callable[[Receipt], None], *rest: Any) -> None:
        reply(Receipt(ship.id, values.Outcome.APPLIED, len(ship.changes)))
        real(self, table, ship, lambda receipt: None, *rest)

    return patch.object(Applier, "_enqueue", enqueue)


def broken_streams_lose_what_was_on_its_way() -> AbstractContextManager[Any]:
    real = Progress._rewind

    def rewind(self: Progress, now_ms: int) -> None:
        self.acknowledged = self.position
        real(self, now_ms)

    return patch.object(Progress, "_rewind", rewind)


def trimmed_feeds_are_not_scanned() -> AbstractContextManager[Any]:
    real = Progress.on_page

    def on_page(self: Progress, after: int, page: FeedPage) -> None:
        real(self, after, page._replace(trimmed=False, next=max(page.head, page.next)) if page.trimmed else page)

    return patch.object(Progress, "on_page", on_page)


def scans_leave_rows_out() -> AbstractContextManager[Any]:
    real = PartitionScan._ship

    def ship(self: PartitionScan, changes: tuple[Any, ...]) -> None:
        real(self, changes[1:])

    return patch.object(PartitionScan, "_ship", ship)


def watermarks_do_not_wait_for_receipts() -> AbstractContextManager[Any]:
    real = Progress.on_page

    def on_page(self: Progress, after: int, page: FeedPage) -> None:
        real(self, after, page)
        if page.next >= page.head:
            self.watermark_us = max(self.watermark_us, page.safe_us)

    return patch.object(Progress, "on_page", on_page)


def watermarks_are_believed_while_a_replica_is_filled() -> AbstractContextManager[Any]:
    real = watermarks.sources_of

    def sources_of(table: TableRecord, own_region: str) -> tuple[str, ...]:
        return real(replace(table, replicas={**table.replicas, own_region: ReplicaStatus.ACTIVE}), own_region)

    stack = ExitStack()
    for module in (watermarks, service):
        stack.enter_context(patch.object(module, "sources_of", sources_of))
    return stack


def leaders_promise_too_much() -> AbstractContextManager[Any]:
    real = GroupState.promise

    def promise(self: GroupState, us: int) -> None:
        real(self, us)
        self.safe_us += 1_500_000

    return patch.object(GroupState, "promise", promise)


def tombstones_do_not_wait_for_watermarks() -> AbstractContextManager[Any]:
    return patch.object(Watermarks, "stable_us", lambda self, table_id, sources: 1 << 62)


def tombstones_go_at_once() -> AbstractContextManager[Any]:
    stack = ExitStack()
    stack.enter_context(tombstones_do_not_wait_for_watermarks())
    stack.enter_context(patch.object(tombstones, "_passed", lambda group, head: True))
    return stack


def what_a_writer_had_seen_is_not_told() -> AbstractContextManager[Any]:
    return patch.object(conflicts, "base_of", lambda prior, arrived: conflicts.NO_ROW)


def comparing_takes_delay_for_a_difference() -> AbstractContextManager[Any]:
    return patch.object(Verifier, "_standing", lambda self, pair, own, other: Standing.OWED)


def what_a_leaving_region_writes_goes_to_some_members() -> AbstractContextManager[Any]:
    return patch.object(Tail, "set_fence", lambda self, fence_us: None)


def regions_are_not_compared_when_one_was_removed() -> AbstractContextManager[Any]:
    return patch.object(Comparing, "_next_needed", lambda self: None)


MUTATIONS: dict[str, Mutation] = {
    "cursors do not wait for receipts": cursors_do_not_wait_for_receipts,
    "the smaller version wins": the_smaller_version_wins,
    "deletions leave no tombstones": deletions_leave_no_tombstones,
    "arrived changes are sent on": arrived_changes_are_sent_on,
    "changes from the future are dropped": changes_from_the_future_are_dropped,
    "changes from the future are applied": changes_from_the_future_are_applied,
    "failed batches are acknowledged": failed_batches_are_acknowledged,
    "receipts leave before it is applied": receipts_leave_before_it_is_applied,
    "broken streams lose what was on its way": broken_streams_lose_what_was_on_its_way,
    "trimmed feeds are not scanned": trimmed_feeds_are_not_scanned,
    "scans leave rows out": scans_leave_rows_out,
    "watermarks do not wait for receipts": watermarks_do_not_wait_for_receipts,
    "watermarks are believed while a replica is filled": watermarks_are_believed_while_a_replica_is_filled,
    "leaders promise too much": leaders_promise_too_much,
    "tombstones do not wait for watermarks": tombstones_do_not_wait_for_watermarks,
    "tombstones go at once": tombstones_go_at_once,
    "comparing takes delay for a difference": comparing_takes_delay_for_a_difference,
    "regions are not compared when one was removed": regions_are_not_compared_when_one_was_removed,
    "what a writer had seen is not told": what_a_writer_had_seen_is_not_told,
    "what a leaving region writes goes to some members": what_a_leaving_region_writes_goes_to_some_members,
}
SEEN_AS = {  # where another rule might be seen broken as well, and say nothing of this one
    "deletions leave no tombstones": "applies",
    "what a leaving region writes goes to some members": "leaves, and still sends",
}
OF_KIND = {  # what no other fault, or hardly any other, can show
    "regions are not compared when one was removed": "remove",
    "watermarks are believed while a replica is filled": "part",
    "what a leaving region writes goes to some members": "part",
}
QUICK = frozenset(
    (
        "cursors do not wait for receipts",
        "the smaller version wins",
        "deletions leave no tombstones",
        "arrived changes are sent on",
        "receipts leave before it is applied",
        "broken streams lose what was on its way",
        "scans leave rows out",
        "watermarks do not wait for receipts",
        "leaders promise too much",
        "tombstones go at once",
        "watermarks are believed while a replica is filled",
        "what a leaving region writes goes to some members",
        "what a writer had seen is not told",
    )
)


def hunt(mutation: Mutation, kind: str = "", text: str = "", seeds_max: int = SEEDS_MAX) -> Outcome | None:
    """The first seed that shows it by a problem with that text, of those with that kind of fault."""
    seeds = (seed for seed in count(1) if not kind or any(fault.kind == kind for fault in draw(seed)))
    for seed in islice(seeds, seeds_max):
        with mutation():
            outcome = run_seed(seed)
        if outcome.problem and text in outcome.problem:
            return outcome
    return None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in MUTATIONS]
)
def test_a_broken_rule_of_replication_is_seen(name: str) -> None:
    outcome = hunt(MUTATIONS[name], OF_KIND.get(name, ""), SEEN_AS.get(name, ""))
    assert outcome is not None, f"{name}: not seen in {SEEDS_MAX} seeds"
    assert outcome.problem.startswith("Violation: "), outcome.problem
    print(f"{name}: seed {outcome.seed}: {outcome.problem[:200]}")
