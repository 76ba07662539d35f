"""The JSON that functions and on-failure destinations get.

Shapes: Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB" (example event, time windows, example invocation
record) and "Retain discarded records for a DynamoDB event source" (the object's name and the `payload`, which here goes
to every kind of destination: a record that was given up should not depend on the stream's 24 hours).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from delivery.lane import Arrival, Discard, WindowSpan
from geodyne.messages import FeedRecord, ShardSpan
from geodyne.model.keys import KeySchema, hash_of
from geodyne.streams import shard_id, stream_record
from geodyne.triggers.patterns import Pattern, passes

EXPIRY_IDENTITY = {"principalId": "dynamodb.amazonaws.com", "type": "Service"}  # so spelt in events of Lambda
_DOCUMENT_VERSION = "1.0"
_EXECUTED_VERSION = "$LATEST"


class Source(NamedTuple):
    """One partition of a stream, as far as events show it."""

    arn: str
    region: str
    view: str
    schema: KeySchema
    partition: int
    epoch: int


def arrival(record: FeedRecord, source: Source, patterns: Sequence[Pattern]) -> Arrival | None:
    """The record as an event of Lambda, or None when the filters reject it."""
    event = stream_record(
        record,
        schema=source.schema,
        view=source.view,
        epoch=source.epoch,
        arn=source.arn,
        region=source.region,
        image=orjson.loads,
    )
    event["eventSourceARN"] = source.arn
    if record.expired:
        event["userIdentity"] = EXPIRY_IDENTITY
    if not passes(patterns, event):
        return None
    identifier = event["dynamodb"]["SequenceNumber"]
    return Arrival(record.sequence, identifier, hash_of(record.change.key), record.wall_us, orjson.dumps(event))


def invocation_event(arrivals: Sequence[Arrival], window: WindowSpan | None, arn: str, shard: str) -> bytes:
    """The event of one call. `shard` is the name of the shard, which only events of tumbling windows carry."""
    records = b'{"Records":[' + b",".join([one.event for one in arrivals]) + b"]"
    if window is None:
        return records + b"}"
    rest = orjson.dumps(
        {
            "window": {"start": _second(window.start_us), "end": _second(window.end_us)},
            "state": window.state,
            "shardId": shard,
            "eventSourceARN": arn,
            "isFinalInvokeForWindow": window.final,
            "isWindowTerminatedEarly": window.early,
        }
    )
    return records + b"," + rest[1:]


class FailureDocument(NamedTuple):
    """What an on-failure destination gets. `name` is the same whenever the same batch is handed over again."""

    name: str
    body: bytes


def failure_document(
    discard: Discard, source: Source, *, mapping: str, function_arn: str, shard: str, wall_us: int, request_id: str
) -> FailureDocument:
    """The invocation record of a batch that was given up. `request_id` is that of the last call ("" when there was
    none: then there was no response either)."""
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": function_arn,
            "condition": discard.condition,
            "approximateInvokeCount": discard.invocations,
        }
    }
    if discard.invocations:
        response: dict[str, Any] = {"statusCode": 200, "executedVersion": _EXECUTED_VERSION}
        if discard.error:
            response["functionError"] = discard.error
        document["responseContext"] = response
    document |= {
        "version": _DOCUMENT_VERSION,
        "timestamp": _moment(wall_us).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "DDBStreamBatchInfo": {
            "shardId": shard,
            "startSequenceNumber": discard.first.identifier,
            "endSequenceNumber": discard.last.identifier,
            "approximateArrivalOfFirstRecord": _second(discard.first.time_us),
            "approximateArrivalOfLastRecord": _second(discard.last.time_us),
            "batchSize": discard.batch_size,
            "streamArn": source.arn,
        },
        "payload": invocation_event(discard.arrivals, discard.window, source.arn, shard).decode(),
    }
    first_at = _moment(discard.first.time_us)
    place = f"{mapping} {discard.first.identifier} {discard.last.identifier} {discard.batch_size}".encode()
    unique = UUID(bytes=blake2b(place, digest_size=16).digest())
    name = f"aws/lambda/{mapping}/{shard}/{first_at:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{unique}"
    return FailureDocument(name, orjson.dumps(document))


def shard_of(spans: Sequence[ShardSpan], sequence: int, source: Source) -> str:
    """The name of the shard that holds the record; of the nearest one when it is no longer known."""
    for span in reversed(spans):
        if span.after < sequence:
            return shard_id(span.opened_us, source.partition)
    return shard_id(spans[0].opened_us if spans else 0, source.partition)


def split_by_shard(discard: Discard, spans: Sequence[ShardSpan], source: Source) -> list[tuple[str, Discard]]:
    """A document is about one shard, so that its records can be read there: one part for each that the batch is of."""
    parts: list[tuple[str, list[Arrival]]] = []
    for one in discard.arrivals:
        shard = shard_of(spans, one.sequence, source)
        if not parts or parts[-1][0] != shard:
            parts.append((shard, []))
        parts[-1][1].append(one)
    if len(parts) < 2:
        return [(shard_of(spans, discard.first.sequence, source), discard)]
    return [
        (shard, discard._replace(arrivals=tuple(part), first=part[0], last=part[-1], batch_size=len(part)))
        for shard, part in parts
    ]


def _moment(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / 1e6, UTC)


def _second(time_us: int) -> str:
    return f"{_moment(time_us // 1_000_000 * 1_000_000):%Y-%m-%dT%H:%M:%SZ}"
