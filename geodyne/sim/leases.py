"""Leases against the promises that they rest on, both read from the nodes themselves at one moment.

Whoever acknowledges a heartbeat will not vote against its sender for one lease from its receipt; the sender counts on
less, from the time at which it sent it (node.raft.liveness). So what a sender counts on must never outlast what was
promised, and who has restarted, and may have forgotten a promise, votes for nobody until it must be over.
"""

from __future__ import annotations

from geodyne.peermessages import Vote, VoteRequest
from node.raft.liveness import Liveness

ROUNDING_MS = 1  # each of the two clocks is read in whole milliseconds


class Leases:
    """Of all pairs of nodes of a region. Methods return what is wrong, "" when nothing is."""

    def __init__(self) -> None:
        self._transfers: set[tuple[int, int, str]] = set()  # (group, term, candidate): its leader asked for it

    def acknowledged(self, holder: str, own: Liveness, own_ms: int, peer: str, other: Liveness, other_ms: int) -> str:
        """`holder` has just taken an acknowledgement of `peer`; `own_ms` and `other_ms` are what their clocks say."""
        counted, promised = own._peers.get(peer), other._peers.get(holder)
        if counted is None or promised is None or promised.incarnation != own.incarnation:
            return ""
        if counted.acked != (other.incarnation, promised.support_epoch):
            return ""  # of an earlier process, or taken back since: it counts for nothing once that is known
        left_ms = counted.acked_sent_at_ms + own.settings.lease_held_ms - own_ms
        promised_ms = promised.promised_until_ms - other_ms
        if left_ms > max(0, promised_ms) + ROUNDING_MS:
            return f"{holder} counts on {peer} for {left_ms} ms; it has promised {promised_ms}"
        return ""

    def stands(self, node: str, request: VoteRequest, own: Liveness, own_ms: int, again: bool) -> str:
        """A request for real votes leaves a node; `again`: it had a life before in which it took part."""
        if request.transfer:
            self._transfers.add((request.group, request.term, node))
            return ""
        return self._waited(node, node, request.group, request.term, own, own_ms, again)

    def votes(self, node: str, candidate: str, vote: Vote, own: Liveness, own_ms: int, again: bool) -> str:
        """A vote leaves a node."""
        return self._waited(node, candidate, vote.group, vote.term, own, own_ms, again)

    def _waited(self, node: str, candidate: str, group: int, term: int, own: Liveness, own_ms: int, again: bool) -> str:
        if not again or (group, term, candidate) in self._transfers or own_ms >= own.started_ms + own.settings.lease_ms:
            return ""
        return (
            f"{node} votes for {candidate} in term {term} of group {group} {own_ms - own.started_ms} ms after its start"
        )
