"""Whose promises are whose: which data directory each node of the region is known by.

What a node promised to others (votes, acknowledgements, support) is tied to its data directory. A directory that was
emptied, or lost its log, is another one, and must not speak for the one before it. A node writes down which directory
it first knew each other node by, durably and before it takes anything else from that node, and tells it so on every
stream. So a new directory learns the truth from the others:

- None of a group's other voters knew this node by another directory: nothing that this node promised ever counted
  there. Its replica is a voter from the start. So a region begins: each catalog voter waits for a word of all others.
- The group was made after this directory was in use (`since`): no other directory can have promised anything in it.
- Otherwise its replica is a newcomer until consensus makes it a member (node.raft.core).

What is known of a peer is never changed: a third directory differs from the first one just as the second does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

ROSTER_FORMAT = 1


class Roster:
    """Facts about the directory and the region's other nodes. `save` makes bytes durable before it returns.

    directory   the number of this directory: the incarnation of its first start
    since       partitions from this id on were made when this directory was in use; None: not known yet
    """

    def __init__(
        self,
        node_id: str,
        directory: int,
        save: Callable[[bytes], None],
        since: int | None = None,
        peers: dict[str, int] | None = None,
        vouching: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.since = since
        self._node_id = node_id
        self._save = save
        self._peers = dict(peers or {})
        self._vouching = set(vouching)

    @staticmethod
    def read(node_id: str, data: bytes, save: Callable[[bytes], None]) -> Roster:
        """Raises ValueError for what is not a roster."""
        facts = json.loads(data)
        if not isinstance(facts, dict) or facts.get("format") != ROSTER_FORMAT:
            raise ValueError("not a roster of this format")
        try:
            return Roster(node_id, facts["directory"], save, facts["since"], facts["peers"], facts["vouching"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"a roster without {error}") from error

    def save(self) -> None:
        facts: dict[str, Any] = {
            "format": ROSTER_FORMAT,
            "directory": self.directory,
            "since": self.since,
            "peers": self._peers,
            "vouching": sorted(self._vouching),
        }
        self._save(json.dumps(facts, sort_keys=True).encode() + b"\n")

    def known(self, peer: str) -> int:
        """The directory that the peer was first known by, 0 before it was ever met."""
        return self._peers.get(peer, 0)

    def meet(self, peer: str, directory: int, knows: int) -> bool:
        """The peer's introduction: its own directory, and the one that it knows this node by. Durable on return.
        False: it knew this node by another directory."""
        vouches = knows in (0, self.directory)
        if peer not in self._peers or vouches > (peer in self._vouching):
            self._peers.setdefault(peer, directory)
            if vouches:
                self._vouching.add(peer)
            self.save()
        return vouches

    def trusted(self, partition: int, voters: Sequence[str]) -> bool:
        """True when no other directory of this node ever took part in a partition with these voters."""
        made_since = self.since is not None and partition >= self.since
        return made_since or all(voter in self._vouching for voter in voters if voter != self._node_id)

    def settle(self, next_partition: int) -> None:
        """Every partition that this node's earlier directories may have held has an id below this one."""
        if self.since is None:
            self.since = next_partition
            self.save()
