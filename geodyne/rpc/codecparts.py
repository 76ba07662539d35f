"""What several messages have in common: the hello of a stream, writes, outcomes, changes, refusals, JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from geodyne import messages as m
from geodyne import peermessages as pm
from geodyne.wire import node_v1_pb2 as pb

_WRITE_KINDS: Final = {int(kind): kind for kind in m.WriteKind}
_RETURN_VALUES: Final = {int(values): values for values in m.ReturnValues}


class CodecError(ValueError):
    """Bytes that are no batch of this format, or a value that no batch can carry."""


def put_hello(out: Any, hello: pm.Hello) -> None:
    """Fill the first message of a stream. Readers that know one format only compare `format`: it is the oldest."""
    out.cluster_id, out.region, out.process_id, out.incarnation, newest, oldest = hello
    out.format = oldest or newest
    if oldest:
        out.newest = newest


def hello_of(one: Any) -> pm.Hello:
    """The first message of a stream."""
    identity = one.cluster_id, one.region, one.process_id, one.incarnation
    return pm.Hello(*identity, one.newest, one.format) if one.newest else pm.Hello(*identity, one.format)


def fill_write(out: pb.Write, call: m.Write) -> None:
    """A Write, alone or as an item of a transaction."""
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
    if call.capacity:
        out.capacity = True


def write_of(w: pb.Write) -> m.Write:
    """The inverse of fill_write."""
    return m.Write(
        w.partition,
        w.epoch,
        _WRITE_KINDS[w.kind],
        w.key,
        w.item,
        w.size,
        w.condition if w.HasField("condition") else None,
        w.update if w.HasField("update") else None,
        map_of(w.names_json),
        map_of(w.values_json),
        _RETURN_VALUES[w.returns],
        w.return_on_failure,
        w.capacity,
    )


def fill_written(out: pb.Written, answer: m.Written) -> None:
    """A Written, alone or one of several outcomes."""
    out.size_before = answer.size_before
    out.size_after = answer.size_after
    if answer.attributes is not None:
        out.attributes_json = answer.attributes
    for name, units in answer.index_writes:
        out.index_writes.add(name=name, units=units)
    if answer.collection_bytes >= 0:
        out.collection_bytes = answer.collection_bytes


def written_of(w: pb.Written) -> m.Written:
    """The inverse of fill_written."""
    return m.Written(
        w.size_before,
        w.size_after,
        w.attributes_json if w.HasField("attributes_json") else None,
        tuple((each.name, each.units) for each in w.index_writes) if w.index_writes else (),
        w.collection_bytes if w.HasField("collection_bytes") else -1,
    )


def fill_change(out: pb.Change, change: m.Change) -> None:
    """A Change, alone or in a change record."""
    out.key = change.key
    out.version = change.version
    out.size = change.size
    if change.image is not None:
        out.image = change.image
    if change.base is not None:
        out.base = change.base


def change_of(one: pb.Change) -> m.Change:
    """The inverse of fill_change."""
    image = one.image if one.HasField("image") else None
    return m.Change(one.key, one.version, image, one.size, one.base if one.HasField("base") else None)


def fill_refused(out: pb.Refused, answer: m.Refused) -> None:
    """A Refused, alone or as the reason of one item."""
    out.code = answer.code
    out.message = answer.message
    out.size = answer.size
    if answer.item is not None:
        out.item_json = answer.item


def refused_of(r: pb.Refused) -> m.Refused:
    """The inverse of fill_refused."""
    return m.Refused(r.code, r.message, r.item_json if r.HasField("item_json") else None, r.size)


def map_of(data: bytes) -> Mapping[str, Any]:
    """A JSON object that may be left out."""
    return object_of(data) if data else m.NO_NAMES


def object_of(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises CodecError for anything else."""
    value = orjson.loads(data)
    if type(value) is not dict:
        raise CodecError("a JSON object was expected")
    return value
