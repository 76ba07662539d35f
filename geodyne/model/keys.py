"""Keys as bytes: where an item lives and in which order it is read.

    key = hash64(partition key), 8 bytes ‖ length, 2 bytes ‖ partition key ‖ sort key

The hash spreads partition keys over the 64-bit space that partitions divide; the length makes the partition key
self-delimiting, so that all keys of one partition key share a prefix that no other key begins with; the sort key
comes last, so that byte order is DynamoDB's order: strings by UTF-8, numbers by value, binary unsigned. The encoding
is decodable: a key is all that a LastEvaluatedKey needs.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from hashlib import blake2b
from typing import Any, NamedTuple

from geodyne.errors import ApiError, validation
from geodyne.limits import PARTITION_KEY_BYTES_MAX, SORT_KEY_BYTES_MAX
from geodyne.messages import AttributeValue, Item
from geodyne.model.numbers import decode as decode_number
from geodyne.model.numbers import encode as encode_number

HASH_BYTES = 8
_LENGTH_BYTES = 2
_HEAD_BYTES = HASH_BYTES + _LENGTH_BYTES

_INVALID = "One or more parameter values were invalid: "
KEY_MISMATCH = "The provided key element does not match the schema"
_EMPTY_KEY = (
    "One or more parameter values are not valid. "
    "The AttributeValue for a key attribute cannot contain an empty {} value. Key: {}"
)
# The missing space is the service's.
_HASH_TOO_LONG = f"{_INVALID}Size of hashkey has exceeded the maximum size limit of{PARTITION_KEY_BYTES_MAX} bytes"
_RANGE_TOO_LONG = (
    f"{_INVALID}Aggregated size of all range keys has exceeded the size limit of {SORT_KEY_BYTES_MAX} bytes"
)


class KeySchema(NamedTuple):
    """Names and types (S, N or B) of a table's or an index's key attributes."""

    hash_name: str
    hash_type: str
    range_name: str | None = None
    range_type: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.hash_name,) if self.range_name is None else (self.hash_name, self.range_name)


def hash64(encoded_hash_key: bytes) -> int:
    """The place of a partition key, as `encode_sort` has it, in the hash space."""
    return int.from_bytes(blake2b(encoded_hash_key, digest_size=HASH_BYTES).digest(), "big")


def hash_of(key: bytes) -> int:
    """The hash that a key begins with."""
    return int.from_bytes(key[:HASH_BYTES], "big")


def hash_bound(hash_value: int) -> bytes:
    """The smallest key bytes of a hash in [0, 2**64]; 2**64 gives bytes beyond every key."""
    if hash_value >> 64:
        return b"\xff" * (HASH_BYTES + 1)  # a length never begins with 0xFF
    return hash_value.to_bytes(HASH_BYTES, "big")


KEYS_END = hash_bound(1 << 64)


def collection_of(key: bytes) -> bytes:
    """What the keys of all items with the same partition key begin with, and no others."""
    return key[: _HEAD_BYTES + int.from_bytes(key[HASH_BYTES:_HEAD_BYTES], "big")]


def encode_key(schema: KeySchema, item: Item, *, for_item: bool = True) -> bytes:
    """Key bytes of a canonical item, or (`for_item` false) of a Key parameter, which must hold nothing else.

    Raises ApiError (ValidationException) for a missing, mistyped, empty or too long key attribute.
    """
    if not for_item and len(item) != (1 if schema.range_name is None else 2):
        raise validation(KEY_MISMATCH)
    value = item.get(schema.hash_name)
    if value is None or schema.hash_type not in value:
        raise _unfit(schema.hash_name, schema.hash_type, value, for_item)
    encoded = encode_sort(schema.hash_type, value)
    length = len(encoded)
    if not 0 < length <= PARTITION_KEY_BYTES_MAX:
        raise _bad_length(schema.hash_name, schema.hash_type, length, _HASH_TOO_LONG)
    head = blake2b(encoded, digest_size=HASH_BYTES).digest() + length.to_bytes(_LENGTH_BYTES, "big") + encoded
    if schema.range_name is None:
        return head
    range_type = schema.range_type or ""
    value = item.get(schema.range_name)
    if value is None or range_type not in value:
        raise _unfit(schema.range_name, range_type, value, for_item)
    encoded = encode_sort(range_type, value)
    if not 0 < len(encoded) <= SORT_KEY_BYTES_MAX:
        raise _bad_length(schema.range_name, range_type, len(encoded), _RANGE_TOO_LONG)
    return head + encoded


def fits_schema(schema: KeySchema, key: Item) -> bool:
    """Whether a canonical Key parameter has exactly the schema's attributes, each of its type."""
    if schema.range_name is None:
        return len(key) == 1 and schema.hash_type in key.get(schema.hash_name, {})
    return (
        len(key) == 2
        and schema.hash_type in key.get(schema.hash_name, {})
        and (schema.range_type or "") in key.get(schema.range_name, {})
    )


def _unfit(name: str, expected: str, value: AttributeValue | None, for_item: bool) -> ApiError:
    if not for_item:
        return validation(KEY_MISMATCH)
    if value is None:
        return validation(f"{_INVALID}Missing the key {name} in the item")
    return validation(f"{_INVALID}Type mismatch for key {name} expected: {expected} actual: {next(iter(value))}")


def _bad_length(name: str, key_type: str, length: int, too_long: str) -> ApiError:
    if length:
        return validation(too_long)
    return validation(_EMPTY_KEY.format("string" if key_type == "S" else "binary", name))


def check_key_length(name: str, key_type: str, value: AttributeValue, *, is_hash: bool) -> None:
    """Length rules for a value of a key attribute in a key condition. Raises ApiError (ValidationException)."""
    length = len(encode_sort(key_type, value))
    if not 0 < length <= (PARTITION_KEY_BYTES_MAX if is_hash else SORT_KEY_BYTES_MAX):
        raise _bad_length(name, key_type, length, _HASH_TOO_LONG if is_hash else _RANGE_TOO_LONG)


def encode_sort(key_type: str, value: AttributeValue) -> bytes:
    """Bytes of a canonical key value whose order is DynamoDB's order of that type."""
    content: str = value[key_type]
    if key_type == "S":
        return content.encode()
    if key_type == "N":
        return encode_number(content)
    return a2b_base64(content)


def decode_sort(key_type: str, encoded: bytes) -> AttributeValue:
    """The canonical value of `encode_sort`. Raises ValueError when the bytes are not one."""
    if key_type == "S":
        return {"S": encoded.decode()}
    if key_type == "N":
        return {"N": decode_number(encoded)}
    return {"B": b2a_base64(encoded, newline=False).decode("ascii")}


def decode_key(schema: KeySchema, key: bytes) -> Item:
    """The key attributes of key bytes: the exact inverse of `encode_key`. Raises ValueError for other bytes."""
    if len(key) < _HEAD_BYTES:
        raise ValueError("a key is at least ten bytes long")
    end = _HEAD_BYTES + int.from_bytes(key[HASH_BYTES:_HEAD_BYTES], "big")
    if len(key) < end:
        raise ValueError("the key ends inside its partition key")
    item = {schema.hash_name: decode_sort(schema.hash_type, key[_HEAD_BYTES:end])}
    if schema.range_name is not None:
        item[schema.range_name] = decode_sort(schema.range_type or "", key[end:])
    return item


def readable_key(schema: KeySchema, key: bytes) -> dict[str, Any]:
    """As `decode_key`, for people: of bytes that are no key, which is damage of its own, {"bytes": hexadecimal}."""
    try:
        return dict(decode_key(schema, key))
    except ValueError:
        return {"bytes": key.hex()}


def prefix_of(schema: KeySchema, hash_value: AttributeValue) -> bytes:
    """What all keys of one partition key value begin with, and no others."""
    encoded = encode_sort(schema.hash_type, hash_value)
    return blake2b(encoded, digest_size=HASH_BYTES).digest() + len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


def successor(prefix: bytes) -> bytes:
    """The smallest bytes greater than everything that begins with `prefix`.

    Raises ValueError if there are none (empty, or 0xFF throughout), which no key prefix is: its length field's
    first byte is below 0xFF.
    """
    trimmed = prefix.rstrip(b"\xff")
    if not trimmed:
        raise ValueError("nothing is greater than every continuation of this prefix")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,))
