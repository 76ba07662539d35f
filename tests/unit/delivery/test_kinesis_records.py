"""What a data stream gets of a change, and how requests are cut and repeated."""

from __future__ import annotations

from typing import Any

import orjson

from delivery.kinesisrecords import (
    REQUEST_BYTES_MAX,
    REQUEST_RECORDS_MAX,
    DataRecord,
    TableSource,
    data_record,
    request_of,
    to_repeat,
)
from geodyne.messages import Change, FeedRecord
from geodyne.model.keys import KeySchema, encode_key

SCHEMA = KeySchema("pk", "S")
SOURCE = TableSource("destination", "Music", "us-east-1", SCHEMA, 7, 1)
WALL_US = 1_790_000_000_123_456


def change(key: str, new: dict[str, Any] | None, old: dict[str, Any] | None, *, expired: bool = False) -> FeedRecord:
    item = {"pk": {"S": key}}
    image = orjson.dumps({**item, **new}) if new is not None else None
    before = orjson.dumps({**item, **old}) if old is not None else None
    size = 2 + len(key) + sum(len(name) + len(value["S"]) for name, value in (new or {}).items())
    return FeedRecord(65_536, Change(encode_key(SCHEMA, item), b"v", image, size), before, WALL_US, expired)


def shown(record: FeedRecord, precision: str = "MICROSECOND") -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(data_record(record, SOURCE, precision).data)
    return found


def test_a_record_has_the_documented_members() -> None:
    record = shown(change("42", {"Title": {"S": "Call Me2"}}, {"Title": {"S": "Call Me"}}))
    identifier = record.pop("eventID")
    assert [len(part) for part in identifier.split("-")] == [8, 4, 4, 4, 12]
    assert record == {
        "awsRegion": "us-east-1",
        "eventName": "MODIFY",
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": "Music",
        "dynamodb": {
            "ApproximateCreationDateTime": WALL_US,
            "ApproximateCreationDateTimePrecision": "MICROSECOND",
            "Keys": {"pk": {"S": "42"}},
            "NewImage": {"pk": {"S": "42"}, "Title": {"S": "Call Me2"}},
            "OldImage": {"pk": {"S": "42"}, "Title": {"S": "Call Me"}},
            "SizeBytes": 4 + (4 + 13) + (4 + 12),
        },
        "eventSource": "aws:dynamodb",
    }


def test_times_have_the_precision_of_the_destination() -> None:
    record = shown(change("a", {}, None), "MILLISECOND")["dynamodb"]
    assert record["ApproximateCreationDateTime"] == WALL_US // 1_000
    assert record["ApproximateCreationDateTimePrecision"] == "MILLISECOND"


def test_what_time_to_live_deletes_says_so() -> None:
    record = shown(change("a", None, {}, expired=True))
    assert (record["eventName"], record["userIdentity"]) == (
        "REMOVE",
        {"principalId": "dynamodb.amazonaws.com", "type": "Service"},
    )
    assert "NewImage" not in record["dynamodb"]


def test_changes_of_an_item_have_one_partition_key_and_ids_of_their_own() -> None:
    first = change("a", {}, None)
    other_place = first._replace(sequence=131_072)
    records = [data_record(one, SOURCE, "MICROSECOND") for one in (first, other_place, change("b", {}, None))]
    assert records[0].partition_key == records[1].partition_key != records[2].partition_key
    assert len({orjson.loads(record.data)["eventID"] for record in records}) == 3
    assert data_record(first, SOURCE, "MICROSECOND") == records[0], "the same whenever it is made"


def entry(sequence: int, key: str = "k", size: int = 10) -> DataRecord:
    return DataRecord(sequence, 1, key, b"x" * size)


def test_a_request_holds_as_many_records_and_bytes_as_are_allowed_and_at_least_one() -> None:
    many = [entry(number) for number in range(REQUEST_RECORDS_MAX + 1)]
    assert len(request_of(many, 10_000)) == REQUEST_RECORDS_MAX
    assert len(request_of(many, 3)) == 3
    large = [entry(number, size=REQUEST_BYTES_MAX // 4) for number in range(6)]
    assert len(request_of(large, 500)) == 3
    assert len(request_of([entry(1, size=2 * REQUEST_BYTES_MAX)], 500)) == 1


def test_what_follows_a_failed_record_of_the_same_item_is_sent_again_with_it() -> None:
    sent = [entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4, "c"), entry(5, "b")]
    assert [record.sequence for record in to_repeat(sent, {0})] == [1, 3]
    assert [record.sequence for record in to_repeat(sent, {1, 3})] == [2, 4, 5]
    assert to_repeat(sent, set()) == []
