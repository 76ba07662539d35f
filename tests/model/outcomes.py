"""A step performed on a running service, and its answers in the form in which the reference tells what they must be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.api.service import Service
from tests.model import steps as s
from tests.model.reference import Outcome
from tests.model.schema import TABLES, Index
from tests.model.values import Item, order, seen

PAGES_MAX = 200
INDEX_S_MAX = 10.0  # until a global index has followed
POLL_S = 0.01
CLEARED_AT_ONCE = 25


class Seen(NamedTuple):
    """`message` is the text of an error: two services must use the same, though the reference does not know it."""

    outcome: Outcome
    message: str | None = None


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


class Region:
    """A service with the tables of `tests.model.schema`."""

    def __init__(self, endpoint: str) -> None:
        self._service = Service(endpoint)

    def close(self) -> None:
        self._service.close()

    def make_tables(self, names: set[str]) -> None:
        """Make those tables that are not there yet."""
        there = self._service.do("ListTables")["TableNames"]
        for name in sorted(names - set(there)):
            self._service.do("CreateTable", **TABLES[name].definition())
        for name in sorted(names):
            self._service.wait_active(name)

    def clear(self, names: set[str]) -> None:
        """Remove all items."""
        for name in sorted(names):
            keys = ", ".join(TABLES[name].keys)
            scan = {"TableName": name, "ConsistentRead": True, "ProjectionExpression": keys}
            items = [item for page in self._all_pages("Scan", scan) for item in page["Items"]]
            for first in range(0, len(items), CLEARED_AT_ONCE):
                deletes = [{"DeleteRequest": {"Key": key}} for key in items[first : first + CLEARED_AT_ONCE]]
                self._call("BatchWriteItem", {"RequestItems": {name: deletes}})

    def perform(self, step: s.Step, expected: Outcome) -> Seen:
        """What the step answers. A read of a global index is repeated while it has not followed the table."""
        deadline = time.monotonic() + (INDEX_S_MAX if s.reads_a_global_index(step) else 0.0)
        while True:
            found = self._perform(step)
            if found.outcome == expected or time.monotonic() >= deadline:
                return found
            time.sleep(POLL_S)

    def _perform(self, step: s.Step) -> Seen:
        operation, body = s.request_of(step)
        try:
            if isinstance(step, s.Query):
                return Seen(_queried(step, self._all_pages(operation, body)))
            if isinstance(step, s.Scan):
                return Seen(self._scanned(step, body))
            return Seen(_READ[type(step)](step, self._call(operation, body)))
        except Refused as refused:
            return _error(refused)

    def _scanned(self, step: s.Scan, body: s.Body) -> Outcome:
        pages = []
        for segment in range(step.segments):
            own = {**body, "Segment": segment} if step.segments > 1 else body
            pages += self._all_pages("Scan", own)
        return _unpaged(pages, step.limit)

    def _all_pages(self, operation: str, body: s.Body) -> list[Any]:
        pages = [self._call(operation, body)]
        while "LastEvaluatedKey" in pages[-1]:
            if len(pages) == PAGES_MAX:
                raise Refused(200, {"__type": "#EndlessPages"})
            pages.append(self._call(operation, {**body, "ExclusiveStartKey": pages[-1]["LastEvaluatedKey"]}))
        return pages

    def _call(self, operation: str, body: s.Body) -> Any:
        answer = self._service.call(operation, body)
        if answer.status != 200:
            raise Refused(answer.status, answer.body)
        return answer.body


def _error(refused: Refused) -> Seen:
    body = refused.body
    if not isinstance(body, dict) or "__type" not in body:
        return Seen({"error": f"status {refused.status}"}, repr(body))
    code = body["__type"].rpartition("#")[2]
    outcome: Outcome = {"error": code if refused.status == 400 else f"{refused.status} {code}"}
    if code == "ConditionalCheckFailedException":
        outcome["Item"] = _item(body.get("Item"))
    if "CancellationReasons" in body:
        reasons = body["CancellationReasons"]
        outcome["reasons"] = [{"Code": reason["Code"], "Item": _item(reason.get("Item"))} for reason in reasons]
    return Seen(outcome, body.get("message", body.get("Message")))


def _item(item: Item | None) -> Item | None:
    return None if item is None else {name: seen(value) for name, value in item.items()}


def _sorted(items: list[Item]) -> list[Any]:
    return sorted((_item(item) for item in items), key=lambda item: json.dumps(item, sort_keys=True))


def _written(step: Any, answer: Any) -> Outcome:
    return {"Attributes": _item(answer.get("Attributes")), "units": _units([answer["ConsumedCapacity"]])}


def _got(step: Any, answer: Any) -> Outcome:
    return {"Item": _item(answer.get("Item")), "units": _units([answer["ConsumedCapacity"]])}


def _batch_got(step: Any, answer: Any) -> Outcome:
    assert answer["UnprocessedKeys"] == {}, answer
    found = {table: _sorted(items) for table, items in answer["Responses"].items()}
    return {"Responses": found, "units": _units(answer["ConsumedCapacity"])}


def _batch_written(step: Any, answer: Any) -> Outcome:
    assert answer["UnprocessedItems"] == {}, answer
    return {"units": _units(answer["ConsumedCapacity"])}


def _transact_written(step: Any, answer: Any) -> Outcome:
    return {"units": _units(answer["ConsumedCapacity"])}


def _transact_got(step: Any, answer: Any) -> Outcome:
    items = [_item(response.get("Item")) for response in answer["Responses"]]
    return {"Items": items, "units": _units(answer["ConsumedCapacity"])}


def _executed(step: Any, answer: Any) -> Outcome:
    return {"Items": [_item(item) for item in answer.get("Items", ())]}


_READ: dict[type, Callable[[Any, Any], Outcome]] = {
    s.Put: _written,
    s.Update: _written,
    s.Delete: _written,
    s.Get: _got,
    s.BatchGet: _batch_got,
    s.BatchWrite: _batch_written,
    s.TransactWrite: _transact_written,
    s.TransactGet: _transact_got,
    s.Statement: _executed,
}


def _units(capacities: list[Any]) -> dict[str, float]:
    """Units by table and, as "table/index", by index."""
    units: dict[str, float] = {}
    for capacity in capacities:
        name = capacity["TableName"]
        parts = {name: capacity["Table"]["CapacityUnits"]}
        for group in ("LocalSecondaryIndexes", "GlobalSecondaryIndexes"):
            parts |= {f"{name}/{index}": part["CapacityUnits"] for index, part in capacity.get(group, {}).items()}
        if sum(parts.values()) != capacity["CapacityUnits"]:
            parts["total"] = capacity["CapacityUnits"]  # which no reference expects
        units |= parts
    return units


def _queried(step: s.Query, pages: list[Any]) -> Outcome:
    if s.reads_a_global_index(step):
        index = TABLES[step.table].find_index(str(step.index_name))
        whole = step.select != "COUNT" and step.projection is None
        if whole and step.limit == 0:
            _refuse_disorder([item for page in pages for item in page["Items"]], index, step.backward)
        answered = _unpaged(pages, step.limit)
        return answered if step.limit else {**answered, "units": _query_units(pages[0])}
    return {"pages": [_page(step, page) for page in pages]}


def _page(step: s.Query, page: Any) -> Outcome:
    items = {"Items": [_item(item) for item in page["Items"]]} if "Items" in page else {}
    counts = {"Count": page["Count"], "ScannedCount": page["ScannedCount"]}
    return {**items, **counts, "last": _item(page.get("LastEvaluatedKey")), "units": _query_units(page)}


def _query_units(page: Any) -> dict[str, float]:
    """All units together: how a page's divide between table and index the documentation does not say."""
    return {page["ConsumedCapacity"]["TableName"]: page["ConsumedCapacity"]["CapacityUnits"]}


def _unpaged(pages: list[Any], limit: int) -> Outcome:
    """All pages as one, when where one ends depends on an order that is not fixed."""
    items = {"Items": _sorted([item for page in pages for item in page["Items"]])} if "Items" in pages[0] else {}
    if any(limit and page["ScannedCount"] > limit for page in pages):
        raise Refused(200, {"__type": "#PageBeyondLimit"})
    return {**items, **{count: sum(page[count] for page in pages) for count in ("Count", "ScannedCount")}}


def _refuse_disorder(items: list[Item], index: Index, backward: bool) -> None:
    """Entries come in the order of the sort key, compared attribute by attribute."""
    keys = [[order(item[name]) for name in index.keys[index.partition_keys :]] for item in items]
    if keys != sorted(keys, reverse=backward):
        raise Refused(200, {"__type": "#Disorder"})
