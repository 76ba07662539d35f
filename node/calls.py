"""The calls of clients: each is brought to its group, parked while the group's leader is not ready, or turned away.

A handler runs inside a turn (node.service) and never waits: what cannot be answered now is left with the group
(answers that a commit releases), the scans (pages) or the waits (long polls).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from geodyne.messages import (
    METADATA_PARTITION,
    AdvanceCursor,
    Answer,
    Applied,
    ApplyChanges,
    ApplyIndex,
    Busy,
    Call,
    Control,
    DigestRows,
    Finish,
    Get,
    ListShards,
    Moved,
    NotLeader,
    Prepare,
    Range,
    ReadFeed,
    ReadRows,
    ReadStream,
    ReadTogether,
    Refused,
    Renew,
    Request,
    Response,
    StreamPage,
    Watch,
    Write,
)
from node.digests import renew_rows
from node.feed.pages import read_page
from node.feed.streams import list_shards, read_stream
from node.group import Asker, Group
from node.storage.port import GroupDamaged, GroupLog
from node.storage.sqlite import StateStore
from node.waits import CATALOG_TOPIC, Wait

if TYPE_CHECKING:
    from node.service import NodeService

logger = logging.getLogger("geodyne.node")

# As the service words it (developer guide, "Key-range throughput exceeded"): back-pressure of a global index.
INDEXES_BEHIND = (
    "Throughput exceeds the current capacity for one or more global secondary indexes. "
    "DynamoDB is automatically scaling your index so please try again shortly."
)

PartitionCall = (
    Write
    | Get
    | Range
    | ApplyChanges
    | ApplyIndex
    | AdvanceCursor
    | ReadFeed
    | ListShards
    | ReadStream
    | ReadRows
    | DigestRows
    | Renew
    | Prepare
    | Finish
    | ReadTogether
)


class Calls:
    """Handlers of the calls of one node, by type of call."""

    def __init__(self, service: NodeService, log: GroupLog, store: StateStore) -> None:
        self._service = service
        self._log = log
        self._store = store
        self._handlers: dict[type, Callable[..., None]] = {
            Write: self._write,
            Get: self._get,
            Range: self._range,
            ApplyChanges: self._apply_changes,
            ApplyIndex: self._apply_index,
            AdvanceCursor: self._advance_cursor,
            ReadFeed: self._read_feed,
            ListShards: self._list_shards,
            ReadStream: self._read_stream,
            ReadRows: self._read_rows,
            DigestRows: self._read_rows,
            Renew: self._renew,
            Watch: self._watch,
            Prepare: self._prepare,
            Finish: self._finish,
            ReadTogether: self._read_together,
            Control: self._control,
        }

    def dispatch(self, request: Request, reply: Callable[[Response], None]) -> None:
        call = request.call
        try:
            self._handlers[type(call)](call, request, Asker(reply, request.id))
        except GroupDamaged as error:
            reply(Response(request.id, self._service.healing.answer(error)))
            self._failed(call)
        except Exception:  # one bad request must not end the node
            logger.exception("request failed", extra={"request_id": request.request_id})
            reply(Response(request.id, Refused("InternalServerError", "Internal server error")))
            self._failed(call)

    def _failed(self, call: Call) -> None:
        """What the call had built by then is in the overlay, and must not be open any more when the turn ends."""
        group = self._service.groups.get(getattr(call, "partition", METADATA_PARTITION))
        if group is not None:
            self._service.proposed(group)

    def _group_of(self, call: PartitionCall, asker: Asker) -> Group | None:
        group = self._service.groups.get(call.partition)
        if group is None and not self._service.catalog.knows(call.partition):
            asker.answer(Busy("this node's catalog is not as new as the call"))
            return None
        if group is not None and (group.damaged or group.raft.newcomer):  # what a newcomer has may be very old
            asker.answer(NotLeader(call.partition, "" if group.leading else group.raft.leader))
            return None
        if group is None or group.state.epoch != call.epoch:
            catalog = self._service.catalog
            elsewhere = catalog.elsewhere(call.partition, call.epoch) if group is None else None
            asker.answer(elsewhere or Moved(call.partition, catalog.revision))
            return None
        return group

    def _for_leader(self, call: PartitionCall, request: Request, asker: Asker) -> Group | None:
        group = self._group_of(call, asker)
        return group if group is not None and self._admit(group, request, asker) else None

    def _admit(self, group: Group, request: Request, asker: Asker) -> bool:
        """Whether the leader takes the call now. A parked one goes on only while its caller still waits for it."""
        until_ms = self._service.turn_ms + request.timeout_ms

        def again() -> None:
            if self._service.now_ms() <= until_ms:
                self.dispatch(request, asker.reply)
            else:
                asker.answer(Busy("the call's time was up before this node could lead"))

        return group.admit(asker, again)

    def _write(self, call: Write, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker)
        if group is not None and group.feed_full:
            asker.answer(Refused("ThrottlingException", INDEXES_BEHIND))
        elif group is not None and self._log_keeps_up(asker):
            group.write(call, request.write_id, asker, self._service.wall_us)
            self._service.proposed(group)

    def _takes_changes(self, group: Group, asker: Asker) -> bool:
        if group.feed_full:
            asker.answer(Busy("global indexes of the table are too far behind"))
            return False
        return self._log_keeps_up(asker)

    def _log_keeps_up(self, asker: Asker) -> bool:
        """Bounds the memory of what waits for a slow disk: beyond, writers are asked to come back."""
        if self._log.overloaded:
            asker.answer(Busy("the log's disk does not keep up"))
            return False
        space = self._service.space
        if space is not None and space.low:
            asker.answer(Busy("the node's disk is nearly full"))
            return False
        return True

    def _apply_changes(self, call: ApplyChanges, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker)
        if group is not None and self._takes_changes(group, asker):
            group.apply_changes(call, asker, self._service.wall_us)
            self._service.proposed(group)

    def _renew(self, call: Renew, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker)
        if group is not None and self._takes_changes(group, asker):
            renew_rows(group, call, asker, self._service.wall_us)
            self._service.proposed(group)

    def _apply_index(self, call: ApplyIndex, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker)
        if group is not None and self._log_keeps_up(asker):
            group.apply_index(call, asker, self._service.wall_us)
            self._service.proposed(group)

    def _prepare(self, call: Prepare, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker)
        if group is not None and self._takes_changes(group, asker):
            group.participant.prepare(call, asker, self._service.wall_us, self._service.turn_ms)
            self._service.proposed(group)
            self._service.recovery.watch(group)

    def _finish(self, call: Finish, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker)
        if group is not None:  # however slow the disk: this is what lets go of the items
            group.participant.finish(call, asker, self._service.wall_us)
            self._service.proposed(group)

    def _read_together(self, call: ReadTogether, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker)
        if group is not None:
            group.participant.read_together(call, asker)
            self._service.proposed(group)

    def _advance_cursor(self, call: AdvanceCursor, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker)
        if group is not None and call.stable_us:
            self._service.tombstones.hear(group, call)
            asker.answer(Applied(0))
        elif group is not None:
            group.advance_cursor(call, asker, self._service.wall_us)
            self._service.proposed(group)

    def _get(self, call: Get, request: Request, asker: Asker) -> None:
        if call.strong:
            group = self._for_leader(call, request, asker)
            if group is not None:
                group.read(call, asker)
                self._service.confirm_soon(group)
            return
        group = self._group_of(call, asker)
        if group is not None:
            asker.answer(group.look_up(call.key))

    def _range(self, call: Range, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker) if call.strong else self._group_of(call, asker)
        if group is not None:
            self._service.scans.add(call, asker, group)

    def _read_rows(self, call: ReadRows | DigestRows, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker) if call.strong else self._group_of(call, asker)
        if group is not None:
            self._service.scans.add(call, asker, group)

    def _read_feed(self, call: ReadFeed, request: Request, asker: Asker) -> None:
        def attempt(late: bool) -> Answer | None:
            group = self._service.groups.get(call.partition)
            if group is None:
                catalog = self._service.catalog
                return catalog.elsewhere(call.partition, call.epoch) or Moved(call.partition, catalog.revision)
            if group.damaged:
                return NotLeader(call.partition, "" if group.leading else group.raft.leader)
            try:
                return read_page(self._store, group.state, call, late)
            except GroupDamaged as error:
                return self._service.healing.answer(error)

        self._service.waits.add(
            call.partition, Wait(asker.reply, asker.id, attempt, self._service.now_ms() + call.wait_ms)
        )

    def _list_shards(self, call: ListShards, request: Request, asker: Asker) -> None:
        group = self._for_leader(call, request, asker)
        if group is not None and self._applies_all(group, asker):
            group.answer_read(asker, list_shards(group.state, call))
            self._service.confirm_soon(group)

    def _read_stream(self, call: ReadStream, request: Request, asker: Asker) -> None:
        """Records beyond a position that the caller names need no look at the lease: what a leader has applied is
        committed, so one that leads no more answers with less, never with anything else. All else (a position that the
        partition finds, that there is no such shard) could be the past, and is confirmed as every strong read."""
        group = self._for_leader(call, request, asker)
        if group is None:
            return
        places = call.after < 0 or call.since_us > 0
        if places and not self._applies_all(group, asker):
            return

        def attempt(late: bool) -> Answer | None:
            assert group is not None
            held = self._service.groups.get(call.partition)
            if held is not group or not group.serving:
                catalog = self._service.catalog
                elsewhere = group.not_leader() if held is not None else catalog.elsewhere(call.partition, call.epoch)
                return elsewhere or Moved(call.partition, catalog.revision)
            try:
                return read_stream(self._store, group.state, call, late)
            except GroupDamaged as error:
                return self._service.healing.answer(error)

        def reply(response: Response) -> None:
            assert group is not None
            answer = response.answer
            if isinstance(answer, Refused) or (places and isinstance(answer, StreamPage)):
                group.answer_read(asker, answer)
                self._service.confirm_soon(group)
                self._service.wake()  # a long poll ends outside a turn, too
            else:
                asker.reply(response)

        until_ms = self._service.now_ms() + call.wait_ms
        self._service.waits.add(call.partition, Wait(reply, asker.id, attempt, until_ms))

    def _applies_all(self, group: Group, asker: Asker) -> bool:
        """Whether the state holds what was acknowledged before; else the caller has been told to come back."""
        self._service.apply_all(group)
        if group.state.applied_index < group.raft.commit_index:  # its own log lags, or a snapshot is being begun
            asker.answer(Busy("the state is behind what is committed"))
            return False
        return True

    def _watch(self, call: Watch, request: Request, asker: Asker) -> None:
        attempt = partial(self._service.catalog.watched, call)
        self._service.waits.add(
            CATALOG_TOPIC, Wait(asker.reply, asker.id, attempt, self._service.now_ms() + call.wait_ms)
        )

    def _control(self, call: Control, request: Request, asker: Asker) -> None:
        group = self._service.groups.get(METADATA_PARTITION)
        if group is None:
            asker.answer(Busy("this node does not hold the catalog"))
            return
        if self._admit(group, request, asker):
            self._service.catalog.control(group, call, asker, self._service.wall_us)
            self._service.proposed(group)
