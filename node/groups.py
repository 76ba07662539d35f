"""The replicas that a node holds: recovered from disk, created and destroyed as the catalog says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from random import Random

from geodyne.catalog import PartitionRecord
from geodyne.limits import ITEM_COLLECTION_BYTES_MAX
from geodyne.messages import METADATA_PARTITION
from geodyne.peermessages import Vote, VoteRequest
from geodyne.ports import Clock
from node.entries import decode
from node.group import Backlog, Group
from node.raft.configuration import Configuration, Configurations
from node.raft.core import Raft
from node.raft.effects import FORGOTTEN, HardState
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from node.raft.settings import Settings as RaftSettings
from node.raft.support import resignation
from node.state import GroupState
from node.storage.port import GroupLog, RecoveredGroup, StateFailed, StorageError, StoredGroup, WalFailed
from node.storage.roster import Roster
from node.storage.sqlite import StateStore
from node.window import Window

logger = logging.getLogger("geodyne.node")


class StateLost(Exception):
    """The log of a partition begins after a point that the state database does not reach, and there is no other
    replica to heal from."""


class Groups:
    """All replicas by partition id. `adopted` and `dropped` tell the service, and so does `freed`: a replica that was
    to be held again while the one before it was still going can be held now. `failed`: the state took no write when
    the log had become durable, so outside of any turn."""

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
        self._given_up: set[int] = set()  # of partitions that live elsewhere, or no more; a mark in the log is left
        self._no_more: dict[int, int] = {}  # of those: up to where the catalog was applied when that was known
        self._going: set[int] = set()  # of those, whose rows are not off the disk yet
        self._awaited: set[int] = set()  # of those, that the catalog assigns to this node again
        self._collection_bytes_max = collection_bytes_max
        self.backlog = Backlog()
        self._groups: dict[int, Group] = {}
        self._stored: dict[int, StoredGroup] = {}
        self._logs: dict[int, RecoveredGroup] = {}
        self.lingering = False  # some replica is here although the catalog has it elsewhere: it cannot go yet
        self.adopted: Callable[[Group], None] = _nothing
        self.dropped: Callable[[Group], None] = _nothing
        self.freed: Callable[[], None] = _none
        self.failed: Callable[[StorageError], None] = _raised

    def recover(self, logs: Mapping[int, RecoveredGroup], stored: Mapping[int, StoredGroup]) -> None:
        """Take over what is on disk; a replica comes to life when the catalog assigns it (`hold`)."""
        self._logs = dict(logs)
        self._stored = dict(stored)
        self._given_up = {p for p, log in logs.items() if _is_mark(log) and p not in stored}

    def stored_state(self, partition: int) -> GroupState | None:
        """What `recover` found of a partition's state."""
        stored = self._stored.get(partition)
        return GroupState.from_bytes(stored.state) if stored is not None else None

    def get(self, partition: int) -> Group | None:
        return self._groups.get(partition)

    def given_up(self, partition: int) -> bool:
        """A replica was here that lives on elsewhere, and none is here yet that takes its place."""
        return partition in self._given_up

    def resigned(self, request: VoteRequest) -> Vote | None:
        """The answer of a replica that was given up to a request for a pre-vote: whoever asks may still support the
        leader that it was (node.raft.support). None to any other request."""
        mark = self._logs.get(request.group) if request.group in self._given_up else None
        return resignation(request.group, mark.hard_state[0]) if mark is not None and request.pre else None

    def __iter__(self) -> Iterator[Group]:
        return iter(list(self._groups.values()))

    def __len__(self) -> int:
        return len(self._groups)

    def hold(
        self, partition: int, epoch: int, voters: Sequence[str], learners: Sequence[str] = (), *, original: bool = True
    ) -> None:
        """Bring a replica to life, from disk or new; nothing if it lives.

        `voters` and `learners` as the catalog has them: what consensus begins with, unless the log or the state know
        better. `original`: the partition was made with this node among its voters. Any other replica without a log is
        a newcomer, whatever the roster says: this very directory may have held, and given up, another one before."""
        if partition in self._groups:
            return
        if partition in self._going:  # what was here is being taken off the disk
            self._awaited.add(partition)
            return
        state, window, log = self._recovered(partition, epoch, voters, original)
        raft = self._consensus(partition, voters, learners, log, state)
        bound, backlog = self._collection_bytes_max, self.backlog
        group = Group(partition, raft, self._store, state, window or Window(), self._region, bound, backlog)
        if window is None:
            group.distrust("the deduplication window")
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
        self, partition: int, epoch: int, voters: Sequence[str], original: bool
    ) -> tuple[GroupState, Window | None, RecoveredGroup]:
        """Without a log nothing says what this node promised here: a newcomer, unless it promised nothing. No window:
        what it lacks was in a log that is gone, and only the whole state of another replica can replace it."""
        stored = self._stored.pop(partition, None)
        log = self._logs.pop(partition, None)
        self._given_up.discard(partition)
        if log is not None and log.hard_state == (0, "") and not log.entries and not log.offset_index:
            log = None  # a killed start left its name and nothing else: no promise is written there
        unknown_vote = "" if original and self._roster.trusted(partition, voters) else FORGOTTEN
        if log is None and not original:
            self._log.set_hard_state(partition, 0, FORGOTTEN)  # it stays one, whatever the catalog comes to say
        elif log is None and unknown_vote == FORGOTTEN:
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
            if log is None or log.hard_state != hard_state:
                self._log.set_hard_state(partition, *hard_state)  # else a later start would take it for a voter
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
        return Raft(
            node_id=self._node_id,
            group=partition,
            configuration=state.configuration or Configuration(tuple(voters), (), tuple(learners)),
            configuration_index=state.configuration_index,
            hard_state=HardState(*recovered.hard_state),
            log=log,
            applied_index=state.applied_index,
            liveness=self._liveness,
            settings=self._settings,
            random=Random(self._random.getrandbits(64)),
            now_ms=self._clock.lease_ms(),
        )

    def drop_all_but(self, held: Container[int], records: Mapping[int, PartitionRecord], next_partition: int) -> None:
        """Destroy the replicas that the catalog no longer has here: `held` are the partitions that it has here,
        `records` all that there are. Ids are never used again, so an unknown one below `next_partition` is gone for
        good; one above it belongs to a catalog that this node has yet to see."""
        known = dict.fromkeys((*self._groups, *self._stored, *self._logs))
        self.lingering = False
        for partition in known:
            if partition == METADATA_PARTITION or partition in held or partition >= next_partition:
                continue
            record = records.get(partition)
            if record is None and partition not in self._no_more:
                self._no_more[partition] = self._catalog_applied()
            if partition in self._given_up:
                continue
            if record is None or self._may_give_up(partition, record):
                self._give_up(partition)
            else:
                self.lingering = True

    def forget_marks(self) -> None:
        """Now and then, after the log was cut: no mark is needed of a partition that is no more once the log of the
        catalog begins beyond that. Whatever this node loses but its disk, its catalog will not name the partition."""
        catalog = self._groups.get(METADATA_PARTITION)
        if catalog is None:
            return
        begins = catalog.raft.log.offset_index
        for partition in [one for one, index in self._no_more.items() if index <= begins and one not in self._going]:
            del self._no_more[partition]
            self._given_up.discard(partition)
            self._logs.pop(partition, None)
            self._log.destroy(partition)

    def _catalog_applied(self) -> int:
        catalog = self._groups.get(METADATA_PARTITION)
        return catalog.state.applied_index if catalog is not None else 0

    def _may_give_up(self, partition: int, record: PartitionRecord) -> bool:
        """Not while it leads: others would wait for it. And not when it knows of a later configuration than the
        catalog, in which it votes: the catalog will say so too, or show another one that rules it out."""
        if partition not in self._groups and self._may_know_more(partition, record):
            self.hold(partition, record.epoch, record.voters, original=False)  # only a living replica is told more
        group = self._groups.get(partition)
        if group is None:
            return True
        raft = group.raft
        later = raft.configuration_index > record.configuration and self._node_id in raft.configuration.voting
        return not group.leading and not (later and _goes_on_from(raft.log, record))

    def _may_know_more(self, partition: int, record: PartitionRecord) -> bool:
        """Whether what was recovered of a replica that the catalog does not have here holds a later configuration."""
        state, log = self.stored_state(partition), self._logs.get(partition)
        if log is None or state is None:
            return False
        settled = state.configuration or Configuration(record.voters)
        known = Configurations(state.configuration_index, settled, log.entries)
        return known.index > record.configuration and self._node_id in known.configuration.voting

    def _give_up(self, partition: int) -> None:
        """The replica lives on other nodes, or nowhere. What it promised is forgotten with it, and that is written
        down: should it come back to this node, it is a newcomer, even if this node then starts with an older catalog:
        a power cut may take back what the state had applied, but nothing of the log."""
        group, log = self._groups.get(partition), self._logs.get(partition)
        term = group.raft.term if group is not None else log.hard_state[0] if log is not None else 0
        self._let_go(partition)
        self._log.set_hard_state(partition, term, FORGOTTEN)  # first: a torn write may leave it, never an empty voter
        self._log.reset(partition, 0, 0)
        self._logs[partition] = RecoveredGroup((term, FORGOTTEN), 0, 0, [])
        self._given_up.add(partition)
        self._going.add(partition)
        self._when_durable(lambda: self._gone(partition))

    def _gone(self, partition: int) -> None:
        self._store.destroy(partition)
        self._going.discard(partition)
        if partition in self._awaited:
            self._awaited.discard(partition)
            self.freed()

    def _when_durable(self, change: Callable[[], None]) -> None:
        """Change the state once the log holds what has been written to it. Nothing is raised into the log: whoever
        waits for the same fsync would never be told."""

        def durable() -> None:
            try:
                change()
            except (WalFailed, StateFailed) as error:
                self.failed(error)

        self._log.sync(durable)

    def _let_go(self, partition: int) -> None:
        logger.info("replica dropped", extra={"partition": partition})
        self._stored.pop(partition, None)
        self._logs.pop(partition, None)
        self._unproved.discard(partition)
        group = self._groups.pop(partition, None)
        if group is not None:
            self.dropped(group)


def _is_mark(log: RecoveredGroup) -> bool:
    """It is all that a replica leaves behind that was given up."""
    return log.hard_state[1] == FORGOTTEN and not log.offset_index and not log.entries


def _goes_on_from(log: RaftLog, record: PartitionRecord) -> bool:
    """False when the log has another entry where the configuration was committed that the catalog shows: whatever it
    has beyond that will never be."""
    index, term = record.configuration, record.configuration_term
    return not term or index <= log.offset_index or log.holds(index, term)


def _reaches(log: RecoveredGroup, index: int, term: int) -> bool:
    """The log goes through the entry (index, term), or begins beyond it."""
    if index <= log.offset_index:
        return index < log.offset_index or term == log.offset_term
    position = index - log.offset_index - 1
    return position < len(log.entries) and log.entries[position].term == term


def _window(stored: StoredGroup, state: GroupState, log: RecoveredGroup) -> Window | None:
    """The window as saved, brought up to the applied index from the log (which is kept from the window's index on)."""
    if stored.window_index < min(log.offset_index, state.applied_index):
        return None
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


def _none() -> None:
    return None


def _raised(error: StorageError) -> None:
    raise error
