"""Where replicas go: consistent hashing with virtual nodes, one replica in each of up to three zones.

A pure function of the members: adding the (n+1)th node of a zone takes about 1/(n+1) of that zone's replicas from the
others and moves nothing else (Karger et al. 1997).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

REPLICAS = 3
RINGS_KEPT = 64  # sets of members seldom change, and a ring costs hundreds of hashes
VIRTUAL_NODES = 64


@dataclass(frozen=True, slots=True)
class Member:
    id: str
    zone: str


class Placement:
    """Rings of one region. Deterministic in the set of members."""

    def __init__(self, members: Iterable[Member]) -> None:
        by_zone: dict[str, list[str]] = {}
        for member in members:
            by_zone.setdefault(member.zone, []).append(member.id)
        self._zones = {zone: _ring(tuple(sorted(nodes))) for zone, nodes in sorted(by_zone.items())}
        self._zone_ring = _ring(tuple(sorted(self._zones)))

    def voters(self, partition: int) -> tuple[str, ...]:
        """The nodes of a partition, no two in one zone. The first is the preferred leader; consecutive
        partitions prefer different zones, so that leaders spread evenly."""
        point = _point(f"partition/{partition}")
        zones = sorted(_walk(self._zone_ring, point)[:REPLICAS])
        turn = partition % len(zones)
        return tuple(_walk(self._zones[zone], point)[0] for zone in zones[turn:] + zones[:turn])


_Ring = tuple[list[int], list[str]]


@lru_cache(RINGS_KEPT)
def _ring(names: tuple[str, ...]) -> _Ring:
    points = sorted((_point(f"{name}#{number}"), name) for name in names for number in range(VIRTUAL_NODES))
    return [point for point, _ in points], [name for _, name in points]


def _walk(ring: _Ring, point: int) -> list[str]:
    """The distinct names met clockwise from `point`."""
    points, names = ring
    start = bisect_right(points, point)
    return list(dict.fromkeys(names[start:] + names[:start]))


def _point(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def rings_by_zone(members: Mapping[str, str]) -> Placement:
    """`members`: node id -> zone."""
    return Placement(Member(node, zone) for node, zone in members.items())
