"""Carrying out a SELECT: its GetItem, its Query or Scan requests, and the page that they make together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge as heap_merge
from typing import Any, NamedTuple

import orjson

from geodyne.limits import PARTIQL_IN_PAGE_ITEMS
from geodyne.messages import AttributeValue, Item
from geodyne.model.keys import encode_sort
from router.api import items, queries
from router.api.context import Context
from router.api.partiql.pages import Position, invalid_token
from router.api.partiql.plan import Body, Merge, Paths, Read
from router.api.together import together

Capacity = dict[str, Any]


class ReadPage(NamedTuple):
    """What was found; `position` is where to go on, None at the end."""

    items: list[Item]
    position: Position | None = None
    last_key: Item | None = None
    capacity: Capacity | None = None


async def read_page(read: Read, common: Body, context: Context, limit: int, position: Position | None) -> ReadPage:
    """One page of a SELECT. `common` are the members that all requests share: TableName, ConsistentRead and
    ReturnConsumedCapacity. Raises ApiError."""
    if read.key is not None:
        answer = orjson.loads(await items.get_item({**read.bodies[0], **common}, context))
        found = [answer["Item"]] if "Item" in answer else []
        return ReadPage(shaped(found, read.shaped), capacity=answer.get("ConsumedCapacity"))
    if read.merged is not None:
        page = await _merged(read, read.merged, common, context, limit, position)
    else:
        page = await _in_sequence(read, common, context, limit, position)
    return page._replace(items=shaped(page.items, read.shaped))


async def _in_sequence(read: Read, common: Body, context: Context, limit: int, position: Position | None) -> ReadPage:
    """The queries one after the other, until the page is full."""
    at, start = (0, None) if position is None else _place(read, position)
    left = _page_items(read, limit)
    found: list[Item] = []
    capacity: Capacity | None = None
    while True:
        answer = await _page(read, at, common, context, left, start)
        found += answer["Items"]
        capacity = added(capacity, answer.get("ConsumedCapacity"))
        last = answer.get("LastEvaluatedKey")
        if last is not None:
            return ReadPage(found, {"at": at, "key": last}, last, capacity)
        at, start = at + 1, None
        if at == len(read.bodies):
            return ReadPage(found, capacity=capacity)
        if left:
            left -= answer["ScannedCount"]
            if left <= 0:
                return ReadPage(found, {"at": at}, None, capacity)


def _place(read: Read, position: Position) -> tuple[int, Item | None]:
    """Which query goes on, and after which key."""
    at, start = position.get("at"), position.get("key")
    if type(at) is not int or not 0 <= at < len(read.bodies) or not isinstance(start, dict | None):
        raise invalid_token()
    return at, start


def _page_items(read: Read, limit: int) -> int:
    """How many items a page may evaluate; 0 for as many as there is room for."""
    if not read.paged:
        return limit
    return min(limit, PARTIQL_IN_PAGE_ITEMS) if limit else PARTIQL_IN_PAGE_ITEMS


async def _page(read: Read, at: int, common: Body, context: Context, limit: int, start: Item | None) -> dict[str, Any]:
    """The answer of one of the requests, from beyond the key `start`; `limit` 0: no limit."""
    body = {**read.bodies[at], **common}
    if limit:
        body["Limit"] = limit
    if start is not None:
        body["ExclusiveStartKey"] = start
    reading = queries.scan(body, context) if read.scans else queries.query(body, context, filters_keys=True)
    answer: dict[str, Any] = orjson.loads(await reading)
    return answer


# --- several queries in one order -----------------------------------------------------------------------


class _Stream(NamedTuple):
    """What one of several queries has found, and the key up to which it has looked; None: there is nothing more."""

    found: list[Item]
    last: Item | None


async def _merged(
    read: Read, merged: Merge, common: Body, context: Context, limit: int, position: Position | None
) -> ReadPage:
    """The next items of all queries in one order. A position has the key after which each of them goes on, and which
    have nothing more."""
    starts, done = ([None] * len(read.bodies), set()) if position is None else _places(read, position)
    room = _page_items(read, limit)
    open_ones = [at for at in range(len(read.bodies)) if at not in done]
    answers = await together([_page(read, at, common, context, room, starts[at]) for at in open_ones])
    streams = {
        at: _Stream(answer["Items"], answer.get("LastEvaluatedKey"))
        for at, answer in zip(open_ones, answers, strict=True)
    }
    capacity: Capacity | None = None
    for answer in answers:
        capacity = added(capacity, answer.get("ConsumedCapacity"))
    taken = _take(merged, streams, room)
    last: Item | None = None
    for at, item in taken:
        last = starts[at] = {name: item[name] for name in read.key_names}
    for at, stream in streams.items():
        if sum(one == at for one, _ in taken) == len(stream.found):
            starts[at] = stream.last
            if stream.last is None:
                done.add(at)
    found = [item for _, item in taken]
    if len(done) == len(read.bodies):
        return ReadPage(found, capacity=capacity)
    return ReadPage(found, {"keys": starts, "done": sorted(done)}, last, capacity)


def _places(read: Read, position: Position) -> tuple[list[Item | None], set[int]]:
    starts, done = position.get("keys"), position.get("done")
    numbers = range(len(read.bodies))
    if (
        not isinstance(starts, list)
        or len(starts) != len(read.bodies)
        or not all(isinstance(start, dict | None) for start in starts)
        or not isinstance(done, list)
        or not all(type(at) is int and at in numbers for at in done)
        or len(set(done)) == len(read.bodies)
    ):
        raise invalid_token()
    return starts, set(done)


def _take(merged: Merge, streams: dict[int, _Stream], room: int) -> list[tuple[int, Item]]:
    """The first items of all streams together, no further than to where each of them has looked."""
    descending = merged.descending

    def place_of(item: Item) -> tuple[bytes, ...]:
        return tuple(encode_sort(key_type, item[name]) for name, key_type in merged.ranges)

    def offers(at: int, stream: _Stream) -> Iterator[tuple[tuple[bytes, ...], int, Item]]:
        for item in stream.found:
            yield place_of(item), at, item

    reached = [place_of(stream.last) for stream in streams.values() if stream.last is not None]
    bound = None if not reached else max(reached) if descending else min(reached)
    in_order = heap_merge(
        *(offers(at, stream) for at, stream in streams.items()), key=lambda offer: offer[0], reverse=descending
    )
    taken: list[tuple[int, Item]] = []
    for place, at, item in in_order:
        if len(taken) == room or (bound is not None and (place < bound if descending else place > bound)):
            break
        taken.append((at, item))
    return taken


# --- items ----------------------------------------------------------------------------------------------


def shaped(found: list[Item], paths: Paths | None) -> list[Item]:
    """Items of the values at the paths, each under the last name of its path, with the indexes that follow it."""
    if paths is None:
        return found
    return [_shape(item, paths) for item in found]


def _shape(item: Item, paths: Paths) -> Item:
    shaped: Item = {}
    for path in paths:
        value = _at(item, path)
        if value is not None:
            shaped[_label(path)] = value
    return shaped


def _label(path: Sequence[str | int]) -> str:
    """`c[0]` for `a.b.c[0]`."""
    label = ""
    for element in path:
        label = f"{label}[{element}]" if isinstance(element, int) else element
    return label


def _at(item: Item, path: Sequence[str | int]) -> AttributeValue | None:
    value = item.get(str(path[0]))
    for element in path[1:]:
        if value is None:
            return None
        if isinstance(element, int):
            elements = value.get("L", ())
            value = elements[element] if element < len(elements) else None
        else:
            value = value.get("M", {}).get(element)
    return value


# --- capacity -------------------------------------------------------------------------------------------


def added(total: Capacity | None, more: Capacity | None) -> Capacity | None:
    """Two ConsumedCapacity members of the same table as one."""
    if total is None or more is None:
        return total if more is None else more
    merged = dict(total)
    for name, value in more.items():
        if isinstance(value, dict):
            merged[name] = added(merged.get(name), value)
        elif isinstance(value, int | float):
            merged[name] = merged.get(name, 0) + value
    return merged
