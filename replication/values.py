"""What two replicators say to each other, as values; `replication.codec` puts them on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from geodyne.messages import Change

EXCHANGE = "/geodyne.replication.v1.Replication/Exchange"
FORMAT = 3  # of the stream: the newest spoken
OLDEST_FORMAT = 1  # and the oldest
CHECKED_FROM = 2  # batches carry a checksum
SETTINGS_FROM = 3  # Operation.INDEX with settings is obeyed; before, they were left out and the rest was done
WATERMARKS_FROM = 3  # sources tell watermarks, and may ask for digests
PACKED_FROM = 3  # batches of sources may be packed
ARRIVALS_FROM = 3  # destinations tell what has come in before it is applied

# Versions further ahead of the destination's clock than this are held. Far above what NTP leaves between two machines,
# far below what would let one broken clock shadow honest writes for long.
CLOCK_SKEW_MS_MAX = 10_000


class Outcome(IntEnum):
    """What became of a shipped batch; numbers are those of the wire."""

    APPLIED = 1
    HELD = 2
    NO_TABLE = 3
    FAILED = 4


class Operation(IntEnum):
    """Steps of a replica's life that are taken in the destination's region (INDEX: all that it is to take over of what
    changed at the source: global indexes, settings, Time to Live, the write mode), and from DIGESTS on, what it is
    asked so that regions can be compared (replication.digests); numbers are those of the wire."""

    ENSURE = 1
    DELETE = 2
    FORGET = 3
    INDEX = 4
    DIGESTS = 5
    ITEMS = 6
    RENEW = 7


COMPARING = frozenset((Operation.DIGESTS, Operation.ITEMS, Operation.RENEW))


class Ship(NamedTuple):
    """Changes of one partition of the source. `size` is their bytes in flight, not sent."""

    id: int
    table: str
    table_id: str
    changes: tuple[Change, ...]
    size: int = 0


class Watermark(NamedTuple):
    """What has arrived of one table: all that the source's region wrote up to `us` is applied at the destination, all
    that any other region wrote up to `arrived_us` at the source. Times of versions; 0: not known. Never answered."""

    table: str
    table_id: str
    us: int
    arrived_us: int


class Arrived(NamedTuple):
    """All ships up to `id` have come in; they are yet to be applied. Told when that takes a while."""

    id: int


class Receipt(NamedTuple):
    id: int
    outcome: Outcome
    applied: int = 0
    retry_after_ms: int = 0
    reason: str = ""


class Command(NamedTuple):
    id: int
    operation: Operation
    table: str
    table_id: str
    definition: Mapping[str, Any] = {}
    members: Mapping[str, str] = {}
    region: str = ""


class Result(NamedTuple):
    """What the destination's catalog says of the table after the command. `status` is empty when not `present`; `body`
    answers what was asked."""

    id: int
    present: bool
    status: str = ""
    members: Mapping[str, str] = {}
    error_code: str = ""
    error_message: str = ""
    body: Mapping[str, Any] = {}


def change_bytes(change: Change) -> int:
    """What a change weighs in queues and on the wire, in bytes (framing left out)."""
    return len(change.key) + len(change.version) + len(change.image or b"") + len(change.base or b"")
