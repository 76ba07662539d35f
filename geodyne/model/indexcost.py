"""What a write costs in the indexes of its table, in write units.

Developer Guide, "Provisioned throughput considerations for global secondary indexes": an entry that appears or goes
costs one write, one whose key changes two (the old one goes, a new one comes), one of which only projected attributes
change one, an item whose entry stays as it is none. Each write is charged by the size of the entry, rounded up to 1 KB;
an entry that is replaced by the larger of the two. Local indexes are charged alike, to the table.
"""

from __future__ import annotations

from collections.abc import Iterable

from geodyne.limits import WRITE_UNIT_BYTES
from geodyne.messages import Item
from geodyne.model.indexkeys import Index, encode_index_key, projected
from geodyne.model.values import item_size


def index_write_units(indexes: Iterable[Index], old: Item | None, new: Item | None) -> tuple[tuple[str, int], ...]:
    """The write units of each index that the change of one item from `old` to `new` (None: absent) touches.

    Items are canonical; indexes that the change does not touch are left out. `Written.index_writes` has this form.
    """
    charged = []
    for index in indexes:
        units = _units(_entry(index, old), _entry(index, new))
        if units:
            charged.append((index.name, units))
    return tuple(charged)


_Entry = tuple[bytes, Item]  # the index's part of the key, and what the index keeps


def _entry(index: Index, item: Item | None) -> _Entry | None:
    if item is None:
        return None
    key = encode_index_key(index.schema, item, b"")  # both images are of one item: its own key makes no difference
    return None if key is None else (key, projected(index.schema, index.projection, index.included, item))


def _units(old: _Entry | None, new: _Entry | None) -> int:
    if old is None or new is None or old[0] != new[0]:
        return _blocks(old) + _blocks(new)
    if old[1] == new[1]:
        return 0
    return max(_blocks(old), _blocks(new))


def _blocks(entry: _Entry | None) -> int:
    return 0 if entry is None else (item_size(entry[1]) + WRITE_UNIT_BYTES - 1) // WRITE_UNIT_BYTES
