"""How long a replica waits before it asks for votes, so that seldom two of a group do at the same time."""

from __future__ import annotations

from typing import Protocol

from node.raft.settings import Settings


class RandomSource(Protocol):
    """What is used of random.Random."""

    def random(self) -> float: ...


class Reluctance(Protocol):
    """Why this node, of all, should rather not lead: it waits so much longer before it first asks for votes."""

    @property
    def reluctance_ms(self) -> int: ...


class Patience:
    """The waits of one replica, each with a part that is drawn. All in milliseconds."""

    __slots__ = ("_random", "_reluctance", "_settings")

    def __init__(self, settings: Settings, random: RandomSource, reluctance: Reluctance) -> None:
        self._reluctance = reluctance
        self._settings = settings
        self._random = random

    def staggered_ms(self, rank: int) -> int:
        """The preferred replicas first, no two in the same slot."""
        stagger_ms = self._settings.stagger_ms
        return rank * stagger_ms + self._jitter_ms(0, stagger_ms) + self._reluctance.reluctance_ms

    def election_ms(self) -> int:
        """An election timeout, in the sense of Raft."""
        wait_ms = self._jitter_ms(self._settings.election_ms_min, self._settings.election_ms_max)
        return wait_ms + self._reluctance.reluctance_ms

    def again_ms(self, rounds: int) -> int:
        """After a round of pre-votes, when `rounds` have come before it: doubles with each."""
        wait_ms = min(self._settings.prevote_retry_ms << min(rounds, 16), self._settings.election_ms_min)
        return self._jitter_ms(wait_ms, 2 * wait_ms)

    def _jitter_ms(self, low_ms: int, high_ms: int) -> int:
        return low_ms + int(self._random.random() * (high_ms - low_ms))
