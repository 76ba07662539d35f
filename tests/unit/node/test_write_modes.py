"""Write modes of a global table: what a leader takes, and how the catalog passes writes from region to region."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import orjson
import pytest

from geodyne.catalog import ReplicaStatus, TableStatus
from geodyne.errors import ApiError
from geodyne.messages import Refused, Write, WriteKind, Written
from geodyne.model.version import make
from geodyne.writemodes import Mode, Stage, WriteMode, write_mode
from node.catalog.controller import plan
from node.catalog.keeper import told_revision
from node.catalog.machine import Catalog, evaluate
from node.catalog.writemodes import MOVE_MS_MAX
from node.engine.writemode import WriteRule, expires_here, rule_of
from node.engine.writes import evaluate as judged
from node.state import Definition, GroupState, definition_of
from node.storage.port import Row
from node.transactions.state import Prepared, PreparedItem
from node.window import Window
from tests.unit.node.test_index_catalog import AROUND, global_table, led, refused, run, settle, the_table
from tests.unit.node.test_leaving import conclude, leaving

OWN, OTHER, THIRD = "us-east-1", "eu-west-1", "ap-south-1"
HOME = WriteRule(OWN, OTHER, "home", regions=(OTHER, OWN))
VERSION = make(1, OTHER.encode())


def item(home: Any = None, **more: Any) -> bytes:
    attributes = {"pk": {"S": "a"}, **({"home": home} if home is not None else {}), **more}
    return orjson.dumps(attributes)


def put(image: bytes) -> Write:
    return Write(1, 1, WriteKind.PUT, b"k", image, len(image))


def delete(**more: Any) -> Write:
    return Write(1, 1, WriteKind.DELETE, b"k", b"", 0, **more)


def answer(write: Write, stored: bytes | None, rule: WriteRule) -> str:
    """The message of a refusal, "" when it is taken."""
    prior = Row(stored, VERSION, len(stored)) if stored is not None else None
    verdict = judged(write, prior, (), rule)
    if isinstance(verdict.answer, Written):
        return ""
    assert isinstance(verdict.answer, Refused)
    assert not verdict.changed
    assert verdict.answer.code == "AccessDeniedException"
    return verdict.answer.message


# --- what a leader takes ------------------------------------------------------------------------------------


def test_with_one_active_region_the_others_take_no_write_and_name_it() -> None:
    rule = WriteRule(OWN, OTHER)
    for write in (put(item()), delete()):
        assert answer(write, None, rule) == f"Writes of this table are taken in {OTHER} only"
        assert answer(write, None, WriteRule(OWN, OWN)) == ""


def test_a_region_that_passes_writes_on_takes_none_and_names_the_next() -> None:
    assert OTHER in answer(put(item()), None, WriteRule(OWN, OWN, to=OTHER))


def test_a_condition_check_is_no_write() -> None:
    check = Write(1, 1, WriteKind.CHECK, b"k", b"", 0)
    assert answer(check, None, WriteRule(OWN, OTHER)) == ""


def test_a_refusal_says_nothing_of_the_condition() -> None:
    write = delete(condition="attribute_exists(pk)", return_on_failure=True)
    assert answer(write, None, WriteRule(OWN, OTHER)).startswith("Writes of this table")


@pytest.mark.parametrize(
    ("stored", "image", "said"),
    [
        (None, item({"S": OWN}), ""),
        (None, item({"S": OTHER}), f"A new item whose attribute home names {OTHER} is written in {OTHER}"),
        (None, item(), "A new item needs the attribute home"),
        (None, item({"S": "mars-1"}), "A new item needs the attribute home"),
        (None, item({"N": "1"}), "A new item needs the attribute home"),
        (item({"S": OWN}), item({"S": OWN}, v={"S": "x"}), ""),
        (item({"S": OWN}), item({"S": OTHER}), ""),
        (item({"S": OWN}), item(), "The attribute home must name a region of the table"),
        (item({"S": OTHER}), item({"S": OWN}), f"The item is written in {OTHER} only"),
        (item({"S": OTHER}), item({"S": OTHER}, v={"S": "x"}), f"The item is written in {OTHER} only"),
        (item(), item({"S": OWN}), f"The item's attribute home names no region of the table: it is written in {OTHER}"),
        (item({"S": "mars-1"}), item({"S": OWN}), "The item's attribute home names no region of the table"),
    ],
)
def test_an_item_is_written_where_it_is_at_home(stored: bytes | None, image: bytes, said: str) -> None:
    text = answer(put(image), stored, HOME)
    assert text.startswith(said) if said else not text


def test_items_without_a_home_are_written_in_one_region_which_must_give_them_one() -> None:
    rule = HOME._replace(active=OWN)
    assert answer(put(item({"S": OTHER})), item(), rule) == ""
    assert answer(delete(), item(), rule) == ""
    assert answer(put(item(v={"S": "x"})), item(), rule).startswith("The attribute home must name")


def test_deleting_follows_the_home_and_deleting_nothing_is_allowed() -> None:
    assert answer(delete(), item({"S": OWN}), HOME) == ""
    assert answer(delete(), item({"S": OTHER}), HOME).startswith(f"The item is written in {OTHER}")
    assert answer(delete(), None, HOME) == ""


def test_an_item_expires_where_it_may_be_written() -> None:
    assert expires_here(None, item())
    assert expires_here(HOME, item({"S": OWN}))
    assert not expires_here(HOME, item({"S": OTHER}))
    assert Definition(ttl="t", writes=WriteRule(OWN, OTHER)).deletes_by == ""
    assert Definition(ttl="t", writes=WriteRule(OWN, OWN)).deletes_by == "t"
    assert Definition(ttl="t", writes=HOME).deletes_by == "t"


def test_the_rule_is_in_the_log_as_it_is() -> None:
    for rule in (None, HOME, WriteRule(OWN, OWN, to=OTHER)):
        assert Definition.from_wire(Definition(writes=rule).to_wire()).writes == rule
    assert rule_of(WriteMode(), OWN, ()) is None


class _Led(NamedTuple):
    """What `told_revision` asks of a group."""

    state: GroupState
    window: Window


@pytest.mark.parametrize("rule", [WriteRule(OWN, OWN, to=OTHER), WriteRule(OWN, OTHER)])
def test_a_stop_is_told_once_no_transaction_that_writes_is_prepared(rule: WriteRule) -> None:
    group = _Led(GroupState(), Window())
    group.state.define(Definition(7, writes=rule))
    prepared = group.window.transactions.prepared
    prepared[b"t"] = Prepared(b"t", 1, b"", (PreparedItem(b"k", False, None, 0),), (), 0)
    assert told_revision(group) == 7  # type: ignore[arg-type]
    prepared[b"u"] = Prepared(b"u", 1, b"", (PreparedItem(b"k", True, b"{}", 2),), (), 0)
    assert told_revision(group) == 0  # type: ignore[arg-type]
    group.state.define(Definition(7, writes=WriteRule(OWN, OWN)))
    assert told_revision(group) == 7, "this one goes on"  # type: ignore[arg-type]


# --- how the catalog changes it -----------------------------------------------------------------------------


def asked(catalog: Catalog, **change: Any) -> WriteMode:
    run(catalog, "set_writes", {"name": "T", **change})
    return write_mode(the_table(catalog))


def told(catalog: Catalog, mode: WriteMode) -> WriteMode:
    """By another region's replicator."""
    run(catalog, "set_writes", {"name": "T", "as_replica": True, "mode_record": mode.to_json()})
    return write_mode(the_table(catalog))


def reported(catalog: Catalog, **result: int) -> WriteMode:
    run(catalog, "writes_result", {"name": "T", **result})
    return write_mode(the_table(catalog))


def with_other() -> Catalog:
    catalog = global_table()
    table = the_table(catalog)
    for region, status in table.replicas.items():
        if status != ReplicaStatus.ACTIVE:
            run(catalog, "set_replica", {"name": "T", "region": region, "status": "ACTIVE"})
    return catalog


def the_other(catalog: Catalog) -> str:
    return next(region for region in the_table(catalog).replicas if region != OWN)


def one_everywhere() -> Catalog:
    catalog = with_other()
    mode = asked(catalog, mode="one", active=OWN)
    settle(catalog)
    assert reported(catalog, spread=mode.number).stage is Stage.SPREAD
    return catalog


def stopped() -> Catalog:
    catalog = one_everywhere()
    asked(catalog, active=the_other(catalog))
    settle(catalog)
    return catalog


def rule(catalog: Catalog) -> WriteRule | None:
    return definition_of(the_table(catalog), OWN).writes


def test_a_mode_is_applied_by_all_partitions_before_it_is_in_force() -> None:
    catalog = with_other()
    before = the_table(catalog).revision
    mode = asked(catalog, mode="one")
    assert (mode.mode, mode.active, mode.stage) == (Mode.ONE, OWN, Stage.APPLYING)
    table = the_table(catalog)
    assert table.revision > before
    first, *_ = table.partitions
    assert not any(name == "writes_applied" for name, _ in plan(catalog, {**led(catalog), first.id: before}))
    settle(catalog)
    assert write_mode(the_table(catalog)).stage is Stage.IN_FORCE


def test_writes_pass_on_in_steps_and_the_last_makes_the_other_region_active() -> None:
    catalog = one_everywhere()
    other = the_other(catalog)
    mode = asked(catalog, active=other)
    assert (mode.stage, mode.active, mode.to) == (Stage.STOPPING, OWN, other)
    assert rule(catalog) == WriteRule(OWN, OWN, to=other)
    settle(catalog)
    mode = write_mode(the_table(catalog))
    assert mode.stage is Stage.STOPPED
    assert mode.stopped == the_table(catalog).revision > mode.attempt, "it is logged once more"
    after = reported(catalog, handed=mode.attempt)
    assert (after.active, after.number, after.moving) == (other, mode.number + 1, False)
    assert rule(catalog) == WriteRule(OWN, other)


def test_a_move_can_be_given_up_until_it_is_handed_over_and_then_its_report_changes_nothing() -> None:
    catalog = stopped()
    attempt = write_mode(the_table(catalog)).attempt
    mode = asked(catalog, active=OWN)
    assert (mode.active, mode.moving) == (OWN, False)
    assert rule(catalog) == WriteRule(OWN, OWN)
    settle(catalog)
    reported(catalog, spread=mode.number)
    asked(catalog, active=the_other(catalog))
    settle(catalog)
    assert write_mode(the_table(catalog)).stage is Stage.STOPPED
    assert reported(catalog, handed=attempt).moving, "the first attempt's"


def test_a_move_that_takes_too_long_is_given_up() -> None:
    catalog = stopped()
    assert plan(catalog, led(catalog), AROUND.now_ms + MOVE_MS_MAX - 1) == []
    due = plan(catalog, led(catalog), AROUND.now_ms + MOVE_MS_MAX)
    assert [name for name, _ in due] == ["writes_given_up"]
    for operation, body in due:
        run(catalog, operation, body)
    assert rule(catalog) == WriteRule(OWN, OWN)
    assert not write_mode(the_table(catalog)).moving


def test_the_same_move_asked_for_again_goes_on() -> None:
    catalog = stopped()
    before = the_table(catalog)
    asked(catalog, active=the_other(catalog))
    assert the_table(catalog) == before


def test_a_move_begins_only_once_every_region_has_the_present_mode() -> None:
    catalog = with_other()
    asked(catalog, mode="one")
    settle(catalog)
    code, message = refused(catalog, "set_writes", {"name": "T", "active": the_other(catalog)})
    assert code == "ResourceInUseException"
    assert "Not every region" in message


def test_a_region_that_is_not_active_changes_nothing_but_by_force() -> None:
    catalog = one_everywhere()
    other = the_other(catalog)
    settled = write_mode(the_table(catalog))
    told(catalog, replace(settled, active=other, number=settled.number + 1))
    settle(catalog)
    for change in ({"mode": "any"}, {"active": OWN}, {"mode": "home", "home": "h"}):
        assert refused(catalog, "set_writes", {"name": "T", **change})[0] == "ValidationException"
    mode = asked(catalog, mode="one", active=OWN, force=True)
    assert (mode.active, mode.number) == (OWN, settled.number + 2)
    assert refused(catalog, "set_writes", {"name": "T", "mode": "one", "active": other, "force": True})[0]


def test_of_two_records_the_newer_holds_whatever_comes_first_and_an_older_one_changes_nothing() -> None:
    edits = [WriteMode(Mode.ONE, OWN, "", 3, 10), WriteMode(Mode.ONE, OTHER, "", 3, 10), WriteMode(Mode.ANY, number=2)]
    found = set()
    for order in (edits, edits[::-1], [edits[1], edits[0], edits[2]]):
        catalog = with_other()
        for edit in order:
            told(catalog, edit)
        found.add(write_mode(the_table(catalog)).rank)
    assert found == {edits[0].rank}
    assert rule(catalog) == WriteRule(OWN, OWN)


def test_a_newer_record_ends_a_move() -> None:
    catalog = stopped()
    mode = write_mode(the_table(catalog))
    told(catalog, WriteMode(Mode.ANY, number=mode.number + 1))
    assert rule(catalog) is None
    assert reported(catalog, handed=mode.attempt).mode is Mode.ANY


def test_a_replica_that_writes_depend_on_stays() -> None:
    catalog = stopped()
    settle(catalog)
    code, message = refused(catalog, "update_table", {"name": "T", "replicas_remove": [the_other(catalog)]})
    assert code == "ValidationException"
    assert "change its write mode first" in message
    assert the_table(catalog).status is not TableStatus.DELETING


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "all"},
        {"mode": "any", "active": OWN},
        {"mode": "one", "home": "h"},
        {"mode": "one", "active": "mars-1"},
        {"mode": "home"},
        {"mode": "home", "home": "h" * 256},
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    assert refused(with_other(), "set_writes", {"name": "T", **change})[0] == "ValidationException"


def test_modes_are_refused_while_a_node_would_not_obey() -> None:
    catalog = with_other()
    with pytest.raises(ApiError) as error:
        evaluate(catalog, "set_writes", {"name": "T", "mode": "one"}, replace(AROUND, writes_known=False))
    assert error.value.kind.code == "ServiceUnavailable"


def test_a_region_is_not_made_active_that_has_no_complete_replica() -> None:
    catalog = with_other()
    other = the_other(catalog)
    for status in ("CREATION_FAILED", "CREATING", "DELETING"):
        run(catalog, "set_replica", {"name": "T", "region": other, "status": status})
        settle(catalog)
        for change in ({"mode": "one"}, {"mode": "home", "home": "h"}):
            code, message = refused(catalog, "set_writes", {"name": "T", "active": other, **change})
            assert code == "ResourceInUseException"
            assert status in message


def test_no_region_forgets_the_one_that_is_active_because_another_one_says_so() -> None:
    """Between the other's look at its own record and this step writes may have moved; then nobody would take any."""
    catalog = one_everywhere()
    other = the_other(catalog)
    mode = write_mode(the_table(catalog))
    told(catalog, replace(mode, active=other, number=mode.number + 1))
    settle(catalog)
    forget = {"name": "T", "region": other, "as_replica": True}
    assert "depend on its replica" in refused(catalog, "drop_replica", forget)[1]
    asked(catalog, mode="one", active=OWN, force=True)
    settle(catalog)
    run(catalog, "drop_replica", forget)
    assert other not in the_table(catalog).replicas


def made_active(catalog: Catalog) -> WriteMode:
    """Another region hands writes to this one, which it does not know to be leaving."""
    return WriteMode(Mode.ONE, OWN, "", write_mode(the_table(catalog)).number + 1, 10)


def test_a_replica_that_becomes_active_while_it_waits_to_leave_stays() -> None:
    catalog = leaving()
    told(catalog, made_active(catalog))
    settle(catalog)
    conclude(catalog, arrived=True)
    settle(catalog)
    table = the_table(catalog)
    assert (table.leaving, table.status, len(table.replicas)) == (None, TableStatus.ACTIVE, 3)


def test_a_replica_whose_writes_stay_behind_takes_none_over() -> None:
    """What it took beyond the fence would reach no other region."""
    catalog = leaving()
    conclude(catalog, arrived=True)
    settle(catalog)
    body = {"name": "T", "as_replica": True, "mode_record": made_active(catalog).to_json()}
    assert refused(catalog, "set_writes", body)[0] == "ResourceInUseException"
    elsewhere = replace(made_active(catalog), active=the_other(catalog))
    assert told(catalog, elsewhere).active == the_other(catalog)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 1 << 60},
        {"number": "7"},
        {"number": True},
        {"number": None},
        {"changed_ms": -1},
        {"changed_ms": 1.5},
        {"active": 5},
        {"active": [OTHER]},
        {"active": "r" * 1000},
        {"home": None},
        {"mode": "two"},
        {"mode": []},
        {"stage": 3},
    ],
)
def test_a_record_of_another_region_that_nodes_could_not_obey_is_not_taken_over(change: dict[str, Any]) -> None:
    record = {**WriteMode(Mode.ONE, OTHER, "", 7, 10).to_json(), **change}
    body = {"name": "T", "as_replica": True, "mode_record": record}
    assert refused(with_other(), "set_writes", body)[0] == "ValidationException"


def test_a_record_that_is_none_is_not_taken_over() -> None:
    for record in ("one", 5, [1]):
        body = {"name": "T", "as_replica": True, "mode_record": record}
        assert refused(with_other(), "set_writes", body)[0] == "ValidationException"
