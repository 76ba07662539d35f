"""Keys of secondary indexes as bytes, and what an index keeps of an item.

    index key = hash64(hash part), 8 bytes ‖ length, 2 bytes ‖ hash part ‖ sort part ‖ key of the item

Up to four attributes make the hash part and up to four the sort part (Developer Guide, "Multi-attribute keys pattern").
A hash part of one attribute is encoded as a table's is, so an entry of a local index lies in the partition of its item;
several are each preceded by their length: they are only ever compared for equality. Attributes of the sort part are
escaped and terminated, so that their bytes keep DynamoDB's order attribute by attribute and nothing of one runs into
the next. The item's own key comes last: it makes entries unique, and tells where the item is.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

from geodyne.limits import PARTITION_KEY_BYTES_MAX, SORT_KEY_BYTES_MAX
from geodyne.messages import AttributeValue, Item
from geodyne.model.keys import HASH_BYTES, KeySchema, decode_key, decode_sort, encode_sort, successor

_LENGTH_BYTES = 2
_HEAD_BYTES = HASH_BYTES + _LENGTH_BYTES
_ZERO, _ESCAPED_ZERO = b"\x00", b"\x00\xff"
_END = b"\x00\x00"  # below every escaped byte: a shorter value comes first


class IndexSchema(NamedTuple):
    """Key attributes of an index, (name, type) each, in order; `table` is the key of the items."""

    hash_keys: tuple[tuple[str, str], ...]
    range_keys: tuple[tuple[str, str], ...]
    table: KeySchema

    @property
    def names(self) -> tuple[str, ...]:
        """The index's key attributes, then those of the table's key that are not among them."""
        own = tuple(name for name, _ in (*self.hash_keys, *self.range_keys))
        return (*own, *(name for name in self.table.names if name not in own))


class Index(Protocol):
    """An index as its definition says. `slot` is 0 for a global one; `projection`: ALL, KEYS_ONLY or INCLUDE (the keys
    and `included`)."""

    @property
    def name(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def schema(self) -> IndexSchema: ...
    @property
    def projection(self) -> str: ...
    @property
    def included(self) -> Sequence[str]: ...


def encode_index_key(schema: IndexSchema, item: Item, item_key: bytes) -> bytes | None:
    """The key of an item's entry; None when the item is not indexed: an attribute of the index's key is missing, has
    another type or a size that no key may have."""
    parts: list[bytes] = []
    for name, key_type in schema.hash_keys:
        value = item.get(name)
        if value is None or key_type not in value:
            return None
        encoded = encode_sort(key_type, value)
        if not 0 < len(encoded) <= PARTITION_KEY_BYTES_MAX:
            return None
        parts.append(encoded)
    head = _head(parts)
    size = 0
    tail = bytearray()
    for name, key_type in schema.range_keys:
        value = item.get(name)
        if value is None or key_type not in value:
            return None
        encoded = encode_sort(key_type, value)
        size += len(encoded)
        if not encoded or size > SORT_KEY_BYTES_MAX:
            return None
        tail += _escaped(encoded)
        tail += _END
    return head + bytes(tail) + item_key


def index_prefix(schema: IndexSchema, hash_values: Sequence[AttributeValue]) -> bytes:
    """What the keys of all entries with these values of the hash attributes, in order, begin with."""
    pairs = zip(schema.hash_keys, hash_values, strict=True)
    return _head([encode_sort(key_type, value) for (_, key_type), value in pairs])


class SortCondition(NamedTuple):
    """Conditions on the leading attributes of the sort part: equality on the first ones, then at most one `operator`
    ("<", "<=", ">", ">=", "BETWEEN", "begins_with") with `low` and, for BETWEEN, `high`, on the next.

    Values are canonical and of the schema's types."""

    equal: tuple[AttributeValue, ...] = ()
    operator: str | None = None
    low: AttributeValue | None = None
    high: AttributeValue | None = None


def index_range(
    schema: IndexSchema, hash_values: Sequence[AttributeValue], condition: SortCondition
) -> tuple[bytes, bytes]:
    """The half-open range [low, high) of index key bytes that the conditions select."""
    prefix = index_prefix(schema, hash_values)
    for (_, key_type), value in zip(schema.range_keys, condition.equal, strict=False):
        prefix += _escaped(encode_sort(key_type, value)) + _END
    operator = condition.operator
    if operator is None:
        return prefix, successor(prefix)
    key_type = schema.range_keys[len(condition.equal)][1]
    if condition.low is None:
        raise ValueError("a sort key condition needs an operand")
    low = prefix + _escaped(encode_sort(key_type, condition.low))
    if operator == "begins_with":
        return low, successor(low)
    bound = low + _END  # the entries of exactly this value begin with it
    if operator == "<":
        return prefix, bound
    if operator == "<=":
        return prefix, successor(bound)
    if operator == ">":
        return successor(bound), successor(prefix)
    if operator == ">=":
        return bound, successor(prefix)
    if operator == "BETWEEN" and condition.high is not None:
        return bound, successor(prefix + _escaped(encode_sort(key_type, condition.high)) + _END)
    raise ValueError(f"not a key condition: {operator}")


def item_key_of(schema: IndexSchema, key: bytes) -> bytes:
    """The key of the item that an entry stands for. Raises ValueError for bytes that are no index key."""
    return key[_sort_part(schema, key)[1] :]


def decode_index_key(schema: IndexSchema, key: bytes) -> Item:
    """The key attributes of the index and of the table: what a LastEvaluatedKey holds. Raises ValueError."""
    end, rest = _hash_end(key), key
    item: Item = {}
    if len(schema.hash_keys) == 1:
        name, key_type = schema.hash_keys[0]
        item[name] = decode_sort(key_type, key[_HEAD_BYTES:end])
    else:
        at = _HEAD_BYTES
        for name, key_type in schema.hash_keys:
            start = at + _LENGTH_BYTES
            at = start + int.from_bytes(key[at:start], "big")
            item[name] = decode_sort(key_type, key[start:at])
        if at != end:
            raise ValueError("the hash part of an index key does not end with an attribute")
    values, end = _sort_part(schema, key)
    for (name, key_type), value in zip(schema.range_keys, values, strict=True):
        item[name] = decode_sort(key_type, value)
    return {**decode_key(schema.table, rest[end:]), **item}


def projected(schema: IndexSchema, projection: str, included: Sequence[str], item: Item) -> Item:
    """What an index keeps of an item. `projection`: ALL, KEYS_ONLY or INCLUDE (the keys and `included`)."""
    if projection == "ALL":
        return item
    kept = {*schema.names, *included} if projection == "INCLUDE" else set(schema.names)
    return {name: value for name, value in item.items() if name in kept}


def _head(parts: Sequence[bytes]) -> bytes:
    if len(parts) == 1:
        encoded = parts[0]
    else:
        encoded = b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)
    return blake2b(encoded, digest_size=HASH_BYTES).digest() + len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


def _escaped(encoded: bytes) -> bytes:
    return encoded.replace(_ZERO, _ESCAPED_ZERO)


def _hash_end(key: bytes) -> int:
    end = _HEAD_BYTES + int.from_bytes(key[HASH_BYTES:_HEAD_BYTES], "big")
    if not _HEAD_BYTES < end <= len(key):
        raise ValueError("an index key ends inside its hash part")
    return end


def _sort_part(schema: IndexSchema, key: bytes) -> tuple[list[bytes], int]:
    """The values of the sort part and where it ends."""
    at = _hash_end(key)
    values: list[bytes] = []
    for _ in schema.range_keys:
        end = at
        while True:
            end = key.index(_ZERO, end)
            if key[end : end + 2] == _END:
                break
            end += 2
        values.append(key[at:end].replace(_ESCAPED_ZERO, _ZERO))
        at = end + 2
    return values, at
