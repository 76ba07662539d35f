"""The replicas that a node holds: recovered from disk, created and destroyed as the catalog says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from geodyne.limits import ITEM_COLLECTION_BYTES_MAX
from geodyne.messages import METADATA_PARTITION
from geodyne.ports import Clock
from node.entries import decode
from node.group import Group
from node.raft.core import Raft
from node.raft.effects import FORGOTTEN, HardState
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from node.raft.settings import Settings as RaftSettings
from node.state import GroupState
from node.storage.port import GroupLog, RecoveredGroup, StoredGroup
from node.storage.roster import Roster
from node.storage.sqlite import StateStore
from node.window import Window

logger = logging.getLogger("geodyne.node")


class StateLost(Exception):
    """The log of a partition begins after a point that the state database does not reach, and there is no other
    replica to heal from."""


class Groups:
    """All replicas by partition id. `adopted` and `dropped` tell the service."""

    def __init__(
        self,
        *,
        node_id: str,
        region: str,
        clock: Clock,
        random: Random,
        log: GroupLog,
        store: StateStore,
        liveness: Liveness,
        settings: RaftSettings,
        roster: Roster,
        collection_bytes_max: int = ITEM_COLLECTION_BYTES_MAX,
    ) -> None:
        self._node_id = node_id
        self._region = region
        self._clock = clock
        self._random = random
        self._log = log
        self._store = store
        self._liveness = liveness
        self._settings = settings
        self._roster = roster
        self._settles_at: int | None = None
        self._unproved: set[int] = set()  # newcomers only because it is not known what this directory is
        self._collection_bytes_max = collection_bytes_max
        self._groups: dict[int, Group] = {}
        self._stored: dict[int, StoredGroup] = {}
        self._logs: dict[int, RecoveredGroup] = {}
        self.adopted: Callable[[Group], None] = _nothing
        self.dropped: Callable[[Group], None] = _nothing

    def recover(self, logs: Mapping[int, RecoveredGroup], stored: Mapping[int, StoredGroup]) -> None:
        """Take over what is on disk; a replica comes to life when the catalog assigns it (`hold`)."""
        self._logs = dict(logs)
        self._stored = dict(stored)

    def stored_state(self, partition: int) -> GroupState | None:
        """What `recover` found of a partition's state."""
        stored = self._stored.get(partition)
        return GroupState.from_bytes(stored.state) if stored is not None else None

    def get(self, partition: int) -> Group | None:
        return self._groups.get(partition)

    def __iter__(self) -> Iterator[Group]:
        return iter(list(self._groups.values()))

    def __len__(self) -> int:
        return len(self._groups)

    def hold(self, partition: int, epoch: int, voters: Sequence[str], learners: Sequence[str] = ()) -> None:
        """Bring a replica to life, from disk or new; nothing if it lives."""
        if partition in self._groups:
            return
        state, window, log = self._recovered(partition, epoch, voters)
        raft = self._consensus(partition, voters, learners, log, state)
        group = Group(partition, raft, self._store, state, window, self._region, self._collection_bytes_max)
        self._groups[partition] = group
        self.adopted(group)

    def vouched(self, now_ms: int) -> list[Group]:
        """Another node has been met: newcomers that have turned out to be none are voters now. Returns them. One that
        has lost its state, or followed a leader in an earlier process, is not among them: it needs a leader's word."""
        held = [self._groups[partition] for partition in sorted(self._unproved) if partition in self._groups]
        proved = [group for group in held if self._roster.trusted(group.partition, group.raft.voters)]
        for group in proved:
            self._unproved.discard(group.partition)
            group.raft.vouched(now_ms)
        return proved

    def settle(self, next_partition: int) -> None:
        """The catalog has been applied further. As a member of its group, with all applied that the log held at that
        time, this node knows of every partition that an earlier data directory of its can have held."""
        if self._roster.since is not None:
            return
        catalog = self._groups.get(METADATA_PARTITION)
        if catalog is None or catalog.raft.newcomer:
            return
        if self._settles_at is None:
            self._settles_at = catalog.raft.log.last_index
        if catalog.state.applied_index >= self._settles_at:
            self._roster.settle(next_partition)

    def _recovered(
        self, partition: int, epoch: int, voters: Sequence[str]
    ) -> tuple[GroupState, Window, RecoveredGroup]:
        """Without a log nothing says what this node promised here: a newcomer, unless it promised nothing."""
        stored = self._stored.pop(partition, None)
        log = self._logs.pop(partition, None)
        if log is not None and log.hard_state == (0, "") and not log.entries and not log.offset_index:
            log = None  # a killed start left its name and nothing else: no promise is written there
        unknown_vote = "" if self._roster.trusted(partition, voters) else FORGOTTEN
        if log is None and unknown_vote == FORGOTTEN:
            self._unproved.add(partition)
        if stored is None:
            state, window = GroupState(epoch), Window()
            self._store.create(partition, state.to_bytes())
            if log is not None and log.offset_index > 0:
                return state, window, self._start_over(partition, voters, log, state)
            return state, window, log or RecoveredGroup((0, unknown_vote), 0, 0, [])
        state = GroupState.from_bytes(stored.state)
        if log is None or not _reaches(log, state.applied_index, state.applied_term):
            # A snapshot was installed and the log not yet reset when the process ended: the snapshot is durable. A
            # log that has another entry there belongs to a leader that was overruled, with all that follows it.
            term, vote = log.hard_state if log is not None else (0, unknown_vote)
            if term < state.applied_term:
                term, vote = state.applied_term, FORGOTTEN if vote == FORGOTTEN else ""
            hard_state = (term, vote)
            log = RecoveredGroup(hard_state, state.applied_index, state.applied_term, [])
            self._log.reset(partition, state.applied_index, state.applied_term)
        if log.offset_index > state.applied_index:
            log = self._start_over(partition, voters, log, state)
        return state, _window(stored, state, log), log

    def _start_over(
        self, partition: int, voters: Sequence[str], log: RecoveredGroup, state: GroupState
    ) -> RecoveredGroup:
        """Between the state and the log there is a gap: go on from the state, as a newcomer. Raises StateLost."""
        gap = (
            f"partition {partition}: the log begins at {log.offset_index + 1}, the state ends at {state.applied_index}"
        )
        if not any(voter != self._node_id for voter in voters):
            raise StateLost(gap)
        logger.error("state lost; it is rebuilt from the other replicas", extra={"partition": partition, "gap": gap})
        term = max(log.hard_state[0], state.applied_term)
        self._log.set_hard_state(partition, term, FORGOTTEN)
        self._log.reset(partition, state.applied_index, state.applied_term)
        return RecoveredGroup((term, FORGOTTEN), state.applied_index, state.applied_term, [])

    def _consensus(
        self,
        partition: int,
        voters: Sequence[str],
        learners: Sequence[str],
        recovered: RecoveredGroup,
        state: GroupState,
    ) -> Raft:
        log = RaftLog(recovered.offset_index, recovered.offset_term, recovered.entries)
        rank = voters.index(self._node_id) if self._node_id in voters else len(voters)
        return Raft(
            node_id=self._node_id,
            group=partition,
            voters=tuple(voters),
            learners=tuple(learners),
            priority_rank=rank,
            hard_state=HardState(*recovered.hard_state),
            log=log,
            applied_index=state.applied_index,
            liveness=self._liveness,
            settings=self._settings,
            random=Random(self._random.getrandbits(64)),
            now_ms=self._clock.lease_ms(),
        )

    def drop_all_but(self, partitions: Mapping[int, object], next_partition: int) -> None:
        """Destroy the replicas of partitions that the catalog no longer has. Ids are never used again, so an unknown
        one below `next_partition` is gone for good; one above it belongs to a catalog that this node has yet to see."""
        known = [*self._groups, *self._stored, *self._logs]
        for partition in known:
            if partition != METADATA_PARTITION and partition not in partitions and partition < next_partition:
                self._destroy(partition)

    def _destroy(self, partition: int) -> None:
        logger.info("replica dropped", extra={"partition": partition})
        self._stored.pop(partition, None)
        self._logs.pop(partition, None)
        self._unproved.discard(partition)
        group = self._groups.pop(partition, None)
        if group is not None:
            self.dropped(group)
        self._log.destroy(partition)
        self._log.sync(lambda: self._store.destroy(partition))


def _reaches(log: RecoveredGroup, index: int, term: int) -> bool:
    """The log goes through the entry (index, term), or begins beyond it."""
    if index <= log.offset_index:
        return index < log.offset_index or term == log.offset_term
    position = index - log.offset_index - 1
    return position < len(log.entries) and log.entries[position].term == term


def _window(stored: StoredGroup, state: GroupState, log: RecoveredGroup) -> Window:
    """The window as saved, brought up to the applied index from the log (which is kept from the window's index on)."""
    window = Window.from_bytes(stored.window) if stored.window is not None else Window()
    for entry in log.entries:
        if stored.window_index < entry.index <= state.applied_index and entry.payload:
            decided = decode(entry)
            for effect in decided.effects:
                if effect.write_id is not None and effect.outcome is not None:
                    window.remember(effect.write_id, effect.outcome, decided.payload.wall_us)
            for step in decided.payload.transactions:
                window.transactions.apply(step, decided.payload.wall_us)
    return window


def _nothing(group: Group) -> None:
    return None
