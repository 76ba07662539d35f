"""Table definitions as the clients of this folder use them."""

from __future__ import annotations

from typing import Any

ORDER_INDEXES: dict[str, Any] = {
    "local": {"by-total": ("total", "N", {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["note"]})},
    "global_": {"by-status": (("status", "S"), ("placed", "S"), {"ProjectionType": "ALL"})},
}


def definition(
    range_key: bool = True,
    *,
    local: dict[str, tuple[str, str, dict[str, Any]]] | None = None,
    global_: dict[str, tuple[tuple[str, str], tuple[str, str], dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """CreateTable's members for string keys "pk" and "sk", local indexes by sort key and global ones by both keys."""
    types = {"pk": "S", "sk": "S"} if range_key else {"pk": "S"}
    keys = [("pk", "HASH"), ("sk", "RANGE")][: 2 if range_key else 1]
    made: dict[str, Any] = {"KeySchema": _schema(*keys), "BillingMode": "PAY_PER_REQUEST"}
    for name, (attribute, kind, projection) in (local or {}).items():
        types[attribute] = kind
        entry = {"IndexName": name, "KeySchema": _schema(("pk", "HASH"), (attribute, "RANGE"))}
        made.setdefault("LocalSecondaryIndexes", []).append({**entry, "Projection": projection})
    for name, (hash_key, sort_key, projection) in (global_ or {}).items():
        types |= dict((hash_key, sort_key))
        entry = {"IndexName": name, "KeySchema": _schema((hash_key[0], "HASH"), (sort_key[0], "RANGE"))}
        made.setdefault("GlobalSecondaryIndexes", []).append({**entry, "Projection": projection})
    made["AttributeDefinitions"] = [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]
    return made


def _schema(*keys: tuple[str, str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in keys]
