"""Digests of replicas' states, kept as they are applied: at equal index, equal state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from node.storage.port import GroupDamaged, GroupUpdate, Row
from node.storage.sqlite import StateStore

ROWS_MAX = 100_000
END = b"\xff" * 64
MASK = (1 << 64) - 1


class _Said(NamedTuple):
    """What the first replica at an index had."""

    node: str
    rows: int
    state: bytes


class Rows:
    """The rows of one replica as a sum of their hashes, so that a change costs what it changes."""

    __slots__ = ("_hashes", "sum")

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}
        self.sum = 0

    def put(self, rows: Mapping[bytes, Row | None]) -> None:
        hashes = self._hashes
        total = self.sum
        for key, row in rows.items():
            total -= hashes.pop(key, 0)
            if row is not None:
                hashes[key] = one = hash((key, *row))
                total += one
        self.sum = total & MASK


class ReplicaDigests:
    """All replicas of a region. Methods return what is wrong, "" when nothing is."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], Rows | None] = {}  # None: damaged
        self._said: dict[tuple[int, int], _Said] = {}  # by (partition, applied index)

    def started(self, node: str) -> None:
        """What the process had is gone; what its disk still has is loaded next."""
        for key in [key for key in self._rows if key[0] == node]:
            del self._rows[key]

    def loaded(self, node: str, partition: int, store: StateStore, applied_index: int, state: bytes) -> str:
        """A start or a snapshot gave a node this state: read all of it."""
        rows = Rows()
        try:
            rows.put(dict(store.range(partition, b"", END, False, ROWS_MAX, tombstones=True)))
        except GroupDamaged:  # until it is replaced nothing is known of it
            self._rows[node, partition] = None
            return ""
        self._rows[node, partition] = rows
        return self._compare(node, partition, rows, applied_index, state)

    def applied(self, node: str, update: GroupUpdate, applied_index: int) -> str:
        """The store of a node has taken an update."""
        rows = self._rows.setdefault((node, update.partition), Rows())
        if rows is None:
            return ""
        rows.put(update.rows)
        return self._compare(node, update.partition, rows, applied_index, update.state)

    def destroyed(self, node: str, partition: int) -> None:
        self._rows.pop((node, partition), None)

    def _compare(self, node: str, partition: int, rows: Rows, index: int, state: bytes) -> str:
        if not index:
            return ""
        said = self._said.setdefault((partition, index), _Said(node, rows.sum, state))
        if said.rows != rows.sum or said.state != state:
            what = "rows" if said.rows != rows.sum else "states"
            return f"partition {partition}: {what} of {node} and of {said.node} differ at index {index}"
        return ""
