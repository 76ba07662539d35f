"""Whose leadership a replica last confirmed, what it promised by that, and when nothing of it is left.

A replica that supports a leader trusts that one's node (liveness), so a follower that missed the leader's end would go
on for as long as the node lives, and might be the vote that the others lack. The node itself may tell it otherwise.

Support of P in term T ends on P's own word that it leads no term up to T and never will again: by a request for votes
in a later term, or by an answer to such a request that has a later term, or is marked `Vote.resigned`. Why no promise
is broken by that, however late, often or out of order the word arrives:

1. A lease of term T is relied on by nobody but the replica that leads T, while it leads T (`Leadership` is dropped with
   the role). A replica becomes leader of a term in one way only, by standing in it, and it stands only in a term that
   is later than its own. So once P's own term is beyond T, or P is in T and neither leads nor stands, it will never
   lead T: the word stays true, and one from before P led T would have been false. It could not have been given.
2. P's term never goes back while its process lives. A replica that is given up leaves its term in the log of its node
   (`FORGOTTEN`), the node answers from that, and the next replica begins with it. The word needs no fsync: should P's
   node die and come back with less, that is another process, which leads nothing that the old one led.
3. That other process may know less, and be elected again in a term that the old one has named. What was said by the
   old one is not stepped any more then: a stream's messages go with it, and those of another process come on another
   stream (NodeService.on_peer_disconnected). Whose word is heard is the process that was supported, or a later one.
4. P's support epoch stays what it is: other groups may rely on it, and in this one no leader of T is left who could.

What is no such word: a refusal alone (a leader refuses, too), a granted pre-vote (it names the candidate's term, and
its giver may still be elected in one before), and silence.
"""

from __future__ import annotations

from collections.abc import Sequence

from geodyne.peermessages import Vote, VoteRequest
from node.raft.liveness import NEVER_MS, Liveness


def resignation(group: int, term: int) -> Vote:
    """What a replica says that does not vote, or the node of one that was given up in this term: no vote, and it leads
    neither this term nor an earlier one."""
    return Vote(group, term, False, True, True)


class Support:
    """One replica's support of a leader: nobody's, or that of a node in a term, under the incarnation that this node
    knew of it and this node's support epoch for it (liveness). It outlives changes of term: a promise does."""

    __slots__ = ("_asked_ms", "_epoch", "_incarnation", "_liveness", "leader", "term")

    def __init__(self, liveness: Liveness) -> None:
        self._liveness = liveness
        self.leader = ""
        self.term = 0  # the last that was confirmed, of this leader or of one before
        self._incarnation = 0
        self._epoch = 0
        self._asked_ms = NEVER_MS

    def confirm(self, leader: str, term: int) -> None:
        self.leader = leader
        self.term = term
        self._incarnation = self._liveness.peer_incarnation(leader)
        self._epoch = self._liveness.support(leader)[1]

    def end(self) -> None:
        """The leader leads no more, or gave up: nothing is left of what it was promised."""
        self.leader = ""

    def resigned(self, node: str, term: int) -> None:
        """The node leads no term before this one, and never will again: its own word."""
        if node == self.leader and term > self.term:
            self.end()

    def question(self, group: int, now_ms: int) -> Sequence[tuple[str, VoteRequest]]:
        """The leader stands in another's way: what to ask it, to learn whether it leads yet. A request for a pre-vote
        in the very term that it led, so that it grants none: a leader refuses and sends an append, and everyone else
        says where it stands. Nothing where one was sent less than an election timeout ago."""
        if not self.live(now_ms) or now_ms - self._asked_ms < self._liveness.settings.election_ms_min:
            return ()
        self._asked_ms = now_ms
        return ((self.leader, VoteRequest(group, self.term, 0, 0, True, False)),)

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
