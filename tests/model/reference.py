"""DynamoDB as its documentation describes it, over plain dictionaries: what each step must answer.

An outcome is a dictionary: `{"error": code}` with what an error carries, or the members of the answer that the
documentation fixes. `tests.model.outcomes` makes the same of a real answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.model import steps as s
from tests.model.expressions import changed, check_condition, holds, project
from tests.model.schema import TABLES, Index, Table
from tests.model.values import Invalid, Item, item_size, normal, normal_item, order

Outcome = dict[str, Any]
READ_UNIT_BYTES = 4096
WRITE_UNIT_BYTES = 1024


class ConditionFailed(Exception):
    def __init__(self, item: Item | None) -> None:
        super().__init__()
        self.item = item


class Reference:
    """All tables. `apply` performs a step and says what it must answer."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, Item]] = {name: {} for name in TABLES}

    def apply(self, step: s.Step) -> Outcome:
        try:
            return self._apply(step)
        except Invalid as refused:
            return {"error": refused.code}
        except ConditionFailed as failed:
            return {"error": "ConditionalCheckFailedException", "Item": failed.item}

    def _apply(self, step: s.Step) -> Outcome:
        if isinstance(step, s.Put | s.Update | s.Delete):
            before, after = self._image(step)
            self._store(step, after)
            return {"Attributes": _returned(step, before, after), "units": written_units(step.table, before, after)}
        if isinstance(step, s.Get):
            item = self._find(step.table, step.key)
            shown = None if item is None else project(item, step.projection)
            return {"Item": shown, "units": {step.table: read_units(item_size(item or {}))}}
        if isinstance(step, s.Query):
            return self._query(step)
        if isinstance(step, s.Scan):
            return self._scan(step)
        if isinstance(step, s.BatchGet):
            return self._batch_get(step)
        if isinstance(step, s.BatchWrite):
            return self._batch_write(step)
        if isinstance(step, s.TransactWrite):
            return self._transact_write(step)
        if isinstance(step, s.Statement):
            return self._execute(step.of)
        _refuse_twice([(get.table, get.key) for get in step.gets])
        found = [self._find(get.table, get.key) for get in step.gets]
        units: dict[str, float] = {}
        for get, item in zip(step.gets, found, strict=True):
            _add(units, {get.table: 2 * read_units(item_size(item or {}))})
        shown_items = [
            None if item is None else project(item, get.projection) for get, item in zip(step.gets, found, strict=True)
        ]
        return {"Items": shown_items, "units": units}

    # --- writes ---------------------------------------------------------------------------------------------

    def _image(self, step: s.Write) -> tuple[Item | None, Item | None]:
        """The item before and after a write. Raises Invalid or ConditionFailed."""
        table = TABLES[step.table]
        put = None
        if isinstance(step, s.Put):
            put = normal_item(step.item)
            table.check_item(put)
        key = table.key_of(put) if put is not None else _checked_key(table, step.key)  # type: ignore[union-attr]
        if step.condition is not None:
            check_condition(step.condition)
        if isinstance(step, s.Update) and any(change[1][0] in table.keys for change in step.changes):
            raise Invalid("an update of the key")
        before = self._items[step.table].get(_text(key))
        if step.condition is not None and not holds(step.condition, before or {}):
            raise ConditionFailed(before if step.show_failed else None)
        if isinstance(step, s.Update):
            after = changed(step.changes, before or key)
            if before is None and step.changes and all(change[0] in ("remove", "delete") for change in step.changes):
                return None, None  # taking attributes away makes no item
            table.check_item(after)
            return before, after
        return before, before if isinstance(step, s.Check) else put

    def _store(self, step: s.Write, after: Item | None) -> None:
        table = TABLES[step.table]
        key = table.key_of(after) if after is not None else normal_item(getattr(step, "key", {}))
        if after is not None:
            self._items[step.table][_text(key)] = after
        elif key:
            self._items[step.table].pop(_text(key), None)

    def _batch_write(self, step: s.BatchWrite) -> Outcome:
        _refuse_twice([(write.table, _key(write)) for write in step.writes])
        images = [self._image(write) for write in step.writes]
        units: dict[str, float] = {}
        for write, (before, after) in zip(step.writes, images, strict=True):
            self._store(write, after)
            _add(units, written_units(write.table, before, after))
        return {"units": units}

    def _transact_write(self, step: s.TransactWrite) -> Outcome:
        for write in step.writes:
            if write.condition is not None:
                check_condition(write.condition)
        _refuse_twice([(write.table, _key(write)) for write in step.writes])
        images, reasons = [], []
        for write in step.writes:
            reason: Outcome = {"Code": "None", "Item": None}
            try:
                images.append(self._image(write))
            except ConditionFailed as failed:
                reason = {"Code": "ConditionalCheckFailed", "Item": failed.item}
            except Invalid:
                reason = {"Code": "ValidationError", "Item": None}
            reasons.append(reason)
        if any(reason["Code"] != "None" for reason in reasons):
            return {"error": "TransactionCanceledException", "reasons": reasons}
        units: dict[str, float] = {}
        for write, (before, after) in zip(step.writes, images, strict=True):
            if not isinstance(write, s.Check):
                self._store(write, after)
            _add(units, {name: 2 * amount for name, amount in written_units(write.table, before, after).items()})
        return {"units": units}

    def _execute(self, step: s.Put | s.Get | s.Update | s.Delete) -> Outcome:
        """A statement: INSERT refuses an item that is there, UPDATE one that is not; a DELETE of nothing succeeds."""
        if isinstance(step, s.Get):
            item = self._find(step.table, step.key)
            return {"Items": [] if item is None else [project(item, step.projection)]}
        if not isinstance(step, s.Put):
            there = self._find(step.table, step.key)
            missing = there is None and isinstance(step, s.Update)
            if missing or (there is not None and step.condition is not None and not holds(step.condition, there)):
                raise ConditionFailed(None)
        before, after = self._image(step._replace(condition=None))
        if isinstance(step, s.Put) and before is not None:
            raise Invalid("an item that is there", "DuplicateItemException")
        self._store(step, after)
        returned = _returned(step, before, after)
        return {"Items": [] if returned is None else [returned]}

    # --- reads ----------------------------------------------------------------------------------------------

    def _find(self, table: str, key: Item) -> Item | None:
        return self._items[table].get(_text(_checked_key(TABLES[table], key)))

    def _batch_get(self, step: s.BatchGet) -> Outcome:
        _refuse_twice(list(step.keys))
        found: dict[str, list[Item]] = {table: [] for table, _ in step.keys}
        units: dict[str, float] = {}
        for table, key in step.keys:
            item = self._find(table, key)
            _add(units, {table: read_units(item_size(item or {}))})
            if item is not None:
                found[table].append(item)
        return {"Responses": {table: _sorted(items) for table, items in found.items()}, "units": units}

    def _query(self, step: s.Query) -> Outcome:
        table = TABLES[step.table]
        index = None if step.index_name is None else table.find_index(step.index_name)
        keys = table.keys if index is None else index.keys
        partition = normal(step.partition)
        conditions = s.key_conditions(step)
        for tree in (*conditions, *(() if step.filter is None else (step.filter,))):
            check_condition(tree)
        if next(iter(partition.values())) == "":
            raise Invalid("an empty key")
        lacks = index is not None and index.is_global and index.projected is not None
        if index is not None and lacks and (step.select == "ALL_ATTRIBUTES" or _reaches_beyond(step, index)):
            raise Invalid("more than a global index holds")
        entries = [entry for entry in self._entries(table, index) if entry[0][keys[0]] == partition]
        entries = [entry for entry in entries if all(holds(condition, entry[0]) for condition in conditions)]
        _in_order(entries, [*keys[1:], *table.keys])
        if step.backward:
            entries.reverse()
        if index is not None and index.is_global:
            units = read_units(sum(item_size(entry) for entry, _ in entries)) / 2
            answered = self._unpaged(step, index, [entry for entry, _ in entries])
            return answered if step.limit else {**answered, "units": {step.table: units}}
        return {"pages": self._pages(step, table, index, entries)}

    def _pages(
        self, step: s.Query, table: Table, index: Index | None, entries: list[tuple[Item, Item]]
    ) -> list[Outcome]:
        pages = []
        while True:
            page = entries[: step.limit] if step.limit else entries
            entries = entries[len(page) :]
            more = bool(step.limit) and len(page) == step.limit
            last = None
            if more:
                key_names = {*table.keys, *(index.keys if index else ())}
                last = {name: value for name, value in page[-1][1].items() if name in key_names}
            pages.append({**_answered(step, [_shown(step, index, *entry) for entry in page]), "last": last})
            pages[-1]["units"] = _page_units(step, index, page)
            if not more:
                return pages

    def _scan(self, step: s.Scan) -> Outcome:
        table = TABLES[step.table]
        if step.filter is not None:
            check_condition(step.filter)
        index = None if step.index_name is None else table.find_index(step.index_name)
        return self._unpaged(step, index, [entry for entry, _ in self._entries(table, index)])

    def _unpaged(self, step: s.Query | s.Scan, index: Index | None, entries: list[Item]) -> Outcome:
        """What an order that is not fixed, or only in part, leaves to compare."""
        answered = _answered(step, [(entry, entry) for entry in entries])
        if "Items" in answered:
            answered["Items"] = _sorted(answered["Items"])
        return answered

    def _entries(self, table: Table, index: Index | None) -> list[tuple[Item, Item]]:
        """What table or index hold, each with its whole item."""
        items = list(self._items[table.name].values())
        if index is None:
            return [(item, item) for item in items]
        return [(entry, item) for item in items if (entry := index.entry(table, item)) is not None]


# --- answers --------------------------------------------------------------------------------------------


def _returned(step: s.Put | s.Update | s.Delete, before: Item | None, after: Item | None) -> Item | None:
    """Attributes of the answer; None when there are none."""
    if step.returns == "NONE":
        return None
    if step.returns == "ALL_OLD":
        return before or None
    if step.returns == "ALL_NEW":
        return after
    assert isinstance(step, s.Update)
    source = before if step.returns == "UPDATED_OLD" else after
    return project(source or {}, [change[1] for change in step.changes]) or None


def _shown(step: s.Query, index: Index | None, entry: Item, item: Item) -> tuple[Item, Item]:
    """(what the filter sees, what is returned): a local index fetches what it does not hold."""
    whole = index is not None and (step.select == "ALL_ATTRIBUTES" or _reaches_beyond(step, index))
    return (item, item) if whole else (entry, entry)


def _reaches_beyond(step: s.Query, index: Index) -> bool:
    if step.projection is None or index.projected is None:
        return False
    held = {*index.keys, *TABLES[step.table].keys, *index.projected}
    return any(path[0] not in held for path in step.projection)


def _answered(step: s.Query | s.Scan, found: list[tuple[Item, Item]]) -> Outcome:
    kept = [item for seen, item in found if step.filter is None or holds(step.filter, seen)]
    counts = {"Count": len(kept), "ScannedCount": len(found)}
    if isinstance(step, s.Query) and step.select == "COUNT":
        return counts
    return {"Items": [project(item, step.projection) for item in kept], **counts}


def _page_units(step: s.Query, index: Index | None, page: list[tuple[Item, Item]]) -> dict[str, float]:
    units = read_units(sum(item_size(entry) for entry, _ in page))
    fetches = index is not None and (step.select == "ALL_ATTRIBUTES" or _reaches_beyond(step, index))
    if index is not None and index.projected is not None and fetches:
        units += sum(read_units(item_size(item)) for _, item in page)
    return {step.table: units}


def read_units(size: int) -> float:
    """Of a strong read."""
    return float(max(1, -(-size // READ_UNIT_BYTES)))


def write_units(size: int) -> float:
    return float(max(1, -(-size // WRITE_UNIT_BYTES)))


def written_units(table_name: str, before: Item | None, after: Item | None) -> dict[str, float]:
    """Units by table and, as "table/index", by each index that the write touched (developer guide, "Provisioned
    throughput considerations" of global and of local secondary indexes)."""
    table = TABLES[table_name]
    sizes = [item_size(image) for image in (before, after) if image is not None]
    units = {table_name: write_units(max(sizes, default=0))}
    for index in table.indexes:
        old = None if before is None else index.entry(table, before)
        new = None if after is None else index.entry(table, after)
        if old == new:
            continue
        entries = [entry for entry in (old, new) if entry is not None]
        if len(entries) == 2 and all(entries[0][key] == entries[1][key] for key in index.keys):
            touched = write_units(max(map(item_size, entries)))
        else:
            touched = sum(write_units(item_size(entry)) for entry in entries)
        units[f"{table_name}/{index.name}"] = touched
    return units


# --- keys -----------------------------------------------------------------------------------------------


def _checked_key(table: Table, key: Item) -> Item:
    key = normal_item(key)
    table.check_item(key)
    if set(key) != set(table.keys):
        raise Invalid("not the key's attributes")
    return key


def _key(write: s.Write) -> Item:
    return TABLES[write.table].key_of(write.item) if isinstance(write, s.Put) else write.key


def _refuse_twice(keys: Sequence[tuple[str, Item]]) -> None:
    texts = [(table, _text(normal_item(key))) for table, key in keys]
    if len(set(texts)) != len(texts):
        raise Invalid("an item twice")


def _text(item: Item) -> str:
    return json.dumps(item, sort_keys=True)


def _sorted(items: list[Item]) -> list[Item]:
    return sorted(items, key=_text)


def _in_order(entries: list[tuple[Item, Item]], names: list[str]) -> None:
    def key(entry: tuple[Item, Item]) -> list[Any]:
        return [order(entry[1][name]) for name in names]

    entries.sort(key=key)


def _add(totals: dict[str, float], units: dict[str, float]) -> None:
    for name, amount in units.items():
        totals[name] = totals.get(name, 0.0) + amount
