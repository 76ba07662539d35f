"""Who is a member of a group, and how that follows from its log.

A change of voters goes through a joint configuration, in which elections, commits and leases need a majority of the old
voters and one of the new ones (Raft, section 6; thesis, section 4.3). It is the business of entries of the log: a
configuration is in force where the log holds its entry, committed or not, and is out of force where that entry is cut.

Two successive configurations have no quorums apart: the old set is half of the joint one, and so is the new set. Why
that is enough is written in `liveness`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import orjson

from geodyne.peermessages import Entry
from node.raft.quorum import majority

MARK = 0  # the first byte of such an entry's payload; a serialised EntryPayload never begins with it


@dataclass(frozen=True, slots=True)
class Configuration:
    """voters    in order of preference: voters[0] is the preferred leader
    outgoing  while joint: the voters of before
    learners  they receive everything and count for nothing
    number    of the change that led here, growing: no leader goes back to an older one that it has heard of late, and
              once the last step of a change is committed, nothing of an earlier one will ever be in force
    """

    voters: tuple[str, ...]
    outgoing: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    number: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a configuration without voters, or with a node named twice in one part, or as a
        learner that votes."""
        if not self.voters:
            raise ValueError("a configuration needs a voter")
        for part in (self.voters, self.outgoing, (*self.learners, *self.voting)):
            if len(set(part)) < len(part):
                raise ValueError(f"a node is named twice: {self}")

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def voting(self) -> tuple[str, ...]:
        """All that may vote, each once."""
        return self.voters if not self.outgoing else tuple(dict.fromkeys((*self.voters, *self.outgoing)))

    @property
    def members(self) -> tuple[str, ...]:
        """All that receive the log, each once."""
        return (*self.voting, *self.learners)

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """The sets of which a quorum has a majority each."""
        return (self.voters, self.outgoing) if self.outgoing else (self.voters,)

    def agreed(self, nodes: Collection[str]) -> bool:
        """True when `nodes` are a quorum."""
        return all(sum(voter in nodes for voter in part) >= majority(len(part)) for part in self.parts)

    def alone(self, node_id: str) -> bool:
        """True when that node is a quorum by itself."""
        return self.agreed((node_id,))

    def to_payload(self) -> bytes:
        """The payload of the entry that puts this configuration in force."""
        record = {
            "voters": self.voters,
            "outgoing": self.outgoing,
            "learners": self.learners,
            "number": self.number,
        }
        return bytes((MARK,)) + orjson.dumps(record)


def configuration_of(payload: bytes) -> Configuration | None:
    """The configuration that an entry with this payload puts in force; None for any other entry. Raises ValueError for
    one that cannot be read."""
    if not payload or payload[0] != MARK:
        return None
    record = orjson.loads(payload[1:])
    try:
        outgoing, learners = tuple(record["outgoing"]), tuple(record["learners"])
        return Configuration(tuple(record["voters"]), outgoing, learners, record["number"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a configuration: {payload!r}") from error


class Configurations:
    """The configurations of one log that are not settled: the last one that is known to be committed, and those of the
    entries after it. As long as a leader proposes one only when the one before is committed, that is one or two; a
    follower that is behind may hold more for a moment, bounded by its log."""

    __slots__ = ("_at", "configuration", "index")

    def __init__(self, index: int, configuration: Configuration, entries: Iterable[Entry]) -> None:
        """`configuration` was put in force by the entry at `index`; `entries` are those that may put in force another
        one."""
        self._at = [(index, configuration)]
        self._point()
        self.appended(index + 1, entries)

    @property
    def uncommitted(self) -> bool:
        """False when the configuration in force is known to be committed (as of the last `committed`)."""
        return len(self._at) > 1

    def appended(self, first: int, entries: Iterable[Entry]) -> bool:
        """The log was cut from `first` on, and `entries`, from there on, were added. True when another configuration
        is in force. Looks at one byte of each entry."""
        before = self._at[-1]
        while len(self._at) > 1 and self._at[-1][0] >= first:
            self._at.pop()
        for entry in entries:
            payload = entry.payload
            if payload and payload[0] == MARK and entry.index >= first:
                configuration = configuration_of(payload)
                assert configuration is not None
                self._at.append((entry.index, configuration))
        self._point()
        return self._at[-1] != before

    def committed(self, index: int) -> bool:
        """Entries up to `index` can be cut no more. True when that settles a configuration."""
        before = len(self._at)
        while len(self._at) > 1 and self._at[1][0] <= index:
            del self._at[0]
        return len(self._at) < before

    def installed(self, index: int, configuration: Configuration | None) -> bool:
        """The state is that of `index` now, with `configuration` in force there (None: the state does not say, and the
        one that is known stays). True when another one is in force."""
        before = self.configuration
        known = [one for one in self._at if one[0] <= index][-1]
        if configuration is not None and configuration != known[1]:
            known = (index, configuration)
        self._at = [known, *(one for one in self._at if one[0] > index)]
        self._point()
        return self.configuration != before

    def voting(self, node_id: str) -> bool:
        """True for a voter of the configuration in force, or of one that may come into force again."""
        return any(node_id in configuration.voting for _, configuration in self._at)

    def _point(self) -> None:
        self.index, self.configuration = self._at[-1]


def rank(node_id: str, voters: Sequence[str]) -> int:
    """The node's place in the order of preference; beyond the last for one that does not vote."""
    return voters.index(node_id) if node_id in voters else len(voters)
