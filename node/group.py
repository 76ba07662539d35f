"""One replica of one partition: the consensus core, the images in flight, and what the log has led to.

The group decides and remembers; it neither waits, sends nor writes. `node.service` drives it: hands it calls, performs
the effects of its consensus core, and asks it what to apply.

Must hold:
- Calls are evaluated only by a leader that has committed an entry of its own term; older entries are applied by then,
  so the newest image of a key is in the overlay or in SQLite.
- An answer that rests on an uncommitted image waits until that image commits. An answer that rests on committed state
  only (reads, refusals) is given after the lease has been checked, later than the state was looked at.
- When leadership ends, what was proposed and not committed is unknown to the asker; the overlay goes with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from geodyne.ledger import CONFLICT
from geodyne.limits import ITEM_COLLECTION_BYTES_MAX
from geodyne.messages import (
    INDEX_FENCED,
    AdvanceCursor,
    Answer,
    Applied,
    ApplyChanges,
    ApplyIndex,
    Busy,
    Found,
    Get,
    IndexEntry,
    NotLeader,
    Refused,
    Response,
    Unknown,
    Write,
    WriteId,
    Written,
)
from geodyne.model import version as versions
from geodyne.wire import log_v1_pb2 as log
from node.applying import AppliedBatch, Outcome
from node.catalog.machine import Changes
from node.engine.localindexes import LocalIndexes
from node.engine.writemode import expires_here
from node.engine.writes import Verdict, evaluate
from node.entries import Decided, Effect, EntryBuilder, decode, promising
from node.feed import conflicts
from node.indexes.sources import BatchStanding, Sources, after, news, standing
from node.itemcollections import ItemCollections
from node.overlay import Overlay
from node.raft.change import Step
from node.raft.core import Raft, Role
from node.state import SEQUENCE_SHIFT, Definition, GroupState, outdated, put_source, still_arrived
from node.storage.port import GroupUpdate, Row
from node.storage.sqlite import StateStore
from node.transactions.participant import Participant
from node.transactions.state import PreparedItem
from node.window import Standing, Window

ENTRY_BYTES_MAX = 512 * 1024  # an entry is closed once it holds this much; one item may exceed it
ENTRY_EFFECTS_MAX = 4096  # positions in an entry must fit SEQUENCE_SHIFT bits
UNCOMMITTED_BYTES_MAX = 64 * 1024 * 1024
UNCOMMITTED_BYTES_OF_NODE_MAX = 256 * 1024 * 1024  # of all groups that this node leads
PARKED_MAX = 10_000
NO_VERSION = b""  # of the entries of a global index: no two of them are ever compared
APPLY_EFFECTS_MAX = 256  # a turn's share of applying: about 2 ms of SQLite

assert ENTRY_EFFECTS_MAX < 1 << SEQUENCE_SHIFT


class Asker(NamedTuple):
    """Where an answer goes."""

    reply: Callable[[Response], None]
    id: int

    def answer(self, answer: Answer) -> None:
        self.reply(Response(self.id, answer))


class Backlog:
    """What all groups of a node together have proposed and not applied yet."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Group:
    """A replica. Any method may leave effects in its consensus core for the driver to perform."""

    def __init__(
        self,
        partition: int,
        raft: Raft,
        store: StateStore,
        state: GroupState,
        window: Window,
        region: str,
        collection_bytes_max: int = ITEM_COLLECTION_BYTES_MAX,
        backlog: Backlog | None = None,
    ) -> None:
        self.partition = partition
        self.raft = raft
        self.state = state
        self.window = window
        self.serving = False  # leader, and ready to evaluate
        self._backlog = backlog or Backlog()
        self._uncommitted_bytes = 0
        self._region = region.encode("ascii")
        self._store = store
        self._overlay = Overlay()
        self._builder: EntryBuilder | None = None
        self._undivided = False  # what is being added belongs into one entry
        self._decided: deque[Decided] = deque()  # own proposals, not yet applied, in log order
        self._sources = Sources()
        self._in_flight: dict[tuple[int, int], tuple[int, Written]] = {}  # write id -> (index, answer), not applied
        self._waiting: dict[int, list[tuple[Asker, Answer]]] = {}  # index -> answers that its commit releases
        self._answered_to = raft.commit_index
        self._arrived: dict[str, int] = {}  # GroupState.arrived, as of the log's end, while serving
        self._promised_us = 0  # the newest that was logged under this leadership
        self._last_us = 0  # newest version made or applied; the leader's own until applied
        self._reads: list[tuple[Asker, Answer]] = []  # looked up this turn, not yet confirmed by the lease
        self._unconfirmed: deque[tuple[int, list[tuple[Asker, Answer]]]] = deque()  # (since ms, reads)
        self.peers = frozenset(raft.configuration.members) - {raft.node_id}
        self.parked: deque[Callable[[], None]] = deque()  # calls that came before the leader was ready
        self._marker_proposed = -1
        self._definition = state.definition  # in force at the log's end, while serving: a marker binds what follows it
        self._local = self.local_indexes = LocalIndexes.of(state.definition)  # of that one, and of what is applied
        self._collections = ItemCollections(partition, store, collection_bytes_max)
        self.reported_revision = -1  # definition revision last told to the others
        self.handing_over = False
        self.participant = Participant(self)
        self.feed_full = False  # the indexes are too far behind for more changes
        self.promises = False  # every node of the region knows what EntryPayload.safe_us means
        self.frozen = 0  # how many snapshots are being begun or installed: while any is, nothing is applied
        self.damaged = ""  # what of the state is; then nothing is answered from it until a snapshot has replaced it

    # --- leadership -------------------------------------------------------------------------------------

    @property
    def uncommitted_bytes(self) -> int:
        """Proposed by this leader and not applied yet."""
        return self._uncommitted_bytes

    @uncommitted_bytes.setter
    def uncommitted_bytes(self, count: int) -> None:
        self._backlog.bytes += count - self._uncommitted_bytes
        self._uncommitted_bytes = count

    @property
    def leading(self) -> bool:
        return self.raft.role is Role.LEADER

    def not_leader(self) -> NotLeader:
        return NotLeader(self.partition, self.raft.leader)

    def role_changed(self) -> None:
        """Called by the driver after any effect that changed the role or the readiness."""
        if not self.leading:
            self.handing_over = False
            self._stop_serving()
        elif self.raft.ready_to_serve and not self.serving and not self.handing_over:
            if self.damaged or not self._catch_up() or self.damaged:
                return  # the driver asks again when there is more to apply
            self._last_us = self.state.last_us
            self._promised_us = self.state.safe_us
            self._arrived = dict(self.state.arrived)
            self._marker_proposed = self.state.definition.revision
            self._bind(self.state.definition)
            self.serving = True
            self.participant.begin()
            parked, self.parked = self.parked, deque()
            for call in parked:
                call()

    def hand_over(self, to: str, now_ms: int) -> bool:
        """Give leadership to another voter; nothing is evaluated here from now on."""
        self.seal()
        if not self.raft.transfer(to, now_ms):
            return False
        self.handing_over = True
        self.serving = False
        return True

    def change_members(self, voters: Sequence[str], learners: Sequence[str], number: int, now_ms: int) -> Step:
        """On the serving leader: the next step to a group of these members; see Raft.change_members."""
        self.seal()  # an entry under construction has the next index already
        return self.raft.change_members(voters, learners, number, now_ms=now_ms)

    def configuration_changed(self) -> None:
        """Called by the driver when the consensus group has other members."""
        self.peers = frozenset(self.raft.configuration.members) - {self.raft.node_id}

    def _catch_up(self) -> bool:
        """Apply everything committed. False when that is not possible yet: the group is frozen, or its own log lacks
        what the others hold."""
        while self.behind:
            batch = self.take_applied(APPLY_EFFECTS_MAX)
            assert batch is not None
            self.catch_up_sink(batch)
        return self.state.applied_index >= self.raft.commit_index

    catch_up_sink: Callable[[AppliedBatch], None]  # set by the driver: performs a batch at once

    def _stop_serving(self) -> None:
        self.serving = self.feed_full = False
        self._builder = None
        self.participant.end()
        self._overlay.clear()
        self._collections.clear()
        self._decided.clear()
        self._in_flight.clear()
        self._sources.clear()
        self.uncommitted_bytes = 0
        waiting, self._waiting = self._waiting, {}
        for index in sorted(waiting):
            for asker, answer in waiting[index]:
                # A refusal had no effect. Anything else may have been logged, and may yet be committed by another.
                refused = isinstance(answer, Refused)
                asker.answer(self.not_leader() if refused else Unknown(self.partition, self.raft.leader))
        reads = [*self._reads, *(read for _, batch in self._unconfirmed for read in batch)]
        self._reads = []
        self._unconfirmed.clear()
        for asker, _ in reads:
            asker.answer(self.not_leader())
        parked, self.parked = self.parked, deque()
        for call in parked:
            call()

    def admit(self, asker: Asker, again: Callable[[], None]) -> bool:
        """Whether a call for the leader can run now. If not, it has been answered or parked (`again` runs it later)."""
        if self.serving and self.leading:  # a message of this very turn may have ended the leadership
            if self._uncommitted_bytes > UNCOMMITTED_BYTES_MAX or self._backlog.bytes > UNCOMMITTED_BYTES_OF_NODE_MAX:
                asker.answer(Busy("too many uncommitted bytes"))
                return False
            return True
        if self.leading and len(self.parked) < PARKED_MAX:
            self.parked.append(again)
        else:
            asker.answer(self.not_leader())
        return False

    # --- calls, on the serving leader -------------------------------------------------------------------

    def write(self, call: Write, write_id: WriteId | None, asker: Asker, wall_us: int) -> None:
        """Evaluate a write and add its effect to the entry of this turn."""
        if write_id is not None and self._answered_before(write_id, asker):
            return
        key = call.key
        if self.participant.locks and self.participant.blocks(key):
            self._reads.append((asker, CONFLICT))
            return
        prior, verdict, collection, rests_on = self.judge(call)
        if not verdict.changed:
            self._answer_after(rests_on, asker, verdict.answer)
            return
        outcome = verdict.answer
        assert isinstance(outcome, Written)
        version = versions.make(self._next_us(wall_us, prior), self._region)
        if verdict.image is not None:
            row: Row | None = Row(verdict.image, version, verdict.size)
        else:
            row = Row(None, version, 0) if self._definition.tombstones else None
        index = self._add(key, row, version, prior, write_id, outcome, wall_us, collection)
        self._waiting.setdefault(index, []).append((asker, outcome))

    def newest(self, key: bytes) -> tuple[int, Row | None]:
        """The newest row of a key, committed or not, and the log index that makes it so (0: applied)."""
        pending = self._overlay.newest(key)
        return pending if pending is not None else (0, self._store.get(self.partition, key))

    def judge(self, call: Write) -> tuple[Row | None, Verdict, int, int]:
        """What a write comes to: the row it was judged by, the verdict, the size of the item collection after it (-1:
        not known) and the log index that the verdict rests on."""
        rests_on, prior = self.newest(call.key)
        verdict = evaluate(call, prior, self._definition.indexes, self._definition.writes)
        if not self._definition.indexes:
            return prior, verdict, -1, rests_on
        judged = self._collections.judge(self._definition, self._local, call, prior, verdict)
        return prior, judged.verdict, judged.collection_bytes, max(rests_on, judged.index)

    def _answered_before(self, write_id: WriteId, asker: Asker) -> bool:
        in_flight = self._in_flight.get((write_id.router, write_id.sequence))
        if in_flight is not None:
            self._answer_after(in_flight[0], asker, in_flight[1])
            return True
        known = self.window.lookup(write_id)
        if known is Standing.NEW:
            return False
        if known is Standing.FINISHED:
            asker.answer(Unknown(self.partition, self.raft.leader))
        else:
            assert isinstance(known, Written)
            self._reads.append((asker, known))
        return True

    def apply_changes(self, call: ApplyChanges, asker: Asker, wall_us: int) -> None:
        """Take over another region's changes where they are newer than what is here."""
        if self.participant.locks and any(self.participant.blocks(change.key) for change in call.changes):
            # Conditions of the transaction rest on the item as it is. The sender comes back.
            asker.answer(Busy("a transaction is ongoing for one of the items"))
            return
        newest_index = 0
        applied = 0
        for change in call.changes:
            index, prior = self.newest(change.key)
            newest_index = max(newest_index, index)
            if outdated(change, prior, self._arrived):
                continue
            row = Row(change.image, change.version, change.size)
            defined = self._definition
            lost = conflicts.loss(change, prior, self._region, bool(defined.ttl)) if defined.conflicts else None
            newest_index = self._add(change.key, row, change.version, prior, None, None, wall_us, lost=lost)
            applied += 1
        self._answer_after(newest_index, asker, Applied(applied))

    def collect(self, going: Sequence[tuple[bytes, bytes]], arrived: Sequence[tuple[str, int]], wall_us: int) -> None:
        """On the serving leader: log that these tombstones (key, version), which stand, go (node.feed.tombstones)."""
        self.seal()
        builder = self._open(wall_us)
        for region, us in arrived:
            builder.payload.arrived.add(region=region, us=us)
            self._arrived[region] = max(us, self._arrived.get(region, 0))
        for key, version in going:
            builder.payload.collected.add(key=key, version=version)
            self._overlay.put(key, builder.index, None)
        self.seal()  # this is no turn

    def apply_index(self, call: ApplyIndex, asker: Asker, wall_us: int) -> None:
        """Take over what a partition of the table has for this partition of its global index."""
        index, known = self._sources.newest(self.state, call.source)
        match standing(call, known):
            case BatchStanding.FENCED:
                self._answer_after(index, asker, Refused(INDEX_FENCED, "a later leader of the partition was heard"))
            case BatchStanding.REPEATED:
                self._answer_after(index, asker, Applied(0))
            case BatchStanding.NEWS:
                count = sum([self._apply_index_entry(entry, wall_us) for entry in news(call, known)])
                # The mark comes last: while only the entries before it are in the log, the batch is not taken.
                builder = self._open(wall_us)
                taken = after(call, known)
                put_source(builder.payload.sources, call.source, taken)
                builder.size += 64
                self._sources.took(call.source, builder.index, taken)
                self._waiting.setdefault(builder.index, []).append((asker, Applied(count)))

    def _apply_index_entry(self, entry: IndexEntry, wall_us: int) -> bool:
        """True when it changes the index."""
        _, prior = self.newest(entry.key)
        if (prior.value if prior is not None else None) == entry.image:
            return False
        row = Row(entry.image, NO_VERSION, entry.size) if entry.image is not None else None
        self._add(entry.key, row, NO_VERSION, prior, None, None, wall_us)
        return True

    @property
    def expires_by(self) -> str:
        """While serving: the attribute that tells when items expire, "" if none goes here; as of the log's end."""
        return self._definition.deletes_by

    def expires_here(self, row: Row) -> bool:
        """Whether the table's write mode has this region delete an item whose time has come."""
        return expires_here(self._definition.writes, row.value)

    def foreign(self, row: Row) -> bool:
        """Whether another region of the global table made this image, and deletes it in time."""
        if self._definition.writes is not None:
            return False  # the region that may write the item deletes it, whoever made the image
        return self._definition.tombstones and versions.region(row.version).encode() != self._region

    def expire(self, key: bytes, prior: Row, wall_us: int) -> None:
        """Log the deletion of an item, as it is now, because its time has come (node.ttl)."""
        version = versions.make(versions.time_us(prior.version) + 1, self._region)
        row = Row(None, version, 0) if self._definition.tombstones else None
        self._add(key, row, version, prior, None, None, wall_us, expired=True)

    def renew(self, key: bytes, prior: Row, wall_us: int) -> int:
        """Log a row, as it is now, under a new version (node.digests); returns the entry's index."""
        version = versions.make(self._next_us(wall_us, prior), self._region)
        return self._add(key, prior._replace(version=version), version, prior, None, None, wall_us)

    def advance_cursor(self, call: AdvanceCursor, asker: Asker, wall_us: int) -> None:
        builder = self._open(wall_us)
        builder.payload.cursors.add(consumer=call.consumer, sequence=call.sequence)
        builder.size += 64
        self._waiting.setdefault(builder.index, []).append((asker, Applied(1)))

    def keep_feed(self, cursors: Sequence[log.CursorAdvance], roll: str, wall_us: int) -> None:
        """On the serving leader: log what the feed gives up, and the stream that gets a new shard ("": none)."""
        builder = self._open(wall_us)
        builder.payload.cursors.extend(cursors)
        if roll:
            builder.payload.roll.label = roll
        builder.size += 96 * (len(cursors) + 1)
        self.seal()  # this is no turn

    def promise(self, wall_us: int) -> None:
        """On the serving leader of a quiet partition: log that what it writes from now on has versions beyond this."""
        self._last_us = max(self._last_us, wall_us)
        self._open(wall_us)
        self.seal()  # this is no turn

    def change_catalog(self, revision: int, changes: Changes, wall_us: int) -> int:
        """Metadata group only: log changed records; returns the index whose commit makes them so."""
        values = [(key, None if record is None else orjson.dumps(record)) for key, record in changes]
        builder = self._open(wall_us)
        builder.payload.catalog_revision = revision
        for key, value in values:
            change = builder.payload.catalog.add(key=key)
            if value is not None:
                change.value_json = value
                builder.size += len(value)
        index = builder.index
        self.seal()
        return index

    def log_scrub(self, low: bytes, high: bytes, wall_us: int) -> int:
        """On the serving leader: have each replica digest its rows in [low, high). Returns the entry's index."""
        builder = self._open(wall_us)
        builder.payload.scrub.low, builder.payload.scrub.high = low, high
        builder.size += len(low) + len(high)
        index = builder.index
        self.seal()
        return index

    def define(self, definition: Definition, wall_us: int) -> bool:
        """Log a marker, once for each revision of the table's definition. True when that proposed an entry: the
        driver has effects to perform."""
        if not self.serving or not self.leading:  # the catalog may be applied before the end of a leadership is noticed
            return False
        if definition.revision <= max(self._marker_proposed, self.state.definition.revision):
            return False
        self.seal()  # effects before the marker were made under the old definition
        builder = self._open(wall_us)
        builder.payload.definition.CopyFrom(definition.to_wire())
        builder.size += 256
        self._last_us = max(self._last_us, wall_us)  # what was written before is told to have arrived without delay
        self._marker_proposed = definition.revision
        self._bind(definition)
        self.seal()
        return True

    def read(self, call: Get, asker: Asker) -> None:
        """A strong point read: looked up now, answered after the lease check."""
        if self.participant.locks and self.participant.take_read(call, asker):
            return
        self._reads.append((asker, self.look_up(call.key)))

    def look_up(self, key: bytes) -> Found:
        """The newest committed image on this replica."""
        pending = self._overlay.committed(key, self.raft.commit_index) if len(self._overlay) else None
        row = pending.row if pending is not None else self._store.get(self.partition, key)
        if row is None or row.value is None:
            return Found(None, 0)
        return Found(row.value, row.size)

    def answer_read(self, asker: Asker, answer: Answer) -> None:
        """Hand over an answer that was read from committed state: it goes out after the lease check."""
        self._reads.append((asker, answer))

    def _bind(self, definition: Definition) -> None:
        self._definition = definition
        self._local = LocalIndexes.of(definition)
        self._arrived = still_arrived(self._arrived, definition)

    # --- building entries --------------------------------------------------------------------------------

    def _next_us(self, wall_us: int, prior: Row | None) -> int:
        self._last_us = versions.next_time_us(wall_us, self._last_us, prior.version if prior is not None else None)
        return self._last_us

    def _open(self, wall_us: int) -> EntryBuilder:
        """The entry under construction. A turn seals it; whoever adds to it outside of a turn does so at once: a
        message of the next turn may end the leadership, and what was built could not be proposed any more."""
        builder = self._builder
        full = builder is not None and (builder.size >= ENTRY_BYTES_MAX or len(builder.effects) >= ENTRY_EFFECTS_MAX)
        if full and not self._undivided:
            self.seal()
            builder = None
        if builder is None:
            builder = self._builder = EntryBuilder(self.raft.log.last_index + 1, wall_us)
        return builder

    def _add(
        self,
        key: bytes,
        row: Row | None,
        version: bytes,
        prior: Row | None,
        write_id: WriteId | None,
        outcome: Written | None,
        wall_us: int,
        collection: int = -1,
        expired: bool = False,
        lost: log.Lost | None = None,
    ) -> int:
        """Add an effect to the entry of this turn. `collection`: the size of the item collection after it, if known."""
        builder = self._open(wall_us)
        live_before = prior is not None and prior.value is not None
        live_after = row is not None and row.value is not None
        bytes_delta = (row.size if row is not None else 0) - (prior.size if prior is not None else 0)
        old_image = prior.value if prior is not None and self._definition.old_images else None
        base = conflicts.base_of(prior, self._arrived) if self._definition.conflicts else None
        effect = Effect(key, row, version, live_after - live_before, bytes_delta, write_id, outcome)
        builder.add(effect, old_image, expired, base, lost)
        self._overlay.put(key, builder.index, row)
        if not live_after:
            self.participant.deletions.note(key)
        if self._local is not None:
            self._collections.put(self._local, key, prior, row, builder.index, collection)
        if write_id is not None and outcome is not None:
            self._in_flight[(write_id.router, write_id.sequence)] = (builder.index, outcome)
        return builder.index

    @property
    def log_end(self) -> int:
        """The index of the newest entry, the one under construction included."""
        return self._builder.index if self._builder is not None else self.raft.log.last_index

    def log_step(self, step: log.TransactionStep, changes: Sequence[PreparedItem], wall_us: int) -> int:
        """Log a step of a transaction and all that it changes, in one entry, however large; returns its index."""
        priors = [self.newest(change.key)[1] for change in changes]  # before anything is logged: it may meet damage
        for change in changes if self._local is not None else ():
            self._collections.newest(change.key)  # likewise
        builder = self._open(wall_us)
        builder.payload.transactions.append(step)
        builder.size += step.ByteSize()
        self._undivided = True
        try:
            for change, prior in zip(changes, priors, strict=True):
                version = versions.make(self._next_us(wall_us, prior), self._region)
                row = change.row(version, self._definition.tombstones)
                self._add(change.key, row, version, prior, None, None, wall_us)
        finally:
            self._undivided = False
        return builder.index

    def seal(self) -> None:
        """Propose what this turn has built."""
        builder, self._builder = self._builder, None
        if builder is None:
            return
        payload: bytes = builder.payload.SerializeToString()
        if self.promises and self._definition.tombstones and self._last_us > self._promised_us:
            builder.payload.safe_us = self._promised_us = self._last_us  # what comes next exceeds it (_next_us)
            payload = promising(self._last_us, payload)
        index = self.raft.propose(payload)
        assert index == builder.index
        self.uncommitted_bytes += len(payload)
        self._decided.append(builder.decided(index, self.raft.term, len(payload)))

    # --- answers -----------------------------------------------------------------------------------------

    def _answer_after(self, index: int, asker: Asker, answer: Answer) -> None:
        if index > self.raft.commit_index:
            self._waiting.setdefault(index, []).append((asker, answer))
        else:
            self._reads.append((asker, answer))

    def wait_for(self, index: int, asker: Asker, answer: Answer) -> None:
        self._answer_after(index, asker, answer)

    def committed(self) -> None:
        """Release the answers that the commit index has reached."""
        commit = self.raft.commit_index
        waiting = self._waiting
        if waiting:
            if commit - self._answered_to > len(waiting):
                due = sorted(index for index in waiting if index <= commit)
            else:
                due = [index for index in range(self._answered_to + 1, commit + 1) if index in waiting]
            for index in due:
                for asker, answer in waiting.pop(index):
                    asker.answer(answer)
        self._answered_to = commit

    def confirm_reads(self, now_ms: Callable[[], int]) -> bool:
        """Answer what was looked up, if the lease (read now, after the look-up) covers it. True while some must wait
        for a heartbeat round that began after they were looked up."""
        reads = self._reads
        if reads:
            self._reads = []
            now = now_ms()
            if self.leading and self.raft.lease_valid(now):
                for asker, answer in reads:
                    asker.answer(answer)
            elif self.leading:
                self._unconfirmed.append((now, reads))
            else:
                for asker, _ in reads:
                    asker.answer(self.not_leader())
        while self._unconfirmed and self.raft.confirmed_since(self._unconfirmed[0][0]):
            for asker, answer in self._unconfirmed.popleft()[1]:
                asker.answer(answer)
        return bool(self._unconfirmed)

    # --- applying ----------------------------------------------------------------------------------------

    @property
    def _appliable_index(self) -> int:
        """Committed, and durable in this node's own log: a state that were ahead of the log would, after a crash, lack
        the deduplication window's share of the entries between them."""
        return min(self.raft.commit_index, self.raft.log.persisted_index)

    @property
    def behind(self) -> bool:
        """There is something to apply, and it may be applied."""
        return self.state.applied_index < self._appliable_index and not self.frozen

    def reload(self, state: GroupState, window: Window) -> None:
        """Go on from an installed snapshot."""
        self.state = state
        self.window = window
        self.local_indexes = LocalIndexes.of(state.definition)
        self._collections.clear()
        self._answered_to = max(self._answered_to, state.applied_index)
        self._overlay.clear()
        self._decided.clear()

    def distrust(self, what: str) -> None:
        """The state is damaged: it is applied to no more, and not served from once leadership is given away."""
        self.damaged = what
        self.frozen += 1

    def trust(self) -> None:
        """The state has been replaced."""
        self.damaged = ""
        self.frozen -= 1

    def abandon(self, answer: Answer) -> None:
        """The replica is being destroyed: everybody who waits is told `answer`."""
        self.serving = False
        self.uncommitted_bytes = 0
        self.participant.abandon(answer)
        self._builder = None
        askers = [asker for waiting in self._waiting.values() for asker, _ in waiting]
        askers += [asker for asker, _ in self._reads]
        askers += [asker for _, reads in self._unconfirmed for asker, _ in reads]
        self._waiting.clear()
        self._reads.clear()
        self._unconfirmed.clear()
        for asker in askers:
            asker.answer(answer)
        parked, self.parked = self.parked, deque()
        for call in parked:  # each finds out by itself that the replica is gone
            call()

    def take_applied(self, effects_max: int) -> AppliedBatch | None:
        """Apply committed entries to the state, up to about `effects_max` effects, and say what storage must write.

        The caller writes the batch in one transaction and then calls `applied`. Deterministic: reads no clock."""
        if not self.behind:
            return None
        last = self._appliable_index
        state = self.state
        definition, local, safe_us = state.definition, self.local_indexes, state.safe_us
        outcome = Outcome()
        while state.applied_index < last and outcome.effects <= effects_max and outcome.scrub is None:
            decided = self._next_decided(state.applied_index + 1)  # what is scrubbed is what storage holds after it
            outcome.apply(state, self.window, decided)
            self._in_flight_no_more(decided)
        if state.definition is not definition:
            self.local_indexes = LocalIndexes.of(state.definition)
        indexes = self.local_indexes
        reindex = indexes is not local and (indexes is None or not indexes.same_as(local))
        feed, trim = outcome.feed, outcome.trim
        stored = state.to_bytes()
        update = GroupUpdate(self.partition, outcome.rows, feed, trim, stored, indexes, reindex, state.definition.ttl)
        fed = bool(feed) or trim is not None or outcome.shards or state.safe_us > safe_us
        return AppliedBatch(update, outcome.keys, outcome.catalog, fed, outcome.scrub, outcome.conflicts)

    def _in_flight_no_more(self, decided: Decided) -> None:
        if self._in_flight:
            for effect in decided.effects:
                if effect.write_id is not None:
                    self._in_flight.pop((effect.write_id.router, effect.write_id.sequence), None)
        if self.uncommitted_bytes:
            self.uncommitted_bytes = max(0, self.uncommitted_bytes - decided.size)

    def _next_decided(self, index: int) -> Decided:
        decided = self._decided
        while decided and decided[0].index < index:
            decided.popleft()
        if decided and decided[0].index == index:
            return decided.popleft()
        return decode(self.raft.log.entries(index, index, 0)[0])

    def applied(self, batch: AppliedBatch) -> None:
        """Storage has the batch: reads find it there."""
        for key, index in batch.applied_keys:
            self._overlay.applied(key, index)
        if self.local_indexes is not None:
            for key, index in batch.applied_keys:
                self._collections.applied(key, index)
