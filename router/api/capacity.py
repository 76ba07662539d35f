"""What a request costs, in read and write units, and how the answer says so.

Developer guide, "DynamoDB read and write operations": a read unit covers 4 KB read strongly, half of one 4 KB read
eventually; a write unit covers 1 KB; sizes round up, and nothing read or deleted costs the minimum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeGuard

from geodyne.limits import READ_UNIT_BYTES, WRITE_UNIT_BYTES
from geodyne.messages import Written

Capacity = dict[str, object]


class Units(NamedTuple):
    """What a request costs: units of the table itself and, by name, of its local and global indexes."""

    table: float
    local: Mapping[str, float] = {}
    global_: Mapping[str, float] = {}

    @property
    def total(self) -> float:
        return self.table + sum(self.local.values()) + sum(self.global_.values())


def wants_capacity(detail: str | None) -> TypeGuard[str]:
    """Whether a ReturnConsumedCapacity asks for anything."""
    return detail is not None and detail != "NONE"


def read_units(size: int, strong: bool) -> float:
    """Units for reading `size` bytes: one item, or the evaluated items of one page together."""
    blocks = (size + READ_UNIT_BYTES - 1) // READ_UNIT_BYTES or 1
    return float(blocks) if strong else blocks / 2


def fetched_units(blocks: int, strong: bool) -> float:
    """Units for items fetched besides the entries of a local index, whose sizes make so many blocks of 4 KB."""
    return float(blocks) if strong else blocks / 2


def write_units(size: int) -> float:
    """Units for writing an item of which the larger image (before or after) has `size` bytes."""
    return float((size + WRITE_UNIT_BYTES - 1) // WRITE_UNIT_BYTES or 1)


def written_units(written: Written, local: Iterable[str] = ()) -> Units:
    """Units of one write: the table's follow the larger of the images before and after, for a delete that is the
    deleted item; its indexes' are what the node said. `local` are the names of the local indexes."""
    own = write_units(max(written.size_before, written.size_after))
    if not written.index_writes:
        return Units(own)
    charged = {name: float(units) for name, units in written.index_writes}
    of_local = {name: charged.pop(name) for name in local if name in charged}
    return Units(own, of_local, charged)


def added(first: Units, second: Units) -> Units:
    """The units of two parts of one request on the same table."""
    return Units(first.table + second.table, _summed(first.local, second.local), _summed(first.global_, second.global_))


def consumed(table_name: str, units: float | Units, detail: str) -> Capacity:
    """The ConsumedCapacity member. `detail` is ReturnConsumedCapacity: TOTAL or INDEXES; the table's name is
    repeated as the request gave it, an ARN included. Plain units are those of the table alone."""
    if not isinstance(units, Units):
        units = Units(units)
    capacity: Capacity = {"TableName": table_name, "CapacityUnits": units.total}
    if detail == "INDEXES":
        capacity["Table"] = {"CapacityUnits": units.table}
        for member, parts in (("LocalSecondaryIndexes", units.local), ("GlobalSecondaryIndexes", units.global_)):
            if parts:
                capacity[member] = {name: {"CapacityUnits": part} for name, part in parts.items()}
    return capacity


def times(units: Units, factor: float) -> Units:
    """As many times the units."""
    local = {name: factor * part for name, part in units.local.items()}
    return Units(factor * units.table, local, {name: factor * part for name, part in units.global_.items()})


def transact_consumed(table_name: str, units: Units, detail: str, member: str) -> Capacity:
    """`consumed` of a transaction, which also says in `member` (ReadCapacityUnits or WriteCapacityUnits) which kind of
    units it is: a replay of a transaction that writes consumes reads."""
    capacity = consumed(table_name, units, detail)
    capacity[member] = capacity["CapacityUnits"]
    if detail == "INDEXES":
        capacity["Table"] = {"CapacityUnits": units.table, member: units.table}
        for name, parts in (("LocalSecondaryIndexes", units.local), ("GlobalSecondaryIndexes", units.global_)):
            if parts:
                capacity[name] = {index: {"CapacityUnits": part, member: part} for index, part in parts.items()}
    return capacity


def _summed(first: Mapping[str, float], second: Mapping[str, float]) -> Mapping[str, float]:
    if not second:
        return first
    return {**first, **{name: first.get(name, 0.0) + units for name, units in second.items()}}
