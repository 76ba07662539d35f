"""What the core of a group asks its shell to do, and in which order."""

from __future__ import annotations

from typing import NamedTuple

from geodyne.peermessages import Entry, RaftMessage

FORGOTTEN = "?"  # no node's id: whom a newcomer voted for, and in which terms, was lost with its disk


class HardState(NamedTuple):
    """What a replica must never forget: its term, and whom it voted for in it ("" for nobody). A vote FORGOTTEN
    marks a newcomer, in every term, until it is a member."""

    term: int
    vote: str


class Effects(NamedTuple):
    """Everything since the last call. The shell must:

    1. send `before` at once: these messages promise nothing that this node's disk does not hold yet;
    2. make `hard_state` (when given) and `entries` durable, in one write, after all earlier ones; the disk's log is
       first cut from entries[0].index on;
    3. only then send `after`, and call `Raft.persisted` with the last entry's index and term. A crash between
       must lose either the messages or nothing: an `after` message is a promise that outlives this process;
    4. apply entries up to `committed_to`. The state must not become durable ahead of the log unless recovery
       resets the log to the state's position;
    5. for each peer in `need_snapshot`, send a snapshot and report `snapshot_sent` or `snapshot_failed` once.

    `before` and `after` may each be sent later than a following call's; the order within each must be kept for
    every peer. `role_changed`: role, term or known leader differ from the last call. `configuration_changed`: another
    configuration is in force, or the one in force is known to be committed now.
    """

    hard_state: HardState | None
    entries: tuple[Entry, ...]
    before: tuple[tuple[str, RaftMessage], ...]
    after: tuple[tuple[str, RaftMessage], ...]
    committed_to: int
    need_snapshot: tuple[str, ...]
    role_changed: bool
    configuration_changed: bool = False
