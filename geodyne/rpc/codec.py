"""The bytes of a stream: geodyne.messages values to protobuf (proto/geodyne/wire/node_v1.proto) and back.

A batch is either one Hello or a sequence of messages of one kind.  Encoders and decoders are found by type, so a new
message is one function each and one line in a table.  Everything that cannot be understood raises CodecError; the
stream that carried it closes and nothing else suffers.

Fields are assigned one by one and defaults left out: protobuf's constructors with keywords cost twice as much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson
from google.protobuf.message import DecodeError, EncodeError

from geodyne import messages as m
from geodyne.wire import node_v1_pb2 as pb

STREAM_FORMAT: Final = 1  # Hello.format of what this module writes; raised when old readers would misunderstand

T = TypeVar("T")


class CodecError(ValueError):
    """Bytes that are no batch of this format, or a value that no batch can carry."""


# What protobuf, orjson and the tables below raise for values or bytes they do not take.
_BAD: Final = (DecodeError, EncodeError, ValueError, TypeError, KeyError, OverflowError)

_WRITE_KINDS: Final = {int(kind): kind for kind in m.WriteKind}
_RETURN_VALUES: Final = {int(values): values for values in m.ReturnValues}


# --- batches ----------------------------------------------------------------------------------------------


def encode_client_batch(batch: m.Hello | Sequence[m.Request]) -> bytes:
    """A batch of a client's stream. Raises CodecError."""
    out = pb.ClientBatch()
    try:
        if isinstance(batch, m.Hello):
            _put_hello(out.hello, batch)
            return out.SerializeToString()
        add = out.requests.add
        for request in batch:
            id_, call, write_id, timeout_ms, request_id = request
            to = add()
            to.id = id_
            to.timeout_ms = timeout_ms
            if request_id:
                to.request_id = request_id
            if write_id is not None:
                identity = to.write_id
                identity.router, identity.sequence, identity.low = write_id
            _PUT_CALL[type(call)](to, call)
        return out.SerializeToString()
    except _BAD as error:
        raise CodecError(f"cannot encode a client batch: {error!r}") from error


def decode_client_batch(data: bytes) -> m.Hello | list[m.Request]:
    """The inverse of encode_client_batch. Raises CodecError."""
    try:
        batch = pb.ClientBatch.FromString(data)
        if batch.HasField("hello"):
            return _hello(batch.hello)
        requests = []
        for one in batch.requests:
            kind = one.WhichOneof("call")
            if kind is None:
                raise CodecError(f"request {one.id} is of a kind that this version does not know")
            write_id = None
            if one.HasField("write_id"):
                identity = one.write_id
                write_id = m.WriteId(identity.router, identity.sequence, identity.low)
            requests.append(m.Request(one.id, _CALL[kind](one), write_id, one.timeout_ms, one.request_id))
        return requests
    except CodecError:
        raise
    except _BAD as error:
        raise CodecError(f"not a client batch: {error!r}") from error


def encode_node_batch(batch: m.Hello | Sequence[m.Response]) -> bytes:
    """A batch of a node's answers to a client. Raises CodecError."""
    out = pb.NodeBatch()
    try:
        if isinstance(batch, m.Hello):
            _put_hello(out.hello, batch)
            return out.SerializeToString()
        add = out.responses.add
        for id_, answer in batch:
            to = add()
            to.id = id_
            _PUT_ANSWER[type(answer)](to, answer)
        return out.SerializeToString()
    except _BAD as error:
        raise CodecError(f"cannot encode a node batch: {error!r}") from error


def decode_node_batch(data: bytes) -> m.Hello | list[m.Response]:
    """The inverse of encode_node_batch. Raises CodecError."""
    try:
        batch = pb.NodeBatch.FromString(data)
        if batch.HasField("hello"):
            return _hello(batch.hello)
        responses = []
        for one in batch.responses:
            kind = one.WhichOneof("answer")
            if kind is None:
                raise CodecError(f"response {one.id} is of a kind that this version does not know")
            responses.append(m.Response(one.id, _ANSWER[kind](one)))
        return responses
    except CodecError:
        raise
    except _BAD as error:
        raise CodecError(f"not a node batch: {error!r}") from error


def encode_peer_batch(batch: m.Hello | Sequence[m.PeerMessage]) -> bytes:
    """A batch from node to node. Raises CodecError."""
    out = pb.PeerBatch()
    try:
        if isinstance(batch, m.Hello):
            _put_hello(out.hello, batch)
            return out.SerializeToString()
        add = out.messages.add
        for message in batch:
            _PUT_PEER[type(message)](add(), message)
        return out.SerializeToString()
    except _BAD as error:
        raise CodecError(f"cannot encode a peer batch: {error!r}") from error


def decode_peer_batch(data: bytes) -> m.Hello | list[m.PeerMessage]:
    """The inverse of encode_peer_batch. Raises CodecError."""
    try:
        batch = pb.PeerBatch.FromString(data)
        if batch.HasField("hello"):
            return _hello(batch.hello)
        messages = []
        for one in batch.messages:
            kind = one.WhichOneof("message")
            if kind is None:
                raise CodecError("a peer message is of a kind that this version does not know")
            messages.append(_PEER[kind](one))
        return messages
    except CodecError:
        raise
    except _BAD as error:
        raise CodecError(f"not a peer batch: {error!r}") from error


def _put_hello(out: pb.Hello, hello: m.Hello) -> None:
    out.cluster_id, out.region, out.process_id, out.incarnation, out.format = hello


def _hello(one: pb.Hello) -> m.Hello:
    return m.Hello(one.cluster_id, one.region, one.process_id, one.incarnation, one.format)


# --- weights ----------------------------------------------------------------------------------------------

FIXED_BYTES: Final = 96  # what a message weighs beside its payload; an estimate that errs on the high side


def request_bytes(request: m.Request) -> int:
    """About how many bytes a request adds to a batch; cheap, for bounds on batches and queues."""
    call = request.call
    if type(call) is m.Write:
        size = FIXED_BYTES + len(call.item) + len(call.key) + _text_bytes(call.condition) + _text_bytes(call.update)
        return size + _values_bytes(call.values) if call.values else size
    if type(call) is m.ApplyChanges:
        return FIXED_BYTES + sum(len(c.key) + len(c.image or b"") + FIXED_BYTES for c in call.changes)
    return FIXED_BYTES * 4


def response_bytes(response: m.Response) -> int:
    """About how many bytes a response adds to a batch."""
    answer = response.answer
    kind = type(answer)
    if kind is m.Found or kind is m.Refused:
        return FIXED_BYTES + len(answer.item or b"")  # type: ignore[union-attr]
    if kind is m.Written:
        return FIXED_BYTES + len(answer.attributes or b"")  # type: ignore[union-attr]
    if isinstance(answer, m.Page):
        return FIXED_BYTES + sum(map(len, answer.items)) + 4 * len(answer.items)
    if isinstance(answer, m.Rows):
        return FIXED_BYTES + sum(map(_change_bytes, answer.rows))
    if isinstance(answer, m.FeedPage):
        return FIXED_BYTES + sum(_change_bytes(r.change) + len(r.old_image or b"") for r in answer.records)
    if isinstance(answer, m.Watched):
        return FIXED_BYTES + 4096 * len(answer.records) + 24 * len(answer.leads)
    return FIXED_BYTES


def peer_message_bytes(message: m.PeerMessage) -> int:
    """About how many bytes a peer message adds to a batch."""
    if type(message) is m.Append:
        return FIXED_BYTES + sum([len(entry.payload) + 8 for entry in message.entries])
    if type(message) is m.SnapshotChunk:
        return FIXED_BYTES + len(message.data)
    if type(message) is m.Leads:
        return FIXED_BYTES + 24 * len(message.leads)
    return FIXED_BYTES


def _change_bytes(change: m.Change) -> int:
    return FIXED_BYTES + len(change.key) + len(change.image or b"")


def _values_bytes(values: Mapping[str, m.AttributeValue]) -> int:
    """Exact enough for strings, numbers and binary; documents count as if they were small."""
    size = 0
    for value in values.values():
        for content in value.values():
            size += 2 * FIXED_BYTES + (len(content) if isinstance(content, str) else 0)
    return size


def _text_bytes(text: str | None) -> int:
    return 0 if text is None else 4 * len(text)


# --- calls ------------------------------------------------------------------------------------------------


def _put_write(to: pb.Request, call: m.Write) -> None:
    out = to.write
    out.partition = call.partition
    out.epoch = call.epoch
    out.kind = call.kind
    out.key = call.key
    out.item = call.item
    out.size = call.size
    if call.condition is not None:
        out.condition = call.condition
    if call.update is not None:
        out.update = call.update
    if call.names:
        out.names_json = orjson.dumps(call.names)
    if call.values:
        out.values_json = orjson.dumps(call.values)
    if call.returns:
        out.returns = call.returns
    if call.return_on_failure:
        out.return_on_failure = True


def _write(one: pb.Request) -> m.Write:
    w = one.write
    return m.Write(
        w.partition,
        w.epoch,
        _WRITE_KINDS[w.kind],
        w.key,
        w.item,
        w.size,
        w.condition if w.HasField("condition") else None,
        w.update if w.HasField("update") else None,
        _map(w.names_json),
        _map(w.values_json),
        _RETURN_VALUES[w.returns],
        w.return_on_failure,
    )


def _put_get(to: pb.Request, call: m.Get) -> None:
    out = to.get
    out.partition, out.epoch, out.key, out.strong = call


def _get(one: pb.Request) -> m.Get:
    g = one.get
    return m.Get(g.partition, g.epoch, g.key, g.strong)


def _put_range(to: pb.Request, call: m.Range) -> None:
    out = to.range
    out.partition = call.partition
    out.epoch = call.epoch
    out.low = call.low
    out.high = call.high
    if call.after is not None:
        out.after = call.after
    out.reverse = call.reverse
    out.limit = call.limit
    out.max_bytes = call.max_bytes
    out.strong = call.strong
    if call.filter is not None:
        out.filter = call.filter
    if call.projection is not None:
        out.projection = call.projection
    if call.names:
        out.names_json = orjson.dumps(call.names)
    if call.values:
        out.values_json = orjson.dumps(call.values)
    out.count_only = call.count_only


def _range(one: pb.Request) -> m.Range:
    r = one.range
    return m.Range(
        r.partition,
        r.epoch,
        r.low,
        r.high,
        r.after if r.HasField("after") else None,
        r.reverse,
        r.limit,
        r.max_bytes,
        r.strong,
        r.filter if r.HasField("filter") else None,
        r.projection if r.HasField("projection") else None,
        _map(r.names_json),
        _map(r.values_json),
        r.count_only,
    )


def _put_apply_changes(to: pb.Request, call: m.ApplyChanges) -> None:
    out = to.apply_changes
    out.partition = call.partition
    out.epoch = call.epoch
    add = out.changes.add
    for change in call.changes:
        _put_change(add(), change)


def _apply_changes(one: pb.Request) -> m.ApplyChanges:
    a = one.apply_changes
    return m.ApplyChanges(a.partition, a.epoch, tuple(map(_change, a.changes)))


def _put_read_rows(to: pb.Request, call: m.ReadRows) -> None:
    out = to.read_rows
    out.partition, out.epoch, out.after, out.max_bytes, out.strong = call


def _read_rows(one: pb.Request) -> m.ReadRows:
    r = one.read_rows
    return m.ReadRows(r.partition, r.epoch, r.after, r.max_bytes, r.strong)


def _put_read_feed(to: pb.Request, call: m.ReadFeed) -> None:
    out = to.read_feed
    out.partition, out.epoch, out.consumer, out.after, out.max_bytes, out.wait_ms, out.origin = call


def _read_feed(one: pb.Request) -> m.ReadFeed:
    r = one.read_feed
    return m.ReadFeed(r.partition, r.epoch, r.consumer, r.after, r.max_bytes, r.wait_ms, r.origin)


def _put_advance_cursor(to: pb.Request, call: m.AdvanceCursor) -> None:
    out = to.advance_cursor
    out.partition, out.epoch, out.consumer, out.sequence = call


def _advance_cursor(one: pb.Request) -> m.AdvanceCursor:
    a = one.advance_cursor
    return m.AdvanceCursor(a.partition, a.epoch, a.consumer, a.sequence)


def _put_control(to: pb.Request, call: m.Control) -> None:
    to.control.operation = call.operation
    to.control.body_json = orjson.dumps(call.body)


def _control(one: pb.Request) -> m.Control:
    return m.Control(one.control.operation, _object(one.control.body_json))


def _put_watch(to: pb.Request, call: m.Watch) -> None:
    out = to.watch
    out.revision, out.leads_version, out.wait_ms = call


def _watch(one: pb.Request) -> m.Watch:
    w = one.watch
    return m.Watch(w.revision, w.leads_version, w.wait_ms)


_PUT_CALL: Final[dict[type, Callable[[pb.Request, Any], None]]] = {
    m.Write: _put_write,
    m.Get: _put_get,
    m.Range: _put_range,
    m.ApplyChanges: _put_apply_changes,
    m.ReadRows: _put_read_rows,
    m.ReadFeed: _put_read_feed,
    m.AdvanceCursor: _put_advance_cursor,
    m.Control: _put_control,
    m.Watch: _put_watch,
}
_CALL: Final[dict[str, Callable[[pb.Request], m.Call]]] = {
    "write": _write,
    "get": _get,
    "range": _range,
    "apply_changes": _apply_changes,
    "read_rows": _read_rows,
    "read_feed": _read_feed,
    "advance_cursor": _advance_cursor,
    "control": _control,
    "watch": _watch,
}


# --- answers ----------------------------------------------------------------------------------------------


def _put_written(to: pb.Response, answer: m.Written) -> None:
    out = to.written
    out.size_before = answer.size_before
    out.size_after = answer.size_after
    if answer.attributes is not None:
        out.attributes_json = answer.attributes


def _written(one: pb.Response) -> m.Written:
    w = one.written
    return m.Written(w.size_before, w.size_after, w.attributes_json if w.HasField("attributes_json") else None)


def _put_found(to: pb.Response, answer: m.Found) -> None:
    out = to.found
    out.size = answer.size
    if answer.item is not None:
        out.item_json = answer.item


def _found(one: pb.Response) -> m.Found:
    f = one.found
    return m.Found(f.item_json if f.HasField("item_json") else None, f.size)


def _put_page(to: pb.Response, answer: m.Page) -> None:
    out = to.page
    out.count = answer.count
    out.scanned = answer.scanned
    out.size = answer.size
    out.items_json.extend(answer.items)
    if answer.last_key is not None:
        out.last_key = answer.last_key


def _page(one: pb.Response) -> m.Page:
    p = one.page
    last_key = p.last_key if p.HasField("last_key") else None
    return m.Page(tuple(p.items_json), p.count, p.scanned, p.size, last_key)


def _put_applied(to: pb.Response, answer: m.Applied) -> None:
    to.applied.applied = answer.applied


def _applied(one: pb.Response) -> m.Applied:
    return m.Applied(one.applied.applied)


def _put_rows(to: pb.Response, answer: m.Rows) -> None:
    out = to.rows
    out.SetInParent()
    add = out.rows.add
    for change in answer.rows:
        _put_change(add(), change)
    if answer.last_key is not None:
        out.last_key = answer.last_key


def _rows(one: pb.Response) -> m.Rows:
    r = one.rows
    return m.Rows(tuple(map(_change, r.rows)), r.last_key if r.HasField("last_key") else None)


def _put_feed_page(to: pb.Response, answer: m.FeedPage) -> None:
    out = to.feed_page
    out.next = answer.next
    out.head = answer.head
    out.trimmed = answer.trimmed
    add = out.records.add
    for sequence, change, old_image in answer.records:
        record = add()
        record.sequence = sequence
        _put_change(record.change, change)
        if old_image is not None:
            record.old_image = old_image


def _feed_page(one: pb.Response) -> m.FeedPage:
    page = one.feed_page
    records = tuple(
        [
            m.FeedRecord(r.sequence, _change(r.change), r.old_image if r.HasField("old_image") else None)
            for r in page.records
        ]
    )
    return m.FeedPage(records, page.next, page.head, page.trimmed)


def _put_control_done(to: pb.Response, answer: m.ControlDone) -> None:
    to.control_done.revision = answer.revision
    to.control_done.body_json = orjson.dumps(answer.body)


def _control_done(one: pb.Response) -> m.ControlDone:
    return m.ControlDone(one.control_done.revision, _object(one.control_done.body_json))


def _put_watched(to: pb.Response, answer: m.Watched) -> None:
    out = to.watched
    out.revision = answer.revision
    out.full = answer.full
    out.leads_version = answer.leads_version
    for key, value in answer.records:
        record = out.records.add()
        record.key = key
        if value is not None:
            record.value_json = orjson.dumps(value)
    for partition, term in answer.leads:
        lead = out.leads.add()
        lead.partition = partition
        lead.term = term


def _watched(one: pb.Response) -> m.Watched:
    w = one.watched
    records = tuple([(r.key, _object(r.value_json) if r.HasField("value_json") else None) for r in w.records])
    leads = tuple([(lead.partition, lead.term) for lead in w.leads])
    return m.Watched(w.revision, w.full, records, w.leads_version, leads)


def _put_refused(to: pb.Response, answer: m.Refused) -> None:
    out = to.refused
    out.code = answer.code
    out.message = answer.message
    out.size = answer.size
    if answer.item is not None:
        out.item_json = answer.item


def _refused(one: pb.Response) -> m.Refused:
    r = one.refused
    return m.Refused(r.code, r.message, r.item_json if r.HasField("item_json") else None, r.size)


def _put_not_leader(to: pb.Response, answer: m.NotLeader) -> None:
    to.not_leader.partition, to.not_leader.leader = answer


def _not_leader(one: pb.Response) -> m.NotLeader:
    return m.NotLeader(one.not_leader.partition, one.not_leader.leader)


def _put_moved(to: pb.Response, answer: m.Moved) -> None:
    to.moved.partition, to.moved.revision = answer


def _moved(one: pb.Response) -> m.Moved:
    return m.Moved(one.moved.partition, one.moved.revision)


def _put_unknown(to: pb.Response, answer: m.Unknown) -> None:
    to.unknown.partition, to.unknown.leader = answer


def _unknown(one: pb.Response) -> m.Unknown:
    return m.Unknown(one.unknown.partition, one.unknown.leader)


def _put_busy(to: pb.Response, answer: m.Busy) -> None:
    to.busy.reason = answer.reason


def _busy(one: pb.Response) -> m.Busy:
    return m.Busy(one.busy.reason)


_PUT_ANSWER: Final[dict[type, Callable[[pb.Response, Any], None]]] = {
    m.Written: _put_written,
    m.Found: _put_found,
    m.Page: _put_page,
    m.Applied: _put_applied,
    m.Rows: _put_rows,
    m.FeedPage: _put_feed_page,
    m.ControlDone: _put_control_done,
    m.Watched: _put_watched,
    m.Refused: _put_refused,
    m.NotLeader: _put_not_leader,
    m.Moved: _put_moved,
    m.Unknown: _put_unknown,
    m.Busy: _put_busy,
}
_ANSWER: Final[dict[str, Callable[[pb.Response], m.Answer]]] = {
    "written": _written,
    "found": _found,
    "page": _page,
    "applied": _applied,
    "rows": _rows,
    "feed_page": _feed_page,
    "control_done": _control_done,
    "watched": _watched,
    "refused": _refused,
    "not_leader": _not_leader,
    "moved": _moved,
    "unknown": _unknown,
    "busy": _busy,
}


# --- peer messages ----------------------------------------------------------------------------------------


def _put_heartbeat(to: pb.PeerMessage, message: m.Heartbeat) -> None:
    out = to.heartbeat
    out.incarnation, out.sent_at_ms = message


def _heartbeat(one: pb.PeerMessage) -> m.Heartbeat:
    return m.Heartbeat(one.heartbeat.incarnation, one.heartbeat.sent_at_ms)


def _put_heartbeat_ack(to: pb.PeerMessage, message: m.HeartbeatAck) -> None:
    out = to.heartbeat_ack
    out.incarnation, out.sent_at_ms, out.support_epoch = message


def _heartbeat_ack(one: pb.PeerMessage) -> m.HeartbeatAck:
    h = one.heartbeat_ack
    return m.HeartbeatAck(h.incarnation, h.sent_at_ms, h.support_epoch)


def _put_vote_request(to: pb.PeerMessage, message: m.VoteRequest) -> None:
    out = to.vote_request
    out.group, out.term, out.last_index, out.last_term, out.pre, out.transfer = message


def _vote_request(one: pb.PeerMessage) -> m.VoteRequest:
    v = one.vote_request
    return m.VoteRequest(v.group, v.term, v.last_index, v.last_term, v.pre, v.transfer)


def _put_vote(to: pb.PeerMessage, message: m.Vote) -> None:
    out = to.vote
    out.group, out.term, out.granted, out.pre = message


def _vote(one: pb.PeerMessage) -> m.Vote:
    return m.Vote(one.vote.group, one.vote.term, one.vote.granted, one.vote.pre)


def _put_append(to: pb.PeerMessage, message: m.Append) -> None:
    entries = message.entries
    if entries and (
        entries[0].index != message.prev_index + 1 or entries[-1].index != message.prev_index + len(entries)
    ):
        raise CodecError(f"entries of group {message.group} do not follow index {message.prev_index} without a gap")
    out = to.append
    out.group = message.group
    out.term = message.term
    out.prev_index = message.prev_index
    out.prev_term = message.prev_term
    out.commit = message.commit
    if entries:
        out.entry_terms.extend([entry.term for entry in entries])
        out.entry_payloads.extend([entry.payload for entry in entries])


def _append(one: pb.PeerMessage) -> m.Append:
    a = one.append
    first = a.prev_index + 1
    terms, payloads = a.entry_terms, a.entry_payloads
    if len(terms) != len(payloads):
        raise CodecError(f"{len(terms)} terms for {len(payloads)} entries of group {a.group}")
    entries = tuple(map(m.Entry, range(first, first + len(terms)), terms, payloads))
    return m.Append(a.group, a.term, a.prev_index, a.prev_term, entries, a.commit)


def _put_appended(to: pb.PeerMessage, message: m.Appended) -> None:
    out = to.appended
    out.group, out.term, out.success, out.match, out.conflict_term, out.incarnation, out.support_epoch = message


def _appended(one: pb.PeerMessage) -> m.Appended:
    a = one.appended
    return m.Appended(a.group, a.term, a.success, a.match, a.conflict_term, a.incarnation, a.support_epoch)


def _put_timeout_now(to: pb.PeerMessage, message: m.TimeoutNow) -> None:
    to.timeout_now.group, to.timeout_now.term = message


def _timeout_now(one: pb.PeerMessage) -> m.TimeoutNow:
    return m.TimeoutNow(one.timeout_now.group, one.timeout_now.term)


def _put_snapshot_chunk(to: pb.PeerMessage, message: m.SnapshotChunk) -> None:
    out = to.snapshot_chunk
    out.group, out.term, out.snapshot_index, out.snapshot_term, out.number, out.data, out.done = message


def _snapshot_chunk(one: pb.PeerMessage) -> m.SnapshotChunk:
    s = one.snapshot_chunk
    return m.SnapshotChunk(s.group, s.term, s.snapshot_index, s.snapshot_term, s.number, s.data, s.done)


def _put_snapshot_ack(to: pb.PeerMessage, message: m.SnapshotAck) -> None:
    out = to.snapshot_ack
    (
        out.group,
        out.term,
        out.snapshot_index,
        out.number,
        out.installed,
        out.refused,
        out.incarnation,
        out.support_epoch,
    ) = message


def _snapshot_ack(one: pb.PeerMessage) -> m.SnapshotAck:
    s = one.snapshot_ack
    return m.SnapshotAck(
        s.group, s.term, s.snapshot_index, s.number, s.installed, s.refused, s.incarnation, s.support_epoch
    )


def _put_leads(to: pb.PeerMessage, message: m.Leads) -> None:
    out = to.leads
    out.version = message.version
    for partition, term, revision in message.leads:
        lead = out.leads.add()
        lead.partition, lead.term, lead.definition_revision = partition, term, revision


def _leads(one: pb.PeerMessage) -> m.Leads:
    leads = tuple([(lead.partition, lead.term, lead.definition_revision) for lead in one.leads.leads])
    return m.Leads(one.leads.version, leads)


_PUT_PEER: Final[dict[type, Callable[[pb.PeerMessage, Any], None]]] = {
    m.Heartbeat: _put_heartbeat,
    m.HeartbeatAck: _put_heartbeat_ack,
    m.VoteRequest: _put_vote_request,
    m.Vote: _put_vote,
    m.Append: _put_append,
    m.Appended: _put_appended,
    m.TimeoutNow: _put_timeout_now,
    m.SnapshotChunk: _put_snapshot_chunk,
    m.SnapshotAck: _put_snapshot_ack,
    m.Leads: _put_leads,
}
_PEER: Final[dict[str, Callable[[pb.PeerMessage], m.PeerMessage]]] = {
    "heartbeat": _heartbeat,
    "heartbeat_ack": _heartbeat_ack,
    "vote_request": _vote_request,
    "vote": _vote,
    "append": _append,
    "appended": _appended,
    "timeout_now": _timeout_now,
    "snapshot_chunk": _snapshot_chunk,
    "snapshot_ack": _snapshot_ack,
    "leads": _leads,
}


# --- parts ------------------------------------------------------------------------------------------------


def _put_change(out: pb.Change, change: m.Change) -> None:
    out.key = change.key
    out.version = change.version
    out.size = change.size
    if change.image is not None:
        out.image = change.image


def _change(one: pb.Change) -> m.Change:
    return m.Change(one.key, one.version, one.image if one.HasField("image") else None, one.size)


def _map(data: bytes) -> Mapping[str, Any]:
    return _object(data) if data else m.NO_NAMES


def _object(data: bytes) -> dict[str, Any]:
    value = orjson.loads(data)
    if type(value) is not dict:
        raise CodecError("a JSON object was expected")
    return value
