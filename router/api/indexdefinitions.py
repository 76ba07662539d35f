"""Definitions of secondary indexes in requests, checked and brought into the form in which they travel.

That form holds the members of `geodyne.catalog.IndexRecord` that the user decides: name, is_global, hash_keys,
range_keys, projection, included, read_units, write_units, extra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from geodyne.errors import ApiError, validation
from geodyne.limits import GLOBAL_INDEXES_MAX, LOCAL_INDEXES_MAX, PROJECTED_ATTRIBUTES_MAX
from router.api.keydefinitions import Keys, Types, global_index_keys, local_index_keys
from router.api.refusals import INVALID
from router.api.throughput import Units, new_ceilings, raised_warm, warm_units

Definition = dict[str, Any]
Projection = tuple[str, list[str]]  # type, and what INCLUDE adds to the keys
UnitsOf = Callable[[str, dict[str, Any] | None, str], Units]


def local_indexes(indexes: list[dict[str, Any]] | None, table: Keys, types: Types) -> list[Definition]:
    """LocalSecondaryIndexes of CreateTable. Raises ValidationException."""
    if indexes is None:
        return []
    if not indexes:
        raise validation(f"{INVALID}List of LocalSecondaryIndexes is empty")
    definitions = [_local_index(index, table, types) for index in indexes]
    if len(definitions) > LOCAL_INDEXES_MAX:
        raise validation(f"{INVALID}Number of LocalSecondaryIndexes exceeds per-table limit of {LOCAL_INDEXES_MAX}")
    return definitions


def global_indexes(
    indexes: list[dict[str, Any]] | None, types: Types, mode: str, units_of: UnitsOf
) -> list[Definition]:
    """GlobalSecondaryIndexes of CreateTable, in a billing mode. Raises ValidationException."""
    if indexes is None:
        return []
    if not indexes:
        raise validation(f"{INVALID}List of GlobalSecondaryIndexes is empty")
    definitions = [global_index(index, types, mode, units_of) for index in indexes]
    if len(definitions) > GLOBAL_INDEXES_MAX:
        raise too_many_global_indexes()
    return definitions


def global_index(index: dict[str, Any], types: Types, mode: str, units_of: UnitsOf) -> Definition:
    """One global index. `units_of` gives its provisioned units, or refuses them, in the words of the operation.

    Raises ValidationException.
    """
    name = index["IndexName"]
    keys, projection = global_index_parts(index, types)
    units = units_of(mode, index.get("ProvisionedThroughput"), name)
    extra = new_ceilings(mode, index.get("OnDemandThroughput"))
    extra |= raised_warm(index.get("WarmThroughput"), warm_units(mode, units, {}), name)
    return _definition(name, keys, projection, is_global=True, units=units, extra=extra)


def global_index_parts(index: dict[str, Any], types: Types) -> tuple[Keys, Projection]:
    """Key and projection of a global index: what can be checked without its table. Raises ValidationException."""
    return global_index_keys(index["KeySchema"], types), _projection(index["Projection"])


def check_together(definitions: Iterable[Definition]) -> None:
    """Rules for all indexes of a table at once. Raises ValidationException."""
    names: set[str] = set()
    projected = 0
    for definition in definitions:
        if definition["name"] in names:
            raise validation(f"{INVALID}Duplicate index name: {definition['name']}")
        names.add(definition["name"])
        projected += len(definition["included"])
    check_projected(projected)


def check_projected(count: int) -> None:
    """Raises ValidationException when NonKeyAttributes of all indexes are too many; a repeated name counts again."""
    if count > PROJECTED_ATTRIBUTES_MAX:
        raise validation(
            f"{INVALID}Number of NonKeyAttributes projected into all secondary indexes exceeds the per-table limit of "
            f"{PROJECTED_ATTRIBUTES_MAX}"
        )


def too_many_global_indexes() -> ApiError:
    return validation(f"{INVALID}GlobalSecondaryIndex count exceeds the per-table limit of {GLOBAL_INDEXES_MAX}")


def key_names(definitions: Iterable[Definition]) -> list[str]:
    """The key attributes of indexes, repeated as they repeat."""
    return [name for each in definitions for name, _ in (*each["hash_keys"], *each["range_keys"])]


def _local_index(index: dict[str, Any], table: Keys, types: Types) -> Definition:
    name = index["IndexName"]
    keys = local_index_keys(index["KeySchema"], types)
    if not table.range_keys:
        raise validation(
            f"{INVALID}Table KeySchema does not have a range key, which is required when specifying a "
            "LocalSecondaryIndex"
        )
    if not keys.range_keys:
        raise validation(f"{INVALID}Index KeySchema does not have a range key for index: {name}")
    (index_hash, _), (table_hash, _) = keys.hash_keys[0], table.hash_keys[0]
    if index_hash != table_hash:
        raise validation(
            f"{INVALID}Index KeySchema does not have the same leading hash key as table KeySchema for index: {name}. "
            f"index hash key: {index_hash}, table hash key: {table_hash}"
        )
    return _definition(name, keys, _projection(index["Projection"]), is_global=False)


def _projection(projection: dict[str, Any]) -> Projection:
    kind: str | None = projection.get("ProjectionType")
    included: list[str] | None = projection.get("NonKeyAttributes")
    if kind is None:
        raise validation(f"{INVALID}Unknown ProjectionType: null")
    if kind != "INCLUDE":
        if included is not None:
            raise validation(f"{INVALID}ProjectionType is {kind}, but NonKeyAttributes is specified")
        return kind, []
    if included is None:
        raise validation(f"{INVALID}ProjectionType is INCLUDE, but NonKeyAttributes is not specified")
    if len(set(included)) != len(included):
        twice = next(name for name in included if included.count(name) > 1)
        raise validation(f"{INVALID}Duplicate attribute name in NonKeyAttributes: {twice}")
    return kind, list(included)


def _definition(
    name: str,
    keys: Keys,
    projection: Projection,
    *,
    is_global: bool,
    units: Units = (0, 0),
    extra: dict[str, Any] | None = None,
) -> Definition:
    return {
        "name": name,
        "is_global": is_global,
        "hash_keys": [list(pair) for pair in keys.hash_keys],
        "range_keys": [list(pair) for pair in keys.range_keys],
        "projection": projection[0],
        "included": projection[1],
        "read_units": units[0],
        "write_units": units[1],
        "extra": extra or {},
    }
