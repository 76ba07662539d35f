"""A table's streams as requests name them, and what their partitions say of their shards.

A stream's shards are those of its partitions, oldest first: a shard's parent is the one before it in its partition, so
that a parent comes before its children.  Nothing of them is in the catalog: the leaders are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from geodyne.catalog import STREAM_RETENTION_S, SYSTEM_PREFIX, PartitionRecord, StreamRecord, TableRecord, TableStatus
from geodyne.errors import ApiError, validation
from geodyne.messages import Answer, Call, ListShards, Moved, Refused, Shards, ShardSpan
from geodyne.streams import parse_stream_arn, shard_id, stream_arn
from router.api.context import Context
from router.api.dispatch import refusal, unexpected

_NO_SHARD = "Requested resource not found: Shard does not exist"


class Stream(NamedTuple):
    """`ended_ms` of `record` other than 0: it was switched off, and is still readable for a while."""

    arn: str
    table: TableRecord
    record: StreamRecord


class Shard(NamedTuple):
    """`parent` is the name of the shard before it in its partition, as long as that is known."""

    id: str
    partition: PartitionRecord
    span: ShardSpan
    parent: str | None


# --- streams ----------------------------------------------------------------------------------------------


def streams_of(context: Context, tables: Iterable[TableRecord]) -> Iterator[Stream]:
    """The streams of tables that can be read, those included that were switched off not long ago."""
    over_ms = context.now_ms() - STREAM_RETENTION_S * 1000
    for table in tables:
        if table.name.startswith(SYSTEM_PREFIX) or table.status == TableStatus.DELETING:
            continue
        for record in (*table.streams, *_yet_to_begin(table)):
            if not record.ended_ms or record.ended_ms > over_ms:
                yield Stream(stream_arn(context.region, context.account_id, table.name, record.label), table, record)


def _yet_to_begin(table: TableRecord) -> Iterator[StreamRecord]:
    """The stream that a table was given by an earlier version: it begins once all nodes can keep one."""
    label = table.stream_label
    if table.stream_view is not None and label is not None and all(record.label != label for record in table.streams):
        created_s = datetime.fromisoformat(label).replace(tzinfo=UTC).timestamp()
        yield StreamRecord(label, table.stream_view, round(created_s * 1000))


def find_stream(context: Context, arn: str) -> Stream:
    """The stream of an ARN. Raises ValidationException for what is no such ARN, ResourceNotFoundException."""
    name = parse_stream_arn(arn)
    if name is None:
        raise validation(f"Invalid StreamArn: {arn}")
    table = context.region_client.catalog.tables.get(name.table)
    for stream in () if table is None else streams_of(context, [table]):
        if stream.arn == arn:
            return stream
    raise ApiError("ResourceNotFoundException", f"Requested resource not found: Stream: {arn} not found")


# --- shards -----------------------------------------------------------------------------------------------


def no_shard() -> ApiError:
    return ApiError("ResourceNotFoundException", _NO_SHARD)


def partition_of(stream: Stream, partition: int) -> PartitionRecord:
    """Raises ResourceNotFoundException when the stream's table has no such partition."""
    for record in stream.table.partitions:
        if record.id == partition:
            return record
    raise no_shard()


async def call_partition(
    context: Context, stream: Stream, partition: PartitionRecord, call_of: Callable[[PartitionRecord], Call]
) -> Answer:
    """The leader's answer. When the partition has moved, waits for the catalog and asks again, a bounded number of
    times. Raises ApiError when the stream or the partition is gone, and what the region's client raises."""
    client, settings = context.region_client, context.settings
    for _ in range(settings.moved_retries_max + 1):
        answer = await client.call(
            call_of(partition), timeout_ms=settings.read_timeout_ms, request_id=context.request_id
        )
        if type(answer) is not Moved:
            return answer
        await client.wait_revision(answer.revision, settings.catalog_timeout_ms)
        stream = find_stream(context, stream.arn)
        partition = partition_of(stream, partition.id)
    raise ApiError("ServiceUnavailable", "The partition of the requested shard is moving. Try again.")


async def shards_in(context: Context, stream: Stream, partition: PartitionRecord) -> Shards:
    """A stream's shards in one partition; none where the partition does not know the stream (yet). Raises ApiError."""

    def call_of(partition: PartitionRecord) -> ListShards:
        return ListShards(partition.id, partition.epoch, stream.record.label)

    answer = await call_partition(context, stream, partition, call_of)
    if type(answer) is Refused:
        if answer.code == "ResourceNotFoundException":
            return Shards((), 0)
        raise refusal(answer)
    if type(answer) is not Shards:
        raise unexpected(answer)
    return answer


async def all_shards(context: Context, stream: Stream) -> list[list[Shard]]:
    """The shards of each partition of the stream's table. All are asked before the first answer is awaited."""
    partitions = stream.table.partitions
    client, settings = context.region_client, context.settings
    sent = [
        client.call(
            ListShards(partition.id, partition.epoch, stream.record.label),
            timeout_ms=settings.read_timeout_ms,
            request_id=context.request_id,
        )
        for partition in partitions
    ]
    found = []
    for partition, awaited in zip(partitions, sent, strict=True):
        answer = await awaited
        if type(answer) is not Shards:  # moved, or it does not know the stream: ask in the careful way
            answer = await shards_in(context, stream, partition)
        found.append(shards_of(partition, answer))
    return found


def shards_of(partition: PartitionRecord, told: Shards) -> list[Shard]:
    shards: list[Shard] = []
    for span in told.shards:
        parent = shards[-1].id if shards else None
        shards.append(Shard(shard_id(span.opened_us, partition.id), partition, span, parent))
    return shards
