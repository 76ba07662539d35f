"""Log entries as the node handles them: the wire form beside the values that applying needs."""

from __future__ import annotations

from typing import NamedTuple

from geodyne.messages import WriteId, Written
from geodyne.peermessages import Entry
from geodyne.wire import log_v1_pb2 as log
from node.outcomes import outcome_from_wire, outcome_to_wire
from node.raft.configuration import Configuration, configuration_of
from node.storage.port import Row

PROMISE_TAG = b"\x51"  # of EntryPayload.safe_us on the wire, 8 bytes (little endian) follow


def promising(us: int, payload: bytes) -> bytes:
    """The payload of an entry, with EntryPayload.safe_us. It comes first, so that it is seen without decoding."""
    return PROMISE_TAG + us.to_bytes(8, "little") + payload


def promises(payload: bytes) -> bool:
    """Whether an entry has EntryPayload.safe_us."""
    return payload[:1] == PROMISE_TAG


class Effect(NamedTuple):
    """The result of one write. `row` None: the key is gone and no tombstone is kept."""

    key: bytes
    row: Row | None
    version: bytes
    items_delta: int
    bytes_delta: int
    write_id: WriteId | None
    outcome: Written | None


class Decided(NamedTuple):
    """An entry with its effects, as the leader made it or as a follower decoded it."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    term: int
    payload: log.EntryPayload
    effects: list[Effect]
    configuration: Configuration | None = None  # the entry changes the consensus group and nothing else
    size: int = 0  # bytes of the payload in the log


class EntryBuilder:
    """The entry that the current turn is building for one group."""

    __slots__ = ("effects", "index", "payload", "size")

    def __init__(self, index: int, wall_us: int) -> None:
        self.index = index
        self.payload = log.EntryPayload(wall_us=wall_us)
        self.effects: list[Effect] = []
        self.size = 0

    def add(
        self,
        effect: Effect,
        old_image: bytes | None,
        expired: bool = False,
        base: bytes | None = None,
        lost: log.Lost | None = None,
    ) -> None:
        """All of it or nothing: what followers read and what this leader applies must be the same. `expired`: nobody
        asked for the deletion, the item's time had come. `base`, `lost`: see node.feed.conflicts."""
        count = len(self.effects)
        try:
            self._add(effect, old_image)
        except BaseException:
            del self.payload.effects[count:]
            raise
        if expired:
            self.payload.effects[-1].expired = True
        if base is not None:
            self.payload.effects[-1].base = base
        if lost is not None:
            self.payload.effects[-1].lost.CopyFrom(lost)
            self.size += len(lost.image)
        self.effects.append(effect)

    def _add(self, effect: Effect, old_image: bytes | None) -> None:
        key, row, version, items_delta, bytes_delta, write_id, outcome = effect
        message = self.payload.effects.add(key=key, version=version, items_delta=items_delta, bytes_delta=bytes_delta)
        if row is None:
            message.tombstone = False
        elif row.value is None:
            message.tombstone = True
        else:
            message.image = row.value
            message.size = row.size
            self.size += len(row.value)
        if old_image is not None:
            message.old_image = old_image
            self.size += len(old_image)
        if write_id is not None and outcome is not None:
            mark = message.write_id
            mark.router, mark.sequence, mark.low = write_id
            message.outcome.CopyFrom(outcome_to_wire(outcome))
        self.size += len(key) + 64

    def decided(self, index: int, term: int, size: int) -> Decided:
        return Decided(index, term, self.payload, self.effects, None, size)


def decode(entry: Entry) -> Decided:
    """What a follower, or a restart, reads back from the log."""
    configuration = configuration_of(entry.payload)
    if configuration is not None:
        return Decided(entry.index, entry.term, log.EntryPayload(), [], configuration)
    payload = log.EntryPayload.FromString(entry.payload)
    effects = [_effect(message) for message in payload.effects]
    return Decided(entry.index, entry.term, payload, effects, None, len(entry.payload))


def _effect(message: log.Effect) -> Effect:
    row: Row | None = None
    if message.HasField("image"):
        row = Row(message.image, message.version, message.size)
    elif message.tombstone:
        row = Row(None, message.version, 0)
    write_id: WriteId | None = None
    outcome: Written | None = None
    if message.HasField("write_id"):
        mark = message.write_id
        write_id = WriteId(mark.router, mark.sequence, mark.low)
        outcome = outcome_from_wire(message.outcome)
    return Effect(message.key, row, message.version, message.items_delta, message.bytes_delta, write_id, outcome)
