"""Names, numbers and records of streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodyne.messages import Change, FeedRecord, Item
from geodyne.model.keys import KeySchema, encode_key
from geodyne.model.values import dumps, item_size
from geodyne.streams import (
    event_id,
    parse_shard_id,
    parse_stream_arn,
    sequence_of,
    sequence_text,
    shard_id,
    stream_arn,
    stream_record,
)

SCHEMA = KeySchema("pk", "S", "sk", "N")
ARN = stream_arn("us-east-1", "000000000000", "things", "2026-11-24T03:44:12.123")
PLACES = st.tuples(st.integers(1, 99), st.integers(0, 2**63 - 1))
KEY: Item = {"pk": {"S": "a"}, "sk": {"N": "1"}}
OLD: Item = {**KEY, "text": {"S": "old"}}
NEW: Item = {**KEY, "text": {"S": "newer"}, "list": {"L": [{"BOOL": True}]}}


def record(old: Item | None, new: Item | None, *, expired: bool = False) -> FeedRecord:
    image = None if new is None else dumps(new)
    change = Change(encode_key(SCHEMA, KEY), b"version", image, 0 if new is None else item_size(new))
    return FeedRecord(7 << 16, change, None if old is None else dumps(old), 1_780_000_000_999_999, expired)


def shown(one: FeedRecord, view: str) -> dict[str, object]:
    return stream_record(one, schema=SCHEMA, view=view, epoch=1, arn=ARN, region="us-east-1")


@given(opened_ms=st.integers(0, 10**15), partition=st.integers(1, 2**32 - 1))
def test_a_shard_is_found_by_its_name(opened_ms: int, partition: int) -> None:
    name = shard_id(opened_ms * 1000, partition)
    assert parse_shard_id(name) == (opened_ms * 1000, partition)
    assert 28 <= len(name) <= 65  # service model, "ShardId"


@given(st.lists(st.integers(0, 10**15), min_size=2, max_size=2, unique=True))
def test_shards_of_a_partition_sort_by_age(opened_ms: list[int]) -> None:
    names = [shard_id(ms * 1000, 3) for ms in sorted(opened_ms)]
    assert names == sorted(names)


@given(epoch=st.integers(1, 10**6), sequence=st.integers(0, 2**63 - 1))
def test_a_number_has_its_place_and_the_length_of_the_model(epoch: int, sequence: int) -> None:
    text = sequence_text(epoch, sequence)
    assert sequence_of(text) == (epoch, sequence)
    assert 21 <= len(text) <= 40


@given(PLACES, PLACES)
def test_numbers_order_by_epoch_then_place(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (one < other) == (int(sequence_text(*one)) < int(sequence_text(*other)))


@pytest.mark.parametrize(
    "text", ["", "1" * 20, "1" * 41, "x" * 21, "1" + "9" * 20, sequence_text(1, 2**63), "²" * 21, "-" + "1" * 21]
)
def test_other_texts_are_no_numbers(text: str) -> None:
    assert sequence_of(text) is None


@pytest.mark.parametrize(
    "text", ["", "shardId-1-1", f"shardId-{0:020d}-0000000G", f"shardId-{0:020d}-00000001x", "shardId-" + "²" * 29]
)
def test_other_texts_name_no_shard(text: str) -> None:
    assert parse_shard_id(text) is None


def test_an_arn_says_which_stream_it_means() -> None:
    assert parse_stream_arn(ARN) == ("us-east-1", "000000000000", "things", "2026-11-24T03:44:12.123")
    assert parse_stream_arn(ARN.rpartition("/stream/")[0]) is None
    assert parse_stream_arn(ARN + "\n") is None
    assert parse_stream_arn(ARN.replace("dynamodb", "kinesis")) is None


@pytest.mark.parametrize(
    ("view", "images"),
    [
        ("KEYS_ONLY", {}),
        ("NEW_IMAGE", {"NewImage": NEW}),
        ("OLD_IMAGE", {"OldImage": OLD}),
        ("NEW_AND_OLD_IMAGES", {"NewImage": NEW, "OldImage": OLD}),
    ],
)
def test_a_record_shows_the_images_of_its_view_and_counts_them(view: str, images: dict[str, Item]) -> None:
    assert shown(record(OLD, NEW), view) == {
        "eventID": event_id(ARN, sequence_text(1, 7 << 16), encode_key(SCHEMA, KEY)),
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_780_000_000,  # rounded down
            "Keys": KEY,
            **images,
            "SequenceNumber": f"1{7 << 16:020d}",
            "SizeBytes": item_size(KEY) + sum(map(item_size, images.values())),
            "StreamViewType": view,
        },
    }


def test_the_documented_sizes_come_out() -> None:
    """Examples of GetRecords and of the event of a function (API Reference; Lambda Developer Guide)."""
    schema = KeySchema("ForumName", "S", "Subject", "S")
    key = encode_key(schema, {"ForumName": {"S": "DynamoDB"}, "Subject": {"S": "DynamoDB Thread 3"}})
    one = FeedRecord(1, Change(key, b"", None, 0), b"{}")
    found = stream_record(one, schema=schema, view="KEYS_ONLY", epoch=1, arn=ARN, region="us-east-1")
    assert found["dynamodb"]["SizeBytes"] == 41
    schema = KeySchema("Id", "N")
    item: Item = {"Message": {"S": "New item!"}, "Id": {"N": "101"}}
    one = FeedRecord(1, Change(encode_key(schema, item), b"", dumps(item), item_size(item)), None)
    found = stream_record(one, schema=schema, view="NEW_AND_OLD_IMAGES", epoch=1, arn=ARN, region="us-east-1")
    assert found["dynamodb"]["SizeBytes"] == 26


def test_the_event_is_told_by_what_there_was_and_what_there_is() -> None:
    for old, new, name, images in (
        (None, NEW, "INSERT", {"NewImage"}),
        (OLD, NEW, "MODIFY", {"NewImage", "OldImage"}),
        (OLD, None, "REMOVE", {"OldImage"}),
    ):
        found = shown(record(old, new), "NEW_AND_OLD_IMAGES")
        assert found["eventName"] == name
        assert {"NewImage", "OldImage"} & set(found["dynamodb"]) == images  # type: ignore[call-overload]
        assert "userIdentity" not in found


def test_only_a_deletion_by_time_says_who_made_it() -> None:
    found = shown(record(OLD, None, expired=True), "KEYS_ONLY")
    assert found["userIdentity"] == {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}


def test_an_event_keeps_its_id_and_shares_it_with_no_other() -> None:
    ids = {
        event_id(arn, sequence_text(1, place), key)
        for arn in (ARN, ARN + "4")
        for place in (1, 2)
        for key in (b"a", b"b")
    }
    assert len(ids) == 8
    assert all(len(one) == 32 for one in ids)
    assert event_id(ARN, sequence_text(1, 1), b"a") in ids
