"""Whether this node's wall clock agrees with those of its region, and what follows when it does not.

Whoever leads a partition stamps what it takes, and the larger stamp wins between regions: a leader whose clock is ahead
shadows honest writes, one whose clock is behind loses its own. So readings travel with the acknowledgements of
heartbeats, and a node that is off the median of its region's clocks, its own included, by more than a bound does not
lead:

- it offers what it leads to others, and is handed nothing by them;
- it asks for votes only `RELUCTANCE_MS` later than others would. Another voter has won by then, if any can: a group
  whose other voters all lack an entry, or are away, is led by a wrong clock rather than by nobody.

However much the clocks differ, the one in the middle is off by nothing: some node is always willing. Where two halves
stand against each other neither knows better, and nobody refuses. So it is with two nodes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from geodyne.ports import Clock
from geodyne.settings import CLOCK_OFFSET_MS_MAX
from node.metrics import NodeMetrics
from node.raft.liveness import Liveness

logger = logging.getLogger("geodyne.node")

ROUND_TRIP_MS_MAX = 500  # a reading is off by up to half the round trip that brought it; slower ones are thrown away
READING_MS_MAX = 600_000  # of a peer that is silent: clocks of machines drift by far less than the bound meanwhile
RIGHT_AGAIN = 0.5  # of the bound: a clock at the bound is not wrong and right by turns
GIVE_AWAY_STEPS = 5  # between two attempts to give leadership away
RELUCTANCE_MS = 4_000  # more than the longest election of others (node.raft.settings)


class _Reading(NamedTuple):
    apart_us: int  # the peer's wall clock less this node's lease clock: a set wall clock here does not spoil it
    at_ms: int


class ClockWatch:
    """The clocks of one region as one of its nodes sees them. Pure: every time is an argument, `now_ms` on this node's
    lease clock, walls in microseconds since the epoch."""

    def __init__(self, bound_us: int) -> None:
        self.bound_us = bound_us
        self.off = False  # as of the last `look`
        self.offset_us: int | None = None  # this clock less the median; None: too few are known to tell
        self._readings: dict[str, _Reading] = {}  # bounded: of members of the region
        self._median_apart_us: int | None = None

    def heard(self, peer: str, sent_at_ms: int, held_ms: int, wall_us: int, now_ms: int) -> None:
        """An acknowledgement of what was sent at `sent_at_ms` came in, with the peer's clock when it left; it had been
        held there for `held_ms`. `wall_us` 0: the peer's version does not tell."""
        round_trip_ms = now_ms - sent_at_ms - held_ms
        if wall_us <= 0 or held_ms < 0 or not 0 <= round_trip_ms <= ROUND_TRIP_MS_MAX:
            return
        left_us = now_ms * 1_000 - round_trip_ms * 500
        self._readings[peer] = _Reading(wall_us - left_us, now_ms)

    def look(self, wall_us: int, now_ms: int, peers: Sequence[str]) -> None:
        """Compare with the other nodes of the region (`peers`). Sets `off` and `offset_us`."""
        for peer, reading in list(self._readings.items()):
            if peer not in peers or now_ms - reading.at_ms > READING_MS_MAX:
                del self._readings[peer]
        own_us = wall_us - now_ms * 1_000
        ahead_us = sorted([0, *(reading.apart_us - own_us for reading in self._readings.values())])
        if not peers or 2 * len(ahead_us) <= len(peers) + 1:
            self.off, self.offset_us, self._median_apart_us = False, None, None
            return
        middles = ahead_us[(len(ahead_us) - 1) // 2], ahead_us[len(ahead_us) // 2]
        median_us = min(middles, key=abs)  # of two halves that differ, each takes its own for right
        self._median_apart_us = own_us + median_us
        self.offset_us = -median_us
        bound_us = self.bound_us * RIGHT_AGAIN if self.off else self.bound_us
        self.off = abs(median_us) > bound_us

    def peer_off(self, peer: str) -> bool:
        """Whether the peer's clock was off the region's by more than the bound, as far as is known here."""
        reading = self._readings.get(peer)
        if reading is None or self._median_apart_us is None:
            return False
        return abs(reading.apart_us - self._median_apart_us) > self.bound_us

    def peers_off(self) -> list[str]:
        return sorted(peer for peer in self._readings if self.peer_off(peer))


class ClockGuard:
    """Looks at one node's clock, and has the node stand back from leading while it is wrong."""

    def __init__(self, clock: Clock, liveness: Liveness, metrics: NodeMetrics) -> None:
        self.watch = ClockWatch(CLOCK_OFFSET_MS_MAX * 1_000)
        self.give_away: Callable[[], object] = _nothing  # offers all that this node leads to others
        self._clock = clock
        self._liveness = liveness
        self._metrics = metrics
        self._steps = 0

    def heard(self, peer: str, sent_at_ms: int, held_ms: int, wall_us: int, now_ms: int) -> None:
        """As ClockWatch.heard."""
        self.watch.heard(peer, sent_at_ms, held_ms, wall_us, now_ms)

    def unfit(self, peers: Iterable[str]) -> set[str]:
        """Those of these nodes that should be handed no leadership."""
        return {peer for peer in peers if self.watch.peer_off(peer)}

    def step(self, peers: Sequence[str]) -> None:
        """Every second."""
        watch = self.watch
        was_off = watch.off
        watch.look(self._clock.wall_us(), self._clock.lease_ms(), peers)
        offset_s = (watch.offset_us or 0) / 1e6
        self._metrics.clock_offset_seconds.set(offset_s)
        self._metrics.clock_wrong.set(watch.off)
        self._liveness.reluctance_ms = RELUCTANCE_MS if watch.off else 0
        if watch.off and not was_off:
            self._steps = 0
            logger.critical(
                "clock wrong: this node gives away what it leads and stands back in elections",
                extra={
                    "offset_s": offset_s,
                    "bound_s": watch.bound_us / 1e6,
                    "hint": "set this machine's clock, and see why nothing kept it right",
                },
            )
        elif was_off and not watch.off:
            logger.warning("clock right again", extra={"offset_s": offset_s})
        if watch.off:
            if self._steps % GIVE_AWAY_STEPS == 0:
                self.give_away()
            self._steps += 1

    def status(self) -> dict[str, object]:
        """For `geodyne status`: `offset_s` against the median of the region, None where too few clocks are known."""
        watch = self.watch
        offset_s = None if watch.offset_us is None else round(watch.offset_us / 1e6, 3)
        return {"offset_s": offset_s, "wrong": watch.off, "others_wrong": watch.peers_off()}


def _nothing() -> None:
    return None
