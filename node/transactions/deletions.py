"""What stands for the version of an item that is not there: enough to tell whether it was there in between.

A present item's version says whether it has changed. An absent one has none; its stamp changes when its key was
deleted, so that "absent, put, deleted, absent" is told from "absent all along". Kept by the leader alone and bound to
its term: under another leader every stamp is another.
"""

from __future__ import annotations

KEYS_MAX = 4_096


class Deletions:
    """The latest deletions of one partition. What falls off the end is remembered as one number for all other keys:
    a stamp may then differ without need, never the reverse."""

    __slots__ = ("_by_key", "_count", "_floor")

    def __init__(self) -> None:
        self._by_key: dict[bytes, int] = {}
        self._count = 0
        self._floor = 0

    def note(self, key: bytes) -> None:
        """The item of `key` is deleted."""
        self._count += 1
        self._by_key.pop(key, None)
        self._by_key[key] = self._count
        if len(self._by_key) > KEYS_MAX:
            oldest = next(iter(self._by_key))
            self._floor = self._by_key.pop(oldest)

    def stamp(self, key: bytes, term: int) -> bytes:
        """Of an absent item."""
        return b"absent/%d/%d" % (term, self._by_key.get(key, self._floor))

    def clear(self) -> None:
        self._by_key.clear()
        self._count = self._floor = 0
