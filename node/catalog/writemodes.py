"""The write mode of a global table as control operations change it. Pure. The values: geodyne.writemodes.

Must hold:
- In mode ONE an edit is taken in the active region only, whose catalog so decides alone; but for a forced one, which is
  for when that region is lost.
- The active region passes writes on in steps: its partitions log that they take none (STOPPING); they have, and hold no
  transaction from before (STOPPED, logged once more); all that they logged before that is in the other region
  (handed). Only then a record is made that says that the other region is active. Up to there it can be given up.
- A move begins only once every region was heard to have the present mode in force: none takes writes by an older one.
- What is reported of a move names its attempt: of one that was given up it changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from geodyne.catalog import LeavingStage, MemberRecord, MemberState, ReplicaStatus, TableRecord, TableStatus
from geodyne.errors import ApiError, validation
from geodyne.limits import KEY_NAME_BYTES_MAX
from geodyne.writemodes import WRITES, Mode, Stage, WriteMode, write_mode
from node.catalog.members import all_speak

MOVE_MS_MAX: Final = 120_000  # nobody takes writes meanwhile; then the region that stopped goes on
NUMBER_MAX: Final = 1 << 53  # of edits, and of times: far beyond all that are made
WRITES_FORMAT: Final = 5  # of the streams between nodes, from which on they know what the mode is


class Around(NamedTuple):
    """`revision` is the one that the change makes; `known`: every node of the region obeys write modes."""

    region: str
    now_ms: int
    revision: int
    known: bool = True


def known(members: Mapping[str, MemberRecord]) -> bool:
    """Whether every node of the region obeys write modes."""
    return all_speak(members, WRITES_FORMAT, but=(MemberState.LEFT,))


def check_known(by_all: bool) -> None:
    """Raises ServiceUnavailable while some node of the region would take writes that it must not."""
    if not by_all:
        raise ApiError("ServiceUnavailable", "Write modes need all nodes of the region to run this version")


def changed(table: TableRecord, body: Mapping[str, Any], around: Around) -> TableRecord:
    """After SET_WRITES; the same table when that changes nothing. Raises ApiError."""
    record = body.get("mode_record")
    if record is None and not any(body.get(name) is not None for name in ("mode", "active", "home")):
        return table
    check_known(around.known)
    if body.get("as_replica", False):
        try:
            told = WriteMode.from_json(record or {})
        except (AttributeError, TypeError, ValueError):
            raise validation("No write mode of this version") from None
        _check_told(told)
        return _taken_over(table, told, around)
    return _asked(table, body, around)


def applied(table: TableRecord, body: Mapping[str, Any], around: Around) -> TableRecord:
    """Every partition has applied the definition of the revision in `body`."""
    mode = write_mode(table)
    if table.revision != body["revision"]:
        return table
    if mode.stage is Stage.APPLYING:
        return _with(table, replace(mode, stage=Stage.IN_FORCE))
    if mode.stage is Stage.STOPPING:
        return _defined(table, replace(mode, stage=Stage.STOPPED, stopped=around.revision), around)
    return table


def given_up(table: TableRecord, body: Mapping[str, Any], around: Around) -> TableRecord:
    """A move took too long: the region that stopped goes on."""
    mode = write_mode(table)
    return _defined(table, mode.anew(), around) if mode.moving and mode.attempt == body["attempt"] else table


def reported(table: TableRecord, body: Mapping[str, Any], around: Around) -> TableRecord:
    """After WRITES_RESULT."""
    mode = write_mode(table)
    if body.get("spread") == mode.number and mode.stage is Stage.IN_FORCE:
        return _with(table, replace(mode, stage=Stage.SPREAD))
    if body.get("handed") == mode.attempt and mode.stage is Stage.STOPPED:
        return _defined(table, _edit(mode, Mode.ONE, mode.to, "", around.now_ms), around)
    return table


def unapplied(table: TableRecord) -> bool:
    """Whether `applied` is yet to come."""
    return write_mode(table).stage in (Stage.APPLYING, Stage.STOPPING)


def overdue(table: TableRecord, now_ms: int) -> int:
    """The attempt that is to be given up, 0 for none."""
    mode = write_mode(table)
    return mode.attempt if mode.moving and now_ms >= mode.give_up_ms else 0


def depends_on(table: TableRecord, region: str) -> bool:
    """Whether writes are taken in that region, or on their way to it."""
    mode = write_mode(table)
    return mode.mode is not Mode.ANY and region in (mode.active, mode.to)


def check_removable(table: TableRecord, region: str) -> None:
    """Raises ApiError for a replica that writes depend on."""
    if depends_on(table, region):
        raise validation(
            f"Writes of table {table.name} depend on its replica in {region}: change its write mode first "
            "(geodyne writes)"
        )


def _check_told(record: WriteMode) -> None:
    """What is taken over is obeyed by all nodes, and later edits count on from it. Raises ApiError."""
    words = all(isinstance(word, str) and len(word) <= KEY_NAME_BYTES_MAX for word in (record.active, record.home))
    numbers = (record.number, record.changed_ms)
    if not words or not all(type(number) is int and 0 <= number <= NUMBER_MAX for number in numbers):
        raise validation("No write mode of this version")


def _taken_over(table: TableRecord, record: WriteMode, around: Around) -> TableRecord:
    if not table.is_global or table.status is TableStatus.DELETING or record.rank <= write_mode(table).rank:
        return table
    leaving = table.leaving
    if leaving is not None and leaving.stage is LeavingStage.FENCED and record.active == around.region:
        # What it took would reach nobody. The others keep it as a replica until they have another active region.
        raise _in_use(f"The replica of table {table.name} in {around.region} leaves: it takes no writes over")
    return _defined(table, record.anew(), around)


def _asked(table: TableRecord, body: Mapping[str, Any], around: Around) -> TableRecord:
    _check_ready(table)
    present = write_mode(table)
    wanted = _wanted(table, present, body, around)
    if body.get("force", False):
        if wanted.mode is not Mode.ONE or wanted.active != around.region:
            raise validation("A forced change makes the region active that is asked for it")
        same = _alike(wanted, present) and not present.moving
        return table if same else _defined(table, wanted, around)
    if present.moving:
        if wanted.mode is Mode.ONE and wanted.active == present.to:
            return table
        if not _alike(wanted, present):
            raise _in_use(f"Writes of table {table.name} are moving from {present.active} to {present.to}")
        return _defined(table, present.anew(), around)
    if _alike(wanted, present):
        return table
    if present.mode is Mode.ONE and present.active != around.region:
        raise validation(f"Writes of table {table.name} are taken in {present.active}: its mode is changed there")
    if present.mode is Mode.ONE and wanted.mode is Mode.ONE:
        return _stopping(table, present, wanted.active, around)
    return _defined(table, wanted, around)


def _stopping(table: TableRecord, present: WriteMode, to: str, around: Around) -> TableRecord:
    if present.stage is not Stage.SPREAD:
        raise _in_use(f"Not every region of table {table.name} has its present write mode in force yet")
    if table.replicas[to] != ReplicaStatus.ACTIVE:
        raise _not_active(table, to)
    until_ms = around.now_ms + MOVE_MS_MAX
    moving = replace(present, stage=Stage.STOPPING, to=to, attempt=around.revision, stopped=0, give_up_ms=until_ms)
    return _defined(table, moving, around)


def _wanted(table: TableRecord, present: WriteMode, body: Mapping[str, Any], around: Around) -> WriteMode:
    """Raises ApiError."""
    try:
        mode = Mode(body.get("mode") or present.mode)
    except ValueError:
        raise validation("The write mode must be any, one or home") from None
    active, home = body.get("active") or "", body.get("home") or ""
    if mode is not Mode.ANY and not active:
        active = present.active if present.mode is mode else around.region
    if mode is Mode.HOME and not home:
        home = present.home
    if mode is Mode.ANY and active:
        raise validation("In write mode any every region is active")
    if home and mode is not Mode.HOME:
        raise validation("The attribute that names an item's region belongs to write mode home")
    if active and active not in table.replicas:
        raise validation(f"Table {table.name} has no replica in {active}")
    if active not in ("", around.region, present.active) and table.replicas[active] != ReplicaStatus.ACTIVE:
        raise _not_active(table, active)
    if mode is Mode.HOME and not 0 < len(home.encode()) <= KEY_NAME_BYTES_MAX:
        raise validation("Write mode home needs the name of the attribute that names an item's region")
    return _edit(present, mode, active, home, around.now_ms)


def _edit(present: WriteMode, mode: Mode, active: str, home: str, now_ms: int) -> WriteMode:
    return WriteMode(mode, active, home, present.number + 1, now_ms, Stage.APPLYING)


def _alike(one: WriteMode, other: WriteMode) -> bool:
    return (one.mode, one.active, one.home) == (other.mode, other.active, other.home)


def _check_ready(table: TableRecord) -> None:
    if not table.is_global:
        raise validation(f"Table {table.name} is not a global table")
    if table.status in (TableStatus.CREATING, TableStatus.DELETING) or table.leaving is not None:
        raise _in_use(f"Table is being created, deleted or disassociated: {table.name}")


def _defined(table: TableRecord, mode: WriteMode, around: Around) -> TableRecord:
    """With a mode that the partitions are to log."""
    return replace(_with(table, mode), revision=around.revision)


def _with(table: TableRecord, mode: WriteMode) -> TableRecord:
    return replace(table, extra={**table.extra, WRITES: mode.to_json()})


def _not_active(table: TableRecord, region: str) -> ApiError:
    return _in_use(f"The replica of table {table.name} in {region} is {table.replicas[region]}")


def _in_use(message: str) -> ApiError:
    return ApiError("ResourceInUseException", message)
