"""The bytes of a client's stream: geodyne.messages values to protobuf (proto/geodyne/wire/node_v1.proto) and back.

A batch is either one Hello or a sequence of messages of one kind.  Encoders and decoders are found by type, so a new
message is one function each and one line in a table.  Everything that cannot be understood raises CodecError; the
stream that carried it closes and nothing else suffers.

Fields are assigned one by one and defaults left out: protobuf's constructors with keywords cost twice as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import orjson
from google.protobuf.message import DecodeError, EncodeError

from geodyne import messages as m
from geodyne import peermessages as pm
from geodyne.rpc import digestcodec as digests
from geodyne.rpc import streamcodec as streams
from geodyne.rpc import transactioncodec as transactions
from geodyne.rpc.codecparts import (
    CodecError,
    change_of,
    fill_change,
    fill_refused,
    fill_write,
    fill_written,
    hello_of,
    map_of,
    object_of,
    put_hello,
    refused_of,
    write_of,
    written_of,
)
from geodyne.wire import node_v1_pb2 as pb

# Of the streams between clients and nodes and between nodes; raised when old readers would misunderstand. Format 3 has
# checksums, format 4 streams of tables (calls, and what nodes log for them), format 5 what nodes log for watermarks;
# what else may travel only to those who speak it is in geodyne.rpc.peercodec.SINCE. Decision 0016.
STREAM_FORMAT: Final = 5
OLDEST_STREAM_FORMAT: Final = 2

T = TypeVar("T")


# What protobuf, orjson and the tables below raise for values or bytes they do not take.
BAD_VALUES: Final = (DecodeError, EncodeError, ValueError, TypeError, KeyError, OverflowError)


# --- batches ----------------------------------------------------------------------------------------------


def encode_client_batch(batch: pm.Hello | Sequence[m.Request]) -> bytes:
    """A batch of a client's stream. Raises CodecError."""
    out = pb.ClientBatch()
    try:
        if isinstance(batch, pm.Hello):
            put_hello(out.hello, batch)
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
    except BAD_VALUES as error:
        raise CodecError(f"cannot encode a client batch: {error!r}") from error


def decode_client_batch(data: bytes) -> pm.Hello | list[m.Request]:
    """The inverse of encode_client_batch. Raises CodecError."""
    try:
        batch = pb.ClientBatch.FromString(data)
        if batch.HasField("hello"):
            return hello_of(batch.hello)
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
    except BAD_VALUES as error:
        raise CodecError(f"not a client batch: {error!r}") from error


def encode_node_batch(batch: pm.Hello | Sequence[m.Response]) -> bytes:
    """A batch of a node's answers to a client. Raises CodecError."""
    out = pb.NodeBatch()
    try:
        if isinstance(batch, pm.Hello):
            put_hello(out.hello, batch)
            return out.SerializeToString()
        add = out.responses.add
        for id_, answer in batch:
            to = add()
            to.id = id_
            _PUT_ANSWER[type(answer)](to, answer)
        return out.SerializeToString()
    except BAD_VALUES as error:
        raise CodecError(f"cannot encode a node batch: {error!r}") from error


def decode_node_batch(data: bytes) -> pm.Hello | list[m.Response]:
    """The inverse of encode_node_batch. Raises CodecError."""
    try:
        batch = pb.NodeBatch.FromString(data)
        if batch.HasField("hello"):
            return hello_of(batch.hello)
        responses = []
        for one in batch.responses:
            kind = one.WhichOneof("answer")
            if kind is None:
                raise CodecError(f"response {one.id} is of a kind that this version does not know")
            responses.append(m.Response(one.id, _ANSWER[kind](one)))
        return responses
    except CodecError:
        raise
    except BAD_VALUES as error:
        raise CodecError(f"not a node batch: {error!r}") from error


# --- calls ------------------------------------------------------------------------------------------------


def _put_write(to: pb.Request, call: m.Write) -> None:
    fill_write(to.write, call)


def _write(one: pb.Request) -> m.Write:
    return write_of(one.write)


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
    if call.slot:
        out.slot = call.slot
        out.fetch = call.fetch


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
        map_of(r.names_json),
        map_of(r.values_json),
        r.count_only,
        r.slot,
        r.fetch,
    )


def _put_apply_changes(to: pb.Request, call: m.ApplyChanges) -> None:
    out = to.apply_changes
    out.partition = call.partition
    out.epoch = call.epoch
    add = out.changes.add
    for change in call.changes:
        fill_change(add(), change)


def _apply_changes(one: pb.Request) -> m.ApplyChanges:
    a = one.apply_changes
    return m.ApplyChanges(a.partition, a.epoch, tuple(map(change_of, a.changes)))


def _put_apply_index(to: pb.Request, call: m.ApplyIndex) -> None:
    out = to.apply_index
    out.partition = call.partition
    out.epoch = call.epoch
    out.source = call.source
    out.term = call.term
    out.number = call.number
    add = out.entries.add
    for key, sequence, image, size in call.entries:
        entry = add()
        entry.key = key
        entry.sequence = sequence
        entry.size = size
        if image is not None:
            entry.image = image


def _apply_index(one: pb.Request) -> m.ApplyIndex:
    a = one.apply_index
    entries = tuple(
        [m.IndexEntry(e.key, e.sequence, e.image if e.HasField("image") else None, e.size) for e in a.entries]
    )
    return m.ApplyIndex(a.partition, a.epoch, a.source, a.term, a.number, entries)


def _put_read_rows(to: pb.Request, call: m.ReadRows) -> None:
    out = to.read_rows
    out.partition, out.epoch, out.after, out.max_bytes, out.strong = call


def _read_rows(one: pb.Request) -> m.ReadRows:
    r = one.read_rows
    return m.ReadRows(r.partition, r.epoch, r.after, r.max_bytes, r.strong)


def _put_read_feed(to: pb.Request, call: m.ReadFeed) -> None:
    out = to.read_feed
    out.partition, out.epoch, out.consumer, out.after, out.max_bytes, out.wait_ms, out.origin, out.safe_us = call


def _read_feed(one: pb.Request) -> m.ReadFeed:
    r = one.read_feed
    return m.ReadFeed(r.partition, r.epoch, r.consumer, r.after, r.max_bytes, r.wait_ms, r.origin, r.safe_us)


def _put_advance_cursor(to: pb.Request, call: m.AdvanceCursor) -> None:
    out = to.advance_cursor
    out.partition, out.epoch, out.consumer, out.sequence, out.stable_us, arrived = call
    for region, us in arrived:
        out.arrived.add(region=region, us=us)


def _advance_cursor(one: pb.Request) -> m.AdvanceCursor:
    a = one.advance_cursor
    arrived = tuple((mark.region, mark.us) for mark in a.arrived)
    return m.AdvanceCursor(a.partition, a.epoch, a.consumer, a.sequence, a.stable_us, arrived)


def _put_control(to: pb.Request, call: m.Control) -> None:
    to.control.operation = call.operation
    to.control.body_json = orjson.dumps(call.body)


def _control(one: pb.Request) -> m.Control:
    return m.Control(one.control.operation, object_of(one.control.body_json))


def _put_watch(to: pb.Request, call: m.Watch) -> None:
    out = to.watch
    out.revision, out.leads_version, out.wait_ms, counts_version = call
    if counts_version >= 0:
        out.counts_version = counts_version


def _watch(one: pb.Request) -> m.Watch:
    w = one.watch
    return m.Watch(w.revision, w.leads_version, w.wait_ms, w.counts_version if w.HasField("counts_version") else -1)


_PUT_CALL: Final[dict[type, Callable[[pb.Request, Any], None]]] = {
    m.Write: _put_write,
    m.Get: _put_get,
    m.Range: _put_range,
    m.ApplyChanges: _put_apply_changes,
    m.ApplyIndex: _put_apply_index,
    m.ReadRows: _put_read_rows,
    m.DigestRows: digests.put_digest_rows,
    m.Renew: digests.put_renew,
    m.ReadFeed: _put_read_feed,
    m.AdvanceCursor: _put_advance_cursor,
    m.ListShards: streams.put_list_shards,
    m.ReadStream: streams.put_read_stream,
    m.Prepare: transactions.put_prepare,
    m.Finish: transactions.put_finish,
    m.ReadTogether: transactions.put_read_together,
    m.Control: _put_control,
    m.Watch: _put_watch,
}
_CALL: Final[dict[str, Callable[[pb.Request], m.Call]]] = {
    "write": _write,
    "get": _get,
    "range": _range,
    "apply_changes": _apply_changes,
    "apply_index": _apply_index,
    "read_rows": _read_rows,
    "digest_rows": digests.digest_rows,
    "renew": digests.renew,
    "read_feed": _read_feed,
    "advance_cursor": _advance_cursor,
    "list_shards": streams.list_shards,
    "read_stream": streams.read_stream,
    "prepare": transactions.prepare,
    "finish": transactions.finish,
    "read_together": transactions.read_together,
    "control": _control,
    "watch": _watch,
}


# --- answers ----------------------------------------------------------------------------------------------


def _put_written(to: pb.Response, answer: m.Written) -> None:
    fill_written(to.written, answer)


def _written(one: pb.Response) -> m.Written:
    return written_of(one.written)


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
    if answer.fetched_blocks:
        out.fetched_blocks = answer.fetched_blocks


def _page(one: pb.Response) -> m.Page:
    p = one.page
    last_key = p.last_key if p.HasField("last_key") else None
    return m.Page(tuple(p.items_json), p.count, p.scanned, p.size, last_key, p.fetched_blocks)


def _put_applied(to: pb.Response, answer: m.Applied) -> None:
    to.applied.applied = answer.applied


def _applied(one: pb.Response) -> m.Applied:
    return m.Applied(one.applied.applied)


def _put_rows(to: pb.Response, answer: m.Rows) -> None:
    out = to.rows
    out.SetInParent()
    add = out.rows.add
    for change in answer.rows:
        fill_change(add(), change)
    if answer.last_key is not None:
        out.last_key = answer.last_key


def _rows(one: pb.Response) -> m.Rows:
    r = one.rows
    return m.Rows(tuple(map(change_of, r.rows)), r.last_key if r.HasField("last_key") else None)


def _put_feed_page(to: pb.Response, answer: m.FeedPage) -> None:
    out = to.feed_page
    out.next = answer.next
    out.head = answer.head
    out.trimmed = answer.trimmed
    out.safe_us = answer.safe_us
    out.revision = answer.revision
    add = out.records.add
    for record in answer.records:
        streams.fill_record(add(), record)


def _feed_page(one: pb.Response) -> m.FeedPage:
    page = one.feed_page
    records = tuple(map(streams.record_of, page.records))
    return m.FeedPage(records, page.next, page.head, page.trimmed, page.safe_us, page.revision)


def _put_control_done(to: pb.Response, answer: m.ControlDone) -> None:
    to.control_done.revision = answer.revision
    to.control_done.body_json = orjson.dumps(answer.body)


def _control_done(one: pb.Response) -> m.ControlDone:
    return m.ControlDone(one.control_done.revision, object_of(one.control_done.body_json))


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
    out.counts_version = answer.counts_version
    for count in answer.counts:
        to_count = out.counts.add()
        to_count.partition, to_count.slot, to_count.items, to_count.bytes = count


def _watched(one: pb.Response) -> m.Watched:
    w = one.watched
    records = tuple([(r.key, object_of(r.value_json) if r.HasField("value_json") else None) for r in w.records])
    leads = tuple([(lead.partition, lead.term) for lead in w.leads])
    counts = tuple([m.Count(count.partition, count.slot, count.items, count.bytes) for count in w.counts])
    return m.Watched(w.revision, w.full, records, w.leads_version, leads, w.counts_version, counts)


def _put_refused(to: pb.Response, answer: m.Refused) -> None:
    fill_refused(to.refused, answer)


def _refused(one: pb.Response) -> m.Refused:
    return refused_of(one.refused)


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
    m.Prepared: transactions.put_prepared,
    m.PrepareRefused: transactions.put_prepare_refused,
    m.Images: transactions.put_images,
    m.Found: _put_found,
    m.Page: _put_page,
    m.Applied: _put_applied,
    m.Rows: _put_rows,
    m.Digested: digests.put_digested,
    m.FeedPage: _put_feed_page,
    m.Shards: streams.put_shards,
    m.StreamPage: streams.put_stream_page,
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
    "prepared": transactions.prepared,
    "prepare_refused": transactions.prepare_refused,
    "images": transactions.images,
    "found": _found,
    "page": _page,
    "applied": _applied,
    "rows": _rows,
    "digested": digests.digested,
    "feed_page": _feed_page,
    "shards": streams.shards,
    "stream_page": streams.stream_page,
    "control_done": _control_done,
    "watched": _watched,
    "refused": _refused,
    "not_leader": _not_leader,
    "moved": _moved,
    "unknown": _unknown,
    "busy": _busy,
}
