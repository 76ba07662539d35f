"""Elections as they may be: one leader a term, no term without a candidate, no candidate without a majority's pre-vote.

The last two are what pre-vote is for (Ongaro's thesis, section 9.6): a node that was cut off must not come back with a
term that nobody could have won, and so depose a leader that everybody else hears.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from geodyne.peermessages import Vote, VoteRequest
from node.group import Group
from node.raft.core import Role


class _Leader(NamedTuple):
    node: str
    life: int


class Elections:
    """Of all groups of a region. Methods return what is wrong, "" when nothing is."""

    def __init__(self) -> None:
        self.leaderships = 0
        self._leaders: dict[tuple[int, int], _Leader] = {}  # (group, term)
        self._stood: dict[int, int] = {}  # group -> the highest term that somebody has stood in
        self._granted: dict[tuple[int, int, str], set[str]] = {}  # (group, term, candidate) -> who would vote for it

    def stepped(self, node: str, group: Group) -> str:
        raft = group.raft
        stood = self._stood.get(group.partition, 0)
        if raft.term <= stood:
            return ""
        if raft.role in {Role.CANDIDATE, Role.LEADER}:
            self._stood[group.partition] = raft.term
            return ""
        return f"{node} is in term {raft.term} of group {group.partition}; the last in which somebody stood is {stood}"

    def led(self, node: str, life: int, group: int, term: int, *, alone: bool = False) -> tuple[bool, str]:
        """A node leads a term; true when that is news. The only voter of a group may have died before anything of that
        term was durable, and leads it again: nobody has heard of it, and nothing of it was committed."""
        own = _Leader(node, life)
        known = self._leaders.get((group, term))
        if known is None or (alone and known.node == node and known != own):
            self._leaders[group, term] = own
            self.leaderships += 1
            return True, ""
        if known != own:
            return False, f"{node} leads term {term} of group {group}, and so did {known.node}"
        return False, ""

    def granted(self, node: str, candidate: str, vote: Vote) -> None:
        """A pre-vote leaves a node."""
        self._granted.setdefault((vote.group, vote.term, candidate), set()).add(node)

    def stands(self, node: str, request: VoteRequest, quorums: Sequence[Sequence[str]]) -> str:
        """A request for real votes leaves a node."""
        if request.transfer:
            return ""
        granted = {node, *self._granted.get((request.group, request.term, node), ())}
        for voters in quorums:
            if 2 * len(granted.intersection(voters)) <= len(voters):
                return (
                    f"{node} stands in term {request.term} of group {request.group} with pre-votes of {sorted(granted)}"
                )
        return ""
