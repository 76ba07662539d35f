"""Messages between nodes, and the first message of every stream. One immutable class each, as in
geodyne.messages; sizes in bytes, times in milliseconds unless the name says otherwise."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A Raft log entry. `payload` is a serialised geodyne.log.v1.EntryPayload; empty for a new leader's first entry."""

    index: int  # type: ignore[assignment]  # shadows tuple.index
    term: int
    payload: bytes


class Heartbeat(NamedTuple):
    """Liveness of a whole node, for all its groups (node.raft.liveness).

    `sent_at_ms` is the sender's lease clock and comes back unchanged in the acknowledgement.
    """

    incarnation: int
    sent_at_ms: int


class HeartbeatAck(NamedTuple):
    """`support_epoch` grows whenever the acknowledging node withdraws its support from the other in any group.

    `wall_us` is its wall clock when this left, `held_ms` for how long it had held it until then (node.clocks); 0 when
    it comes from a version that did not tell.
    """

    incarnation: int
    sent_at_ms: int
    support_epoch: int
    wall_us: int = 0
    held_ms: int = 0


class VoteRequest(NamedTuple):
    group: int
    term: int
    last_index: int
    last_term: int
    pre: bool
    transfer: bool  # the old leader asked for it: leases do not stand in the way


class Vote(NamedTuple):
    group: int
    term: int
    granted: bool
    pre: bool
    resigned: bool = False  # the sender leads neither this term nor an earlier one, and never will again


class Append(NamedTuple):
    group: int
    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    admits: int = 0  # the incarnation of a newcomer that is a member of the group from here on


class Appended(NamedTuple):
    """`match` is the last index known to equal the leader's log, or (rejected) where to try next, with the
    follower's term there. Of a `newcomer` (node.raft.core) it counts towards nothing."""

    group: int
    term: int
    success: bool
    match: int
    conflict_term: int
    incarnation: int
    support_epoch: int
    newcomer: bool = False


class TimeoutNow(NamedTuple):
    group: int
    term: int


class SnapshotChunk(NamedTuple):
    """Part `number` of a snapshot of the group's state at (index, term). The last part is empty and `done`.

    `data` is opaque to consensus (node.storage.snapshots). The receiver acknowledges each part.
    """

    group: int
    term: int
    snapshot_index: int
    snapshot_term: int
    number: int
    data: bytes
    done: bool


class SnapshotAck(NamedTuple):
    """`number` is the next part expected; `installed` says that the snapshot is durable and in use;
    `refused` that it is not wanted (the receiver is further on, or has another leader)."""

    group: int
    term: int
    snapshot_index: int
    number: int
    installed: bool
    refused: bool
    incarnation: int
    support_epoch: int


class Leads(NamedTuple):
    """The partitions that the sending node leads: (partition, term, definition revision applied)."""

    version: int
    leads: tuple[tuple[int, int, int], ...]


class Introduction(NamedTuple):
    """First message between two nodes after the Hello: which data directory the sender has, and which one it first
    knew the receiver by (0: none before this stream). What is promised is tied to a directory (node.storage.roster).
    `incarnation` is the newest that the sender has seen of the receiver's node: nothing counts that an older one says.
    0: it comes from a version that did not tell."""

    directory: int
    knows: int
    incarnation: int = 0


class SnapshotWanted(NamedTuple):
    """To the leader: the sender's replica is damaged and can be healed by a snapshot only."""

    group: int
    term: int


class ScrubDigest(NamedTuple):
    """To the leader: the digest of what the replica held at the entry `index` that asked for it. From the leader, with
    `differs`: the majority of the replicas has another one."""

    group: int
    index: int  # type: ignore[assignment]  # shadows tuple.index
    digest: bytes
    differs: bool


RaftMessage = VoteRequest | Vote | Append | Appended | TimeoutNow
PeerMessage = (
    Heartbeat
    | HeartbeatAck
    | VoteRequest
    | Vote
    | Append
    | Appended
    | TimeoutNow
    | SnapshotChunk
    | SnapshotAck
    | Leads
    | Introduction
    | SnapshotWanted
    | ScrubDigest
)


class Hello(NamedTuple):
    """First message in each direction of every stream; another cluster, or no format in common, closes it with a clear
    error. The process speaks the formats from `oldest` (0: only `format`) to `format`; a stream is of the newest one
    that both its ends speak."""

    cluster_id: str
    region: str
    process_id: str
    incarnation: int
    format: int
    oldest: int = 0
