"""The JSON that functions and destinations get."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from delivery.events import Source, arrival, failure_document, invocation_event, shard_of, split_by_shard
from delivery.lane import RETRIES_EXHAUSTED, Arrival, Discard, WindowSpan
from geodyne.messages import Change, FeedRecord, ShardSpan
from geodyne.model.keys import KeySchema, encode_key
from geodyne.streams import sequence_text, shard_id
from geodyne.triggers.patterns import parse_pattern

SCHEMA = KeySchema("pk", "S")
ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2026-11-24T03:44:12.123"
SOURCE = Source(ARN, "us-east-1", "NEW_AND_OLD_IMAGES", SCHEMA, 7, 3)
WALL_US = 1_700_000_000_250_000


def record(sequence: int, *, new: str | None = "1", old: str | None = None, expired: bool = False) -> FeedRecord:
    def image(value: str | None) -> bytes | None:
        return None if value is None else orjson.dumps({"pk": {"S": "a"}, "n": {"N": value}})

    key = encode_key(SCHEMA, {"pk": {"S": "a"}})
    return FeedRecord(sequence, Change(key, b"\0" * 9, image(new), 5), image(old), WALL_US, expired)


def event_of(one: FeedRecord, source: Source = SOURCE) -> dict[str, Any]:
    found = arrival(one, source, ())
    assert found is not None
    event: dict[str, Any] = orjson.loads(found.event)
    return event


def test_a_record_has_the_form_of_lambdas_event() -> None:
    event = event_of(record(65, new="2", old="1"))
    assert event.keys() == {
        "eventID",
        "eventName",
        "eventVersion",
        "eventSource",
        "awsRegion",
        "dynamodb",
        "eventSourceARN",
    }
    assert (event["eventName"], event["eventSource"], event["eventVersion"]) == ("MODIFY", "aws:dynamodb", "1.1")
    assert (event["awsRegion"], event["eventSourceARN"]) == ("us-east-1", ARN)
    shown = event["dynamodb"]
    assert shown["Keys"] == {"pk": {"S": "a"}}
    assert shown["NewImage"] == {"pk": {"S": "a"}, "n": {"N": "2"}}
    assert shown["OldImage"] == {"pk": {"S": "a"}, "n": {"N": "1"}}
    assert shown["SequenceNumber"] == sequence_text(3, 65)
    assert shown["ApproximateCreationDateTime"] == WALL_US // 1_000_000
    assert shown["StreamViewType"] == "NEW_AND_OLD_IMAGES"


def test_an_event_shows_only_the_images_of_its_streams_view() -> None:
    shown = event_of(record(65, new="2", old="1"), SOURCE._replace(view="KEYS_ONLY"))["dynamodb"]
    assert not {"NewImage", "OldImage"} & shown.keys()


def test_a_deletion_by_time_to_live_says_who_made_it_as_lambda_spells_it() -> None:
    event = event_of(record(65, new=None, old="1", expired=True))
    assert event["eventName"] == "REMOVE"
    assert event["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert "userIdentity" not in event_of(record(65, new=None, old="1"))


def test_filters_see_the_event() -> None:
    removed_by_ttl = parse_pattern('{"userIdentity": {"type": ["Service"]}, "eventName": ["REMOVE"]}')
    assert arrival(record(65, new=None, old="1", expired=True), SOURCE, (removed_by_ttl,)) is not None
    assert arrival(record(65, new=None, old="1"), SOURCE, (removed_by_ttl,)) is None


def test_an_event_is_a_list_of_records() -> None:
    arrivals = (Arrival(1, "1", 0, WALL_US, b'{"a":1}'), Arrival(2, "2", 0, WALL_US, b'{"b":2}'))
    assert orjson.loads(invocation_event(arrivals, None, ARN, "")) == {"Records": [{"a": 1}, {"b": 2}]}


def test_an_event_of_a_window_carries_window_and_state() -> None:
    window = WindowSpan(1_700_000_000_000_000, 1_700_000_060_000_000, {"n": 1}, True, False)
    assert orjson.loads(invocation_event((), window, ARN, "shard")) == {
        "Records": [],
        "window": {"start": "2023-11-14T22:13:20Z", "end": "2023-11-14T22:14:20Z"},
        "state": {"n": 1},
        "shardId": "shard",
        "eventSourceARN": ARN,
        "isFinalInvokeForWindow": True,
        "isWindowTerminatedEarly": False,
    }


def given_up(invocations: int = 4, error: str = "Unhandled") -> Discard:
    first, last = (Arrival(n, sequence_text(3, n), 0, WALL_US + n, b'{"n":%d}' % n) for n in (65, 66))
    return Discard(0, (first, last), first, last, 2, RETRIES_EXHAUSTED, invocations, error, "boom", None)


def document_of(discard: Discard) -> tuple[str, dict[str, Any]]:
    found = failure_document(
        discard, SOURCE, mapping="uuid", function_arn="arn:f", shard="shard", wall_us=WALL_US, request_id="r"
    )
    body: dict[str, Any] = orjson.loads(found.body)
    return found.name, body


def test_the_record_of_a_failed_batch_has_the_documented_form() -> None:
    _, body = document_of(given_up())
    payload = body.pop("payload")
    assert body == {
        "requestContext": {
            "requestId": "r",
            "functionArn": "arn:f",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 4,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2023-11-14T22:13:20.250Z",
        "DDBStreamBatchInfo": {
            "shardId": "shard",
            "startSequenceNumber": sequence_text(3, 65),
            "endSequenceNumber": sequence_text(3, 66),
            "approximateArrivalOfFirstRecord": "2023-11-14T22:13:20Z",
            "approximateArrivalOfLastRecord": "2023-11-14T22:13:20Z",
            "batchSize": 2,
            "streamArn": ARN,
        },
    }
    assert orjson.loads(payload) == {"Records": [{"n": 65}, {"n": 66}]}


def test_without_a_call_there_is_no_response_and_without_an_error_no_error() -> None:
    assert "responseContext" not in document_of(given_up(invocations=0))[1]
    assert "functionError" not in document_of(given_up(error=""))[1]["responseContext"]


def test_the_same_batch_has_the_same_name_and_another_batch_another() -> None:
    name, _ = document_of(given_up())
    assert name.startswith("aws/lambda/uuid/shard/2023/11/14/2023-11-14T22.13.20-")
    assert document_of(given_up(invocations=9))[0] == name
    assert document_of(given_up()._replace(batch_size=1))[0] != name


@pytest.mark.parametrize(("sequence", "opened"), [(5, 1_000), (11, 1_000), (20, 1_000), (21, 2_000), (999, 2_000)])
def test_a_record_is_in_the_shard_that_began_before_it(sequence: int, opened: int) -> None:
    spans = (ShardSpan(1_000, 10, 20), ShardSpan(2_000, 20, None))
    assert shard_of(spans, sequence, SOURCE) == shard_id(opened, 7)


def test_a_batch_of_two_shards_has_a_document_for_each() -> None:
    discard = given_up()
    one = (ShardSpan(1_000, 0, None),)
    assert split_by_shard(discard, one, SOURCE) == [(shard_id(1_000, 7), discard)]
    two = (ShardSpan(1_000, 0, 65), ShardSpan(2_000, 65, None))
    parts = split_by_shard(discard, two, SOURCE)
    assert [shard for shard, _ in parts] == [shard_id(1_000, 7), shard_id(2_000, 7)]
    assert [(part.first.sequence, part.last.sequence, part.batch_size) for _, part in parts] == [
        (65, 65, 1),
        (66, 66, 1),
    ]
    window = discard._replace(arrivals=(), batch_size=9)
    assert split_by_shard(window, two, SOURCE) == [(shard_id(1_000, 7), window)]
