"""Whose leadership a replica last confirmed, and what it promised by that."""

from __future__ import annotations

from node.raft.liveness import Liveness


class Support:
    """One replica's support of a leader: nobody's, or that of a node in a term, under the incarnation that this node
    knew of it and this node's support epoch for it (liveness). It outlives changes of term: a promise does."""

    __slots__ = ("_epoch", "_incarnation", "_liveness", "leader", "term")

    def __init__(self, liveness: Liveness) -> None:
        self._liveness = liveness
        self.leader = ""
        self.term = 0  # the last that was confirmed, of this leader or of one before
        self._incarnation = 0
        self._epoch = 0

    def confirm(self, leader: str, term: int) -> None:
        self.leader = leader
        self.term = term
        self._incarnation = self._liveness.peer_incarnation(leader)
        self._epoch = self._liveness.support(leader)[1]

    def end(self) -> None:
        """The leader leads no more, or gave up: nothing is left of what it was promised."""
        self.leader = ""

    def live(self, now_ms: int) -> bool:
        """True while the leader may rely on what it was promised."""
        return self.leader != "" and self._liveness.alive(self.leader, now_ms) and not self.process_died()

    def process_died(self) -> bool:
        return 0 < self._incarnation < self._liveness.peer_incarnation(self.leader)

    def vote_away(self, candidate: str, transfer: bool) -> None:
        """Before a vote for `candidate`: void what was confirmed to another leader, unless that leader gave it up."""
        supported, self.leader = self.leader, ""
        if supported in {"", candidate} or transfer:
            return
        if self._liveness.support(supported)[1] == self._epoch:  # else it is void already
            self._liveness.withdraw(supported)
