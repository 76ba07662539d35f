"""What the change of an item means for the global indexes of its table. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from geodyne.messages import FeedRecord, IndexEntry, Item
from geodyne.model.indexkeys import encode_index_key, projected
from geodyne.model.values import dumps, item_size
from node.state import IndexDefinition

BACKFILLED = 0  # as `IndexEntry.sequence`: of a row, not of a change


class Kept(NamedTuple):
    """What an index keeps of an item."""

    key: bytes
    image: bytes
    size: int


def kept(index: IndexDefinition, item_key: bytes, image: bytes, item: Item, size: int) -> Kept | None:
    """The entry of an item; None when the index leaves it out. `image` and `size` are the item's own."""
    key = encode_index_key(index.schema, item, item_key)
    if key is None:
        return None
    if index.projection == "ALL":
        return Kept(key, image, size)
    part = projected(index.schema, index.projection, index.included, item)
    return Kept(key, dumps(part), item_size(part))


def differences(index: IndexDefinition, record: FeedRecord, old: Item | None, new: Item | None) -> Iterator[IndexEntry]:
    """What a change record asks of an index: an entry that goes comes before one that takes its place. `old` and
    `new` are the record's images, parsed."""
    sequence, change, old_image = record[:3]
    before = after = None
    if old is not None and old_image is not None:
        before = kept(index, change.key, old_image, old, 0)
    if new is not None and change.image is not None:
        after = kept(index, change.key, change.image, new, change.size)
    if before is not None and (after is None or after.key != before.key):
        yield IndexEntry(before.key, sequence, None, 0)
    if after is not None and (before is None or (after.key, after.image) != (before.key, before.image)):
        yield IndexEntry(after.key, sequence, after.image, after.size)
