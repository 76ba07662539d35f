"""What is a conflict: two regions wrote an item, and neither had seen the other's write. Pure.

Each change of a table that keeps conflicts carries its *base*: the version of the row that it replaced. Where a change
of another region takes the place of a row that was made here, its base says whether its maker had that row: rows of an
item only ever get larger versions in a region, so a maker with an older base had not. So each region judges the losses
of its own writes, and no others: a write is the newest row where it was made until something takes its place there.
What arrives too late is judged where it was made, when the winner comes there. A change that is shipped twice takes a
place once.

Where a change rests on a later row of a third region, that one may have brought the loser to its maker, or not: that is
told as `perhaps`. Changes without a base (rows that a scan ships, changes of before the log was switched on) are not
judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from geodyne.messages import Change
from geodyne.model import version as versions
from geodyne.wire import log_v1_pb2 as log
from node.storage.port import Row

IMAGE_BYTES_MAX = 4 * 1024  # of an image that lost, in the log; and of either in the conflict log
NO_ROW = b""  # the base of a change that found nothing


class Side(NamedTuple):
    """One of two writes. `image`: its first IMAGE_BYTES_MAX bytes, None for a deletion; `image_bytes`: of all of it."""

    version: bytes
    image: bytes | None
    image_bytes: int


class Conflict(NamedTuple):
    """`seen_us`: the clock of the leader that judged it, which stands in the log: the same on all replicas."""

    key: bytes
    lost: Side
    won: Side
    seen_us: int
    perhaps: bool


def base_of(prior: Row | None, arrived: Mapping[str, int]) -> bytes:
    """The base of a change that replaces `prior`. Where there is no row, its tombstone may have been collected: then
    all that other regions wrote up to the least of the marks in `arrived` had been here."""
    if prior is not None:
        return prior.version
    return versions.make(min(arrived.values()) + 1, b"") if arrived else NO_ROW


def loss(change: Change, prior: Row | None, own: bytes, expires: bool) -> log.Lost | None:
    """What a change that takes the place of `prior` in the region `own` makes of it; None: no conflict.

    `expires`: the table has Time to Live. A deletion for an item's time follows the image's version at once
    (decision 0019); it is nobody's write, and loses in silence."""
    base = change.base
    if base is None or prior is None or prior.version[8:] != own or base == prior.version:
        return None
    if expires and prior.value is None and versions.time_us(prior.version) == versions.time_us(base) + 1:
        return None
    perhaps = base > prior.version
    if perhaps and base[8:] in (b"", change.version[8:]):
        return None  # it came after the collected tombstone; or after a row of the maker's own that was taken here
    lost = log.Lost(version=prior.version, perhaps=perhaps)
    if prior.value is not None:
        lost.image, lost.image_bytes = prior.value[:IMAGE_BYTES_MAX], len(prior.value)
    return lost


def conflicts_of(effects: Iterable[log.Effect], wall_us: int) -> list[Conflict]:
    """Those of an entry of the log."""
    return [_conflict(effect, wall_us) for effect in effects if effect.HasField("lost")]


def _conflict(effect: log.Effect, wall_us: int) -> Conflict:
    lost = effect.lost
    return Conflict(
        effect.key,
        Side(lost.version, lost.image if lost.HasField("image") else None, lost.image_bytes),
        Side(
            effect.version,
            effect.image[:IMAGE_BYTES_MAX] if effect.HasField("image") else None,
            len(effect.image),
        ),
        wall_us,
        lost.perhaps,
    )
