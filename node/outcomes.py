"""Outcomes of writes in the log: what a resend of the same write is answered."""

from __future__ import annotations

from geodyne.messages import Written
from geodyne.wire import log_v1_pb2 as log


def outcome_to_wire(outcome: Written) -> log.Outcome:
    """An outcome as the log keeps it."""
    message = log.Outcome(size_before=outcome.size_before, size_after=outcome.size_after)
    if outcome.attributes is not None:
        message.attributes = outcome.attributes
    for name, units in outcome.index_writes:
        message.index_writes.add(name=name, units=units)
    if outcome.collection_bytes >= 0:
        message.collection_bytes = outcome.collection_bytes
    return message


def outcome_from_wire(message: log.Outcome) -> Written:
    """The inverse of `outcome_to_wire`."""
    attributes = message.attributes if message.HasField("attributes") else None
    index_writes = tuple((each.name, each.units) for each in message.index_writes)
    collection_bytes = message.collection_bytes if message.HasField("collection_bytes") else -1
    return Written(message.size_before, message.size_after, attributes, index_writes, collection_bytes)
