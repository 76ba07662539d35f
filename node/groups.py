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
from node.raft.effects import HardState
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from node.raft.settings import Settings as RaftSettings
from node.state import GroupState
from node.storage.port import GroupLog, RecoveredGroup, StoredGroup
from node.storage.sqlite import StateStore
from node.window import Window

logger = logging.getLogger("geodyne.node")


class StateLost(Exception):
    """The log of a partition begins after a point that the state database does not reach: the replica cannot be
    trusted. Hint: remove this node's data directory, so that it is rebuilt from the other zones."""


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
        state, window, log = self._recovered(partition, epoch)
        raft = self._consensus(partition, voters, learners, log, state)
        group = Group(partition, raft, self._store, state, window, self._region, self._collection_bytes_max)
        self._groups[partition] = group
        self.adopted(group)

    def _recovered(self, partition: int, epoch: int) -> tuple[GroupState, Window, RecoveredGroup]:
        stored = self._stored.pop(partition, None)
        log = self._logs.pop(partition, None)
        if stored is None:
            if log is not None and log.offset_index > 0:
                raise StateLost(
                    f"partition {partition}: the log begins at {log.offset_index + 1}, the state is missing"
                )
            state = GroupState(epoch)
            self._store.create(partition, state.to_bytes())
            return state, Window(), log or RecoveredGroup((0, ""), 0, 0, [])
        state = GroupState.from_bytes(stored.state)
        if log is None or not _reaches(log, state.applied_index, state.applied_term):
            # A snapshot was installed and the log not yet reset when the process ended: the snapshot is durable. A
            # log that has another entry there belongs to a leader that was overruled, with all that follows it.
            term, vote = log.hard_state if log is not None else (0, "")
            hard_state = (term, vote) if term >= state.applied_term else (state.applied_term, "")
            log = RecoveredGroup(hard_state, state.applied_index, state.applied_term, [])
            self._log.reset(partition, state.applied_index, state.applied_term)
        if log.offset_index > state.applied_index:
            raise StateLost(
                f"partition {partition}: the log begins at {log.offset_index + 1}, "
                f"the state ends at {state.applied_index}"
            )
        return state, _window(stored, state, log), log

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
