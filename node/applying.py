"""What the entries of a log do to the replicated state of one partition, and what they ask of storage.

Deterministic: reads no clock, no store and no chance, so that all replicas are equal at equal indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from geodyne.model import version as versions
from geodyne.wire import log_v1_pb2 as log
from node.catalog.machine import Changes
from node.entries import Decided
from node.feed.conflicts import Conflict, conflicts_of
from node.state import SEQUENCE_SHIFT, Definition, GroupState, source_of
from node.storage.port import GroupUpdate, Row
from node.window import Window


class Scrubbed(NamedTuple):
    """An applied entry that asks for a digest of the rows in [low, high)."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    low: bytes
    high: bytes


class AppliedBatch(NamedTuple):
    """What applying some entries asks of storage, and what follows once storage has it."""

    update: GroupUpdate
    applied_keys: list[tuple[bytes, int]]
    catalog: list[tuple[int, Changes]]
    fed: bool
    scrub: Scrubbed | None = None
    conflicts: Sequence[Conflict] = ()


class Outcome:
    """What applying some entries comes to, beside the state itself."""

    __slots__ = ("catalog", "conflicts", "effects", "feed", "keys", "rows", "scrub", "shards", "trim")

    def __init__(self) -> None:
        self.rows: dict[bytes, Row | None] = {}
        self.feed: list[tuple[int, bytes]] = []
        self.keys: list[tuple[bytes, int]] = []
        self.catalog: list[tuple[int, Changes]] = []
        self.trim: int | None = None
        self.scrub: Scrubbed | None = None
        self.shards = False  # those of a stream have changed
        self.effects = 0  # and entries: a measure of the work
        self.conflicts: list[Conflict] = []  # that a table keeps

    def apply(self, state: GroupState, window: Window, decided: Decided) -> None:
        """The next entry: its effects first, then what it changes beside them."""
        index, payload = decided.index, decided.payload
        records = [effect.SerializeToString() for effect in payload.effects] if state.definition.feed else ()
        self.effects += 1 + len(decided.effects) + len(payload.collected)
        for tombstone in payload.collected:
            self.rows[tombstone.key] = None
            self.keys.append((tombstone.key, index))
        for position, effect in enumerate(decided.effects):
            key, row, version, items_delta, bytes_delta, write_id, outcome = effect
            self.rows[key] = row
            self.keys.append((key, index))
            state.items += items_delta
            state.bytes += bytes_delta
            state.last_us = max(state.last_us, versions.time_us(version))
            if records:
                sequence = index << SEQUENCE_SHIFT | position
                self.feed.append((sequence, state.fed(sequence, records[position], payload.wall_us)))
            if write_id is not None and outcome is not None:
                window.remember(write_id, outcome, payload.wall_us)
        if state.definition.conflicts:
            self.conflicts += conflicts_of(payload.effects, payload.wall_us)
        for step in payload.transactions:
            window.transactions.apply(step, payload.wall_us)
        state.applied_index = index
        state.applied_term = decided.term
        if decided.configuration is not None:
            state.configuration, state.configuration_index = decided.configuration, index
        self._apply_rest(state, payload)
        if payload.HasField("scrub"):
            self.scrub = Scrubbed(index, payload.scrub.low, payload.scrub.high)

    def _apply_rest(self, state: GroupState, payload: log.EntryPayload) -> None:
        marked = payload.HasField("definition")
        if marked:
            state.define(Definition.from_wire(payload.definition), payload.wall_us)
            self.shards = self.shards or bool(state.definition.streams)
        for mark in payload.arrived:
            state.arrived[mark.region] = max(mark.us, state.arrived.get(mark.region, 0))
        if payload.safe_us:
            state.promise(payload.safe_us)
        if payload.HasField("roll"):
            state.roll(payload.roll.label, payload.wall_us)
            self.shards = True
        for cursor in payload.cursors:
            if cursor.lost:
                state.lose(cursor.consumer, cursor.sequence)
            else:
                state.advance(cursor.consumer, cursor.sequence, cursor.closed_us)
        for source in payload.sources:
            state.sources.update([source_of(source)])
        if payload.catalog_revision:  # in the metadata group alone
            state.catalog_revision = payload.catalog_revision
            self.catalog.append((payload.catalog_revision, _catalog_changes(payload, self.rows)))
        if marked or payload.cursors:
            self.trim = state.trim_to() or self.trim


def _catalog_changes(payload: log.EntryPayload, rows: dict[bytes, Row | None]) -> Changes:
    """The catalog's records are rows of the metadata group, so that they travel in its snapshots."""
    changes: Changes = []
    version = payload.catalog_revision.to_bytes(8, "big")
    for change in payload.catalog:
        value: bytes | None = change.value_json if change.HasField("value_json") else None
        rows[change.key.encode()] = Row(value, version, 0) if value is not None else None
        changes.append((change.key, orjson.loads(value) if value is not None else None))
    return changes
