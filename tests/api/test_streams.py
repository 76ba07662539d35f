"""DynamoDB Streams as clients see it: what each write leaves in the stream, and the four operations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from geodyne.model.values import item_size
from tests.api.service import Item, Service

VIEWS = ("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")
NOT_FOUND = "ResourceNotFoundException"
READ_S_MAX = 30.0


def stream(view: str = "NEW_AND_OLD_IMAGES") -> dict[str, Any]:
    return {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": view}}


class Stream:
    """A table with a stream, and what a reader of it finds."""

    def __init__(self, service: Service, table: str) -> None:
        self.service = service
        self.table = table
        self.arn: str = service.do("DescribeTable", TableName=table)["Table"]["LatestStreamArn"]

    def describe(self, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.service.do("DescribeStream", StreamArn=self.arn, **more)["StreamDescription"]
        return found

    def iterators(self, kind: str = "TRIM_HORIZON", **more: Any) -> list[str]:
        """One for each shard of the first page."""
        return [
            self.service.do(
                "GetShardIterator", StreamArn=self.arn, ShardId=shard["ShardId"], ShardIteratorType=kind, **more
            )["ShardIterator"]
            for shard in self.describe()["Shards"]
        ]

    def read(self, count: int, iterators: list[str] | None = None) -> list[dict[str, Any]]:
        """At least `count` records; those of a shard in order. A write may be a moment older than its record."""
        iterators = self.iterators() if iterators is None else iterators
        found: list[dict[str, Any]] = []
        end = time.monotonic() + READ_S_MAX
        while len(found) < count or not found:
            assert time.monotonic() < end, (count, found)
            following = []
            for iterator in iterators:
                page = self.service.do("GetRecords", ShardIterator=iterator)
                found += page["Records"]
                following += [page["NextShardIterator"]] if "NextShardIterator" in page else []
            iterators = following
            if not iterators:
                break
        return found

    def fence(self) -> str:
        """Writes an item that comes after what was written before under its key; returns the key."""
        key = self.service.unique("fence")
        self.service.do("PutItem", TableName=self.table, Item={"pk": {"S": key}})
        return key

    def of(self, key: str, iterators: list[str] | None = None) -> list[dict[str, Any]]:
        """All records of an item. A record of a deletion at the end says that there are no more."""
        self.service.do("PutItem", TableName=self.table, Item={"pk": {"S": key}, "last": {"BOOL": True}})
        self.service.do("DeleteItem", TableName=self.table, Key={"pk": {"S": key}})
        iterators = self.iterators() if iterators is None else iterators
        found: list[dict[str, Any]] = []
        end = time.monotonic() + READ_S_MAX
        while not (len(found) >= 2 and found[-1]["eventName"] == "REMOVE" and _is_last(found[-2])):
            assert time.monotonic() < end, found
            for number, iterator in enumerate(iterators):
                page = self.service.do("GetRecords", ShardIterator=iterator)
                found += [record for record in page["Records"] if record["dynamodb"]["Keys"]["pk"]["S"] == key]
                iterators[number] = page["NextShardIterator"]
        return found[:-2]


def _is_last(record: dict[str, Any]) -> bool:
    return "last" in record["dynamodb"].get("NewImage", {"last": True})


@pytest.fixture(scope="module")
def streams(service: Service, make_table: Callable[..., str]) -> dict[str, Stream]:
    """A table with a stream of each view type; keys "pk"."""
    return {view: Stream(service, make_table(**stream(view))) for view in VIEWS}


@pytest.fixture(scope="module")
def both(streams: dict[str, Stream]) -> Stream:
    return streams["NEW_AND_OLD_IMAGES"]


def images(records: list[dict[str, Any]]) -> list[tuple[str, Item | None, Item | None]]:
    return [
        (record["eventName"], record["dynamodb"].get("OldImage"), record["dynamodb"].get("NewImage"))
        for record in records
    ]


# --- what writes leave ------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_shows_its_images(service: Service, streams: dict[str, Stream], view: str) -> None:
    one, key = streams[view], {"pk": {"S": service.unique()}}
    old, new = {**key, "n": {"N": "1"}}, {**key, "n": {"N": "2"}}
    service.do("PutItem", TableName=one.table, Item=old)
    service.do("PutItem", TableName=one.table, Item=new)
    service.do("DeleteItem", TableName=one.table, Key=key)
    shows_old, shows_new = view in ("OLD_IMAGE", "NEW_AND_OLD_IMAGES"), view in ("NEW_IMAGE", "NEW_AND_OLD_IMAGES")
    deadline = time.monotonic() + READ_S_MAX
    found: list[dict[str, Any]] = []
    while len(found) < 3:
        assert time.monotonic() < deadline
        found = [record for record in one.read(3) if record["dynamodb"]["Keys"] == key]
    assert images(found) == [
        ("INSERT", None, old if shows_new else None),
        ("MODIFY", old if shows_old else None, new if shows_new else None),
        ("REMOVE", new if shows_old else None, None),
    ]
    for record in found:
        assert record["dynamodb"]["StreamViewType"] == view
        assert abs(record["dynamodb"]["ApproximateCreationDateTime"] - time.time()) < READ_S_MAX
        assert type(record["dynamodb"]["ApproximateCreationDateTime"]) is int
        assert record["awsRegion"] == service.region
        assert "userIdentity" not in record
    numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in found]
    assert numbers == sorted(set(numbers))
    assert len({record["eventID"] for record in found}) == 3


def test_an_update_tells_what_it_made(service: Service, both: Stream) -> None:
    key = {"pk": {"S": service.unique()}}
    for update in ("SET a = :one", "SET b = :one", "REMOVE a"):
        values = {"ExpressionAttributeValues": {":one": {"N": "1"}}} if ":one" in update else {}
        service.do("UpdateItem", TableName=both.table, Key=key, UpdateExpression=update, **values)
    one: Item = {"N": "1"}
    assert images(both.of(key["pk"]["S"])) == [
        ("INSERT", None, {**key, "a": one}),
        ("MODIFY", {**key, "a": one}, {**key, "a": one, "b": one}),
        ("MODIFY", {**key, "a": one, "b": one}, {**key, "b": one}),
    ]


def test_what_changes_nothing_leaves_nothing(service: Service, both: Stream) -> None:
    name = service.unique()
    key = {"pk": {"S": name}}
    item: Item = {**key, "n": {"N": "10"}, "s": {"SS": ["a", "b"]}, "m": {"M": {"x": {"S": "1"}, "y": {"S": "2"}}}}
    service.do("DeleteItem", TableName=both.table, Key=key)
    service.do("PutItem", TableName=both.table, Item=item)
    service.do("PutItem", TableName=both.table, Item=item)
    same: Item = {"m": {"M": {"y": {"S": "2"}, "x": {"S": "1"}}}, "s": {"SS": ["b", "a"]}, "n": {"N": "1e1"}, **key}
    service.do("PutItem", TableName=both.table, Item=same)
    service.do(
        "UpdateItem", TableName=both.table, Key=key, UpdateExpression="SET n = :ten",
        ExpressionAttributeValues={":ten": {"N": "10.0"}},
    )  # fmt: skip
    service.do("UpdateItem", TableName=both.table, Key=key, UpdateExpression="REMOVE nothing")
    service.do("UpdateItem", TableName=both.table, Key=key)
    service.refused(
        "PutItem", {"TableName": both.table, "Item": key, "ConditionExpression": "attribute_not_exists(pk)"}
    )
    assert images(both.of(name)) == [("INSERT", None, item)]


def test_batches_and_transactions_leave_a_record_an_item(service: Service, both: Stream) -> None:
    names = [service.unique() for _ in range(4)]
    items = [{"pk": {"S": name}} for name in names]
    service.do("BatchWriteItem", RequestItems={both.table: [{"PutRequest": {"Item": item}} for item in items]})
    more = [{**item, "n": {"N": "1"}} for item in items]
    actions: list[dict[str, Any]] = [{"Put": {"TableName": both.table, "Item": item}} for item in more[:2]]
    actions.append({"Delete": {"TableName": both.table, "Key": items[2]}})
    check = {"TableName": both.table, "Key": items[3], "ConditionExpression": "attribute_exists(pk)"}
    service.do("TransactWriteItems", TransactItems=[*actions, {"ConditionCheck": check}])
    assert images(both.of(names[0])) == [("INSERT", None, items[0]), ("MODIFY", items[0], more[0])]
    assert images(both.of(names[1])) == [("INSERT", None, items[1]), ("MODIFY", items[1], more[1])]
    assert images(both.of(names[2])) == [("INSERT", None, items[2]), ("REMOVE", items[2], None)]
    assert images(both.of(names[3])) == [("INSERT", None, items[3])]


def test_a_deletion_by_time_to_live_says_who_made_it(service: Service, make_table: Callable[..., str]) -> None:
    one = Stream(service, make_table(**stream()))
    wanted = {"Enabled": True, "AttributeName": "until"}
    service.do("UpdateTimeToLive", TableName=one.table, TimeToLiveSpecification=wanted)
    item: Item = {"pk": {"S": "short-lived"}, "until": {"N": str(int(time.time()) - 60)}}
    service.do("PutItem", TableName=one.table, Item=item)
    made, removed = one.read(2)
    assert images([made, removed]) == [("INSERT", None, item), ("REMOVE", item, None)]
    assert removed["userIdentity"] == {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
    assert "userIdentity" not in made


def test_numbers_and_binaries_come_as_they_are_stored(service: Service, make_table: Callable[..., str]) -> None:
    one = Stream(service, make_table("B", "N", **stream()))
    key: Item = {"pk": {"B": "AAEC/w=="}, "sk": {"N": "-1.50"}}
    service.do("PutItem", TableName=one.table, Item={**key, "text": {"S": "é\u2028"}})
    [record] = one.read(1)
    stored = {"pk": {"B": "AAEC/w=="}, "sk": {"N": "-1.5"}}
    assert record["dynamodb"]["Keys"] == stored
    assert record["dynamodb"]["NewImage"] == {**stored, "text": {"S": "é\u2028"}}
    # Keys 2 + 4 and 2 + 4, as the keys and again in the image; "text" 4 + 5
    assert record["dynamodb"]["SizeBytes"] == 2 * (6 + 6) + 9


@pytest.mark.parametrize("view", VIEWS)
def test_the_size_of_a_record_is_that_of_what_it_shows(service: Service, streams: dict[str, Stream], view: str) -> None:
    one, key = streams[view], {"pk": {"S": service.unique("sized")}}
    service.do("PutItem", TableName=one.table, Item={**key, "text": {"S": "x" * 100}, "n": {"N": "12345"}})
    service.do("PutItem", TableName=one.table, Item={**key, "list": {"L": [{"BOOL": True}, {"S": "é"}]}})
    service.do(
        "UpdateItem",
        TableName=one.table,
        Key=key,
        UpdateExpression="SET b = :b",
        ExpressionAttributeValues={":b": {"B": "AAEC"}},
    )
    delete = {"Delete": {"TableName": one.table, "Key": key}}
    service.do("TransactWriteItems", TransactItems=[delete])
    service.do("BatchWriteItem", RequestItems={one.table: [{"PutRequest": {"Item": {**key, "text": {"S": "y"}}}}]})
    records = one.of(key["pk"]["S"])
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "MODIFY", "REMOVE", "INSERT"]
    for record in records:
        shown = record["dynamodb"]
        parts = [shown.get(part, {}) for part in ("Keys", "NewImage", "OldImage")]
        assert shown["SizeBytes"] == sum(map(item_size, parts)), record


def test_a_table_with_an_index_has_a_stream_like_any_other(service: Service, make_table: Callable[..., str]) -> None:
    index = {
        "IndexName": "by-group",
        "KeySchema": [{"AttributeName": "group", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    keys = {
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "group", "AttributeType": "S"},
        ]
    }
    name = service.unique("indexed")
    service.do(
        "CreateTable", TableName=name, KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}], **keys,
        BillingMode="PAY_PER_REQUEST", GlobalSecondaryIndexes=[index], **stream(),
    )  # fmt: skip
    try:
        service.wait_active(name)
        one = Stream(service, name)
        service.do("PutItem", TableName=name, Item={"pk": {"S": "a"}, "group": {"S": "g"}})
        service.do("DeleteItem", TableName=name, Key={"pk": {"S": "a"}})
        assert [record["eventName"] for record in one.read(2)] == ["INSERT", "REMOVE"]
    finally:
        service.do("DeleteTable", TableName=name)


# --- reading ----------------------------------------------------------------------------------------------


def test_latest_shows_only_what_comes_later(service: Service, both: Stream) -> None:
    before = service.unique()
    assert both.of(before) == []  # all that was written so far has come into the stream
    latest = both.iterators("LATEST")
    after = both.fence()
    found = both.read(1, latest)
    assert [record["dynamodb"]["Keys"]["pk"]["S"] for record in found] == [after]


def test_an_iterator_is_found_by_a_records_number_or_time(service: Service, both: Stream) -> None:
    name = service.unique()
    key = {"pk": {"S": name}}
    for number in range(3):
        service.do("PutItem", TableName=both.table, Item={**key, "n": {"N": str(number)}})
    written = both.of(name)
    assert len(written) == 3
    middle = written[1]["dynamodb"]
    shard = _shard_of(both, middle["SequenceNumber"], key)

    def first(kind: str, **more: Any) -> dict[str, Any]:
        body = {"StreamArn": both.arn, "ShardId": shard, "ShardIteratorType": kind, **more}
        iterator = service.do("GetShardIterator", **body)["ShardIterator"]
        records: list[dict[str, Any]] = service.do("GetRecords", ShardIterator=iterator, Limit=1)["Records"]
        return records[0]

    assert first("AT_SEQUENCE_NUMBER", SequenceNumber=middle["SequenceNumber"]) == written[1]
    assert first("AFTER_SEQUENCE_NUMBER", SequenceNumber=middle["SequenceNumber"]) == written[2]
    since = first("AT_TIMESTAMP", Timestamp=middle["ApproximateCreationDateTime"])["dynamodb"]
    assert int(since["SequenceNumber"]) <= int(middle["SequenceNumber"])
    assert since["ApproximateCreationDateTime"] >= middle["ApproximateCreationDateTime"]
    assert first("AT_TIMESTAMP", Timestamp=1.5) == first("TRIM_HORIZON")


def _shard_of(one: Stream, number: str, key: Item) -> str:
    for shard in one.describe()["Shards"]:
        body = {"StreamArn": one.arn, "ShardId": shard["ShardId"], "SequenceNumber": number}
        answer = one.service.call("GetShardIterator", {**body, "ShardIteratorType": "AT_SEQUENCE_NUMBER"})
        if answer.status == 200:
            page = one.service.do("GetRecords", ShardIterator=answer.body["ShardIterator"], Limit=1)["Records"]
            if page and page[0]["dynamodb"]["Keys"] == key:
                return str(shard["ShardId"])
    raise AssertionError("no shard has the record")


def test_pages_end_at_the_limit_and_at_a_megabyte(service: Service, make_table: Callable[..., str]) -> None:
    one = Stream(service, make_table("S", "N", **stream("NEW_IMAGE")))
    item: Item = {"pk": {"S": "same"}, "text": {"S": "x" * 300_000}}
    for number in range(7):
        service.do("PutItem", TableName=one.table, Item={**item, "sk": {"N": str(number)}})
    found = one.read(7)
    assert [record["dynamodb"]["NewImage"]["sk"]["N"] for record in found] == [str(number) for number in range(7)]
    pages = [service.do("GetRecords", ShardIterator=iterator)["Records"] for iterator in one.iterators()]
    sizes = [len(json.dumps(page)) for page in pages if page]
    assert sizes
    assert all(300_000 < size < 1_500_000 for size in sizes)
    limited = [service.do("GetRecords", ShardIterator=iterator, Limit=1)["Records"] for iterator in one.iterators()]
    assert sorted(map(len, limited))[-1] == 1


def test_boto3_reads_a_stream(service: Service, both: Stream) -> None:
    client = service.boto3_client("dynamodbstreams")
    described = client.describe_stream(StreamArn=both.arn)["StreamDescription"]
    assert described["StreamStatus"] == "ENABLED"
    assert described["CreationRequestDateTime"].tzinfo is not None
    assert both.arn in [one["StreamArn"] for one in client.list_streams(TableName=both.table)["Streams"]]
    name = both.fence()
    both.of(name)
    keys = []
    for shard in described["Shards"]:
        iterator = client.get_shard_iterator(
            StreamArn=both.arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = client.get_records(ShardIterator=iterator)["Records"]
        keys += [record["dynamodb"]["Keys"]["pk"]["S"] for record in records]
    assert name in keys


# --- streams and shards -----------------------------------------------------------------------------------


def test_a_stream_describes_itself(service: Service, both: Stream) -> None:
    table = service.do("DescribeTable", TableName=both.table)["Table"]
    described = both.describe()
    assert table["LatestStreamLabel"] == described["StreamLabel"] == both.arn.rpartition("/")[2]
    assert both.arn == f"{table['TableArn']}/stream/{table['LatestStreamLabel']}"
    assert described["StreamStatus"] == "ENABLED"
    assert described["StreamViewType"] == table["StreamSpecification"]["StreamViewType"]
    assert described["KeySchema"] == table["KeySchema"]
    assert described["TableName"] == both.table
    assert abs(described["CreationRequestDateTime"] - time.time()) < 600
    assert "LastEvaluatedShardId" not in described
    for shard in described["Shards"]:
        assert set(shard) == {"ShardId", "SequenceNumberRange"}
        assert set(shard["SequenceNumberRange"]) == {"StartingSequenceNumber"}
    pages: list[Item] = []
    start: Item = {}
    while True:
        page = both.describe(Limit=1, **start)
        pages += page["Shards"]
        if "LastEvaluatedShardId" not in page:
            break
        start = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}
    assert pages == described["Shards"]


def test_a_stream_that_was_switched_off_is_read_to_its_end(service: Service, make_table: Callable[..., str]) -> None:
    one = Stream(service, make_table(**stream("NEW_IMAGE")))
    service.do("PutItem", TableName=one.table, Item={"pk": {"S": "before"}})
    off = {"TableName": one.table, "StreamSpecification": {"StreamEnabled": False}}
    answer = service.do("UpdateTable", **off)["TableDescription"]
    assert "StreamSpecification" not in answer
    assert answer["LatestStreamArn"] == one.arn
    described = service.wait_active(one.table)
    assert "StreamSpecification" not in described
    assert (described["LatestStreamArn"], described["LatestStreamLabel"]) == (one.arn, one.arn.rpartition("/")[2])
    service.do("PutItem", TableName=one.table, Item={"pk": {"S": "between"}})
    ended = one.describe()
    assert ended["StreamStatus"] == "DISABLED"
    for shard in ended["Shards"]:
        numbers = shard["SequenceNumberRange"]
        assert int(numbers["StartingSequenceNumber"]) <= int(numbers["EndingSequenceNumber"])
    found = one.read(1000)  # until all shards have ended
    assert [record["dynamodb"]["NewImage"] for record in found] == [{"pk": {"S": "before"}}]
    assert service.invalid("UpdateTable", **off) == f"Table has no stream to disable: TableName: {one.table}"

    service.do("UpdateTable", TableName=one.table, **stream("KEYS_ONLY"))
    service.wait_active(one.table)
    again = Stream(service, one.table)
    assert again.arn != one.arn
    service.do("PutItem", TableName=one.table, Item={"pk": {"S": "after"}})
    assert [record["dynamodb"]["Keys"] for record in again.read(1)] == [{"pk": {"S": "after"}}]
    assert [record["dynamodb"]["NewImage"] for record in one.read(1000)] == [{"pk": {"S": "before"}}]
    listed = service.do("ListStreams", TableName=one.table)["Streams"]
    assert [entry["StreamArn"] for entry in listed] == sorted([one.arn, again.arn])
    assert one.describe()["StreamStatus"] == "DISABLED"
    assert again.describe()["StreamStatus"] == "ENABLED"


def test_a_stream_begins_with_what_is_written_after_it_was_switched_on(
    service: Service, make_table: Callable[..., str]
) -> None:
    table = make_table()
    assert "LatestStreamArn" not in service.do("DescribeTable", TableName=table)["Table"]
    service.do("PutItem", TableName=table, Item={"pk": {"S": "before"}})
    service.do("UpdateTable", TableName=table, **stream())
    service.wait_active(table)
    one = Stream(service, table)
    service.do("PutItem", TableName=table, Item={"pk": {"S": "before"}, "n": {"N": "1"}})
    assert images(one.read(1)) == [("MODIFY", {"pk": {"S": "before"}}, {"pk": {"S": "before"}, "n": {"N": "1"}})]


def test_the_rules_of_switching_a_stream(service: Service, both: Stream, table: str) -> None:
    name = both.table
    for view in VIEWS:
        message = service.invalid("UpdateTable", TableName=name, **stream(view))
        assert message == f"Table already has an enabled stream: TableName: {name}"
    invalid = "One or more parameter values were invalid: "
    cases: list[tuple[Item, str]] = [
        ({"StreamEnabled": True}, invalid + "If stream is being enabled then UpdateViewType is required"),
        (
            {"StreamEnabled": False, "StreamViewType": "NEW_IMAGE"},
            invalid + "If stream is being disabled, then UpdateViewType must not be specified",
        ),
        ({"StreamEnabled": False}, f"Table has no stream to disable: TableName: {table}"),
        (
            {},
            "1 validation error detected: Value null at 'streamSpecification.streamEnabled' failed to satisfy "
            "constraint: Member must not be null",
        ),
        (
            {"StreamEnabled": True, "StreamViewType": "ALL"},
            "1 validation error detected: Value 'ALL' at 'streamSpecification.streamViewType' failed to satisfy "
            "constraint: Member must satisfy enum value set: [NEW_IMAGE, OLD_IMAGE, NEW_AND_OLD_IMAGES, KEYS_ONLY]",
        ),
    ]
    for specification, message in cases:
        assert service.invalid("UpdateTable", TableName=table, StreamSpecification=specification) == message


# --- what is refused --------------------------------------------------------------------------------------


def test_a_stream_that_is_not_there_is_not_found(service: Service, both: Stream) -> None:
    for arn in (both.arn + "9", both.arn.replace(both.table, "missing-table")):
        code, message = service.refused("DescribeStream", {"StreamArn": arn})
        assert (code, message) == (NOT_FOUND, f"Requested resource not found: Stream: {arn} not found")
    table_arn = both.arn.partition("/stream/")[0]
    assert service.invalid("DescribeStream", StreamArn=table_arn) == f"Invalid StreamArn: {table_arn}"
    assert service.refused("ListStreams", {"TableName": "missing-table"})[0] == NOT_FOUND


def test_a_shard_that_is_not_there_is_not_found(service: Service, both: Stream) -> None:
    shard = both.describe()["Shards"][0]["ShardId"]
    for name in ("shardId-" + "0" * 20 + shard[-9:], shard[:-8] + "ffffffff", "x" * 28):
        body = {"StreamArn": both.arn, "ShardId": name, "ShardIteratorType": "LATEST"}
        expected = (NOT_FOUND, "Requested resource not found: Shard does not exist")
        assert service.refused("GetShardIterator", body) == expected


def test_broken_constraints_are_listed_in_the_services_words(service: Service, both: Stream) -> None:
    assert service.invalid("GetShardIterator", StreamArn="short", ShardId="x", ShardIteratorType="FIRST") == (
        "3 validation errors detected: "
        "Value 'short' at 'streamArn' failed to satisfy constraint: "
        "Member must have length greater than or equal to 37; "
        "Value 'x' at 'shardId' failed to satisfy constraint: Member must have length greater than or equal to 28; "
        "Value 'FIRST' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set: "
        "[TRIM_HORIZON, LATEST, AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, AT_TIMESTAMP]"
    )
    assert service.invalid("GetRecords") == (
        "1 validation error detected: Value null at 'shardIterator' failed to satisfy constraint: "
        "Member must not be null"
    )
    answer = service.call("DescribeStream", {"StreamArn": 5})
    assert (answer.status, answer.code) == (400, "SerializationException")


def test_hostile_iterators_are_refused(service: Service, both: Stream) -> None:
    whole = both.iterators()[0]
    for text in ("x", whole[:-1], whole + "A", whole.replace("|1|", "|9|"), whole.swapcase(), "|" * 2048, "\ud7ff" * 9):
        assert service.invalid("GetRecords", ShardIterator=text) == "Invalid ShardIterator", text
    assert "length less than or equal to 2048" in service.invalid("GetRecords", ShardIterator="x" * 2049)
