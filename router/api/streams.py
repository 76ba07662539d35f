"""The operations of DynamoDB Streams: ListStreams, DescribeStream, GetShardIterator and GetRecords.

API Reference, "Amazon DynamoDB Streams"; Developer Guide, "Change data capture for DynamoDB Streams".
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import orjson

from geodyne.catalog import PartitionRecord, TableStatus
from geodyne.errors import ApiError, validation
from geodyne.limits import STREAM_PAGE_BYTES, STREAM_PAGE_RECORDS_MAX, STREAM_SHARDS_PAGE_MAX, STREAMS_PAGE_MAX
from geodyne.messages import FROM_LATEST, ReadStream, Refused, StreamPage
from geodyne.streams import parse_shard_id, parse_stream_arn, sequence_of, sequence_text, stream_record
from router.api.context import Context
from router.api.describe import table_keys
from router.api.dispatch import refusal, unexpected
from router.api.parameters import Body
from router.api.shapes import validator
from router.api.streamiterators import ShardIterator, parse_iterator
from router.api.streamplaces import (
    Shard,
    Stream,
    all_shards,
    call_partition,
    find_stream,
    no_shard,
    partition_of,
    shards_in,
    shards_of,
    streams_of,
)
from router.api.tablerecords import not_found

_check_list = validator("ListStreams")
_check_describe = validator("DescribeStream")
_check_iterator = validator("GetShardIterator")
_check_records = validator("GetRecords")

_BY_SEQUENCE = ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER")


# --- ListStreams ------------------------------------------------------------------------------------------


async def list_streams(body: Body, context: Context) -> bytes:
    """ListStreams: in the order of table and label, those of the last day included that were switched off.

    Raises ApiError."""
    _check_list(body)
    tables = context.region_client.catalog.tables
    name = body.get("TableName")
    if name is not None and name not in tables:
        raise not_found(name)
    chosen = tables.values() if name is None else [tables[name]]
    streams = sorted(streams_of(context, chosen), key=_order)
    start = body.get("ExclusiveStartStreamArn")
    if start is not None:
        begin = parse_stream_arn(start)
        if begin is None:
            raise validation(f"Invalid StreamArn: {start}")
        streams = streams[bisect_right(streams, (begin.table, begin.label), key=_order) :]
    limit = body.get("Limit") or STREAMS_PAGE_MAX
    page = streams[:limit]
    answer: dict[str, Any] = {
        "Streams": [
            {"StreamArn": stream.arn, "TableName": stream.table.name, "StreamLabel": stream.record.label}
            for stream in page
        ]
    }
    if limit < len(streams):
        answer["LastEvaluatedStreamArn"] = page[-1].arn
    return orjson.dumps(answer)


def _order(stream: Stream) -> tuple[str, str]:
    return stream.table.name, stream.record.label


# --- DescribeStream ---------------------------------------------------------------------------------------


async def describe_stream(body: Body, context: Context) -> bytes:
    """DescribeStream: the stream and a page of its shards, the older ones first. Raises ApiError."""
    _check_describe(body)
    parent = _parent(body.get("ShardFilter"))
    stream = find_stream(context, body["StreamArn"])
    # A table that is being created has no leaders yet that could be asked.
    asked = [] if stream.table.status == TableStatus.CREATING else await all_shards(context, stream)
    shards = sorted((shard for several in asked for shard in several), key=_shard_order)
    if parent is not None:
        if all(shard.id != parent for shard in shards):
            raise no_shard()
        shards = [shard for shard in shards if shard.parent == parent]
    start = body.get("ExclusiveStartShardId")
    if start is not None:
        shards = shards[bisect_right(shards, start, key=_shard_order) :]
    limit = body.get("Limit") or STREAM_SHARDS_PAGE_MAX
    page = shards[:limit]
    description: dict[str, Any] = {
        "StreamArn": stream.arn,
        "StreamLabel": stream.record.label,
        "StreamStatus": _status(stream, asked),
        "StreamViewType": stream.record.view,
        "CreationRequestDateTime": stream.record.created_ms / 1000,
        "TableName": stream.table.name,
        "KeySchema": table_keys(stream.table),
        "Shards": [_described(shard) for shard in page],
    }
    if limit < len(shards):
        description["LastEvaluatedShardId"] = page[-1].id
    return orjson.dumps({"StreamDescription": description})


def _parent(chosen: dict[str, Any] | None) -> str | None:
    if chosen is None:
        return None
    if chosen.get("Type") is None or chosen.get("ShardId") is None:
        raise validation("ShardFilter must have both Type and ShardId")
    parent: str = chosen["ShardId"]
    return parent


def _shard_order(shard: Shard) -> str:
    return shard.id


def _status(stream: Stream, asked: list[list[Shard]]) -> str:
    """A stream is enabled once all its partitions have opened a shard, and disabled once all have closed the last."""
    if stream.record.ended_ms:
        still_open = any(shards and shards[-1].span.last is None for shards in asked)
        return "DISABLING" if still_open else "DISABLED"
    return "ENABLED" if asked and all(asked) else "ENABLING"


def _described(shard: Shard) -> dict[str, Any]:
    """A closed shard without records ends where it begins."""
    span, epoch = shard.span, shard.partition.epoch
    numbers = {"StartingSequenceNumber": sequence_text(epoch, span.after + 1)}
    if span.last is not None:
        numbers["EndingSequenceNumber"] = sequence_text(epoch, max(span.last, span.after + 1))
    described: dict[str, Any] = {"ShardId": shard.id, "SequenceNumberRange": numbers}
    if shard.parent is not None:
        described["ParentShardId"] = shard.parent
    return described


# --- GetShardIterator -------------------------------------------------------------------------------------


async def get_shard_iterator(body: Body, context: Context) -> bytes:
    """GetShardIterator. The place is found now, whatever it is given by. Raises ApiError."""
    _check_iterator(body)
    kind = body["ShardIteratorType"]
    number = _sequence(body) if kind in _BY_SEQUENCE else (0, 0)
    since_us = _since_us(body, context.now_ms()) if kind == "AT_TIMESTAMP" else 0
    stream = find_stream(context, body["StreamArn"])
    named = parse_shard_id(body["ShardId"])
    if named is None:
        raise no_shard()
    opened_us, partition_id = named
    partition = partition_of(stream, partition_id)
    told = await shards_in(context, stream, partition)
    shard = next((shard for shard in shards_of(partition, told) if shard.span.opened_us == opened_us), None)
    if shard is None:
        raise no_shard()
    if kind in _BY_SEQUENCE:
        newest = shard.span.last
        if newest is None:
            newest = await _asked_place(context, stream, shard, FROM_LATEST, 0)
        after = _place(shard, told.floor, newest, number, at=kind == "AT_SEQUENCE_NUMBER")
    else:
        after = max(shard.span.after, told.floor)
        if kind == "LATEST":
            after = await _asked_place(context, stream, shard, FROM_LATEST, 0)
        elif since_us > 0:
            after = await _asked_place(context, stream, shard, after, since_us)
    iterator = ShardIterator(stream.arn, partition.id, opened_us, after, context.now_ms())
    return orjson.dumps({"ShardIterator": iterator.text()})


def _sequence(body: Body) -> tuple[int, int]:
    text = body.get("SequenceNumber")
    if text is None:
        raise validation(f"SequenceNumber is required when ShardIteratorType is {body['ShardIteratorType']}")
    number = sequence_of(text)
    if number is None:
        raise validation(f"Invalid SequenceNumber: {text}")
    return number


def _since_us(body: Body, now_ms: int) -> int:
    timestamp = body.get("Timestamp")
    if timestamp is None:
        raise validation("Timestamp is required when ShardIteratorType is AT_TIMESTAMP")
    if timestamp * 1000 > now_ms:
        raise validation("Timestamp must not be in the future")
    return int(timestamp * 1_000_000) if timestamp > 0 else 0


def _place(shard: Shard, floor: int, newest: int, number: tuple[int, int], *, at: bool) -> int:
    """Just before or just after a record of the shard, whose newest one is `newest`. Raises ApiError for a number of
    another shard, of no record yet (its reader would never see any), or of a record that is gone."""
    epoch, sequence = number
    first = shard.span.after + 1
    if epoch > shard.partition.epoch or not first <= sequence <= max(newest, first):
        raise validation("Invalid SequenceNumber: it is not one of the shard's")
    after = sequence - 1 if at else sequence
    if after < floor:
        raise trimmed()
    return min(after, newest)


async def _asked_place(context: Context, stream: Stream, shard: Shard, after: int, since_us: int) -> int:
    """Where the leader says that a reader begins."""
    page = await _read(context, stream, shard.partition, (shard.span.opened_us, after, since_us), limit=0)
    return page.next


# --- GetRecords -------------------------------------------------------------------------------------------


async def get_records(body: Body, context: Context) -> bytes:
    """GetRecords: what follows the iterator's place in its shard, perhaps nothing. Raises ApiError."""
    _check_records(body)
    iterator = parse_iterator(body["ShardIterator"])
    now_ms = context.now_ms()
    iterator.check_age(now_ms)
    stream = find_stream(context, iterator.arn)
    partition = partition_of(stream, iterator.partition)
    limit = body.get("Limit") or STREAM_PAGE_RECORDS_MAX
    page = await _read(context, stream, partition, (iterator.shard, iterator.after, 0), limit=limit)
    if page.trimmed:
        raise trimmed()
    table = stream.table
    schema = table.key_schema
    answer: dict[str, Any] = {
        "Records": [
            stream_record(
                record,
                schema=schema,
                view=stream.record.view,
                epoch=partition.epoch,
                arn=stream.arn,
                region=context.region,
                image=orjson.Fragment,
            )
            for record in page.records
        ]
    }
    if not page.closed:
        answer["NextShardIterator"] = iterator._replace(after=page.next, issued_ms=now_ms).text()
    return orjson.dumps(answer)


async def _read(
    context: Context, stream: Stream, partition: PartitionRecord, place: tuple[int, int, int], *, limit: int
) -> StreamPage:
    """A page beyond a `place` (shard, after, since_us). Raises ApiError."""
    shard, after, since_us = place

    def call_of(partition: PartitionRecord) -> ReadStream:
        return ReadStream(
            partition.id, partition.epoch, stream.record.label, shard, after, limit, STREAM_PAGE_BYTES,
            since_us=since_us,
        )  # fmt: skip

    answer = await call_partition(context, stream, partition, call_of)
    if type(answer) is Refused:
        if answer.code == "ResourceNotFoundException":
            raise no_shard()
        raise trimmed() if answer.code == "TrimmedDataAccessException" else refusal(answer)
    if type(answer) is not StreamPage:
        raise unexpected(answer)
    return answer


def trimmed() -> ApiError:
    return ApiError("TrimmedDataAccessException", "The data you are trying to access has been trimmed")
