"""Images that are decided but not yet in SQLite, by key.

The leader evaluates against the newest image of a key, committed or not; reads see the newest *committed* one.
Images of one key are kept in log order and leave when their entry has been applied.
"""

from __future__ import annotations

from typing import NamedTuple

from node.storage.port import Row


class Pending(NamedTuple):
    index: int  # type: ignore[assignment]  # of the log entry that carries the image
    row: Row | None  # None: the key is gone without a trace (no tombstone kept)


class Overlay:
    """Pending images of one group. Bounded with what is uncommitted (node.group, UNCOMMITTED_BYTES_MAX)."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[Pending]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def put(self, key: bytes, index: int, row: Row | None) -> None:
        """Add an image; `index` never falls below that of an earlier image of the key."""
        images = self._by_key.get(key)
        if images is None:
            self._by_key[key] = [Pending(index, row)]
        elif images[-1].index == index:
            images[-1] = Pending(index, row)
        else:
            images.append(Pending(index, row))

    def newest(self, key: bytes) -> Pending | None:
        images = self._by_key.get(key)
        return images[-1] if images is not None else None

    def committed(self, key: bytes, commit_index: int) -> Pending | None:
        """The newest image at or below `commit_index`, if it is still pending."""
        images = self._by_key.get(key)
        if images is not None:
            for image in reversed(images):
                if image.index <= commit_index:
                    return image
        return None

    def applied(self, key: bytes, index: int) -> None:
        """The image of `key` at `index` is in SQLite now: it and everything older may go."""
        images = self._by_key.get(key)
        if images is None:
            return
        if images[-1].index <= index:
            del self._by_key[key]
        else:
            self._by_key[key] = [image for image in images if image.index > index]

    def clear(self) -> None:
        self._by_key.clear()
