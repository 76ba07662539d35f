"""Building one page of a Query or Scan from rows in key order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from geodyne.expressions.evaluate import evaluate_condition
from geodyne.expressions.parse import parse_condition, parse_projection
from geodyne.expressions.projection import project
from geodyne.limits import READ_UNIT_BYTES
from geodyne.messages import Page, Range
from geodyne.model.values import dumps, loads
from node.storage.port import LocalEntry, Row

CHUNK_ROWS = 64  # rows evaluated before other work gets its turn: well under 2 ms


class PageBuilder:
    """Takes rows until the page is full or the range exhausted. Filter and projection come after paging."""

    __slots__ = (
        "_call",
        "_count",
        "_fetched_blocks",
        "_filter",
        "_items",
        "_projection",
        "_scanned",
        "_size",
        "full",
        "last_key",
    )

    def __init__(self, call: Range) -> None:
        self._call = call
        self._filter = parse_condition(call.filter) if call.filter is not None else None
        self._projection = parse_projection(call.projection) if call.projection is not None else None
        self._items: list[bytes] = []
        self._count = 0
        self._scanned = 0
        self._size = 0
        self._fetched_blocks = 0
        self.full = False
        self.last_key = call.after

    def rows_wanted(self) -> int:
        """How many rows the next chunk should hold."""
        limit = self._call.limit
        return min(CHUNK_ROWS, limit - self._scanned) if limit else CHUNK_ROWS

    def add(self, rows: Iterable[tuple[bytes, Row]]) -> None:
        call = self._call
        for key, row in rows:
            self.last_key = key
            self._scanned += 1
            self._size += row.size
            assert row.value is not None
            self._evaluate(row.value)
            taken = self._size + self._fetched_blocks * READ_UNIT_BYTES  # fetched items fill a page too, rounded up
            if taken >= call.max_bytes or (call.limit and self._scanned >= call.limit):
                self.full = True
                return

    def add_entries(self, entries: Iterable[LocalEntry], item_of: Callable[[bytes], Row]) -> None:
        """The same from a local index. `item_of` gives the row of the item that an entry's key stands for: read only
        for entries that the page evaluates, and only where the entry does not hold all that is asked for."""
        self.add((entry.key, self._seen(entry, item_of)) for entry in entries)

    def _seen(self, entry: LocalEntry, item_of: Callable[[bytes], Row]) -> Row:
        """What filter and projection see of an entry, and how much it counts."""
        if entry.value is None:
            return item_of(entry.key)
        if not self._call.fetch:
            return Row(entry.value, b"", entry.size)
        item = item_of(entry.key)
        self._fetched_blocks += -(-item.size // READ_UNIT_BYTES)
        return item._replace(size=entry.size)

    def _evaluate(self, value: bytes) -> None:
        call = self._call
        if self._filter is None and self._projection is None:
            if not call.count_only:
                self._items.append(value)
            self._count += 1
            return
        item = loads(value)
        if self._filter is not None and not evaluate_condition(self._filter, item, call.names, call.values):
            return
        self._count += 1
        if call.count_only:
            return
        self._items.append(value if self._projection is None else dumps(project(self._projection, item, call.names)))

    def page(self) -> Page:
        last_key = self.last_key if self.full else None
        return Page(tuple(self._items), self._count, self._scanned, self._size, last_key, self._fetched_blocks)
