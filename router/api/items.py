"""The operations on one item: GetItem, PutItem, UpdateItem, DeleteItem.

Each reads as the list of its gates, in the service's order: shape, parameters, values, expressions, table, key.
An unprojected read returns the stored bytes without decoding them.
"""

from __future__ import annotations

from geodyne.catalog import PartitionRecord
from geodyne.errors import ApiError, validation
from geodyne.expressions import project
from geodyne.messages import Answer, Call, Found, Get, Item, ReturnValues, Write, WriteKind, Written
from geodyne.model.indexchecks import check_index_keys
from geodyne.model.keys import encode_key
from geodyne.model.values import canonical_item, check_item_size, dumps, loads
from router.api.answers import capacity_member, item_answer
from router.api.capacity import read_units, wants_capacity, written_units
from router.api.checks import check_projection, check_request
from router.api.context import Context
from router.api.dispatch import CallOf, call_partition, unexpected
from router.api.itemcollections import collection_metrics, metrics_member, wants_metrics
from router.api.legacy import Translated, in_legacy_words, put_values, translate_read, translate_write
from router.api.parameters import Body, check_parameters, parameters
from router.api.shapes import validator
from router.api.tablerecords import Table, not_found

_GET = parameters(expressions=["ProjectionExpression"], legacy=["AttributesToGet"])
_PUT = parameters(expressions=["ConditionExpression"], legacy=["Expected", "ConditionalOperator"])
_DELETE = parameters(expressions=["ConditionExpression"], legacy=["Expected", "ConditionalOperator"])
_UPDATE = parameters(
    expressions=["UpdateExpression", "ConditionExpression"],
    legacy=["AttributeUpdates", "Expected", "ConditionalOperator"],
)

_check_get = validator("GetItem")
_check_put = validator("PutItem")
_check_delete = validator("DeleteItem")
_check_update = validator("UpdateItem")

_ITEM = b'"Item":'
_ATTRIBUTES = b'"Attributes":'
_RETURNS = {name: ReturnValues[name] for name in ReturnValues.__members__}


async def get_item(body: Body, context: Context) -> bytes:
    """GetItem. Raises ApiError."""
    _check_get(body)
    translated = translate_read(body) if check_parameters(body, _GET) else None
    key_item, _ = canonical_item(body["Key"])
    table_name = body["TableName"]
    table = context.tables.find(context.region_client.catalog.tables, table_name)
    checked = check_projection(body) if translated is None else translated.checked
    if table is None or not table.serves:
        raise not_found()
    key = encode_key(table.schema, key_item, for_item=False)
    strong = body.get("ConsistentRead") is True

    def call_of(partition: PartitionRecord) -> Call:
        return Get(partition.id, partition.epoch, key, strong)

    found = await call_partition(context, table, key, call_of, context.settings.read_timeout_ms)
    if type(found) is not Found:
        raise unexpected(found)
    item = found.item
    if item is not None and checked.projection is not None:
        item = dumps(project(checked.projection, loads(item), checked.names))
    capacity = capacity_member(table_name, read_units(found.size, strong), body.get("ReturnConsumedCapacity"))
    return item_answer(_ITEM, item, capacity)


async def put_item(body: Body, context: Context) -> bytes:
    """PutItem. Raises ApiError."""
    _check_put(body)
    legacy = check_parameters(body, _PUT)
    item, size = canonical_item(body["Item"])
    check_item_size(size)
    returns = _old_or_nothing(body)
    condition, translated = _conditions(body, legacy=legacy)
    table = context.tables.find(context.region_client.catalog.tables, body["TableName"])
    checked = check_request(body, table, condition=condition, translated=translated)
    if table is None or not table.serves:
        raise not_found()
    key = encode_key(table.schema, item, for_item=True)
    if table.indexes:
        check_index_keys(table.record.indexes, table.schema, item, size)
    image = dumps(item)
    on_failure = body.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    capacity = _asks_index_units(body, table)

    def call_of(partition: PartitionRecord) -> Call:
        return Write(
            partition.id, partition.epoch, WriteKind.PUT, key, image, size, condition, None,
            checked.names, checked.values, returns, on_failure, capacity,
        )  # fmt: skip

    written = await call_partition(context, table, key, call_of, context.settings.write_timeout_ms)
    return _written_answer(body, table, item, written)


async def delete_item(body: Body, context: Context) -> bytes:
    """DeleteItem. Raises ApiError."""
    _check_delete(body)
    legacy = check_parameters(body, _DELETE)
    key_item, _ = canonical_item(body["Key"])
    returns = _old_or_nothing(body)
    condition, translated = _conditions(body, legacy=legacy)
    table = context.tables.find(context.region_client.catalog.tables, body["TableName"])
    checked = check_request(body, table, condition=condition, translated=translated)
    if table is None or not table.serves:
        raise not_found()
    key = encode_key(table.schema, key_item, for_item=False)
    on_failure = body.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    capacity = _asks_index_units(body, table)

    def call_of(partition: PartitionRecord) -> Call:
        return Write(
            partition.id, partition.epoch, WriteKind.DELETE, key, b"", 0, condition, None,
            checked.names, checked.values, returns, on_failure, capacity,
        )  # fmt: skip

    written = await call_partition(context, table, key, call_of, context.settings.write_timeout_ms)
    return _written_answer(body, table, key_item, written)


async def update_item(body: Body, context: Context) -> bytes:
    """UpdateItem. Without an update it creates the item with its key alone. Raises ApiError."""
    _check_update(body)
    legacy = check_parameters(body, _UPDATE)
    key_item, size = canonical_item(body["Key"])
    condition, translated = _conditions(body, legacy=legacy)
    update = body.get("UpdateExpression") if translated is None else translated.update
    table = context.tables.find(context.region_client.catalog.tables, body["TableName"])
    checked = check_request(body, table, update=update, condition=condition, translated=translated)
    if table is None or not table.serves:
        raise not_found()
    key = encode_key(table.schema, key_item, for_item=False)
    image = dumps(key_item)
    returns = _RETURNS[body.get("ReturnValues") or "NONE"]
    on_failure = body.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    capacity = _asks_index_units(body, table)

    def call_of(partition: PartitionRecord) -> Write:
        return Write(
            partition.id, partition.epoch, WriteKind.UPDATE, key, image, size, condition, update,
            checked.names, checked.values, returns, on_failure, capacity,
        )  # fmt: skip

    if translated is not None and translated.update is not None:
        if table.indexes:  # worded as for a put, where an update expression is answered otherwise
            check_index_keys(table.record.indexes, table.schema, put_values(translated), 0)
        written = await _legacy_update(context, table, key, call_of)
    else:
        written = await call_partition(context, table, key, call_of, context.settings.write_timeout_ms)
    return _written_answer(body, table, key_item, written)


async def _legacy_update(context: Context, table: Table, key: bytes, call_of: CallOf) -> Answer:
    """An update by AttributeUpdates: what is wrong with it is said in other words."""
    try:
        return await call_partition(context, table, key, call_of, context.settings.write_timeout_ms)
    except ApiError as error:
        raise in_legacy_words(error) from None


def _conditions(body: Body, *, legacy: bool) -> tuple[str | None, Translated | None]:
    """The condition of a write, and what its legacy parameters were translated to, if it has any."""
    if not legacy:
        return body.get("ConditionExpression"), None
    translated = translate_write(body)
    return translated.condition, translated


def _old_or_nothing(body: Body) -> ReturnValues:
    name = body.get("ReturnValues")
    if name is None or name == "NONE":
        return ReturnValues.NONE
    if name != "ALL_OLD":
        raise validation("ReturnValues can only be ALL_OLD or NONE")
    return ReturnValues.ALL_OLD


def _asks_index_units(body: Body, table: Table) -> bool:
    return bool(table.indexes) and wants_capacity(body.get("ReturnConsumedCapacity"))


def _written_answer(body: Body, table: Table, item: Item, written: Answer) -> bytes:
    """What a write is answered with. `item` holds at least the key."""
    if type(written) is not Written:
        raise unexpected(written)
    detail = body.get("ReturnConsumedCapacity")
    metrics = wants_metrics(body, table)
    if detail is None and written.attributes is None and not metrics:
        return b"{}"
    members = [
        capacity_member(body["TableName"], written_units(written, table.local_indexes), detail),
        metrics_member(collection_metrics(table, item, written)) if metrics else b"",
    ]
    attributes = written.attributes if written.attributes != b"{}" else None
    return item_answer(_ATTRIBUTES, attributes, b",".join(member for member in members if member))
