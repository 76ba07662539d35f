"""Which region of a global table takes a client's writes: the modes of AWS's guidance ("DynamoDB global table design":
write to any region, to one region, to your region), kept in the table's record of each region.

The regions agree by a number that grows with each edit: of two records the one of the larger rank holds everywhere. A
region's own record says besides how far it is with it:

    APPLYING   some partition here may still obey an older record
    IN_FORCE   no partition here does; other regions may
    SPREAD     every region was heard to have it in force
    STOPPING   mode ONE, in the active region: it takes no more writes, and `to` is to take them
    STOPPED    all its partitions have logged that, and every transaction from before has come to its end
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from geodyne.catalog import TableRecord

WRITES = "writes"  # member of a table's `extra`: WriteMode as JSON; absent: ANY, and never changed
Rank = tuple[int, int, str]


class Mode(StrEnum):
    ANY = "any"
    ONE = "one"
    HOME = "home"


class Stage(StrEnum):
    APPLYING = "applying"
    IN_FORCE = "in force"
    SPREAD = "everywhere"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class WriteMode:
    """`active`: mode ONE, the region that takes writes; mode HOME, the one that writes items whose attribute `home`
    names no region of the table. `attempt` and `stopped` are revisions of the catalog of the region that stops: of the
    edit that asked for it, and of the definition that its partitions log once nothing from before is under way."""

    mode: Mode = Mode.ANY
    active: str = ""
    home: str = ""
    number: int = 0
    changed_ms: int = 0
    stage: Stage = Stage.SPREAD
    to: str = ""
    attempt: int = 0
    stopped: int = 0
    give_up_ms: int = 0  # wall clock

    @property
    def rank(self) -> Rank:
        """Of an edit; of two that were made at once all regions choose the same."""
        return self.number, self.changed_ms, f"{self.mode} {self.active} {self.home}"

    @property
    def moving(self) -> bool:
        return self.stage in (Stage.STOPPING, Stage.STOPPED)

    @property
    def settled(self) -> bool:
        """Nothing is left to be done."""
        return self.stage is Stage.SPREAD

    def anew(self) -> WriteMode:
        """The same edit where nothing obeys it yet."""
        return replace(self, stage=Stage.APPLYING, to="", attempt=0, stopped=0, give_up_ms=0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> WriteMode:
        """Raises ValueError, TypeError."""
        known = {name: value for name, value in data.items() if name in _FIELDS}
        return WriteMode(
            **{**known, "mode": Mode(data.get("mode", Mode.ANY)), "stage": Stage(data.get("stage", Stage.SPREAD))}
        )


_FIELDS = frozenset(WriteMode.__dataclass_fields__)
EVERYWHERE = WriteMode()


def write_mode(table: TableRecord) -> WriteMode:
    """That of a table, as its region knows it."""
    data = table.extra.get(WRITES)
    return EVERYWHERE if data is None else WriteMode.from_json(data)
