"""Messages of consensus that do not arrive as they were sent: lost, doubled, overtaken.

The streams between nodes keep order or break, and the node's other messages (heartbeats, introductions, snapshots) rely
on it. The consensus core relies on less: any of its messages may be lost, come twice, or come late, as long as the
stream that lost something breaks in the end, for a quiet group sends nothing again by itself.
"""

from __future__ import annotations

from random import Random

from geodyne.peermessages import Append, Appended, PeerMessage, TimeoutNow, Vote, VoteRequest

CONSENSUS = (Append, Appended, Vote, VoteRequest, TimeoutNow)
LATE_S = (0.001, 0.4)


class Disorder:
    """What happens to one direction between two nodes for a while."""

    def __init__(self, random: Random, *, lost: float, doubled: float, late: float) -> None:
        """Chances of each message; what of them happened is in `disturbed`."""
        self._random = random
        self._lost = lost
        self._doubled = lost + doubled
        self._late = lost + doubled + late
        self.disturbed = 0

    def disturb(self, batch: list[PeerMessage]) -> tuple[list[PeerMessage], list[tuple[float, PeerMessage]]]:
        """What is sent on in order, and what comes by itself so many seconds later."""
        random = self._random
        kept: list[PeerMessage] = []
        late: list[tuple[float, PeerMessage]] = []
        for message in batch:
            chance = random.random() if isinstance(message, CONSENSUS) else 1.0
            if chance < self._late:
                self.disturbed += 1
                if chance >= self._lost:
                    late.append((random.uniform(*LATE_S), message))
            if chance >= self._late or self._lost <= chance < self._doubled:
                kept.append(message)
        return kept, late
