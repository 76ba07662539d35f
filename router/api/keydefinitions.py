"""Attribute definitions and key schemas, as CreateTable and UpdateTable take them.

A definition that no key uses is refused, and so is a key without one: `AttributeDefinitions` names exactly the
attributes of the keys of the table and of its indexes (Amazon DynamoDB API Reference, "CreateTable").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from geodyne.errors import ApiError, validation
from geodyne.limits import INDEX_KEY_ATTRIBUTES_MAX, KEY_NAME_BYTES_MAX
from router.api.refusals import INVALID

_BAD_SCHEMA = "Invalid KeySchema: "
_SAME_NAME = "Both the Hash Key and the Range Key element in the KeySchema have the same name"

Types = dict[str, str]  # attribute name -> S, N or B
Elements = Sequence[dict[str, str]]  # of a KeySchema


class Keys(NamedTuple):
    """A key schema: (name, type) of its HASH and of its RANGE attributes, in order."""

    hash_keys: tuple[tuple[str, str], ...]
    range_keys: tuple[tuple[str, str], ...]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in (*self.hash_keys, *self.range_keys)]


def attribute_types(definitions: Iterable[dict[str, str]]) -> Types:
    """The defined attributes, in the order given. Raises ValidationException when one is defined twice."""
    types: Types = {}
    for definition in definitions:
        name = definition["AttributeName"]
        if name in types:
            raise validation(f"{INVALID}Duplicate AttributeName in AttributeDefinitions: {name}")
        types[name] = definition["AttributeType"]
    return types


def table_keys(elements: Elements, types: Types) -> Keys:
    """The key of a table: a HASH attribute and perhaps a RANGE attribute. Raises ValidationException."""
    _check_defined(_names(elements), types)
    return _pair(elements, types)


def local_index_keys(elements: Elements, types: Types) -> Keys:
    """The key of a local secondary index, of the same form as a table's. Raises ValidationException."""
    _check_defined(_names(elements), types)
    return _pair(elements, types)


def global_index_keys(elements: Elements, types: Types) -> Keys:
    """The key of a global secondary index: up to four HASH and then up to four RANGE attributes.

    Source: Developer Guide, "Multi-attribute key schema". Raises ValidationException.
    """
    names = _names(elements)
    _check_defined(names, types)
    _check_first_is_hash(elements)
    kinds = [element["KeyType"] for element in elements]
    hashes = kinds.count("HASH")
    if "HASH" in kinds[kinds.index("RANGE") :] if "RANGE" in kinds else False:
        raise validation(f"{_BAD_SCHEMA}All HASH key attributes must precede RANGE key attributes in the KeySchema")
    for kind, count in (("HASH", hashes), ("RANGE", len(kinds) - hashes)):
        if count > INDEX_KEY_ATTRIBUTES_MAX:
            raise validation(f"{_BAD_SCHEMA}The KeySchema exceeds the maximum allowed number of {kind} key attributes")
    if len(set(names)) != len(names):
        raise _repeated(names, hashes)
    _check_name_lengths(names)
    return _keys(elements, types)


def check_all_used(types: Types, used: Iterable[str], *, indexed: bool) -> None:
    """Raises ValidationException when an attribute is defined that no key has."""
    keys = list(dict.fromkeys(used))
    if all(name in keys for name in types):
        return
    if not indexed:
        raise validation(
            f"{INVALID}Number of attributes in KeySchema does not exactly match number of attributes defined in "
            "AttributeDefinitions"
        )
    raise validation(
        f"{INVALID}Some AttributeDefinitions are not used. "
        f"AttributeDefinitions: [{', '.join(types)}], keys used: [{', '.join(keys)}]"
    )


def _names(elements: Elements) -> list[str]:
    return [element["AttributeName"] for element in elements]


def _check_defined(names: list[str], types: Types) -> None:
    """Too few definitions and wrong ones are different mistakes, of tables and of indexes alike."""
    if len(types) < len(names):
        raise validation(f"{_BAD_SCHEMA}Some index key attribute have no definition")
    if any(name not in types for name in names):
        raise validation(
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. "
            f"Keys: [{', '.join(names)}], AttributeDefinitions: [{', '.join(types)}]"
        )


def _check_first_is_hash(elements: Elements) -> None:
    if elements[0]["KeyType"] != "HASH":
        raise validation(f"{_BAD_SCHEMA}The first KeySchemaElement is not a HASH key type")


def _pair(elements: Elements, types: Types) -> Keys:
    names = _names(elements)
    _check_first_is_hash(elements)
    if len(elements) > 1:
        if names[0] == names[1]:
            raise validation(_SAME_NAME)
        if elements[1]["KeyType"] != "RANGE":
            raise validation(f"{_BAD_SCHEMA}The second KeySchemaElement is not a RANGE key type")
    _check_name_lengths(names)
    return _keys(elements, types)


def _check_name_lengths(names: list[str]) -> None:
    for name in names:
        if len(name.encode()) > KEY_NAME_BYTES_MAX:
            raise validation(f"{INVALID}Key attribute name is longer than {KEY_NAME_BYTES_MAX} bytes: {name}")


def _keys(elements: Elements, types: Types) -> Keys:
    def of(kind: str) -> tuple[tuple[str, str], ...]:
        names = (element["AttributeName"] for element in elements if element["KeyType"] == kind)
        return tuple((name, types[name]) for name in names)

    return Keys(of("HASH"), of("RANGE"))


def _repeated(names: list[str], hashes: int) -> ApiError:
    if set(names[:hashes]) & set(names[hashes:]):
        return validation(_SAME_NAME)
    twice = next(name for name in names if names.count(name) > 1)
    return validation(f"{_BAD_SCHEMA}Some index key attributes are repeated in the KeySchema: {twice}")
