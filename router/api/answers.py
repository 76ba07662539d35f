"""Answers put together from bytes: what nodes stored goes out as it is, never decoded and encoded again."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from router.api.capacity import Units, consumed, wants_capacity

EMPTY = b"{}"


def item_answer(member: bytes, item: bytes | None, capacity: bytes) -> bytes:
    """`{"Item": ..., "ConsumedCapacity": ...}` with what there is of both. `capacity` comes from `capacity_member`."""
    if item is None:
        return b"{" + capacity + b"}" if capacity else EMPTY
    if capacity:
        return b"{" + member + item + b"," + capacity + b"}"
    return b"{" + member + item + b"}"


def capacity_member(table_name: str, units: float | Units, detail: str | None) -> bytes:
    """The member `"ConsumedCapacity":{...}`, empty when ReturnConsumedCapacity does not ask for it."""
    if not wants_capacity(detail):
        return b""
    return b'"ConsumedCapacity":' + orjson.dumps(consumed(table_name, units, detail))


def list_of(items: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def members_answer(members: Iterable[bytes]) -> bytes:
    """An object of members that are already `"name":value` bytes; empty ones are left out."""
    return b"{" + b",".join(member for member in members if member) + b"}"
