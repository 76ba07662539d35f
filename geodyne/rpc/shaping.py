"""When a piece of a stream of bytes comes out at the far end of a path: distance, jitter, loss and bandwidth.

Applications see of a lossy path what TCP makes of it: nothing is missing, but what follows a lost packet waits until
that one has been sent again. So loss is modelled as delay:

- a piece of n bytes is ceil(n / 1460) packets, each lost with the same chance;
- if any is lost, the piece waits for one round trip, where enough packets follow for the receiver to tell the sender
  (fast retransmit, RFC 5681), else for the retransmission time-out, at least 200 ms as in Linux;
- each further loss of the same packet doubles the time-out (RFC 6298).

The congestion window, which a real loss shrinks, is not modelled: `bandwidth_mbit` stands for what is left.
Pure: time is an argument, chance comes from the generator that was passed in.
"""

from __future__ import annotations

from random import Random
from typing import Final

from geodyne.network import LinkQuality

PACKET_BYTES: Final = 1_460
FAST_RETRANSMIT_PACKETS: Final = 4  # the lost one and three that follow it
RETRANSMIT_S_MIN: Final = 0.2
LOSSES_MAX: Final = 6  # in a row, of one packet


class Shaper:
    """One direction of one path between two processes; its connections share the bandwidth."""

    __slots__ = ("_free_s", "_random")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._free_s = 0.0  # when the last byte so far has left the near end

    def due_s(self, now_s: float, size: int, quality: LinkQuality) -> float:
        """When `size` bytes that come in at `now_s` have come out. The caller keeps the order of a connection."""
        left_s = now_s
        if quality.bandwidth_mbit:
            left_s = self._free_s = max(now_s, self._free_s) + size * 8 / (quality.bandwidth_mbit * 1e6)
        due_s = left_s + quality.round_trip_ms / 2_000
        if quality.jitter_ms:
            due_s += self._random.random() * quality.jitter_ms / 1_000
        if quality.loss and size:
            due_s += self._resent_s(size, quality)
        return due_s

    def _resent_s(self, size: int, quality: LinkQuality) -> float:
        packets = -(-size // PACKET_BYTES)
        if self._random.random() >= 1 - (1 - quality.loss) ** packets:
            return 0.0
        round_trip_s = quality.round_trip_ms / 1_000
        time_out_s = max(RETRANSMIT_S_MIN, round_trip_s)
        waited_s = round_trip_s if packets >= FAST_RETRANSMIT_PACKETS else time_out_s
        for _ in range(LOSSES_MAX - 1):
            if self._random.random() >= quality.loss:
                break
            time_out_s *= 2
            waited_s += time_out_s
        return waited_s
