"""The messages of table streams and change records; otherwise like geodyne.rpc.codec."""

from __future__ import annotations

from geodyne import messages as m
from geodyne.rpc.codecparts import change_of, fill_change
from geodyne.wire import node_v1_pb2 as pb


def put_list_shards(to: pb.Request, call: m.ListShards) -> None:
    out = to.list_shards
    out.partition, out.epoch, out.label = call


def list_shards(one: pb.Request) -> m.ListShards:
    call = one.list_shards
    return m.ListShards(call.partition, call.epoch, call.label)


def put_read_stream(to: pb.Request, call: m.ReadStream) -> None:
    out = to.read_stream
    (
        out.partition,
        out.epoch,
        out.label,
        out.shard,
        out.after,
        out.limit,
        out.max_bytes,
        out.wait_ms,
        out.since_us,
        out.consumer,
    ) = call


def read_stream(one: pb.Request) -> m.ReadStream:
    r = one.read_stream
    place = r.partition, r.epoch, r.label, r.shard, r.after
    return m.ReadStream(*place, r.limit, r.max_bytes, r.wait_ms, r.since_us, r.consumer)


def put_shards(to: pb.Response, answer: m.Shards) -> None:
    out = to.shards
    out.floor = answer.floor
    for opened_us, after, last in answer.shards:
        shard = out.shards.add()
        shard.opened_us = opened_us
        shard.after = after
        if last is not None:
            shard.last = last


def shards(one: pb.Response) -> m.Shards:
    spans = [m.ShardSpan(s.opened_us, s.after, s.last if s.HasField("last") else None) for s in one.shards.shards]
    return m.Shards(tuple(spans), one.shards.floor)


def put_stream_page(to: pb.Response, answer: m.StreamPage) -> None:
    out = to.stream_page
    out.next = answer.next
    out.closed = answer.closed
    out.trimmed = answer.trimmed
    add = out.records.add
    for record in answer.records:
        fill_record(add(), record)


def stream_page(one: pb.Response) -> m.StreamPage:
    page = one.stream_page
    return m.StreamPage(tuple(map(record_of, page.records)), page.next, page.closed, page.trimmed)


def fill_record(out: pb.FeedRecord, record: m.FeedRecord) -> None:
    """A change record of either kind of page."""
    sequence, change, old_image, wall_us, expired, old_size = record
    out.sequence = sequence
    fill_change(out.change, change)
    if old_image is not None:
        out.old_image = old_image
    if wall_us:
        out.wall_us = wall_us
    if expired:
        out.expired = True
    if old_size >= 0:
        out.old_size = old_size


def record_of(one: pb.FeedRecord) -> m.FeedRecord:
    """The inverse of fill_record."""
    old_image = one.old_image if one.HasField("old_image") else None
    old_size = one.old_size if one.HasField("old_size") else -1
    return m.FeedRecord(one.sequence, change_of(one.change), old_image, one.wall_us, one.expired, old_size)
