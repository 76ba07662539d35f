"""GetItem, PutItem, UpdateItem, DeleteItem: their gates, their order, their answers."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.errors import ApiError
from geodyne.messages import Busy, Get, Moved, Refused, Write
from tests.unit.router.fake_region import Client, table

ITEM = {"pk": {"S": "a"}, "n": {"N": "1"}, "list": {"L": [{"S": "x"}, {"S": "y"}]}}
NOT_FOUND = ("ResourceNotFoundException", "Requested resource not found")


@pytest.fixture
def client() -> Client:
    client = Client()
    table(client)
    table(client, "sorted", sort="N")
    return client


def test_an_item_comes_back_as_it_was_put(client: Client) -> None:
    assert client("PutItem", TableName="things", Item=ITEM) == {}
    assert client("GetItem", TableName="things", Key={"pk": {"S": "a"}}) == {"Item": ITEM}
    assert client("GetItem", TableName="things", Key={"pk": {"S": "b"}}) == {}


def test_an_unprojected_read_returns_the_stored_bytes(client: Client) -> None:
    client("PutItem", TableName="things", Item=ITEM)
    stored = client.region.calls[-1]
    assert isinstance(stored, Write)
    answer = client.raw("GetItem", {"TableName": "things", "Key": {"pk": {"S": "a"}}})
    assert answer == b'{"Item":' + stored.item + b"}"


def test_numbers_are_normalised_on_the_way_in(client: Client) -> None:
    client("PutItem", TableName="sorted", Item={"pk": {"S": "a"}, "sk": {"N": "1.50e1"}})
    assert client("GetItem", TableName="sorted", Key={"pk": {"S": "a"}, "sk": {"N": "15"}})["Item"]["sk"] == {"N": "15"}


def test_a_projection_picks_parts(client: Client) -> None:
    client("PutItem", TableName="things", Item=ITEM)
    answer = client(
        "GetItem",
        TableName="things",
        Key={"pk": {"S": "a"}},
        ProjectionExpression="#l[1], absent",
        ExpressionAttributeNames={"#l": "list"},
    )
    assert answer == {"Item": {"list": {"L": [{"S": "y"}]}}}


def test_consistent_read_decides_who_is_asked(client: Client) -> None:
    for consistent in (True, False):
        client("GetItem", TableName="things", Key={"pk": {"S": "a"}}, ConsistentRead=consistent)
        call = client.region.calls[-1]
        assert isinstance(call, Get)
        assert call.strong is consistent


def test_calls_go_to_the_partition_that_owns_the_hash(client: Client) -> None:
    record = client.region.catalog.tables["things"]
    for number in range(32):
        client("PutItem", TableName="things", Item={"pk": {"S": str(number)}})
        call = client.region.calls[-1]
        assert isinstance(call, Write)
        partition = record.partition_of(int.from_bytes(call.key[:8], "big"))
        assert (call.partition, call.epoch) == (partition.id, partition.epoch)
    assert len({call.partition for call in client.region.calls if isinstance(call, Write)}) == 4


@pytest.mark.parametrize("operation", ["GetItem", "DeleteItem", "UpdateItem"])
def test_a_key_must_match_the_schema_exactly(client: Client, operation: str) -> None:
    mismatch = ("ValidationException", "The provided key element does not match the schema")
    for key in ({"pk": {"N": "1"}}, {"x": {"S": "1"}}, {"pk": {"S": "1"}, "x": {"S": "1"}}, {}):
        assert client.refused(operation, TableName="things", Key=key) == mismatch


def test_an_item_must_have_its_key(client: Client) -> None:
    invalid = "One or more parameter values were invalid: "
    assert client.refused("PutItem", TableName="things", Item={"x": {"S": "a"}}) == (
        "ValidationException",
        f"{invalid}Missing the key pk in the item",
    )
    assert client.refused("PutItem", TableName="things", Item={"pk": {"N": "1"}}) == (
        "ValidationException",
        f"{invalid}Type mismatch for key pk expected: S actual: N",
    )


def test_an_item_over_400_kb_is_refused(client: Client) -> None:
    fits = {"pk": {"S": "a"}, "d": {"S": "x" * (400 * 1024 - 4)}}
    client("PutItem", TableName="things", Item=fits)
    fits["d"]["S"] += "x"
    assert client.refused("PutItem", TableName="things", Item=fits) == (
        "ValidationException",
        "Item size has exceeded the maximum allowed size",
    )


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("GetItem", {"Key": {"pk": {"S": "a"}}}),
        ("PutItem", {"Item": {"pk": {"S": "a"}}}),
        ("UpdateItem", {"Key": {"pk": {"S": "a"}}}),
        ("DeleteItem", {"Key": {"pk": {"S": "a"}}}),
        ("Query", {"KeyConditionExpression": "pk = :a", "ExpressionAttributeValues": {":a": {"S": "a"}}}),
        ("Scan", {}),
    ],
)
def test_a_missing_table_is_not_named_by_the_data_plane(client: Client, operation: str, body: dict[str, Any]) -> None:
    assert client.refused(operation, TableName="absent", **body) == NOT_FOUND


def test_a_broken_expression_is_told_before_a_missing_table(client: Client) -> None:
    code, message = client.refused("PutItem", TableName="absent", Item=ITEM, ConditionExpression="pk = = 1")
    assert code == "ValidationException"
    assert message is not None
    assert message.startswith("Invalid ConditionExpression: Syntax error")


def test_a_failed_condition_returns_the_item_only_when_asked(client: Client) -> None:
    client("PutItem", TableName="things", Item=ITEM)
    request = {"TableName": "things", "Item": ITEM, "ConditionExpression": "attribute_not_exists(pk)"}
    for asked in (False, True):
        if asked:
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        with pytest.raises(ApiError) as caught:
            client.raw("PutItem", request)
        assert caught.value.kind.code == "ConditionalCheckFailedException"
        assert caught.value.message == "The conditional request failed"
        assert caught.value.details == ({"Item": ITEM} if asked else {})


def test_put_and_delete_return_only_the_old_item(client: Client) -> None:
    assert client("PutItem", TableName="things", Item=ITEM, ReturnValues="ALL_OLD") == {}
    assert client("PutItem", TableName="things", Item=ITEM, ReturnValues="ALL_OLD") == {"Attributes": ITEM}
    assert client("DeleteItem", TableName="things", Key={"pk": {"S": "a"}}, ReturnValues="ALL_OLD") == {
        "Attributes": ITEM
    }
    assert client("DeleteItem", TableName="things", Key={"pk": {"S": "a"}}, ReturnValues="ALL_OLD") == {}
    assert client.refused("PutItem", TableName="things", Item=ITEM, ReturnValues="ALL_NEW") == (
        "ValidationException",
        "ReturnValues can only be ALL_OLD or NONE",
    )


def test_update_changes_and_returns_what_was_asked(client: Client) -> None:
    client("PutItem", TableName="things", Item=ITEM)
    answer = client(
        "UpdateItem",
        TableName="things",
        Key={"pk": {"S": "a"}},
        UpdateExpression="SET n = n + :one REMOVE #l[0]",
        ExpressionAttributeNames={"#l": "list"},
        ExpressionAttributeValues={":one": {"N": "1.0"}},
        ReturnValues="ALL_NEW",
    )
    assert answer == {"Attributes": {"pk": {"S": "a"}, "n": {"N": "2"}, "list": {"L": [{"S": "y"}]}}}


def test_update_without_an_expression_creates_the_bare_key(client: Client) -> None:
    assert client("UpdateItem", TableName="things", Key={"pk": {"S": "new"}}) == {}
    assert client("GetItem", TableName="things", Key={"pk": {"S": "new"}}) == {"Item": {"pk": {"S": "new"}}}


def test_consumed_capacity_follows_sizes(client: Client) -> None:
    big = {"pk": {"S": "a"}, "d": {"S": "x" * 4096}}
    key = {"pk": {"S": "a"}}
    total = {"TableName": "things", "ReturnConsumedCapacity": "TOTAL"}
    put = client("PutItem", Item=big, **total)
    assert put == {"ConsumedCapacity": {"TableName": "things", "CapacityUnits": 5.0}}
    get = client("GetItem", Key=key, **total)
    assert get["ConsumedCapacity"] == {"TableName": "things", "CapacityUnits": 1.0}
    get = client("GetItem", Key=key, ConsistentRead=True, **total)
    assert get["ConsumedCapacity"]["CapacityUnits"] == 2.0
    assert client("GetItem", Key={"pk": {"S": "b"}}, **total)["ConsumedCapacity"]["CapacityUnits"] == 0.5
    smaller = client("PutItem", TableName="things", Item=key, ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
    assert smaller == {"TableName": "things", "CapacityUnits": 5.0, "Table": {"CapacityUnits": 5.0}}
    assert client("DeleteItem", Key=key, **total)["ConsumedCapacity"]["CapacityUnits"] == 1.0
    assert client("DeleteItem", Key=key, **total)["ConsumedCapacity"]["CapacityUnits"] == 1.0


def test_a_table_can_be_named_by_its_arn_and_the_answer_repeats_it(client: Client) -> None:
    arn = "arn:aws:dynamodb:us-east-1:000000000000:table/things"
    answer = client("PutItem", TableName=arn, Item=ITEM, ReturnConsumedCapacity="TOTAL")
    assert answer["ConsumedCapacity"]["TableName"] == arn
    assert client("GetItem", TableName=arn, Key={"pk": {"S": "a"}}) == {"Item": ITEM}
    elsewhere = arn.replace("us-east-1", "eu-west-1")
    assert client.refused("GetItem", TableName=elsewhere, Key={"pk": {"S": "a"}})[0] == "ValidationException"


def test_expression_and_legacy_parameters_exclude_each_other(client: Client) -> None:
    code, message = client.refused(
        "GetItem", TableName="things", Key={"pk": {"S": "a"}}, AttributesToGet=["a"], ProjectionExpression="a"
    )
    assert (code, message) == (
        "ValidationException",
        "Can not use both expression and non-expression parameters in the same request: "
        "Non-expression parameters: {AttributesToGet} Expression parameters: {ProjectionExpression}",
    )


def test_placeholders_need_an_expression(client: Client) -> None:
    _, message = client.refused("PutItem", TableName="things", Item=ITEM, ExpressionAttributeNames={"#a": "a"})
    assert message == "ExpressionAttributeNames can only be specified when using expressions"
    _, message = client.refused("PutItem", TableName="things", Item=ITEM, ExpressionAttributeValues={":a": {"S": "a"}})
    assert message is not None
    assert message.startswith("ExpressionAttributeValues can only be specified when using expressions")


def test_a_moved_partition_is_followed_once_the_catalog_knows(client: Client) -> None:
    client("PutItem", TableName="things", Item=ITEM)
    client.region.forced = [Moved(1, 7), Moved(1, 9)]
    assert client("GetItem", TableName="things", Key={"pk": {"S": "a"}}) == {"Item": ITEM}
    assert client.region.waited[-2:] == [7, 9]


def test_following_a_moving_partition_ends(client: Client) -> None:
    client.region.forced = [Moved(1, 7)] * 100
    assert client.refused("GetItem", TableName="things", Key={"pk": {"S": "a"}})[0] == "ServiceUnavailable"
    assert 0 < len(client.region.forced) < 100


def test_a_nodes_refusal_is_the_answer(client: Client) -> None:
    client.region.forced = [Refused("ProvisionedThroughputExceededException", "too much")]
    assert client.refused("PutItem", TableName="things", Item=ITEM) == (
        "ProvisionedThroughputExceededException",
        "too much",
    )


def test_an_answer_of_the_wrong_kind_is_an_internal_error(client: Client) -> None:
    client.region.forced = [Busy("?")]
    assert client.refused("GetItem", TableName="things", Key={"pk": {"S": "a"}})[0] == "InternalServerError"
