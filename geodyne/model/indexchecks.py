"""What the key attributes of indexes must be, and how large an item may be with what local indexes keep of it.

An item that lacks a key attribute of an index is simply not in it; one whose attribute has another type, is empty or
too long is refused (Developer Guide, "Local secondary indexes" and "Best practices for handling violations"). A put
names index and attribute, an update does not (API reference, TransactionCanceledException, "Validation Error").
For each local index the item and its entry together are bound to 400 KB ("Quotas", "Item size").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from geodyne.catalog import IndexRecord, IndexStatus
from geodyne.errors import ApiError, validation
from geodyne.limits import ITEM_BYTES_MAX, PARTITION_KEY_BYTES_MAX, SORT_KEY_BYTES_MAX
from geodyne.messages import AttributeValue, Item
from geodyne.model.indexkeys import Index, IndexSchema, encode_index_key, projected
from geodyne.model.keys import KeySchema, encode_sort
from geodyne.model.values import item_size

_INVALID = "One or more parameter values were invalid: "
_NOT_VALID = "One or more parameter values are not valid. "
_WRONG_TYPE = _INVALID + "Type mismatch for Index Key {} Expected: {} Actual: {} IndexName: {}"
_TOO_LONG = _INVALID + "Size limit exceeded for Index Key {} Actual Size: {} bytes Max Size: {} bytes IndexName: {}"
_EMPTY = _NOT_VALID + (
    "A value specified for a secondary index key is not supported. "
    "The AttributeValue for a key attribute cannot contain an empty {} value. IndexName: {}, IndexKey: {}"
)
_TOGETHER_TOO_LONG = (
    f"{_INVALID}Aggregated size of all range keys has exceeded the size limit of {SORT_KEY_BYTES_MAX} bytes"
)
_UPDATED_TYPE = "The update expression attempted to update the secondary index key to unsupported type"
_UPDATED_LENGTH = "The update expression attempted to update the secondary index key beyond allowed size limits"
_UPDATED_EMPTY = _NOT_VALID + (
    "The update expression attempted to update a secondary index key to a value that is not supported. "
    "The AttributeValue for a key attribute cannot contain an empty {} value."
)
_TOO_LARGE = "Item size has exceeded the maximum allowed size"


def check_index_keys(indexes: Iterable[IndexRecord], table: KeySchema, item: Item, size: int) -> None:
    """Of a canonical item of `size` bytes that is to be put. Raises ApiError (ValidationException)."""
    for index in indexes:
        if index.status is IndexStatus.DELETING:
            continue
        keys = IndexSchema(index.hash_keys, index.range_keys, table)
        _check_keys(keys, index.name, item, updating=False)
        if index.slot and size + _entry_size(keys, index.projection, index.included, item) > ITEM_BYTES_MAX:
            raise validation(_TOO_LARGE)


def check_updated_index_keys(indexes: Iterable[Index], item: Item) -> None:
    """Of the canonical item that an update expression has made: all of it, so that an item that was there before an
    index that it violates can only be updated into one that does not. Raises ApiError (ValidationException)."""
    for index in indexes:
        _check_keys(index.schema, index.name, item, updating=True)


def exceeds_item_size(indexes: Iterable[Index], item: Item, size: int) -> bool:
    """Whether a canonical item of `size` bytes and its entry in one of the local indexes are too large together."""
    return any(
        size + _entry_size(index.schema, index.projection, index.included, item) > ITEM_BYTES_MAX
        for index in indexes
        if index.slot
    )


def _entry_size(schema: IndexSchema, projection: str, included: Sequence[str], item: Item) -> int:
    """Bytes of what an index keeps of a canonical item; 0 when the item is not in it."""
    if encode_index_key(schema, item, b"") is None:
        return 0
    return item_size(projected(schema, projection, included, item))


def _check_keys(schema: IndexSchema, index: str, item: Item, *, updating: bool) -> None:
    for name, key_type in schema.hash_keys:
        _check_key(item.get(name), name, key_type, index, PARTITION_KEY_BYTES_MAX, updating)
    together = 0
    for name, key_type in schema.range_keys:
        together += _check_key(item.get(name), name, key_type, index, SORT_KEY_BYTES_MAX, updating)
    if together > SORT_KEY_BYTES_MAX:
        raise validation(_UPDATED_LENGTH if updating else _TOGETHER_TOO_LONG)


def _check_key(
    value: AttributeValue | None, name: str, key_type: str, index: str, bytes_max: int, updating: bool
) -> int:
    """The bytes of a key attribute; 0 when the item lacks it."""
    if value is None:
        return 0
    if key_type not in value:
        raise _wrong_type(value, name, key_type, index, updating)
    length = len(encode_sort(key_type, value))
    if not length:
        kind = "string" if key_type == "S" else "binary"
        raise validation(_UPDATED_EMPTY.format(kind) if updating else _EMPTY.format(kind, index, name))
    if length > bytes_max:
        raise validation(_UPDATED_LENGTH if updating else _TOO_LONG.format(name, length, bytes_max, index))
    return length


def _wrong_type(value: AttributeValue, name: str, key_type: str, index: str, updating: bool) -> ApiError:
    if updating:
        return validation(_UPDATED_TYPE)
    return validation(_WRONG_TYPE.format(name, key_type, next(iter(value)), index))
