"""What a replicator has to do about a table's write mode, and when all that a region wrote is known to be elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from geodyne.catalog import TableRecord, TableStatus
from geodyne.messages import Change, FeedPage, FeedRecord
from geodyne.writemodes import WRITES, Mode, Stage, WriteMode
from replication.lifecycle import definition_of, in_transition
from replication.progress import Progress, ProgressSettings, Send
from replication.writes import HandWrites, TellWrites, WritesSpread, plan_writes, unsettled

MODE = WriteMode(Mode.ONE, "a", "", 3, 10, Stage.IN_FORCE)
STOPPED = replace(MODE, stage=Stage.STOPPED, to="b", attempt=7, stopped=9)


def table(mode: WriteMode | None, **more: Any) -> TableRecord:
    extra = {WRITES: mode.to_json()} if mode is not None else {}
    members = {"a": "ACTIVE", "b": "ACTIVE", "c": "ACTIVE"}
    known = ("T", "id", TableStatus.ACTIVE, 1, 0, "pk", "S", None, None, "PROVISIONED", 1, 1, ())
    return replace(TableRecord(*known, replicas=members, extra=extra), **more)


def test_a_mode_is_told_to_every_region_until_each_has_it_in_force() -> None:
    assert plan_writes("a", table(MODE), {}, {}) == [TellWrites("b", MODE.rank), TellWrites("c", MODE.rank)]
    older = replace(MODE, number=2).rank
    assert plan_writes("a", table(MODE), {"b": MODE.rank, "c": older}, {}) == [TellWrites("c", MODE.rank)]
    heard = {"b": MODE.rank, "c": MODE.rank}
    assert plan_writes("a", table(MODE), heard, {}) == [WritesSpread(3)]
    assert plan_writes("a", table(replace(MODE, stage=Stage.APPLYING)), heard, {}) == [], "not in force here yet"
    assert plan_writes("a", table(replace(MODE, stage=Stage.SPREAD)), {}, {}) == []


def test_a_region_that_goes_is_not_told() -> None:
    going = {"a": "ACTIVE", "b": "DELETING"}
    assert plan_writes("a", table(MODE, replicas=going), {}, {}) == [WritesSpread(3)]


def test_a_replica_that_could_not_be_made_holds_up_no_move() -> None:
    failed = {"a": "ACTIVE", "b": "CREATION_FAILED"}
    assert plan_writes("a", table(MODE, replicas=failed), {}, {}) == [WritesSpread(3)]


def test_writes_are_handed_over_once_everything_before_the_last_definition_is_there() -> None:
    assert plan_writes("a", table(replace(STOPPED, stage=Stage.STOPPING)), {}, {"b": 1 << 60}) == []
    assert plan_writes("a", table(STOPPED), {}, {}) == []
    assert plan_writes("a", table(STOPPED), {}, {"b": 8, "c": 9}) == []
    assert plan_writes("a", table(STOPPED), {}, {"b": 9}) == [HandWrites(7)]


def test_a_table_that_never_had_a_mode_asks_for_nothing() -> None:
    assert not unsettled(table(None))
    assert not in_transition(table(None), "a")
    assert in_transition(table(MODE), "a")
    assert not unsettled(table(MODE, status=TableStatus.DELETING))


def test_a_new_replica_is_made_with_the_mode_and_nothing_of_a_move() -> None:
    made = WriteMode.from_json(definition_of(table(STOPPED))["extra"][WRITES])
    assert made == MODE.anew()
    assert made.stage is Stage.APPLYING
    assert WRITES not in definition_of(table(None))["extra"]


# --- how far a tail is --------------------------------------------------------------------------------------


def change(sequence: int) -> FeedRecord:
    return FeedRecord(sequence, Change(b"k", (sequence).to_bytes(8, "big") + b"a", b"{}", 2), None)


def started() -> Progress:
    progress = Progress("a", ProgressSettings())
    progress.on_connected()
    progress.decide(0)
    return progress


def test_a_definition_is_passed_when_all_before_it_is_acknowledged() -> None:
    progress = started()
    progress.on_page(-1, FeedPage((change(1),), 1, 1, False, 5, 9))
    (number,) = [one.batch.number for one in progress.decide(0) if isinstance(one, Send)]
    assert progress.passed_revision == 0
    progress.on_applied(number)
    assert progress.passed_revision == 9


def test_a_page_that_does_not_reach_the_head_passes_no_definition() -> None:
    progress = started()
    progress.on_page(-1, FeedPage((change(1),), 1, 2, False, 5, 9))
    (number,) = [one.batch.number for one in progress.decide(0) if isinstance(one, Send)]
    progress.on_applied(number)
    assert progress.passed_revision == 0


def test_while_rows_are_sent_instead_of_changes_no_definition_is_passed() -> None:
    progress = started()
    progress.on_page(-1, FeedPage((), 1, 1, True))
    progress.decide(0)
    progress.on_page(1, FeedPage((), 1, 1, False, 5, 9))
    assert progress.passed_revision == 0
