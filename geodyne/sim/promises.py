"""What each node has told the others, and whether its disk bears it out.

A vote, a candidacy and an acknowledgement are promises that must outlive the process (node.raft.effects.Effects): when
one leaves, what it speaks of has been fsynced, and what a start recovers holds it. Here that is compared with the
simulated files themselves, not with what the node believes of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from geodyne.peermessages import Appended, PeerMessage, Vote, VoteRequest
from node.storage.wal import Wal
from node.storage.wal_recovery import segment_name

PROMISES = frozenset((Appended, Vote, VoteRequest))


class DurableFile(Protocol):
    """A file of the log on a simulated disk: `synced` bytes of it survive anything."""

    synced: int


class _HardState(NamedTuple):
    """A term and a vote as they were appended: they are durable once their segment is, up to `end`."""

    term: int
    vote: str
    segment: int
    end: int


class _Kept:
    """The promises of one replica, over all lives of its disk."""

    __slots__ = ("acknowledged", "acknowledged_term", "life", "term", "vote")

    def __init__(self, life: int) -> None:
        self.life = life  # in which it began
        self.term = 0
        self.vote = ""  # given away in that term, to itself too
        self.acknowledged = 0  # the log is durable through this index
        self.acknowledged_term = 0


class DurableLog:
    """The truth about the log of one life of a node: appended, written, fsynced."""

    def __init__(self, log: Wal, files: Mapping[Path, DurableFile]) -> None:
        """`files`: those that this process has created or opened, kept up to date by whoever owns the disk."""
        self._log = log
        self._files = files
        self._durable = {group: (held.term, held.vote) for group, held in log._index.groups.items()}
        self._hard_states: dict[int, deque[_HardState]] = {}  # not yet known to be durable; bound: those of one fsync
        self._known: dict[int, int] = {}  # durable through this index, as last looked up
        self._paths: dict[int, Path] = {}  # of segments
        self.gone: set[int] = set()  # replicas that were given up: nothing is owed for them

    def state_recovered(self, group: int, term: int) -> None:
        """A start found a state that an entry of this term led to: where the log has not come so far (a snapshot was
        installed), the term follows from it, at this start and at every other."""
        if term > self._durable.get(group, (0, ""))[0]:
            self._durable[group] = (term, "")

    def hard_state_appended(self, group: int, term: int, vote: str) -> None:
        batch = self._log._batch
        assert batch is not None
        states = self._hard_states.setdefault(group, deque())
        states.append(_HardState(term, vote, batch.segment, batch.start + batch.size))

    def destroyed(self, group: int) -> None:
        self.gone.add(group)

    def held_again(self, group: int) -> None:
        """Nothing is left of what was there before."""
        self.gone.discard(group)
        self._known.pop(group, None)

    def cut(self, group: int, first_index: int) -> None:
        """The log of a group was cut from this index on."""
        self._known[group] = min(self._known.get(group, 0), first_index - 1)

    def _covered(self, segment: int, end: int) -> bool:
        path = self._paths.get(segment)
        if path is None:
            path = self._paths[segment] = self._log._directory / segment_name(segment)
        file = self._files.get(path)
        return file is not None and file.synced >= end

    def holds_hard_state(self, group: int, term: int, vote: str | None) -> bool:
        """What is durable is of a later term, or of this one and this vote (None: any)."""
        states = self._hard_states.get(group)
        while states and self._covered(states[0].segment, states[0].end):
            self._durable[group] = states.popleft()[:2]
        held = self._durable.get(group, (0, ""))
        return held[0] > term or (held[0] == term and vote in {None, held[1]})

    def holds_entry(self, group: int, index: int) -> bool:
        """The entry is durable, or compacted, and so are all before it: the log is one sequence."""
        if index <= self._known.get(group, 0) or group in self.gone:
            return True
        held = self._log._index.groups.get(group)
        if held is None:
            return index == 0
        if index > held.offset_index:
            if index > held.last_index:
                return False
            run = next(run for run in reversed(held.runs) if run.first_index <= index)
            place = run.places[index - run.first_index]
            if not self._covered(run.segment, place.position + place.length):
                return False
        self._known[group] = index
        return True


class Promises:
    """What the nodes of a region have promised. Methods return what is wrong, "" when nothing is."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], _Kept] = {}
        self._votes: dict[tuple[str, int, int], str] = {}  # (node, group, term) -> candidate; for ever
        self._durable_on: dict[tuple[str, int], int] = {}  # acknowledged through this index, to anybody
        # (node, group) -> life, through which index: what a newcomer's process has acknowledged
        self._as_newcomer: dict[tuple[str, int], tuple[int, int]] = {}

    def took_part(self, node: str, life: int, group: int) -> bool:
        """In an earlier life of the node's this replica has confirmed a leader or voted."""
        kept = self._kept.get((node, group))
        return kept is not None and kept.life < life

    def acknowledged(self, node: str, group: int) -> int:
        """Through which entry the replica has told others that it has them; 0: nothing."""
        kept = self._kept.get((node, group))
        return kept.acknowledged if kept is not None else 0

    def sent(self, node: str, life: int, peer: str, message: PeerMessage, log: DurableLog) -> str:
        """A message leaves a node."""
        kind = type(message)
        if getattr(message, "group", None) in log.gone:  # what was true when it was written down
            if isinstance(message, Appended) and message.success:
                self.durable(node, message.group, message.match)
            return ""
        if kind is Appended:
            assert isinstance(message, Appended)
            return self._acknowledged(node, life, message, log)
        if kind is Vote:
            assert isinstance(message, Vote)
            return "" if message.pre or not message.granted else self._voted(node, life, peer, message, log)
        if kind is VoteRequest:
            assert isinstance(message, VoteRequest)
            return "" if message.pre else self._voted(node, life, node, message, log)
        return ""

    def _voted(self, node: str, life: int, candidate: str, message: Vote | VoteRequest, log: DurableLog) -> str:
        group, term = message.group, message.term
        before = self._votes.setdefault((node, group, term), candidate)
        if before != candidate:
            return f"{node} voted for {before} and for {candidate} in term {term} of group {group}"
        kept = self._of(node, life, group)
        if term >= kept.term:
            kept.term, kept.vote = term, candidate
        if not log.holds_hard_state(group, term, candidate):
            return f"{node} votes for {candidate} in term {term} of group {group}: its disk does not hold that"
        return ""

    def _acknowledged(self, node: str, life: int, message: Appended, log: DurableLog) -> str:
        group = message.group
        if not log.holds_hard_state(group, message.term, None):
            return f"{node} answers in term {message.term} of group {group}: its disk does not hold that term"
        if message.success and not log.holds_entry(group, message.match):
            return f"{node} acknowledges entry {message.match} of group {group}: its disk does not hold it"
        if message.newcomer:  # it counts for nothing yet, and should it lose its log again it is a newcomer again
            if message.success:
                self._as_newcomer[node, group] = life, max(message.match, self._newcomer_reach(node, group, life))
            return ""
        kept = self._of(node, life, group)
        if message.term > kept.term:
            kept.term, kept.vote = message.term, ""
        if not message.success:
            return ""
        # From here on its leader counts it with all that this process has told, as a newcomer too.
        match = max(message.match, self._newcomer_reach(node, group, life))
        self._as_newcomer.pop((node, group), None)
        self.durable(node, group, match)
        if match >= kept.acknowledged or message.term > kept.acknowledged_term:
            kept.acknowledged, kept.acknowledged_term = match, message.term
        return ""

    def _newcomer_reach(self, node: str, group: int, life: int) -> int:
        """What this process has acknowledged while it was a newcomer; what one before it told counts for nothing."""
        told_in, reach = self._as_newcomer.get((node, group), (life, 0))
        return reach if told_in == life else 0

    def durable(self, node: str, group: int, index: int) -> None:
        """A replica, leader or not, counted for the commit of everything through this index."""
        if index > self._durable_on.get((node, group), 0):
            self._durable_on[node, group] = index

    def durable_on(self, node: str, group: int) -> int:
        return self._durable_on.get((node, group), 0)

    def cut(self, node: str, group: int, first_index: int) -> None:
        """A later leader replaced what a node had: what was acknowledged of it was never committed."""
        kept = self._kept.get((node, group))
        if kept is not None:
            kept.acknowledged = min(kept.acknowledged, first_index - 1)
        if first_index <= self._durable_on.get((node, group), 0):
            self._durable_on[node, group] = first_index - 1
        life, reach = self._as_newcomer.get((node, group), (0, 0))
        if first_index <= reach:
            self._as_newcomer[node, group] = life, first_index - 1

    def destroyed(self, node: str, group: int) -> None:
        """The replica is no more, by the catalog's will."""
        self._kept.pop((node, group), None)
        self._as_newcomer.pop((node, group), None)

    def lost(self, node: str) -> None:
        """The disk is gone. Votes are remembered here all the same: who forgot them must not vote."""
        for key in [key for key in self._kept if key[0] == node]:
            del self._kept[key]

    def forgotten(self, node: str, group: int) -> int | None:
        """The replica has become a newcomer: it counts for nothing until a leader takes it in again, with an entry that
        whoever wins must have (node.raft.core). What it votes is compared all the same. Returns how far it has
        acknowledged entries, None when it has promised nothing since it counts."""
        kept = self._kept.pop((node, group), None)
        return kept.acknowledged if kept is not None else None

    def recovered(self, node: str, group: int, term: int, vote: str, reach: int) -> str:
        """What a start found of a group that is no newcomer: its hard state, and the last index of log or state."""
        kept = self._kept.get((node, group))
        if kept is None:
            return ""
        if term < kept.term or (term == kept.term and kept.vote and vote != kept.vote):
            return f"{node} forgot ({kept.term}, {kept.vote}) in group {group}: it recovered ({term}, {vote})"
        if reach < kept.acknowledged:
            return f"{node} acknowledged entry {kept.acknowledged} of group {group}; it recovered {reach}"
        return ""

    def promised(self, node: str) -> list[int]:
        """The groups that a node has promised something in."""
        return [group for name, group in self._kept if name == node]

    def _of(self, node: str, life: int, group: int) -> _Kept:
        kept = self._kept.get((node, group))
        if kept is None:
            kept = self._kept[node, group] = _Kept(life)
        return kept
