"""Who is told of watermarks, and whose are believed."""

from __future__ import annotations

from dataclasses import replace

from geodyne.catalog import PartitionRecord, ReplicaStatus, TableRecord, TableStatus
from replication.values import Watermark
from replication.watermarks import Watermarks, sources_of, told

ACTIVE, CREATING = ReplicaStatus.ACTIVE.value, ReplicaStatus.CREATING.value
PARTITIONS = tuple(PartitionRecord(number, 1, number << 62, (number + 1) << 62, ("n",)) for number in (1, 2))
TABLE = TableRecord(
    "T", "id", TableStatus.ACTIVE, 1, 1, "pk", "S", None, None, "PAY_PER_REQUEST", 0, 0, PARTITIONS
)  # fmt: skip
COMPLETE = replace(TABLE, replicas={"a": ACTIVE, "b": ACTIVE, "c": ACTIVE})


def with_status(**statuses: str) -> TableRecord:
    return replace(COMPLETE, replicas={**COMPLETE.replicas, **statuses})


def test_sources_are_the_other_complete_members() -> None:
    assert sources_of(COMPLETE, "a") == ("b", "c")
    assert sources_of(with_status(b=CREATING), "a") == ("c",)
    assert sources_of(replace(COMPLETE, status=TableStatus.DELETING), "a") == ()


def test_a_region_that_is_being_filled_believes_no_watermark() -> None:
    """Of a row that b and c wrote, b sends none and the creator the newest: b's word comes first, the row after it."""
    filling = with_status(a=CREATING)
    assert sources_of(filling, "a") == ()
    watermarks = Watermarks("a")
    watermarks.hear("b", Watermark("T", "id", 7, 7))
    watermarks.keep([filling])
    assert watermarks.us("id", "b") == 0


def test_a_destination_is_told_the_least_of_all_partitions() -> None:
    assert told(COMPLETE, "a", "b", {1: 9, 2: 5}, 4) == Watermark("T", "id", 5, 4)
    assert told(COMPLETE, "a", "b", {1: 9}, 4) is None


def test_neither_a_destination_nor_a_source_that_is_being_filled_is_spoken_of() -> None:
    nothing = Watermark("T", "id", 0, 0)
    assert told(with_status(b=CREATING), "a", "b", {1: 9, 2: 5}, 4) == nothing
    assert told(with_status(a=CREATING), "a", "b", {1: 9, 2: 5}, 4) == nothing
