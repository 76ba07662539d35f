"""The streams of a table as one partition's log makes them, and their shards there. Pure.

A shard holds the records with after < sequence <= last. The first one of a stream is opened by the marker that names
the stream, the last one closed by the marker that says that it has ended; between them the leader has one closed and
the next opened every few hours. All of it follows from the entries alone. Shard ids rest on `opened_us`, a whole number
of milliseconds that no other shard of the partition has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

_MS_US = 1_000


class StreamDefinition(NamedTuple):
    """A stream as a definition names it. `view`: its StreamViewType. `ended`: it gets no more records."""

    label: str
    view: str
    ended: bool


class Shard(NamedTuple):
    opened_us: int
    after: int
    last: int | None = None  # None: it is open
    closed_us: int = 0


Shards = Mapping[str, tuple[Shard, ...]]  # by label of their stream, oldest first


def defined(shards: Shards, streams: Iterable[StreamDefinition], head: int, wall_us: int) -> Shards:
    """After a marker at the head of the feed. Those of a stream that is not named any more are gone."""
    kept: dict[str, tuple[Shard, ...]] = {}
    for stream in streams:
        known = shards.get(stream.label)
        if stream.ended:
            kept[stream.label] = _closed(known or (), head, wall_us)
        elif known is None:
            kept[stream.label] = (_opened({**shards, **kept}, head, wall_us),)
        else:
            kept[stream.label] = known
    return kept


def rolled(shards: Shards, label: str, head: int, wall_us: int) -> Shards:
    """With the open shard of a stream closed at the head and another one opened there."""
    known = shards.get(label, ())
    if not known or known[-1].last is not None:
        return shards
    return {**shards, label: (*_closed(known, head, wall_us), _opened(shards, head, wall_us))}


def trimmed(shards: Shards, label: str, through: int, closed_us: int) -> Shards:
    """Without the shards of a stream that were closed by then and whose records are trimmed."""
    known = shards.get(label, ())
    kept = tuple(shard for shard in known if not outlived(shard, through, closed_us))
    return shards if len(kept) == len(known) else {**shards, label: kept}


def outlived(shard: Shard, through: int, closed_us: int) -> bool:
    """Nothing of a shard is retained when records up to `through` are not, and nobody expects it to be listed."""
    return shard.last is not None and shard.last <= through and shard.closed_us <= closed_us


def _closed(known: tuple[Shard, ...], head: int, wall_us: int) -> tuple[Shard, ...]:
    if not known or known[-1].last is not None:
        return known
    newest = known[-1]
    return (*known[:-1], newest._replace(last=head, closed_us=max(wall_us, newest.opened_us)))


def _opened(shards: Shards, head: int, wall_us: int) -> Shard:
    newest = max((shard.opened_us for known in shards.values() for shard in known), default=0)
    return Shard(max(wall_us // _MS_US * _MS_US, newest + _MS_US), head)
