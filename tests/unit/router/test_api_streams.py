"""The operations of DynamoDB Streams against partitions in memory."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodyne.catalog import StreamRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.messages import (
    FROM_LATEST,
    Answer,
    Call,
    Change,
    FeedRecord,
    ListShards,
    Moved,
    ReadStream,
    Refused,
    Shards,
    ShardSpan,
    StreamPage,
)
from geodyne.model.keys import KeySchema, encode_key
from geodyne.model.values import dumps
from geodyne.streams import SEQUENCE_END, sequence_text, shard_id, stream_arn
from router.api.registry import STREAM_OPERATIONS
from router.api.streamiterators import ITERATOR_LIFE_MS, ShardIterator, parse_iterator
from tests.unit.router.fake_region import NOW_MS, Client, FakeRegion, table

LABEL = "2026-06-01T00:00:00.000"
ARN = stream_arn("us-east-1", "000000000000", "things", LABEL)
OPENED_US = NOW_MS * 1000
SCHEMA = KeySchema("pk", "S")
NOT_FOUND = "ResourceNotFoundException"
NO_SHARD = (NOT_FOUND, "Requested resource not found: Shard does not exist")
TRIMMED = ("TrimmedDataAccessException", "The data you are trying to access has been trimmed")


class Feeds(FakeRegion):
    """Partitions with shards and records. `floor` is where all of them have been trimmed to."""

    def __init__(self) -> None:
        super().__init__()
        self.shards: dict[tuple[int, str], list[ShardSpan]] = {}
        self.records: dict[int, list[FeedRecord]] = {}
        self.floor = 0

    def _answer(self, call: Call) -> Answer:
        if not isinstance(call, ListShards | ReadStream):
            return super()._answer(call)
        if call.partition not in self.rows:
            return Moved(call.partition, self.revision)
        spans = self.shards.get((call.partition, call.label))
        if spans is None:
            return Refused(NOT_FOUND, "no such stream")
        if isinstance(call, ListShards):
            return Shards(tuple(spans), self.floor)
        span = next((span for span in spans if span.opened_us == call.shard), None)
        if span is None:
            gone = call.shard < spans[0].opened_us
            return Refused("TrimmedDataAccessException" if gone else NOT_FOUND, "no such shard")
        return self._page(call, span)

    def _page(self, call: ReadStream, span: ShardSpan) -> StreamPage:
        end = 1 << 63 if span.last is None else span.last
        inside = [record for record in self.records.get(call.partition, []) if span.after < record.sequence <= end]
        head = inside[-1].sequence if inside else span.after
        after = (head if span.last is None else span.last) if call.after == FROM_LATEST else call.after
        if after < self.floor:
            return StreamPage((), self.floor, False, True)
        found = [record for record in inside if record.sequence > after and record.wall_us >= call.since_us]
        if call.limit == 0:
            return StreamPage((), found[0].sequence - 1 if found else max(head, after), False, False)
        page = found[: call.limit]
        following = page[-1].sequence if page else max(head, after)
        closed = span.last is not None and len(page) == len(found)
        return StreamPage(tuple(page), following, closed, False)


class Streams(Client):
    """A table "things" whose stream has a shard in each of its partitions."""

    def __init__(self, view: str = "NEW_AND_OLD_IMAGES") -> None:
        self.feeds = Feeds()
        super().__init__(region=self.feeds)
        self.add("things", view)

    def add(self, name: str, view: str = "KEYS_ONLY", labels: tuple[tuple[str, int], ...] = ((LABEL, 0),)) -> None:
        table(self, name, StreamSpecification={"StreamEnabled": True, "StreamViewType": view})
        streams = tuple(StreamRecord(label, view, NOW_MS - 5_000, ended_ms) for label, ended_ms in labels)
        record = replace(self.feeds.catalog.tables[name], streams=streams, stream_label=labels[-1][0])
        self.feeds.catalog.tables[name] = record
        for partition in record.partitions:
            for label, _ in labels:
                self.feeds.shards[partition.id, label] = [ShardSpan(OPENED_US, 0, None)]

    def partitions(self, name: str = "things") -> list[int]:
        return [partition.id for partition in self.feeds.catalog.tables[name].partitions]

    def write(self, partition: int, *sequences: int, wall_us: int = OPENED_US) -> None:
        item = {"pk": {"S": "a"}, "n": {"N": "1"}}
        self.feeds.records.setdefault(partition, []).extend(
            FeedRecord(sequence, Change(encode_key(SCHEMA, item), b"v", dumps(item), 7), None, wall_us)
            for sequence in sequences
        )

    def iterator(self, kind: str = "TRIM_HORIZON", opened_us: int = OPENED_US, **more: Any) -> str:
        body = {"StreamArn": ARN, "ShardId": shard_id(opened_us, 1), "ShardIteratorType": kind, **more}
        text: str = self("GetShardIterator", **body)["ShardIterator"]
        return text

    def sequences(self, iterator: str, **more: Any) -> list[str]:
        records = self("GetRecords", ShardIterator=iterator, **more)["Records"]
        return [record["dynamodb"]["SequenceNumber"] for record in records]

    def shard_ids(self, **more: Any) -> list[str]:
        described = self("DescribeStream", StreamArn=ARN, **more)["StreamDescription"]
        return [shard["ShardId"] for shard in described["Shards"]]


# --- ListStreams ------------------------------------------------------------------------------------------


def test_streams_are_listed_by_table_and_label_the_ended_ones_for_a_day() -> None:
    client = Streams()
    table(client, "without-a-stream")
    day_ms = 86_400_000
    client.add("another", labels=(("1", NOW_MS - day_ms), ("2", NOW_MS - day_ms + 1), ("3", 0)))
    listed = client("ListStreams")["Streams"]
    assert [(stream["TableName"], stream["StreamLabel"]) for stream in listed] == [
        ("another", "2"),
        ("another", "3"),
        ("things", LABEL),
    ]
    assert listed[2]["StreamArn"] == ARN
    assert client("ListStreams", TableName="things")["Streams"] == listed[2:]
    assert client("ListStreams", TableName="without-a-stream") == {"Streams": []}


def test_a_list_of_streams_goes_on_where_its_page_ended() -> None:
    client = Streams()
    for number in range(4):
        client.add(f"more-{number}")
    arns: list[str] = []
    start: dict[str, str] = {}
    while True:
        page = client("ListStreams", Limit=2, **start)
        arns += [stream["StreamArn"] for stream in page["Streams"]]
        if "LastEvaluatedStreamArn" not in page:
            break
        start = {"ExclusiveStartStreamArn": page["LastEvaluatedStreamArn"]}
    assert arns == [stream["StreamArn"] for stream in client("ListStreams")["Streams"]]
    assert len(arns) == 5


def test_what_is_no_stream_cannot_be_listed() -> None:
    client = Streams()
    code, message = client.refused("ListStreams", TableName="missing")
    assert (code, message) == (NOT_FOUND, "Requested resource not found: Table: missing not found")
    arn = ARN.partition("/stream/")[0] + "/index/some-index"
    assert client.refused("ListStreams", ExclusiveStartStreamArn=arn) == (
        "ValidationException",
        f"Invalid StreamArn: {arn}",
    )


# --- DescribeStream ---------------------------------------------------------------------------------------


def test_a_stream_is_described_with_its_shards() -> None:
    client = Streams("OLD_IMAGE")
    assert client("DescribeStream", StreamArn=ARN)["StreamDescription"] == {
        "StreamArn": ARN,
        "StreamLabel": LABEL,
        "StreamStatus": "ENABLED",
        "StreamViewType": "OLD_IMAGE",
        "CreationRequestDateTime": (NOW_MS - 5_000) / 1000,
        "TableName": "things",
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "Shards": [
            {
                "ShardId": shard_id(OPENED_US, partition),
                "SequenceNumberRange": {"StartingSequenceNumber": sequence_text(1, 1)},
            }
            for partition in client.partitions()
        ],
    }


def test_a_closed_shard_tells_its_end_and_its_child_its_parent() -> None:
    client = Streams()
    spans = [ShardSpan(OPENED_US, 0, 90), ShardSpan(OPENED_US + 1000, 90, 90), ShardSpan(OPENED_US + 2000, 90, None)]
    client.feeds.shards[1, LABEL] = spans
    shards = client("DescribeStream", StreamArn=ARN)["StreamDescription"]["Shards"]
    first, second, third = (shard_id(span.opened_us, 1) for span in spans)
    assert [shard for shard in shards if shard["ShardId"].endswith("1")] == [
        {
            "ShardId": first,
            "SequenceNumberRange": {
                "StartingSequenceNumber": sequence_text(1, 1),
                "EndingSequenceNumber": sequence_text(1, 90),
            },
        },
        {  # it never had a record
            "ShardId": second,
            "ParentShardId": first,
            "SequenceNumberRange": {
                "StartingSequenceNumber": sequence_text(1, 91),
                "EndingSequenceNumber": sequence_text(1, 91),
            },
        },
        {
            "ShardId": third,
            "ParentShardId": second,
            "SequenceNumberRange": {"StartingSequenceNumber": sequence_text(1, 91)},
        },
    ]
    assert client.shard_ids(ShardFilter={"Type": "CHILD_SHARDS", "ShardId": first}) == [second]
    assert client.shard_ids(ShardFilter={"Type": "CHILD_SHARDS", "ShardId": third}) == []
    missing = {"Type": "CHILD_SHARDS", "ShardId": shard_id(OPENED_US, 99)}
    assert client.refused("DescribeStream", StreamArn=ARN, ShardFilter=missing) == NO_SHARD


@pytest.mark.parametrize("chosen", [{}, {"Type": "CHILD_SHARDS"}, {"ShardId": shard_id(0, 1)}])
def test_a_filter_of_shards_must_be_whole(chosen: dict[str, str]) -> None:
    code, _ = Streams().refused("DescribeStream", StreamArn=ARN, ShardFilter=chosen)
    assert code == "ValidationException"


def test_pages_of_shards_leave_none_out_and_keep_parents_first() -> None:
    client = Streams()
    for partition in client.partitions():
        spans = [ShardSpan(OPENED_US + 7_000 * n, n, n + 1) for n in range(6)]
        client.feeds.shards[partition, LABEL] = [*spans, ShardSpan(OPENED_US + 42_000, 6, None)]
    seen: list[str] = []
    start: dict[str, str] = {}
    while True:
        page = client("DescribeStream", StreamArn=ARN, Limit=3, **start)["StreamDescription"]
        for shard in page["Shards"]:
            assert shard.get("ParentShardId") in (None, *seen)
            seen.append(shard["ShardId"])
        if "LastEvaluatedShardId" not in page:
            break
        start = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}
    assert seen == client.shard_ids()
    assert len(seen) == 28


def test_the_status_is_that_of_the_partitions() -> None:
    client = Streams()

    def status() -> Any:
        return client("DescribeStream", StreamArn=ARN)["StreamDescription"]["StreamStatus"]

    record = client.feeds.catalog.tables["things"]
    del client.feeds.shards[2, LABEL]  # has not heard of the stream yet
    assert status() == "ENABLING"
    client.feeds.catalog.tables["things"] = replace(record, status=TableStatus.CREATING)
    calls = len(client.feeds.calls)
    assert status() == "ENABLING"
    assert len(client.feeds.calls) == calls, "a table that is being created has nobody who could be asked"
    ended = replace(record.streams[0], ended_ms=NOW_MS - 1)
    client.feeds.catalog.tables["things"] = replace(record, streams=(ended,))
    assert status() == "DISABLING"
    for partition in client.partitions():
        client.feeds.shards[partition, LABEL] = [ShardSpan(OPENED_US, 0, 3)]
    assert status() == "DISABLED"
    client.feeds.catalog.tables["things"] = replace(record, status=TableStatus.DELETING)
    assert client.refused("DescribeStream", StreamArn=ARN) == (
        NOT_FOUND,
        f"Requested resource not found: Stream: {ARN} not found",
    )


def test_a_stream_of_an_earlier_version_is_yet_to_begin() -> None:
    client = Streams()
    record = replace(client.feeds.catalog.tables["things"], streams=())
    client.feeds.catalog.tables["things"] = record
    client.feeds.shards.clear()
    described = client("DescribeStream", StreamArn=ARN)["StreamDescription"]
    assert (described["StreamStatus"], described["Shards"]) == ("ENABLING", [])
    assert described["CreationRequestDateTime"] == 1_780_272_000
    client.feeds.catalog.tables["things"] = replace(record, stream_view=None)
    assert client.refused("DescribeStream", StreamArn=ARN)[0] == NOT_FOUND


# --- GetShardIterator and GetRecords ----------------------------------------------------------------------


def test_records_come_once_in_order_page_by_page() -> None:
    client = Streams()
    client.write(1, *range(10, 30))
    iterator, found = client.iterator(), []
    for _ in range(7):
        answer = client("GetRecords", ShardIterator=iterator, Limit=3)
        found += [record["dynamodb"]["SequenceNumber"] for record in answer["Records"]]
        iterator = answer["NextShardIterator"]
    assert found == [sequence_text(1, sequence) for sequence in range(10, 30)]
    assert client("GetRecords", ShardIterator=iterator)["Records"] == []
    client.write(1, 30)
    assert client.sequences(iterator) == [sequence_text(1, 30)]


def test_a_closed_shard_ends_without_another_iterator() -> None:
    client = Streams()
    client.feeds.shards[1, LABEL] = [ShardSpan(OPENED_US, 0, 2), ShardSpan(OPENED_US + 1000, 2, None)]
    client.write(1, 1, 2, 3)
    answer = client("GetRecords", ShardIterator=client.iterator(), Limit=1)
    answer = client("GetRecords", ShardIterator=answer["NextShardIterator"], Limit=1)
    assert len(answer["Records"]) == 1
    assert "NextShardIterator" not in answer
    assert client.sequences(client.iterator(opened_us=OPENED_US + 1000)) == [sequence_text(1, 3)]


@pytest.mark.parametrize(
    ("kind", "more", "found"),
    [
        ("TRIM_HORIZON", {}, [10, 20, 30]),
        ("LATEST", {}, []),
        ("AT_SEQUENCE_NUMBER", {"SequenceNumber": sequence_text(1, 20)}, [20, 30]),
        ("AFTER_SEQUENCE_NUMBER", {"SequenceNumber": sequence_text(1, 20)}, [30]),
        ("AT_SEQUENCE_NUMBER", {"SequenceNumber": sequence_text(1, 1)}, [10, 20, 30]),
        ("AT_TIMESTAMP", {"Timestamp": 0}, [10, 20, 30]),
        ("AT_TIMESTAMP", {"Timestamp": -1e307}, [10, 20, 30]),
        ("AT_TIMESTAMP", {"Timestamp": NOW_MS / 1000 - 100}, [20, 30]),
        ("AT_TIMESTAMP", {"Timestamp": NOW_MS / 1000 - 99.999}, [30]),
        ("AT_TIMESTAMP", {"Timestamp": NOW_MS / 1000}, []),
    ],
)
def test_an_iterator_begins_where_its_type_says(kind: str, more: dict[str, Any], found: list[int]) -> None:
    client = Streams()
    for sequence, before_s in ((10, 200), (20, 100), (30, 50)):
        client.write(1, sequence, wall_us=OPENED_US - before_s * 1_000_000)
    iterator = client.iterator(kind, **more)
    assert client.sequences(iterator) == [sequence_text(1, sequence) for sequence in found]
    client.write(1, 40)
    assert client.sequences(iterator)[-1] == sequence_text(1, 40)


def test_a_place_must_be_one_of_the_shard() -> None:
    client = Streams()
    client.feeds.shards[1, LABEL] = [ShardSpan(OPENED_US, 0, 20), ShardSpan(OPENED_US + 1000, 20, None)]

    def refused(kind: str = "AFTER_SEQUENCE_NUMBER", opened_us: int = OPENED_US, **more: Any) -> tuple[str, Any]:
        body = {"StreamArn": ARN, "ShardId": shard_id(opened_us, 1), "ShardIteratorType": kind, **more}
        return client.refused("GetShardIterator", **body)

    invalid = ("ValidationException", "Invalid SequenceNumber: it is not one of the shard's")
    assert refused(SequenceNumber=sequence_text(1, 21)) == invalid
    assert refused(SequenceNumber=sequence_text(2, 15)) == invalid
    assert refused(opened_us=OPENED_US + 1000, SequenceNumber=sequence_text(1, 20)) == invalid
    assert refused(SequenceNumber="9" * 30)[0] == "ValidationException"
    assert refused()[1] == "SequenceNumber is required when ShardIteratorType is AFTER_SEQUENCE_NUMBER"
    assert refused("AT_TIMESTAMP")[1] == "Timestamp is required when ShardIteratorType is AT_TIMESTAMP"
    assert refused("AT_TIMESTAMP", Timestamp=NOW_MS / 1000 + 1)[0] == "ValidationException"
    assert refused("LATEST", opened_us=5000) == NO_SHARD
    assert client.sequences(client.iterator("AFTER_SEQUENCE_NUMBER", SequenceNumber=sequence_text(1, 20))) == []


@pytest.mark.parametrize("kind", ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"])
def test_no_reader_of_an_open_shard_begins_beyond_its_newest_record(kind: str) -> None:
    client = Streams()
    first: dict[str, Any] = {"SequenceNumber": sequence_text(1, 1)}  # the StartingSequenceNumber that is shown
    empty = client.iterator(kind, **first)
    client.write(1, 10)
    assert client.sequences(empty) == [sequence_text(1, 10)]
    client.iterator(kind, SequenceNumber=sequence_text(1, 10))
    for sequence in (11, SEQUENCE_END - 1):
        body = {"StreamArn": ARN, "ShardId": shard_id(OPENED_US, 1), "ShardIteratorType": kind}
        code, message = client.refused("GetShardIterator", **body, SequenceNumber=sequence_text(1, sequence))
        assert (code, message) == ("ValidationException", "Invalid SequenceNumber: it is not one of the shard's")


def test_what_was_trimmed_is_said_to_be() -> None:
    client = Streams()
    client.write(1, 10, 20, 30)
    begin = client.iterator()
    client.feeds.floor = 20
    assert client.refused("GetRecords", ShardIterator=begin) == TRIMMED
    assert client.sequences(client.iterator()) == [sequence_text(1, 30)]
    after: dict[str, Any] = {"SequenceNumber": sequence_text(1, 20)}
    assert client.sequences(client.iterator("AFTER_SEQUENCE_NUMBER", **after)) == [sequence_text(1, 30)]
    body = {"StreamArn": ARN, "ShardId": shard_id(OPENED_US, 1), "ShardIteratorType": "AT_SEQUENCE_NUMBER"}
    assert client.refused("GetShardIterator", **body, **after) == TRIMMED
    client.feeds.shards[1, LABEL] = [ShardSpan(OPENED_US + 1000, 20, None)]
    assert client.refused("GetRecords", ShardIterator=begin) == TRIMMED


def test_an_iterator_lives_for_fifteen_minutes_and_each_page_makes_a_new_one() -> None:
    client = Streams()
    iterator = client.iterator()
    issued = parse_iterator(iterator)
    assert issued.issued_ms == NOW_MS
    old = issued._replace(issued_ms=NOW_MS - ITERATOR_LIFE_MS)
    answer = client("GetRecords", ShardIterator=old.text())
    assert answer["NextShardIterator"] == iterator
    expired = old._replace(issued_ms=old.issued_ms - 1).text()
    assert client.refused("GetRecords", ShardIterator=expired) == (
        "ExpiredIteratorException",
        "Shard iterator has expired",
    )


def test_an_iterator_of_what_is_gone_finds_nothing() -> None:
    client = Streams()
    iterator = parse_iterator(client.iterator())
    assert client.refused("GetRecords", ShardIterator=iterator._replace(partition=99).text()) == NO_SHARD
    assert client.refused("GetRecords", ShardIterator=iterator._replace(shard=OPENED_US + 1000).text()) == NO_SHARD
    del client.feeds.catalog.tables["things"]
    assert client.refused("GetRecords", ShardIterator=iterator.text())[0] == NOT_FOUND


@given(
    place=st.builds(
        ShardIterator,
        st.just(ARN),
        st.integers(0, 2**32 - 1),
        st.integers(1, 2**63 - 1),
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**63),
    )
)
def test_an_iterator_says_what_it_was_made_of_and_fits_the_model(place: ShardIterator) -> None:
    assert parse_iterator(place.text()) == place
    assert len(place._replace(arn="a" * 1024).text()) <= 2048


@given(data=st.data())
def test_a_changed_iterator_is_none(data: st.DataObject) -> None:
    text = ShardIterator(ARN, 1, OPENED_US, 7, NOW_MS).text()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.text(max_size=2)) + text[at + 1 :]
    if changed != text:
        with pytest.raises(ApiError) as caught:
            parse_iterator(changed)
        assert (caught.value.kind.code, caught.value.message) == ("ValidationException", "Invalid ShardIterator")


@pytest.mark.parametrize(
    "text", ["x", "||", f"{ARN}|1|", f"{ARN}|2|AAAA", f"{ARN}|1|" + urlsafe_b64encode(bytes(40)).decode(), "é|1|é"]
)
def test_other_texts_are_no_iterators(text: str) -> None:
    assert Streams().refused("GetRecords", ShardIterator=text) == ("ValidationException", "Invalid ShardIterator")


@pytest.mark.parametrize(
    "place",
    [
        ShardIterator(ARN, 1, OPENED_US, 2**63, NOW_MS),
        ShardIterator(ARN, 2**32, OPENED_US, 1, NOW_MS),
        ShardIterator(ARN, 1, 2**64 - 1, 1, NOW_MS),
    ],
)
def test_a_place_that_no_shard_can_have_is_refused_before_a_node_hears_of_it(place: ShardIterator) -> None:
    expected = ("ValidationException", "Invalid ShardIterator")
    assert Streams().refused("GetRecords", ShardIterator=place.text()) == expected


junk = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=40) | st.sampled_from([ARN, LABEL]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Type", "ShardId", "S"]), inner),
    max_leaves=4,
)
MEMBERS = ["StreamArn", "ShardId", "ShardIteratorType", "SequenceNumber", "Timestamp", "ShardIterator", "ShardFilter",
           "ExclusiveStartShardId", "ExclusiveStartStreamArn", "TableName", "Limit"]  # fmt: skip
OUTCOMES = {"", "ValidationException", "SerializationException", NOT_FOUND}


@given(operation=st.sampled_from(sorted(STREAM_OPERATIONS)), body=st.dictionaries(st.sampled_from(MEMBERS), junk))
def test_any_request_is_answered_or_refused(operation: str, body: dict[str, Any]) -> None:
    code = ""
    try:
        Streams().raw(operation, body)
    except ApiError as error:
        code = error.kind.code
    assert code in OUTCOMES


def test_a_partition_that_moved_is_asked_again() -> None:
    client = Streams()
    client.write(1, 10)
    iterator = client.iterator()
    client.feeds.forced = [Moved(1, 5), Moved(1, 6)]
    assert client.sequences(iterator) == [sequence_text(1, 10)]
    assert client.feeds.waited[-2:] == [5, 6]
    client.feeds.forced = [Moved(1, 7)] * 6
    assert client.refused("GetRecords", ShardIterator=iterator)[0] == "ServiceUnavailable"


@pytest.mark.parametrize(("operation", "most"), [("ListStreams", 100), ("DescribeStream", 100), ("GetRecords", 1000)])
def test_a_limit_is_held_to_what_is_documented(operation: str, most: int) -> None:
    client = Streams()
    rest = {"DescribeStream": {"StreamArn": ARN}, "GetRecords": {"ShardIterator": client.iterator()}}.get(operation, {})
    client(operation, Limit=most, **rest)
    assert client.refused(operation, Limit=most + 1, **rest) == (
        "ValidationException",
        f"1 validation error detected: Value '{most + 1}' at 'limit' failed to satisfy constraint: "
        f"Member must have value less than or equal to {most}",
    )
    assert client.refused(operation, Limit=0, **rest)[0] == "ValidationException"


def test_the_global_endpoint_learns_the_region_from_the_arn() -> None:
    iterator = Streams().iterator()
    assert STREAM_OPERATIONS["GetRecords"].table_names({"ShardIterator": iterator}) == [ARN]
    assert STREAM_OPERATIONS["GetRecords"].table_names({"ShardIterator": 3}) == []
    assert STREAM_OPERATIONS["DescribeStream"].table_names({"StreamArn": ARN}) == [ARN]
    assert STREAM_OPERATIONS["DescribeStream"].table_names({}) == []
    assert not any(operation.is_write for operation in STREAM_OPERATIONS.values())
