"""What a region's routers write and read to know that their region serves: rows of a table of the region's own.

A check is a durable write of a number, then a strong read that must find it. The table has one partition, and a row for
each router. Routers make the calls, the metadata leader makes the table: hence this module, pure.
"""

from __future__ import annotations

from typing import NamedTuple

from geodyne.catalog import SYSTEM_PREFIX, PartitionRecord, TableRecord
from geodyne.messages import AttributeValue, Get, Write, WriteKind
from geodyne.model.keys import KeySchema, encode_key, hash_of
from geodyne.model.values import dumps, item_size

HEALTH_TABLE = SYSTEM_PREFIX + "health"
HEALTH_SCHEMA = KeySchema("router", "S")
HEALTH_PARTITIONS = 1


class CheckCalls(NamedTuple):
    """One check: `write`, then `read`, which must find exactly `image`."""

    write: Write
    read: Get
    image: bytes


def check_calls(table: TableRecord, router: str, number: int) -> CheckCalls:
    """The calls of a router's check of that number, which grows by one with each."""
    item: dict[str, AttributeValue] = {"router": {"S": router}, "number": {"N": str(number)}}
    key = encode_key(HEALTH_SCHEMA, item)
    partition: PartitionRecord = table.partition_of(hash_of(key))
    image = dumps(item)
    write = Write(partition.id, partition.epoch, WriteKind.PUT, key, image, item_size(item))
    return CheckCalls(write, Get(partition.id, partition.epoch, key, True), image)
