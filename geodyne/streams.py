"""What users see of a table's stream: names, numbers and the form of a record.

A shard is a stretch of one partition's change feed.  Its name says when it began and in which partition, so that
shards of one partition sort by age and a parent before its child.  A record's number is the epoch of its partition and
the place in that partition's feed, as text of a fixed length behind the epoch: a greater number is a later change.

The form of records and the sizes in them: API Reference, "Record" and "StreamRecord"; Developer Guide, "Change data
capture for DynamoDB Streams".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from geodyne.messages import FeedRecord
from geodyne.model.keys import KeySchema, decode_key
from geodyne.model.values import item_size, loads

ACCOUNT_ID: Final = "000000000000"  # in ARNs: a cluster has one owner
EVENT_VERSION: Final = "1.1"
EVENT_SOURCE: Final = "aws:dynamodb"
SEQUENCE_DIGITS: Final = 20  # of the place in the feed, behind the epoch: 2^63 has 19
SEQUENCE_END: Final = 1 << 63  # no place in a feed is as far
SEQUENCE_LENGTH_MAX: Final = 40  # service model, "SequenceNumber"
VIEWS: Final = ("NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES", "KEYS_ONLY")
NEW_VIEWS: Final = frozenset({"NEW_IMAGE", "NEW_AND_OLD_IMAGES"})
OLD_VIEWS: Final = frozenset({"OLD_IMAGE", "NEW_AND_OLD_IMAGES"})
# What a record of a deletion by time to live says of who made it ("Identity").
EXPIRY_IDENTITY: Final = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}

_EVENT_ID_BYTES = 16
_shard_id_matches = re.compile(r"shardId-([0-9]{20})-([0-9a-f]{8})").fullmatch
_arn_matches = re.compile(
    r"arn:aws:dynamodb:([a-z0-9-]+):([0-9]+):table/([a-zA-Z0-9_.-]+)/stream/([0-9T:.-]+)"
).fullmatch


# --- names and numbers ------------------------------------------------------------------------------------


class StreamName(NamedTuple):
    region: str
    account: str
    table: str
    label: str


def stream_arn(region: str, account: str, table: str, label: str) -> str:
    return f"arn:aws:dynamodb:{region}:{account}:table/{table}/stream/{label}"


def parse_stream_arn(arn: str) -> StreamName | None:
    """What an ARN of a stream names; None for anything else."""
    found = _arn_matches(arn)
    return None if found is None else StreamName(*found.groups())


def shard_id(opened_us: int, partition: int) -> str:
    """The name of the shard that began at `opened_us`, a whole number of milliseconds, in microseconds."""
    return f"shardId-{opened_us // 1000:020d}-{partition:08x}"


def parse_shard_id(text: str) -> tuple[int, int] | None:
    """(opened_us, partition) of `shard_id`; None for anything else."""
    found = _shard_id_matches(text)
    return None if found is None else (int(found[1]) * 1000, int(found[2], 16))


def sequence_text(epoch: int, sequence: int) -> str:
    """The SequenceNumber of the place `sequence` in the feed of a partition at `epoch`."""
    return f"{epoch}{sequence:020d}"


def sequence_of(text: str) -> tuple[int, int] | None:
    """(epoch, sequence) of a SequenceNumber; None for a text that is none."""
    if not (text.isascii() and text.isdigit()) or not SEQUENCE_DIGITS < len(text) <= SEQUENCE_LENGTH_MAX:
        return None
    sequence = int(text[-SEQUENCE_DIGITS:])
    return None if sequence >= SEQUENCE_END else (int(text[:-SEQUENCE_DIGITS]), sequence)


def event_id(arn: str, sequence_number: str, key: bytes) -> str:
    """The same for the same record, however often it is read. Partitions count by themselves: the item's key tells
    records of the same number apart."""
    return blake2b(f"{arn} {sequence_number} ".encode() + key, digest_size=_EVENT_ID_BYTES).hexdigest()


# --- records ----------------------------------------------------------------------------------------------


def stream_record(
    record: FeedRecord,
    *,
    schema: KeySchema,
    view: str,
    epoch: int,
    arn: str,
    region: str,
    image: Callable[[bytes], Any] = loads,
) -> dict[str, Any]:
    """A change as a stream of view type `view` shows it: a Record, JSON-compatible.

    `image` makes what stands for an item from its stored bytes. A record must have changed something. Raises
    ValueError for a key that is not one of `schema`.
    """
    change = record.change
    sequence_number = sequence_text(epoch, record.sequence)
    keys = decode_key(schema, change.key)
    shown: dict[str, Any] = {
        "ApproximateCreationDateTime": record.wall_us // 1_000_000,
        "Keys": keys,
    }
    size = item_size(keys)
    if change.image is not None and view in NEW_VIEWS:
        shown["NewImage"] = image(change.image)
        size += change.size
    if record.old_image is not None and view in OLD_VIEWS:
        shown["OldImage"] = image(record.old_image)
        size += record.old_size if record.old_size >= 0 else item_size(loads(record.old_image))
    shown |= {"SequenceNumber": sequence_number, "SizeBytes": size, "StreamViewType": view}
    whole: dict[str, Any] = {
        "eventID": event_id(arn, sequence_number, change.key),
        "eventName": event_name(record),
        "eventVersion": EVENT_VERSION,
        "eventSource": EVENT_SOURCE,
        "awsRegion": region,
        "dynamodb": shown,
    }
    if record.expired:
        whole["userIdentity"] = EXPIRY_IDENTITY
    return whole


def event_name(record: FeedRecord) -> str:
    """INSERT, MODIFY or REMOVE."""
    if record.change.image is None:
        return "REMOVE"
    return "INSERT" if record.old_image is None else "MODIFY"
