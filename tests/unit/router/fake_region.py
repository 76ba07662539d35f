"""A region in memory: answers the calls of the API as nodes do, from dictionaries and without waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import replace
from typing import Any

import orjson
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from geodyne import overrides
from geodyne.catalog import HASH_SPACE, IndexRecord, IndexStatus, PartitionRecord, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.expressions.evaluate import evaluate_condition
from geodyne.expressions.parse import parse_condition, parse_projection, parse_update
from geodyne.expressions.projection import project
from geodyne.expressions.update import apply_update, updated_attributes
from geodyne.limits import READ_UNIT_BYTES
from geodyne.messages import (
    Answer,
    Call,
    Control,
    ControlDone,
    Count,
    Found,
    Get,
    Moved,
    Page,
    Range,
    Refused,
    ReturnValues,
    Write,
    WriteKind,
    Written,
)
from geodyne.model.values import dumps, item_size, loads
from router.api.context import Api, ApiSettings
from router.api.registry import OPERATIONS, STREAM_OPERATIONS
from tests.unit.router.fake_indexes import local_rows, table_of, written

REGION = "us-east-1"
REGIONS = ("us-east-1", "eu-west-1", "ap-northeast-2")
NOW_MS = 1_780_000_000_000
_OPERATIONS = {**OPERATIONS, **STREAM_OPERATIONS}
_MODELS = [
    ServiceModel(Loader().load_service_model(service, "service-2"), service)
    for service in ("dynamodb", "dynamodbstreams")
]
_SHAPES = {
    name: model.operation_model(name).output_shape for model in _MODELS for name in model.operation_names
}  # of answers


class Ready:
    """An answer that is already there."""

    def __init__(self, answer: Answer | ApiError) -> None:
        self._answer = answer

    def __await__(self) -> Generator[None, None, Answer]:
        if isinstance(self._answer, ApiError):
            raise self._answer
        return self._answer
        yield


class _Catalog:
    def __init__(self) -> None:
        self.tables: dict[str, TableRecord] = {}
        self.mappings: dict[str, dict[str, Any]] = {}
        self.functions: dict[str, dict[str, Any]] = {}
        self.told: dict[tuple[int, int], tuple[int, int]] = {}  # (partition, slot) -> items, bytes
        self.revision = 0

    def counts(self, partition: int, slot: int = 0) -> Count:
        return Count(partition, slot, *self.told.get((partition, slot), (0, 0)))


class FakeRegion:
    """`forced` answers the next calls instead of the data, in order; `calls` keeps everything that was sent."""

    def __init__(self) -> None:
        self.catalog = _Catalog()
        self.rows: dict[int, dict[bytes, bytes]] = {}
        self.forced: list[Answer | ApiError | None] = []
        self.calls: list[Call] = []
        self.answers: list[Answer | ApiError] = []
        self.before_call: dict[int, Callable[[], None]] = {}  # what happens just before the n-th call from now
        self.waited: list[int] = []
        self.on_wait: list[Callable[[], None]] = []  # what has happened when the next waits for the catalog are over
        self.revision = 0
        self.next_partition = 1

    def call(self, call: Call, *, timeout_ms: int, request_id: str = "") -> Awaitable[Answer]:
        assert timeout_ms > 0
        self.calls.append(call)
        self.before_call = {number - 1: event for number, event in self.before_call.items()}
        self.before_call.pop(0, lambda: None)()
        forced = self.forced.pop(0) if self.forced else None
        self.answers.append(forced if forced is not None else self._answer(call))
        return Ready(self.answers[-1])

    async def wait_revision(self, revision: int, timeout_ms: int) -> None:
        self.waited.append(revision)
        if self.on_wait:
            self.on_wait.pop(0)()

    def split(self, name: str, partitions: int) -> None:
        """Give a table new partitions; calls for the old ones are answered Moved."""
        record = self.catalog.tables[name]
        old = {key: row for part in record.partitions for key, row in self.rows.pop(part.id).items()}
        record = replace(record, partitions=self._partitions(partitions))
        self.catalog.tables[name] = record
        for key, row in old.items():
            self.rows[record.partition_of(int.from_bytes(key[:8], "big")).id][key] = row

    def drop_index(self, name: str, index: str) -> None:
        record = self.catalog.tables[name]
        indexes = tuple(one for one in record.indexes if one.name != index)
        self.catalog.tables[name] = replace(record, indexes=indexes)

    def set_index_status(self, name: str, index: str, status: IndexStatus) -> None:
        record = self.catalog.tables[name]
        indexes = tuple(replace(one, status=status) if one.name == index else one for one in record.indexes)
        self.catalog.tables[name] = replace(record, indexes=indexes)

    # --- answers ------------------------------------------------------------------------------------

    def _answer(self, call: Call) -> Answer:
        if isinstance(call, Control):
            return self._control(call)
        assert isinstance(call, Get | Write | Range)
        rows = self.rows.get(call.partition)
        if rows is None:
            return Moved(call.partition, self.revision)
        if isinstance(call, Get):
            row = rows.get(call.key)
            return Found(row, 0 if row is None else item_size(loads(row)))
        table = table_of(self.catalog.tables, call.partition)
        if isinstance(call, Range):
            if call.slot and table is not None:
                return _page(*local_rows(table, rows, call), call)
            return _page(rows, {}, call)
        try:
            old = rows.get(call.key)
            answer = _write(rows, call)
            if table is None or not table.indexes or not isinstance(answer, Written):
                return answer
            return written(table, self.rows, call, old, answer)
        except ApiError as error:
            return Refused(error.kind.code, error.message or "")

    def _control(self, call: Control) -> Answer:
        self.revision += 1
        tables = self.catalog.tables
        if call.operation == "create_table":
            definition = call.body["definition"]
            label = "2026-06-01T00:00:00.000" if definition["stream_view"] else None
            record = TableRecord(
                id="0d8a8b6e-6e5c-4d0e-8f53-5a5a5a5a5a5a", status=TableStatus.ACTIVE, revision=self.revision,
                created_ms=NOW_MS, partitions=self._partitions(4), stream_label=label,
                **definition | {"indexes": tuple(self._index(*each) for each in enumerate(definition["indexes"], 1))},
            )  # fmt: skip
        elif call.operation == "delete_table":
            record = replace(tables.pop(call.body["name"]), status=TableStatus.DELETING)
            return ControlDone(self.revision, {"table": record.to_json()})
        else:
            record = tables[call.body["name"]]
            change = {name: value for name, value in call.body.items() if name != "name"}
            change["extra"] = _merged(record.extra, change.get("extra", {}))
            change["indexes"] = self._changed_indexes(record.indexes, change)
            change["tags"] = _tagged(record.tags, change)
            change.pop("leave", None)
            if "stream" in change:
                change["stream_view"] = change.pop("stream")
            added, removed = change.pop("replicas_add", []), change.pop("replicas_remove", [])
            if added or removed:
                replicas = {REGION: "ACTIVE", **record.replicas, **dict.fromkeys(added, "CREATING")}
                change["replicas"] = replicas | dict.fromkeys(removed, "DELETING")
            own = change.pop("overrides", {})
            record = overrides.asked(replace(record, **change), own)
        tables[record.name] = record
        return ControlDone(self.revision, {"table": record.to_json()})

    def _index(self, slot: int, definition: dict[str, Any]) -> IndexRecord:
        partitions = self._partitions(4) if definition["is_global"] else ()
        record = IndexRecord.from_json({**definition, "status": "ACTIVE", "revision": self.revision})
        return replace(record, partitions=partitions, slot=0 if record.is_global else slot)

    def _changed_indexes(self, indexes: tuple[IndexRecord, ...], change: dict[str, Any]) -> tuple[IndexRecord, ...]:
        removed, settings = change.pop("index_remove", None), change.pop("index_update", {})
        kept = [index for index in indexes if index.name != removed]
        for number, index in enumerate(kept):
            if index.name in settings:
                wanted = settings[index.name]
                kept[number] = replace(index, **wanted | {"extra": _merged(index.extra, wanted["extra"])})
        if "index_add" in change:
            kept.append(self._index(0, change.pop("index_add")))
        return tuple(kept)

    def _partitions(self, count: int) -> tuple[PartitionRecord, ...]:
        first = self.next_partition
        self.next_partition += count  # ids are never used again
        for number in range(count):
            self.rows[first + number] = {}
        bounds = [HASH_SPACE * number // count for number in range(count + 1)]
        return tuple(PartitionRecord(first + n, 1, bounds[n], bounds[n + 1], ("a",)) for n in range(count))


def _merged(extra: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (extra | change).items() if value is not None}


def _tagged(tags: dict[str, str], change: dict[str, Any]) -> dict[str, str]:
    change.pop("table_id", None)
    added, removed = change.pop("add", {}), change.pop("remove", [])
    return {key: value for key, value in (tags | added).items() if key not in removed}


def _write(rows: dict[bytes, bytes], call: Write) -> Answer:
    old = rows.get(call.key)
    before = None if old is None else loads(old)
    if call.condition is not None and not evaluate_condition(
        parse_condition(call.condition), before, call.names, call.values
    ):
        item = old if call.return_on_failure else None
        return Refused("ConditionalCheckFailedException", "The conditional request failed", item)
    size_before = 0 if before is None else item_size(before)
    if call.kind is WriteKind.DELETE:
        rows.pop(call.key, None)
        return Written(size_before, 0, old if call.returns is ReturnValues.ALL_OLD else None)
    if call.kind is WriteKind.PUT:
        rows[call.key] = call.item
        return Written(size_before, call.size, old if call.returns is ReturnValues.ALL_OLD else None)
    base = loads(call.item) if before is None else before
    if call.update is None:
        rows[call.key] = dumps(base)
        return Written(size_before, item_size(base))
    update = parse_update(call.update)
    result = apply_update(update, base, call.names, call.values)
    if before is None and not update.sets and not update.adds:
        return Written(0, 0)
    rows[call.key] = dumps(result.item)
    attributes = updated_attributes(result, before, call.returns)
    return Written(size_before, item_size(result.item), dumps(attributes) if attributes else None)


def _page(rows: dict[bytes, bytes], whole: dict[bytes, bytes], call: Range) -> Page:
    keys = sorted((key for key in rows if call.low <= key < call.high), reverse=call.reverse)
    if call.after is not None:
        keys = [key for key in keys if (key < call.after if call.reverse else key > call.after)]
    items, size, scanned, blocks = [], 0, 0, 0
    last: bytes | None = None
    for key in keys:
        item = loads(rows[key])
        size, scanned = size + item_size(item), scanned + 1
        if call.fetch:
            item = loads(whole[key])
            blocks += -(-item_size(item) // READ_UNIT_BYTES)
        if call.filter is None or evaluate_condition(parse_condition(call.filter), item, call.names, call.values):
            if call.projection is not None:
                item = project(parse_projection(call.projection), item, call.names)
            items.append(dumps(item))
        if scanned == call.limit or size >= call.max_bytes:
            last = key
            break
    return Page(() if call.count_only else tuple(items), len(items), scanned, size, last, blocks)


# --- using the API --------------------------------------------------------------------------------------


class Client:
    """Runs operations against a FakeRegion; every answer must be one that botocore's parser understands."""

    def __init__(self, settings: ApiSettings | None = None, region: FakeRegion | None = None) -> None:
        self.region = region or FakeRegion()
        self.api = Api(
            self.region, region=REGION, now_ms=lambda: NOW_MS, settings=settings or ApiSettings(regions=REGIONS)
        )

    def raw(self, operation: str, body: dict[str, Any]) -> bytes:
        return finish(_OPERATIONS[operation].handler(body, self.api.context("request-1")))

    def __call__(self, operation: str, **body: Any) -> dict[str, Any]:
        """The answer's JSON. Checks it against the service model."""
        answer = self.raw(operation, orjson.loads(orjson.dumps(body)))
        shape = _SHAPES[operation]
        if not answer:
            assert shape is None
            return {}
        parsed = create_parser("json").parse({"body": answer, "headers": {}, "status_code": 200}, shape)
        decoded: dict[str, Any] = orjson.loads(answer)
        assert set(decoded) == set(parsed) - {"ResponseMetadata"}, "members that the model does not know"
        return decoded

    def refused(self, operation: str, **body: Any) -> tuple[str, str | None]:
        """Code and message of the error that the operation answers."""
        try:
            self.raw(operation, body)
        except ApiError as error:
            return error.kind.code, error.message
        raise AssertionError("the request was accepted")


def finish(coroutine: Coroutine[Any, Any, bytes]) -> bytes:
    """The result of a coroutine that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: bytes = done.value
        return result
    raise AssertionError("the coroutine waits although every answer is there")


def table(client: Client, name: str = "things", *, sort: str | None = None, hash_type: str = "S", **more: Any) -> None:
    """A table with partition key `pk` and, if `sort` names its type, sort key `sk`."""
    definitions = [{"AttributeName": "pk", "AttributeType": hash_type}]
    schema = [{"AttributeName": "pk", "KeyType": "HASH"}]
    if sort is not None:
        definitions.append({"AttributeName": "sk", "AttributeType": sort})
        schema.append({"AttributeName": "sk", "KeyType": "RANGE"})
    body: dict[str, Any] = {"BillingMode": "PAY_PER_REQUEST"} | more
    client("CreateTable", TableName=name, AttributeDefinitions=definitions, KeySchema=schema, **body)
