"""The operations that there are, by name. What is not here answers UnknownOperationException."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from geodyne.errors import ApiError
from router.api import (
    batches,
    describe,
    globaltables,
    items,
    kinesis,
    queries,
    streams,
    tables,
    tableupdates,
    tags,
    transactions,
    ttl,
)
from router.api.context import Context
from router.api.partiql.batch import batch_execute_statement
from router.api.partiql.execute import execute_statement, table_names, table_names_of
from router.api.partiql.transaction import execute_transaction
from router.api.valuetypes import check_value_types

Handler = Callable[[dict[str, Any], Context], Coroutine[Any, Any, bytes]]
TableNames = Callable[[dict[str, Any]], list[str]]


class Operation(NamedTuple):
    """`handler` takes the parsed body and gives the answer's JSON bytes, or raises ApiError.

    `table_names` tells which tables (names or ARNs) a body is about, without raising for a body that is not one.
    """

    name: str
    handler: Handler
    is_write: bool
    table_names: TableNames


def _one_table(body: dict[str, Any]) -> list[str]:
    name = body.get("TableName")
    return [name] if isinstance(name, str) else []


def _one_global_table(body: dict[str, Any]) -> list[str]:
    name = body.get("GlobalTableName")
    return [name] if isinstance(name, str) else []


def _request_items(body: dict[str, Any]) -> list[str]:
    request = body.get("RequestItems")
    return list(request) if isinstance(request, dict) else []


def _tagged_table(body: dict[str, Any]) -> list[str]:
    arn = body.get("ResourceArn")
    return [arn] if isinstance(arn, str) else []


def _statements(body: dict[str, Any]) -> list[str]:
    return table_names_of(body.get("Statements"))


def _transact_items(body: dict[str, Any]) -> list[str]:
    elements = body.get("TransactItems")
    if not isinstance(elements, list):
        return []
    actions = [action for element in elements if isinstance(element, dict) for action in element.values()]
    return [name for action in actions if isinstance(action, dict) for name in _one_table(action)]


def _transact_statements(body: dict[str, Any]) -> list[str]:
    return table_names_of(body.get("TransactStatements"))


def _stream_table(body: dict[str, Any]) -> list[str]:
    arn = body.get("StreamArn")
    return [arn] if isinstance(arn, str) else []


def _iterator_table(body: dict[str, Any]) -> list[str]:
    """A shard iterator begins with its stream's ARN (router.api.streamiterators)."""
    iterator = body.get("ShardIterator")
    return [iterator.partition("|")[0]] if isinstance(iterator, str) else []


def _no_table(body: dict[str, Any]) -> list[str]:
    return []


# Errors that a request may meet before its attribute values have been looked at.
_EARLY = frozenset({"ValidationException", "ResourceNotFoundException"})


def _types_first(name: str, handler: Handler) -> Handler:
    """The handler of an operation whose input holds attribute values: a wrong type among them comes before any
    other complaint."""

    async def handle(body: dict[str, Any], context: Context) -> bytes:
        try:
            return await handler(body, context)
        except ApiError as error:
            if error.kind.code in _EARLY:
                check_value_types(name, body)
            raise

    return handle


OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("GetItem", _types_first("GetItem", items.get_item), False, _one_table),
        Operation("PutItem", _types_first("PutItem", items.put_item), True, _one_table),
        Operation("UpdateItem", _types_first("UpdateItem", items.update_item), True, _one_table),
        Operation("DeleteItem", _types_first("DeleteItem", items.delete_item), True, _one_table),
        Operation("Query", _types_first("Query", queries.query), False, _one_table),
        Operation("Scan", _types_first("Scan", queries.scan), False, _one_table),
        Operation("BatchGetItem", _types_first("BatchGetItem", batches.batch_get_item), False, _request_items),
        Operation("BatchWriteItem", _types_first("BatchWriteItem", batches.batch_write_item), True, _request_items),
        Operation("ExecuteStatement", _types_first("ExecuteStatement", execute_statement), True, table_names),
        Operation(
            "BatchExecuteStatement", _types_first("BatchExecuteStatement", batch_execute_statement), True, _statements
        ),
        Operation(
            "TransactWriteItems",
            _types_first("TransactWriteItems", transactions.transact_write_items),
            True,
            _transact_items,
        ),
        Operation(
            "TransactGetItems",
            _types_first("TransactGetItems", transactions.transact_get_items),
            False,
            _transact_items,
        ),
        Operation(
            "ExecuteTransaction",
            _types_first("ExecuteTransaction", execute_transaction),
            True,
            _transact_statements,
        ),
        Operation("CreateTable", tables.create_table, True, _one_table),
        Operation("UpdateTable", tableupdates.update_table, True, _one_table),
        Operation("DeleteTable", tables.delete_table, True, _one_table),
        Operation("DescribeTable", describe.describe_table, False, _one_table),
        Operation("ListTables", describe.list_tables, False, _no_table),
        Operation("UpdateTimeToLive", ttl.update_time_to_live, True, _one_table),
        Operation("DescribeTimeToLive", ttl.describe_time_to_live, False, _one_table),
        Operation("EnableKinesisStreamingDestination", kinesis.enable, True, _one_table),
        Operation("DisableKinesisStreamingDestination", kinesis.disable, True, _one_table),
        Operation("UpdateKinesisStreamingDestination", kinesis.update, True, _one_table),
        Operation("DescribeKinesisStreamingDestination", kinesis.describe, False, _one_table),
        Operation("TagResource", tags.tag_resource, True, _tagged_table),
        Operation("UntagResource", tags.untag_resource, True, _tagged_table),
        Operation("ListTagsOfResource", tags.list_tags_of_resource, False, _tagged_table),
        Operation("CreateGlobalTable", globaltables.create_global_table, True, _one_global_table),
        Operation("UpdateGlobalTable", globaltables.update_global_table, True, _one_global_table),
        Operation("DescribeGlobalTable", globaltables.describe_global_table, False, _one_global_table),
        Operation("ListGlobalTables", globaltables.list_global_tables, False, _no_table),
        Operation("UpdateGlobalTableSettings", globaltables.update_global_table_settings, True, _one_global_table),
        Operation("DescribeGlobalTableSettings", globaltables.describe_global_table_settings, False, _one_global_table),
        Operation("DescribeLimits", describe.describe_limits, False, _no_table),
        Operation("DescribeEndpoints", describe.describe_endpoints, False, _no_table),
    )
}

# Of the service DynamoDB Streams, at the same endpoint under a target prefix of its own.
STREAM_OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("ListStreams", streams.list_streams, False, _one_table),
        Operation("DescribeStream", streams.describe_stream, False, _stream_table),
        Operation("GetShardIterator", streams.get_shard_iterator, False, _stream_table),
        Operation("GetRecords", streams.get_records, False, _iterator_table),
    )
}

SERVICE = "DynamoDB_20120810"
STREAMS_SERVICE = "DynamoDBStreams_20120810"
# By the prefix of the header X-Amz-Target.
SERVICES: Mapping[str, Mapping[str, Operation]] = {SERVICE: OPERATIONS, STREAMS_SERVICE: STREAM_OPERATIONS}
