"""Raises the mark of the data directory before what older versions would misread is written (decision 0016).

An older version that opened such a directory would read past what it does not know, and forget it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from geodyne.catalog import TableRecord
from geodyne.peermessages import Entry
from geodyne.writemodes import WRITES
from node.entries import promises
from node.state import GroupState
from node.storage.directory import FORMAT, MEMBERS_FORMAT, STREAMS_FORMAT, WATERMARKS_FORMAT


class FormatMark:
    """Of one node's directory. Any method raises what `grow` raises; the mark is durable when it returns."""

    def __init__(self, format: int = FORMAT, grow: Callable[[int], None] = lambda format: None) -> None:
        self._format = format
        self._grow = grow

    def members_change(self) -> None:
        self._raise_to(MEMBERS_FORMAT)

    def tables(self, tables: Collection[TableRecord]) -> None:
        """The catalog has these."""
        if self._format < STREAMS_FORMAT and any(table.streams for table in tables):
            self._raise_to(STREAMS_FORMAT)
        if self._format < WATERMARKS_FORMAT and any(WRITES in table.extra for table in tables):
            self._raise_to(WATERMARKS_FORMAT)

    def entries(self, entries: Iterable[Entry]) -> None:
        """They are about to be logged. A promise comes before any collection, in the log or in a snapshot's state."""
        if self._format < WATERMARKS_FORMAT and any(promises(entry.payload) for entry in entries):
            self._raise_to(WATERMARKS_FORMAT)

    def state(self, state: GroupState) -> None:
        """A snapshot is about to be taken over."""
        if state.safe_us:
            self._raise_to(WATERMARKS_FORMAT)
        elif state.definition.streams:
            self._raise_to(STREAMS_FORMAT)
        elif state.configuration is not None:
            self._raise_to(MEMBERS_FORMAT)

    def _raise_to(self, format: int) -> None:
        if self._format < format:
            self._grow(format)
            self._format = format
