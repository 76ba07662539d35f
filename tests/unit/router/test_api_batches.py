"""BatchGetItem and BatchWriteItem: bounds, duplicates, and what comes back as unprocessed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from geodyne.errors import ApiError
from geodyne.limits import BATCH_GET_BYTES_MAX
from geodyne.messages import Answer, Call, Found, Refused
from geodyne.rpc.drive import Reply, drive
from router.api.registry import OPERATIONS
from tests.unit.router.fake_region import Client, table

BUSY = Refused("ProvisionedThroughputExceededException", "busy")


@pytest.fixture
def client() -> Client:
    client = Client()
    table(client)
    table(client, "sorted", sort="N")
    return client


def put(pk: str, **more: Any) -> dict[str, Any]:
    return {"PutRequest": {"Item": {"pk": {"S": pk}, **more}}}


def key(pk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}}


def test_what_a_batch_writes_a_batch_reads(client: Client) -> None:
    items = [put(str(number), n={"N": str(number)}) for number in range(20)]
    written = client(
        "BatchWriteItem",
        RequestItems={"things": items, "sorted": [put("a", sk={"N": "1"})]},
        ReturnConsumedCapacity="TOTAL",
    )
    assert written["UnprocessedItems"] == {}
    assert written["ConsumedCapacity"] == [
        {"TableName": "things", "CapacityUnits": 20.0},
        {"TableName": "sorted", "CapacityUnits": 1.0},
    ]
    read = client(
        "BatchGetItem",
        RequestItems={
            "things": {"Keys": [key(str(number)) for number in range(21)], "ConsistentRead": True},
            "sorted": {"Keys": [key("a") | {"sk": {"N": "1.0"}}], "ProjectionExpression": "sk"},
        },
        ReturnConsumedCapacity="TOTAL",
    )
    assert [item["n"]["N"] for item in read["Responses"]["things"]] == [str(number) for number in range(20)]
    assert read["Responses"]["sorted"] == [{"sk": {"N": "1"}}]
    assert read["UnprocessedKeys"] == {}
    assert [each["CapacityUnits"] for each in read["ConsumedCapacity"]] == [21.0, 0.5]


def test_a_batch_deletes(client: Client) -> None:
    client("BatchWriteItem", RequestItems={"things": [put("a"), put("b")]})
    client("BatchWriteItem", RequestItems={"things": [{"DeleteRequest": {"Key": key("a")}}]})
    assert client("Scan", TableName="things")["Items"] == [key("b")]


def test_all_calls_are_sent_before_the_first_answer_is_awaited(client: Client) -> None:
    client.region.forced = [ApiError("InternalServerError", "lost"), None, None]
    answer = client("BatchWriteItem", RequestItems={"things": [put("a"), put("b"), put("c")]})
    assert answer["UnprocessedItems"] == {"things": [put("a")]}
    assert client("Scan", TableName="things")["Count"] == 2


def test_what_was_throttled_is_unprocessed_as_it_was_sent(client: Client) -> None:
    client.region.forced = [None, BUSY]
    answer = client("BatchWriteItem", RequestItems={"things": [put("a"), put("b", n={"N": "1.50"})]})
    assert answer["UnprocessedItems"] == {"things": [put("b", n={"N": "1.50"})]}
    client.region.forced = [BUSY, None]
    block = {"Keys": [key("a"), key("b")], "ConsistentRead": True, "ProjectionExpression": "pk"}
    answer = client("BatchGetItem", RequestItems={"things": block})
    assert answer["UnprocessedKeys"] == {"things": {**block, "Keys": [key("a")]}}


def test_only_when_nothing_was_served_the_request_fails(client: Client) -> None:
    client.region.forced = [BUSY, BUSY]
    refused = client.refused("BatchGetItem", RequestItems={"things": {"Keys": [key("a"), key("b")]}})
    assert refused == ("ProvisionedThroughputExceededException", "busy")


def test_items_beyond_16_mb_are_left_for_the_next_request(client: Client) -> None:
    big = BATCH_GET_BYTES_MAX // 3 - 1
    client.region.forced = [Found(b'{"pk":{"S":"x"}}', big)] * 4
    answer = client("BatchGetItem", RequestItems={"things": {"Keys": [key(str(n)) for n in range(4)]}})
    assert len(answer["Responses"]["things"]) == 3
    assert answer["UnprocessedKeys"] == {"things": {"Keys": [key("3")]}}


@pytest.mark.parametrize(
    "elements",
    [
        [put("a"), put("a")],
        [put("a"), {"DeleteRequest": {"Key": key("a")}}],
    ],
)
def test_a_batch_touches_an_item_once(client: Client, elements: list[dict[str, Any]]) -> None:
    refused = client.refused("BatchWriteItem", RequestItems={"things": elements})
    assert refused == ("ValidationException", "Provided list of item keys contains duplicates")


def test_equal_keys_in_other_words_are_duplicates(client: Client) -> None:
    keys = [key("a") | {"sk": {"N": "1"}}, key("a") | {"sk": {"N": "1.0"}}]
    refused = client.refused("BatchGetItem", RequestItems={"sorted": {"Keys": keys}})
    assert refused == ("ValidationException", "Provided list of item keys contains duplicates")
    arn = "arn:aws:dynamodb:us-east-1:000000000000:table/things"
    blocks = {"things": {"Keys": [key("a")]}, arn: {"Keys": [key("a")]}}
    assert client.refused("BatchGetItem", RequestItems=blocks)[1] == "Provided list of item keys contains duplicates"


def test_the_bounds_of_a_batch_hold_over_all_tables(client: Client) -> None:
    writes = {
        "things": [put(str(n)) for n in range(20)],
        "sorted": [put(str(n), sk={"N": "1"}) for n in range(6)],
    }
    assert client.refused("BatchWriteItem", RequestItems=writes) == (
        "ValidationException",
        "Too many items requested for the BatchWriteItem call",
    )
    reads = {
        "things": {"Keys": [key(str(n)) for n in range(60)]},
        "sorted": {"Keys": [key(str(n)) | {"sk": {"N": "1"}} for n in range(41)]},
    }
    assert client.refused("BatchGetItem", RequestItems=reads) == (
        "ValidationException",
        "Too many items requested for the BatchGetItem call",
    )


def test_a_bad_element_refuses_the_whole_batch_and_writes_nothing(client: Client) -> None:
    mismatch = ("ValidationException", "The provided key element does not match the schema")
    bad = {"PutRequest": {"Item": {"pk": {"N": "1"}}}}
    assert client.refused("BatchWriteItem", RequestItems={"things": [put("a"), bad]}) == mismatch
    bad = {"DeleteRequest": {"Key": {"x": {"S": "1"}}}}
    assert client.refused("BatchWriteItem", RequestItems={"things": [put("a"), bad]}) == mismatch
    both = put("b") | {"DeleteRequest": {"Key": key("c")}}
    assert client.refused("BatchWriteItem", RequestItems={"things": [put("a"), both]})[0] == "ValidationException"
    assert client("Scan", TableName="things")["Count"] == 0


def test_a_missing_table_refuses_the_whole_batch(client: Client) -> None:
    not_found = ("ResourceNotFoundException", "Requested resource not found")
    assert client.refused("BatchWriteItem", RequestItems={"things": [put("a")], "absent": [put("a")]}) == not_found
    assert client.refused("BatchGetItem", RequestItems={"absent": {"Keys": [key("a")]}}) == not_found


def test_answers_may_arrive_late_and_in_any_order(client: Client) -> None:
    replies: list[Reply[Answer]] = []

    def call(call: Call, *, timeout_ms: int, request_id: str = "") -> Reply[Answer]:
        replies.append(Reply())
        return replies[-1]

    client.region.call = call  # type: ignore[method-assign]
    done: list[tuple[bytes | None, BaseException | None]] = []
    body = {"RequestItems": {"things": {"Keys": [key("a"), key("b"), key("c")]}}}
    drive(
        OPERATIONS["BatchGetItem"].handler(body, client.api.context()),
        lambda answer, error: done.append((answer, error)),
    )
    assert len(replies) == 3
    replies[2].succeed(Found(b'{"pk":{"S":"c"}}', 3))
    replies[0].succeed(Found(b'{"pk":{"S":"a"}}', 3))
    assert done == []
    replies[1].fail(ApiError("ServiceUnavailable", "away"))
    answer, error = done[0]
    assert error is None
    assert answer is not None
    assert orjson.loads(answer) == {
        "Responses": {"things": [key("a"), key("c")]},
        "UnprocessedKeys": {"things": {"Keys": [key("b")]}},
    }
