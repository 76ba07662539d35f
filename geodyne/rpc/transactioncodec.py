"""The bytes of transactions on a client's stream (geodyne.rpc.codec)."""

from __future__ import annotations

from geodyne import messages as m
from geodyne.rpc.codecparts import fill_refused, fill_write, fill_written, refused_of, write_of, written_of
from geodyne.wire import node_v1_pb2 as pb


def put_prepare(to: pb.Request, call: m.Prepare) -> None:
    out = to.prepare
    out.partition = call.partition
    out.epoch = call.epoch
    out.transaction = call.transaction
    out.attempt = call.attempt
    out.digest = call.digest
    out.commit = call.commit
    for item in call.items:
        fill_write(out.items.add(), item)


def prepare(one: pb.Request) -> m.Prepare:
    p = one.prepare
    items = tuple(map(write_of, p.items))
    return m.Prepare(p.partition, p.epoch, p.transaction, p.attempt, p.digest, items, p.commit)


def put_finish(to: pb.Request, call: m.Finish) -> None:
    out = to.finish
    out.partition, out.epoch, out.transaction, out.attempt, out.commit = call


def finish(one: pb.Request) -> m.Finish:
    f = one.finish
    return m.Finish(f.partition, f.epoch, f.transaction, f.attempt, f.commit)


def put_read_together(to: pb.Request, call: m.ReadTogether) -> None:
    out = to.read_together
    out.partition = call.partition
    out.epoch = call.epoch
    out.keys.extend(call.keys)


def read_together(one: pb.Request) -> m.ReadTogether:
    r = one.read_together
    return m.ReadTogether(r.partition, r.epoch, tuple(r.keys))


def put_prepared(to: pb.Response, answer: m.Prepared) -> None:
    out = to.prepared
    out.replayed = answer.replayed
    for outcome in answer.outcomes:
        fill_written(out.outcomes.add(), outcome)


def prepared(one: pb.Response) -> m.Prepared:
    return m.Prepared(tuple(map(written_of, one.prepared.outcomes)), one.prepared.replayed)


def put_prepare_refused(to: pb.Response, answer: m.PrepareRefused) -> None:
    to.prepare_refused.SetInParent()
    for reason in answer.reasons:
        out = to.prepare_refused.reasons.add()
        if reason is not None:
            fill_refused(out, reason)


def prepare_refused(one: pb.Response) -> m.PrepareRefused:
    reasons = one.prepare_refused.reasons
    return m.PrepareRefused(tuple([refused_of(r) if r.code else None for r in reasons]))


def put_images(to: pb.Response, answer: m.Images) -> None:
    to.images.SetInParent()
    for item, size, stamp, locked in answer.images:
        out = to.images.images.add()
        out.size = size
        out.stamp = stamp
        out.locked = locked
        if item is not None:
            out.item_json = item


def images(one: pb.Response) -> m.Images:
    return m.Images(
        tuple(
            [
                m.Image(i.item_json if i.HasField("item_json") else None, i.size, i.stamp, i.locked)
                for i in one.images.images
            ]
        )
    )
