"""One partition's part in transactions, as its leader sees it: locks, preparations, their ends.

Prepares are exclusive and never wait: an item that is prepared refuses every other transaction and every write until
the end of the transaction that holds it (two-phase locking without waiting). That makes transactions and single writes
strictly serializable with no clocks in it (docs/decisions/0010-transactions.md).

Must hold:
- A lock stands from the moment a preparation is proposed, before it is committed, like an image in the overlay. The end
  of a transaction frees it when the end is proposed: what is then written stands behind it in the log.
- All that a transaction does in this partition takes effect by one entry of the log.
- A strong read of an item that a held transaction writes is answered only once the ledger, asked after the read
  arrived, has said whether that transaction is decided: it may have taken effect elsewhere already.
- An attempt that is sent again is known again, whatever the clocks say: none is carried out twice.
- With leadership all of this goes; the next leader begins with what is applied.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from geodyne.ledger import CONFLICT, MISMATCH, RETAINED_US, TOO_LARGE, total_bytes
from geodyne.limits import TRANSACTION_BYTES_MAX
from geodyne.messages import (
    Applied,
    Busy,
    Finish,
    Found,
    Get,
    Image,
    Images,
    Prepare,
    PrepareRefused,
    ReadTogether,
    Refused,
    WriteKind,
    Written,
)
from geodyne.messages import Prepared as PreparedAnswer
from node.engine.writemode import ACCESS_DENIED
from node.transactions.ages import Watched
from node.transactions.deletions import Deletions
from node.transactions.state import Committed, Prepared, PreparedItem, released

if TYPE_CHECKING:
    from geodyne.messages import Answer
    from node.group import Asker, Group

RECOVER_AFTER_US = 5_000_000  # a transaction that is prepared for longer is brought to its end from the ledger
HELD_BYTES_MAX = 64 * 1024 * 1024  # of prepared images in one partition; beyond, coordinators are asked to come back
READERS_MAX = 1_000  # strong reads of one transaction's items that wait for the ledger
RELEASED_MAX = 1_024  # attempts that are known to be over, so that a late Prepare of theirs locks nothing

IN_PROGRESS = Refused("TransactionInProgressException", "Transaction from previous request is still in progress")


class Decision(Enum):
    """What the ledger says of an attempt."""

    COMMITTED = 1
    CANCELLED = 2
    OPEN = 3
    UNREACHABLE = 4  # it could not be asked


class Lock(NamedTuple):
    """On one item. `written`: the transaction changes it. `ending`: the log index of the proposed end, 0 before."""

    transaction: bytes
    written: bool
    ending: int = 0


class Reader(NamedTuple):
    asker: Asker
    key: bytes


class Participant:
    """The transactions of one partition, on its leader. `locks` is empty when there are none: all that others need
    to look at."""

    def __init__(self, group: Group) -> None:
        self.locks: dict[bytes, Lock] = {}
        self.deletions = Deletions()
        self.ask: Callable[[bytes], None] = _nothing  # set by the driver: asks the ledger, then `answer_reader`
        self._group = group
        self._held: dict[bytes, Prepared] = {}
        self._held_bytes = 0
        self._ending: dict[bytes, tuple[int, Committed | None, Prepared | None]] = {}  # proposed, by log index
        self._released: dict[tuple[bytes, int], None] = {}
        self._readers: dict[bytes, list[Reader]] = {}
        self._clocks = Watched()
        self._watched_us = 0

    # --- leadership -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The group serves from now on: everything in its log is applied."""
        self.end()
        for held in self._group.window.transactions.prepared.values():
            self._hold(held)

    def end(self) -> None:
        """The group serves no more. Whoever waits for the ledger looks for the new leader."""
        self.abandon(self._group.not_leader())
        self.locks.clear()
        self.deletions.clear()
        self._held.clear()
        self._held_bytes = 0
        self._ending.clear()
        self._released.clear()
        self._clocks = Watched()

    def abandon(self, answer: Answer) -> None:
        """Those who wait for the ledger are told `answer`."""
        readers, self._readers = self._readers, {}
        for waiting in readers.values():
            for reader in waiting:
                reader.asker.answer(answer)

    @property
    def busy(self) -> bool:
        """Something is prepared."""
        return bool(self._held)

    def overdue(self, wall_us: int) -> list[Prepared]:
        """What has been prepared for too long: nobody seems to bring it to its end."""
        return [held for held in self._held.values() if abs(wall_us - held.wall_us) >= RECOVER_AFTER_US]

    def held(self, transaction: bytes) -> Prepared | None:
        """What is prepared under that name and has not come to its end."""
        return self._held.get(transaction)

    # --- what others ask --------------------------------------------------------------------------------

    def blocks(self, key: bytes) -> bool:
        """Whether an item must not be written now."""
        lock = self.locks.get(key)
        return lock is not None and not lock.ending

    def take_read(self, call: Get, asker: Asker) -> bool:
        """Take over a strong read of an item whose transaction may be decided. False when there is none."""
        self._settle()
        lock = self.locks.get(call.key)
        if lock is None or not lock.written:
            return False
        if lock.ending:
            self._answer_reader(Reader(asker, call.key))
            return True
        waiting = self._readers.setdefault(lock.transaction, [])
        if len(waiting) >= READERS_MAX:
            asker.answer(Busy("too many reads wait for the end of a transaction"))
            return True
        waiting.append(Reader(asker, call.key))
        self.ask(lock.transaction)
        return True

    def awaited(self, transaction: bytes) -> bool:
        """Reads wait for what the ledger says of it."""
        return transaction in self._readers

    def take_readers(self, transaction: bytes) -> list[Reader]:
        """Those whom the answer of the ledger to a question that is asked from now on will serve."""
        return self._readers.pop(transaction, [])

    def told(self, transaction: bytes, attempt: int, decision: Decision, wall_us: int) -> None:
        """The ledger has answered, on the serving leader: bring the attempt to its end. Raises GroupDamaged."""
        held = self._held.get(transaction)
        if held is not None and held.attempt == attempt and decision in (Decision.COMMITTED, Decision.CANCELLED):
            self._end(held, decision is Decision.COMMITTED, wall_us)

    def answer_reader(self, reader: Reader, decision: Decision) -> None:
        """After `told`. Raises GroupDamaged."""
        if decision is Decision.UNREACHABLE and self.locks.get(reader.key) is not None:
            reader.asker.answer(Busy("the ledger of transactions cannot be reached"))
        else:
            self._answer_reader(reader)

    def _answer_reader(self, reader: Reader) -> None:
        """With the newest image, once it is committed."""
        index, row = self._group.newest(reader.key)
        found = Found(row.value, row.size) if row is not None and row.value is not None else Found(None, 0)
        self._group.wait_for(index, reader.asker, found)

    # --- calls, on the serving leader -------------------------------------------------------------------

    def prepare(self, call: Prepare, asker: Asker, wall_us: int, lease_ms: int) -> None:
        """Evaluate the items; lock and log what comes of them, or refuse them all. The times: this node's clocks."""
        self._settle()
        self._watched_us = self._clocks.look(wall_us, lease_ms)
        if self._answered_before(call, asker, wall_us):
            return
        if self._held_bytes > HELD_BYTES_MAX:
            asker.answer(Busy("too many prepared transactions in this partition"))
            return
        group = self._group
        rests_on = 0
        reasons: list[Refused | None] = []
        items: list[PreparedItem] = []
        outcomes: list[Written] = []
        keys: set[bytes] = set()
        for item in call.items:
            if self.blocks(item.key) or item.key in keys:
                reasons.append(CONFLICT)
                continue
            keys.add(item.key)
            _, verdict, _, index = group.judge(item)
            rests_on = max(rests_on, index)
            if isinstance(verdict.answer, Refused):
                if verdict.answer.code == ACCESS_DENIED:  # as where IAM denies it: of the request, not of one item
                    group.wait_for(index, asker, verdict.answer)
                    return
                reasons.append(verdict.answer)
                continue
            reasons.append(None)
            outcomes.append(verdict.answer)
            written = verdict.changed and item.kind is not WriteKind.CHECK
            items.append(PreparedItem(item.key, written, verdict.image if written else None, verdict.size))
        if any(reasons):
            group.wait_for(rests_on, asker, PrepareRefused(tuple(reasons)))
            return
        if total_bytes(outcomes) > TRANSACTION_BYTES_MAX:
            group.wait_for(rests_on, asker, Refused("ValidationException", TOO_LARGE))
            return
        part = Prepared(call.transaction, call.attempt, call.digest, tuple(items), tuple(outcomes), wall_us)
        index = self._commit(part, wall_us) if call.commit else self._prepare(part, wall_us)
        group.wait_for(index, asker, PreparedAnswer(part.outcomes))

    def finish(self, call: Finish, asker: Asker, wall_us: int) -> None:
        """Bring a prepared part to the end that the ledger has for it. Idempotent."""
        self._settle()
        held = self._held.get(call.transaction)
        if held is not None and held.attempt == call.attempt:
            self._group.wait_for(self._end(held, call.commit, wall_us), asker, Applied(1))
            return
        if not call.commit:
            self._note_released(call.transaction, call.attempt)
        ending = self._ending.get(call.transaction)
        self._group.wait_for(ending[0] if ending is not None else 0, asker, Applied(0))

    def read_together(self, call: ReadTogether, asker: Asker) -> None:
        """The newest images of some items, answered once all of them are committed."""
        self._settle()
        rests_on = 0
        images: list[Image] = []
        for key in call.keys:
            index, row = self._group.newest(key)
            rests_on = max(rests_on, index)
            lock = self.locks.get(key)
            locked = lock is not None and lock.written and not lock.ending
            if row is None or row.value is None:
                images.append(Image(None, 0, self.deletions.stamp(key, self._group.raft.term), locked))
            else:
                images.append(Image(row.value, row.size, row.version, locked))
        self._group.wait_for(rests_on, asker, Images(tuple(images)))

    # --- inside -----------------------------------------------------------------------------------------

    def _answered_before(self, call: Prepare, asker: Asker, wall_us: int) -> bool:
        """Answer a call that was sent again, or whose transaction is under way or done."""
        group, name = self._group, call.transaction
        held = self._held.get(name)
        if held is not None:
            if held.digest != call.digest:
                group.wait_for(0, asker, MISMATCH)
            elif held.attempt != call.attempt:
                group.wait_for(0, asker, IN_PROGRESS)
            else:
                group.wait_for(group.log_end, asker, PreparedAnswer(held.outcomes))
            return True
        if (name, call.attempt) in self._released:
            group.wait_for(0, asker, PrepareRefused((CONFLICT,) * len(call.items)))
            return True
        index, done, _ = self._ending.get(name, (0, None, None))
        done = done or group.window.transactions.committed(name)
        if done is None or (done.attempt != call.attempt and self._forgotten(done, wall_us)):
            return False
        if done.digest != call.digest:
            group.wait_for(index, asker, MISMATCH)
        else:
            group.wait_for(index, asker, PreparedAnswer(done.outcomes, done.attempt != call.attempt))
        return True

    def _forgotten(self, done: Committed, wall_us: int) -> bool:
        """The token that it was done under may be used again."""
        return min(wall_us - done.wall_us, self._watched_us) > RETAINED_US

    def _prepare(self, part: Prepared, wall_us: int) -> int:
        self._hold(part)
        return self._group.log_step(part.to_wire(), (), wall_us)

    def _hold(self, part: Prepared) -> None:
        self._held[part.transaction] = part
        self._held_bytes += part.held_bytes
        for item in part.items:
            self.locks[item.key] = Lock(part.transaction, item.written)

    def _end(self, held: Prepared, commit: bool, wall_us: int) -> int:
        """Raises GroupDamaged; then all is as it was."""
        if commit:
            index = self._commit(held, wall_us)
        else:
            for item in held.items:
                del self.locks[item.key]
            self._note_released(held.transaction, held.attempt)
            index = self._group.log_step(released(held.transaction, held.attempt), (), wall_us)
            self._note_ending(held.transaction, index, None, None)
        del self._held[held.transaction]
        self._held_bytes -= held.held_bytes
        return index

    def _commit(self, part: Prepared, wall_us: int) -> int:
        done = Committed(part.attempt, part.digest, part.outcomes, wall_us)
        changes = [item for item in part.items if item.written]
        index = self._group.log_step(done.to_wire(part.transaction), changes, wall_us)
        for item in part.items:
            self.locks[item.key] = Lock(part.transaction, item.written, index)
        self._note_ending(part.transaction, index, done, part)
        return index

    def _note_ending(self, transaction: bytes, index: int, done: Committed | None, part: Prepared | None) -> None:
        self._ending.pop(transaction, None)  # the order is that of the log
        self._ending[transaction] = (index, done, part)

    def _settle(self) -> None:
        """Forget the ends that are committed and applied: the state has them."""
        ending = self._ending
        applied = self._group.state.applied_index
        while ending:
            transaction = next(iter(ending))
            index, _, part = ending[transaction]
            if index > applied:
                return
            del ending[transaction]
            for item in part.items if part is not None else ():
                lock = self.locks.get(item.key)
                if lock is not None and lock.ending == index:
                    del self.locks[item.key]

    def _note_released(self, transaction: bytes, attempt: int) -> None:
        while len(self._released) >= RELEASED_MAX:
            del self._released[next(iter(self._released))]
        self._released[transaction, attempt] = None


def _nothing(transaction: bytes) -> None:
    return None
