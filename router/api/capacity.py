"""What a request costs, in read and write units, and how the answer says so.

Developer guide, "DynamoDB read and write operations": a read unit covers 4 KB read strongly, half of one 4 KB read
eventually; a write unit covers 1 KB; sizes round up, and nothing read or deleted costs the minimum.
"""

from __future__ import annotations

from geodyne.limits import READ_UNIT_BYTES, WRITE_UNIT_BYTES

Capacity = dict[str, object]


def read_units(size: int, strong: bool) -> float:
    """Units for reading `size` bytes: one item, or the evaluated items of one page together."""
    blocks = (size + READ_UNIT_BYTES - 1) // READ_UNIT_BYTES or 1
    return float(blocks) if strong else blocks / 2


def write_units(size: int) -> float:
    """Units for writing an item of which the larger image (before or after) has `size` bytes."""
    return float((size + WRITE_UNIT_BYTES - 1) // WRITE_UNIT_BYTES or 1)


def consumed(table_name: str, units: float, detail: str) -> Capacity:
    """The ConsumedCapacity member. `detail` is ReturnConsumedCapacity: TOTAL or INDEXES; the table's name is
    repeated as the request gave it, an ARN included."""
    capacity: Capacity = {"TableName": table_name, "CapacityUnits": units}
    if detail == "INDEXES":
        capacity["Table"] = {"CapacityUnits": units}
    return capacity
