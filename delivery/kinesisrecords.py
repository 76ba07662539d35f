"""What a Kinesis data stream gets of a change, and how requests are made of it. Pure.

The record: Developer Guide, "Working with Kinesis Data Streams for DynamoDB" (members, `recordFormat`, times in the
precision that the destination has). Requests: Kinesis API reference, "PutRecords".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from delivery.events import EXPIRY_IDENTITY
from geodyne.messages import FeedRecord
from geodyne.model.keys import KeySchema
from geodyne.streams import stream_record

REQUEST_RECORDS_MAX = 500
REQUEST_BYTES_MAX = 5 * 1024 * 1024  # of data and partition keys
MILLISECOND = "MILLISECOND"
_VIEW: Final = "NEW_AND_OLD_IMAGES"
_STREAM_ONLY: Final = ("SequenceNumber", "StreamViewType")  # members that a record of DynamoDB Streams has besides
_US_OF = {MILLISECOND: 1_000}  # microseconds in one unit of the precision; 1 in any other


class TableSource(NamedTuple):
    """One partition of a table, as far as records show it. `destination` tells records of different ones apart."""

    destination: str
    table: str
    region: str
    schema: KeySchema
    partition: int
    epoch: int


class DataRecord(NamedTuple):
    """An entry of PutRecords, and where and when the change was made."""

    sequence: int
    wall_us: int
    partition_key: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data) + len(self.partition_key)


def data_record(record: FeedRecord, source: TableSource, precision: str) -> DataRecord:
    """Raises ValueError for a record that is none of this table."""
    change = record.change
    event = stream_record(
        record,
        schema=source.schema,
        view=_VIEW,
        epoch=source.epoch,
        arn=f"{source.destination}/{source.partition}",
        region=source.region,
        image=orjson.Fragment,
    )
    shown: dict[str, Any] = {name: value for name, value in event["dynamodb"].items() if name not in _STREAM_ONLY}
    shown["ApproximateCreationDateTime"] = record.wall_us // _US_OF.get(precision, 1)
    shown["ApproximateCreationDateTimePrecision"] = precision
    whole = {
        "awsRegion": source.region,
        "eventID": str(UUID(hex=event["eventID"])),
        "eventName": event["eventName"],
        "userIdentity": EXPIRY_IDENTITY if record.expired else None,
        "recordFormat": "application/json",
        "tableName": source.table,
        "dynamodb": shown,
        "eventSource": event["eventSource"],
    }
    # All changes of an item go to one shard.
    partition_key = blake2b(change.key, digest_size=16).hexdigest()
    return DataRecord(record.sequence, record.wall_us, partition_key, orjson.dumps(whole))


def request_of(pending: Sequence[DataRecord], records_max: int) -> Sequence[DataRecord]:
    """The first of them, as many as one request takes: at least one."""
    size = count = 0
    for record in pending[: min(records_max, REQUEST_RECORDS_MAX)]:
        size += record.size
        if count and size > REQUEST_BYTES_MAX:
            break
        count += 1
    return pending[:count]


def to_repeat(sent: Sequence[DataRecord], failed: Collection[int]) -> list[DataRecord]:
    """What of a request is to be sent again: what failed, and what followed it of the same item. Whoever takes records
    in the order of arrival then ends with the newest."""
    behind = set()
    again = []
    for place, record in enumerate(sent):
        if place in failed or record.partition_key in behind:
            behind.add(record.partition_key)
            again.append(record)
    return again
