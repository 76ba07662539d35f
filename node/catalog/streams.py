"""The streams of a table as control operations change them. Pure.

A stream begins with the marker that names it and ends with the one that says so; its records stay readable for
STREAM_RETENTION_S after that, then it is forgotten. Nodes of versions that know no streams would not keep what a stream
asks for, so none begins before all of them have been replaced: where a table is to have one all the same (a replica of
a global table), or has had the setting since such a version, it begins once that is so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from geodyne.catalog import STREAM_RETENTION_S, MemberState, StreamRecord, TableRecord, TableStatus
from geodyne.errors import ApiError, validation
from node.catalog.members import Members, all_speak

STREAMS_FORMAT = 4  # of the streams between nodes, from which on they know streams of tables
STREAMS_MAX = 16  # of a table, those included that have ended and are not forgotten
Label = Callable[[int], str]  # milliseconds -> the label of a stream that is made then


def known(members: Members) -> bool:
    """Every node of the region knows streams, those that are down included: they may come back as they were."""
    return all_speak(members, STREAMS_FORMAT, but=(MemberState.LEFT,))


def enabled(table: TableRecord, view: str, label: Label, now_ms: int, all_know: bool) -> TableRecord:
    """After a client has asked for a stream. `all_know`: every node knows streams. Raises ApiError."""
    if table.stream_view is not None:
        raise validation(f"Table already has an enabled stream: TableName: {table.name}")
    if not all_know:
        raise ApiError("ServiceUnavailable", "A stream can be enabled once all nodes of the region run this version")
    if len(table.streams) >= STREAMS_MAX:
        raise ApiError("LimitExceededException", "Too many streams of the table were disabled in the last 24 hours")
    return wanted(table, view, label, now_ms, all_know=True)


def disabled(table: TableRecord, now_ms: int) -> TableRecord:
    """After a client has asked for an end of the stream. Raises ApiError."""
    if table.stream_view is None:
        raise validation("Table doesn't have an enabled stream to disable")
    if table.is_global:
        raise validation("Streams cannot be disabled on a table that has replicas")
    ended = tuple(stream if stream.ended_ms else replace(stream, ended_ms=now_ms) for stream in table.streams)
    return replace(table, stream_view=None, streams=ended)


def wanted(table: TableRecord, view: str, label: Label, now_ms: int, all_know: bool) -> TableRecord:
    """With a stream from now on, or from when every node knows streams."""
    newest = table.streams[-1].created_ms if table.streams else 0
    created_ms = max(now_ms, newest + 1)  # no two have the same label, wherever the clock goes
    table = replace(table, stream_view=view, stream_label=label(created_ms))
    return _begun(table, created_ms) if all_know else table


def unbegun(table: TableRecord) -> bool:
    """The table is to have a stream, and has none yet."""
    return table.stream_view is not None and all(stream.ended_ms for stream in table.streams)


def begun(table: TableRecord, now_ms: int, revision: int) -> TableRecord:
    """With the stream that it was to have; the same table when it has it, or is going."""
    if not unbegun(table) or table.status is TableStatus.DELETING:
        return table
    newest = table.streams[-1].created_ms if table.streams else 0
    return replace(_begun(table, max(now_ms, newest + 1)), revision=revision)


def outlived(table: TableRecord, now_ms: int) -> tuple[str, ...]:
    """Labels of the streams that nobody may read any more."""
    through_ms = now_ms - STREAM_RETENTION_S * 1_000
    return tuple(stream.label for stream in table.streams if 0 < stream.ended_ms <= through_ms)


def forgotten(table: TableRecord, now_ms: int, revision: int) -> TableRecord:
    """Without those; the same table when there is none, or it is going."""
    gone = outlived(table, now_ms)
    if not gone or table.status is TableStatus.DELETING:
        return table
    kept = tuple(stream for stream in table.streams if stream.label not in gone)
    return replace(table, streams=kept, revision=revision)


def _begun(table: TableRecord, created_ms: int) -> TableRecord:
    assert table.stream_label is not None
    assert table.stream_view is not None
    return replace(table, streams=(*table.streams, StreamRecord(table.stream_label, table.stream_view, created_ms)))
