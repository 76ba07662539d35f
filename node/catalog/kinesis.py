"""Kinesis destinations of a table as control operations change them. Pure.

A table has one destination that holds its feed, and remembers a few that did. It is ENABLING until all partitions hold
records for it and delivery has found the stream, DISABLING until all have let go of them. Wording of the refusals as
the service has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from geodyne.catalog import KinesisDestination, KinesisStatus, TableRecord
from geodyne.errors import ApiError, validation

REMEMBERED_MAX = 8  # destinations of a table, those that were disabled included
DESCRIPTION_LENGTH_MAX = 500

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Around:
    """`revision` is the one that the change makes; `streams_known`: every node of the region knows what to keep."""

    now_ms: int
    revision: int
    new_id: Callable[[], str]
    streams_known: bool


def enabled(table: TableRecord, body: Body, around: Around) -> TableRecord:
    """After EnableKinesisStreamingDestination. Raises ApiError."""
    if any(one.holds or one.status is KinesisStatus.DISABLING for one in table.kinesis):
        raise validation(
            "Table is not in a valid state to enable Kinesis Streaming Destination: "
            "EnableKinesisStreamingDestination must be DISABLED or ENABLE_FAILED to perform ENABLE operation."
        )
    if not around.streams_known:
        raise ApiError(
            "ServiceUnavailable", "A destination can be enabled once all nodes of the region run this version"
        )
    arn = body["stream_arn"]
    made = KinesisDestination(around.new_id(), arn, KinesisStatus.ENABLING, body["precision"], around.now_ms)
    others = tuple(one for one in table.kinesis if one.stream_arn != arn)
    return replace(table, kinesis=(*others, made)[-REMEMBERED_MAX:], revision=around.revision)


def disabled(table: TableRecord, body: Body, around: Around) -> TableRecord:
    """After DisableKinesisStreamingDestination. Raises ApiError."""
    found = _find(table, body["stream_arn"])
    if found is None or found.status is not KinesisStatus.ACTIVE:
        raise validation(
            "Table is not in a valid state to disable Kinesis Streaming Destination: "
            "KinesisStreamingDestination must be ACTIVE to perform DISABLE operation."
        )
    return _with(table, found, KinesisStatus.DISABLING, around)


def updated(table: TableRecord, body: Body, around: Around) -> TableRecord:
    """After UpdateKinesisStreamingDestination. Raises ApiError."""
    found = _find(table, body["stream_arn"])
    if found is None or found.status is not KinesisStatus.ACTIVE:
        raise validation(
            "Table is not in a valid state to update Kinesis Streaming Destination: "
            "KinesisStreamingDestination must be ACTIVE to perform UPDATE operation."
        )
    precision = body["precision"]
    if found.precision == precision:
        raise validation(
            f"Invalid Request: Precision is already set to the desired value of {precision} "
            f"for tableId: {table.id}, kdsArn: {found.stream_arn}"
        )
    return _with(table, replace(found, precision=precision), KinesisStatus.UPDATING, around)


def reported(table: TableRecord, body: Body, around: Around) -> TableRecord:
    """After delivery has told what became of a destination; the same table when that is no news."""
    found = next((one for one in table.kinesis if one.id == body["id"]), None)
    if found is None or found.status not in body["expected"]:
        return table
    told = replace(found, description=body.get("description", "")[:DESCRIPTION_LENGTH_MAX])
    return _with(table, told, KinesisStatus(body["status"]), around)


def settled(table: TableRecord) -> TableRecord:
    """Once all partitions have applied the definition."""
    if not changing(table):
        return table
    return replace(
        table,
        kinesis=tuple(
            replace(one, status=KinesisStatus.DISABLED) if one.status is KinesisStatus.DISABLING else one
            for one in table.kinesis
        ),
    )


def changing(table: TableRecord) -> bool:
    """Whether `settled` is yet to come."""
    return any(one.status is KinesisStatus.DISABLING for one in table.kinesis)


def _find(table: TableRecord, arn: str) -> KinesisDestination | None:
    return next((one for one in table.kinesis if one.stream_arn == arn), None)


def _with(table: TableRecord, changed: KinesisDestination, status: KinesisStatus, around: Around) -> TableRecord:
    """With a destination in another status; the partitions are told if they hold records for it no longer."""
    held = changed.holds
    changed = replace(changed, status=status, changed_ms=around.now_ms)
    kinesis = tuple(changed if one.id == changed.id else one for one in table.kinesis)
    return replace(table, kinesis=kinesis, revision=table.revision if held == changed.holds else around.revision)
