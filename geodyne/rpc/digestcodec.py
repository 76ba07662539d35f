"""The messages of comparing regions; otherwise like geodyne.rpc.codec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from geodyne import messages as m
from geodyne.wire import node_v1_pb2 as pb


def put_digest_rows(to: pb.Request, call: m.DigestRows) -> None:
    out = to.digest_rows
    out.partition, out.epoch, out.low, out.high, out.listed, _ = call


def digest_rows(one: pb.Request) -> m.DigestRows:
    r = one.digest_rows
    return m.DigestRows(r.partition, r.epoch, r.low, r.high, r.listed)


def put_renew(to: pb.Request, call: m.Renew) -> None:
    out = to.renew
    out.partition, out.epoch = call.partition, call.epoch
    _put_rows(out.rows, call.rows)


def renew(one: pb.Request) -> m.Renew:
    r = one.renew
    return m.Renew(r.partition, r.epoch, _rows(r.rows))


def put_digested(to: pb.Response, answer: m.Digested) -> None:
    out = to.digested
    out.rows, out.digest = answer.rows, answer.digest
    if answer.last_key is not None:
        out.last_key = answer.last_key
    _put_rows(out.listed, answer.listed)


def digested(one: pb.Response) -> m.Digested:
    d = one.digested
    return m.Digested(d.rows, d.digest, d.last_key if d.HasField("last_key") else None, _rows(d.listed))


def _put_rows(to: Any, rows: Iterable[m.RowDigest]) -> None:
    for key, version, digest in rows:
        to.add(key=key, version=version, digest=digest)


def _rows(rows: Iterable[pb.RowDigest]) -> tuple[m.RowDigest, ...]:
    return tuple([m.RowDigest(row.key, row.version, row.digest) for row in rows])
