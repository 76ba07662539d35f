"""The item collections of a partition whose table has local indexes: how large they are and may become.

A collection is what one partition key has: its items and their entries in the local indexes. The leader judges growth
by the newest size, uncommitted changes included; SQLite has the size of what is applied. Only clients' writes are
judged: what another region has accepted is taken over whatever its size.
"""

from __future__ import annotations

from typing import NamedTuple

from geodyne.messages import Refused, Write
from geodyne.model.indexcost import index_write_units
from geodyne.model.keys import collection_of
from geodyne.model.values import loads
from node.engine.localindexes import LocalIndexes
from node.engine.writes import Verdict
from node.state import Definition
from node.storage.port import Row
from node.storage.sqlite import StateStore

COLLECTION_TOO_LARGE = "Collection size exceeded."


class Judged(NamedTuple):
    """A verdict with what the indexes add to it. `collection_bytes`: after the write, -1 without local indexes.
    `index`: the log entry that it rests on besides that of the item's own image."""

    verdict: Verdict
    collection_bytes: int = -1
    index: int = 0  # type: ignore[assignment]  # shadows tuple.index


class ItemCollections:
    """Those of one partition. What is pending is bounded with what is uncommitted (node.group)."""

    __slots__ = ("_bytes_max", "_partition", "_pending", "_store")

    def __init__(self, partition: int, store: StateStore, bytes_max: int) -> None:
        self._partition = partition
        self._store = store
        self._bytes_max = bytes_max
        self._pending: dict[bytes, tuple[int, int]] = {}  # prefix -> newest log index, bytes as of it

    def judge(
        self, definition: Definition, local: LocalIndexes | None, call: Write, prior: Row | None, verdict: Verdict
    ) -> Judged:
        """What a write that was found good does to the table's indexes, and whether its collection may grow so."""
        answer = verdict.answer
        if isinstance(answer, Refused):
            return Judged(verdict)
        row = prior
        if verdict.changed:
            row = Row(verdict.image, b"", verdict.size) if verdict.image is not None else None
            if call.capacity:
                answer = answer._replace(index_writes=_index_writes(definition, prior, row))
        if local is None:
            return Judged(verdict._replace(answer=answer))
        index, before = self.newest(call.key)
        after = before + _growth(local, call.key, prior, row)
        if after > max(before, self._bytes_max):
            refused = Refused(
                "ItemCollectionSizeLimitExceededException", COLLECTION_TOO_LARGE, None, answer.size_before
            )
            return Judged(Verdict(refused, False, None, 0), before, index)
        return Judged(verdict._replace(answer=answer._replace(collection_bytes=after)), after, index)

    def newest(self, key: bytes) -> tuple[int, int]:
        """The log index and size of the newest change of a key's collection; index 0 when all of it is applied."""
        prefix = collection_of(key)
        pending = self._pending.get(prefix)
        return pending if pending is not None else (0, self._store.collection_bytes(self._partition, prefix))

    def put(
        self, local: LocalIndexes, key: bytes, prior: Row | None, row: Row | None, index: int, after: int = -1
    ) -> None:
        """A change has been decided at a log index. `after`: the collection's size, when it is known already."""
        if after < 0:
            after = self.newest(key)[1] + _growth(local, key, prior, row)
        self._pending[collection_of(key)] = (index, after)

    def applied(self, key: bytes, index: int) -> None:
        """SQLite holds the change of this key at `index`."""
        if self._pending:
            prefix = collection_of(key)
            pending = self._pending.get(prefix)
            if pending is not None and pending[0] <= index:
                del self._pending[prefix]

    def clear(self) -> None:
        self._pending.clear()


def _growth(local: LocalIndexes, key: bytes, prior: Row | None, row: Row | None) -> int:
    return 0 if row is prior else local.footprint(key, row) - local.footprint(key, prior)


def _index_writes(definition: Definition, prior: Row | None, row: Row | None) -> tuple[tuple[str, int], ...]:
    old = loads(prior.value) if prior is not None and prior.value is not None else None
    new = loads(row.value) if row is not None and row.value is not None else None
    return index_write_units(definition.indexes, old, new)
