"""Whatever JSON a client sends, an operation answers it or refuses it with an error of the catalogue."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.errors import ApiError
from router.api.registry import OPERATIONS
from tests.unit.router.fake_region import Client, table

KEY = {"pk": {"S": "a"}, "sk": {"N": "1"}}
ITEM = KEY | {"l": {"L": [{"M": {"x": {"SS": ["a"]}}}, {"B": "AAEC"}]}}
VALUES = {":v": {"N": "1"}}
NAMES = {"#n": "n"}
ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/fuzz"
GOOD: dict[str, list[dict[str, Any]]] = {
    "GetItem": [
        {"TableName": "fuzz", "Key": KEY, "ProjectionExpression": "#n.a[0]", "ExpressionAttributeNames": NAMES}
    ],
    "PutItem": [
        {
            "TableName": "fuzz",
            "Item": ITEM,
            "ConditionExpression": "#n < :v OR attribute_not_exists(pk)",
            "ExpressionAttributeNames": NAMES,
            "ExpressionAttributeValues": VALUES,
            "ReturnConsumedCapacity": "TOTAL",
        }
    ],
    "UpdateItem": [
        {
            "TableName": "fuzz",
            "Key": KEY,
            "UpdateExpression": "SET #n = :v",
            "ExpressionAttributeNames": NAMES,
            "ExpressionAttributeValues": VALUES,
            "ReturnValues": "ALL_NEW",
        }
    ],
    "DeleteItem": [{"TableName": "fuzz", "Key": KEY, "ReturnValues": "ALL_OLD"}],
    "Query": [
        {
            "TableName": "fuzz",
            "KeyConditionExpression": "pk = :p AND sk > :v",
            "ExpressionAttributeValues": {":p": {"S": "a"}} | VALUES,
            "ExclusiveStartKey": {"pk": {"S": "a"}, "sk": {"N": "2"}},
            "Limit": 5,
            "Select": "ALL_ATTRIBUTES",
        }
    ],
    "Scan": [{"TableName": "fuzz", "Segment": 0, "TotalSegments": 3, "Limit": 2, "FilterExpression": "size(pk) > pk"}],
    "BatchGetItem": [{"RequestItems": {"fuzz": {"Keys": [KEY], "ConsistentRead": True}}}],
    "BatchWriteItem": [
        {
            "RequestItems": {
                "fuzz": [{"PutRequest": {"Item": ITEM}}, {"DeleteRequest": {"Key": KEY | {"sk": {"N": "2"}}}}]
            }
        }
    ],
    "CreateTable": [
        {
            "TableName": "made",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
            "Tags": [{"Key": "a", "Value": "b"}],
            "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
        },
        {
            "TableName": "made",
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "a", "b")],
            "KeySchema": [
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            "BillingMode": "PAY_PER_REQUEST",
            "LocalSecondaryIndexes": [
                {
                    "IndexName": "near",
                    "KeySchema": [
                        {"AttributeName": "pk", "KeyType": "HASH"},
                        {"AttributeName": "a", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["x"]},
                }
            ],
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": "far",
                    "KeySchema": [
                        {"AttributeName": "a", "KeyType": "HASH"},
                        {"AttributeName": "b", "KeyType": "HASH"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                    "OnDemandThroughput": {"MaxReadRequestUnits": 5},
                }
            ],
            "OnDemandThroughput": {"MaxReadRequestUnits": 5},
            "WarmThroughput": {"ReadUnitsPerSecond": 12_000},
        },
    ],
    "UpdateTable": [
        {"TableName": "fuzz", "ReplicaUpdates": [{"Create": {"RegionName": "eu-west-1"}}]},
        {"TableName": "fuzz", "BillingMode": "PROVISIONED", "ProvisionedThroughput": {"ReadCapacityUnits": 1}},
        {
            "TableName": "fuzz",
            "AttributeDefinitions": [{"AttributeName": "a", "AttributeType": "S"}],
            "GlobalSecondaryIndexUpdates": [
                {
                    "Create": {
                        "IndexName": "later",
                        "KeySchema": [{"AttributeName": "a", "KeyType": "HASH"}],
                        "Projection": {"ProjectionType": "KEYS_ONLY"},
                    }
                },
                {"Update": {"IndexName": "far", "WarmThroughput": {"WriteUnitsPerSecond": 9_000}}},
            ],
        },
        {
            "TableName": "fuzz",
            "OnDemandThroughput": {"MaxReadRequestUnits": -1},
            "WarmThroughput": {"ReadUnitsPerSecond": 13_000},
            "TableClass": "STANDARD",
        },
    ],
    "TagResource": [{"ResourceArn": ARN, "Tags": [{"Key": "a", "Value": "b"}]}],
    "UntagResource": [{"ResourceArn": ARN, "TagKeys": ["a"]}],
    "ListTagsOfResource": [{"ResourceArn": ARN}],
    "DescribeTable": [{"TableName": "arn:aws:dynamodb:us-east-1:000000000000:table/fuzz"}],
    "DeleteTable": [{"TableName": "fuzz"}],
    "ListTables": [{"Limit": 1, "ExclusiveStartTableName": "aaa"}],
    "DescribeLimits": [{}],
    "DescribeEndpoints": [{}],
}
REQUESTS = [(operation, body) for operation, bodies in GOOD.items() for body in bodies]

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "a", "S", "fuzz", "arn:", "arn:aws:dynamodb:us-east-1:000000000000:table/", "\x00", "é", ":v", "#n"]
    ),
    st.text(max_size=8),
)
junk = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["S", "N", "B", "L", "M", "SS", "pk", "Keys", "Create", "a"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a request."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found += places(item, (*path, key))
    return found


def check_outcome(client: Client, operation: str, body: dict[str, Any]) -> None:
    refused: ApiError | None = None
    try:
        answer = client.raw(operation, orjson.loads(orjson.dumps(body)))
    except ApiError as error:
        refused = error
    if refused is None:
        assert not answer or isinstance(orjson.loads(answer), dict)
    else:
        assert refused.kind.status < 500
        orjson.dumps(refused.message)


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), request=st.sampled_from([each for each in REQUESTS if each[1]]))
def test_a_request_with_one_value_replaced_is_answered_or_refused(
    client: Client, data: st.DataObject, request: tuple[str, dict[str, Any]]
) -> None:
    operation, body = request[0], deepcopy(request[1])
    *way, last = data.draw(st.sampled_from(places(body)))
    target: Any = body
    for key in way:
        target = target[key]
    target[last] = data.draw(junk)
    client.region.catalog.tables.clear()
    table(client, "fuzz", sort="N")
    check_outcome(client, operation, body)


@settings(max_examples=60, deadline=None)
@given(operation=st.sampled_from(sorted(OPERATIONS)), body=st.dictionaries(st.text(max_size=5), junk, max_size=4))
def test_any_object_is_answered_or_refused(client: Client, operation: str, body: dict[str, Any]) -> None:
    check_outcome(client, operation, body)


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        ("Query", b'{"TableName":"fuzz","Limit":1e308}'),
        ("Query", b'{"TableName":"fuzz","Limit":9007199254740993}'),
        ("ListTables", b'{"Limit":1e999}'),
        ("CreateTable", b'{"TableName":"made","AttributeDefinitions":[null],"KeySchema":[null],"Tags":[null]}'),
        ("BatchGetItem", b'{"RequestItems":{"fuzz":null}}'),
        ("BatchWriteItem", b'{"RequestItems":{"fuzz":[null]}}'),
        ("BatchWriteItem", b'{"RequestItems":{"fuzz":[{}]}}'),
        ("UpdateTable", b'{"TableName":"fuzz","ReplicaUpdates":[null]}'),
        (
            "CreateTable",
            b'{"TableName":"arn:aws:dynamodb:us-east-1:000000000000:table/x","AttributeDefinitions":[],"KeySchema":[]}',
        ),
        ("PutItem", b'{"TableName":"fuzz","Item":{"pk":null}}'),
        ("PutItem", b'{"TableName":"fuzz","Item":{"pk":{"S":"a"},"sk":{"N":"1e99999999999999999999"}}}'),
    ],
)
def test_traps_are_refused(client: Client, operation: str, text: bytes) -> None:
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return  # refused before any operation sees it
    code, _ = client.refused(operation, **body)
    assert code in ("ValidationException", "SerializationException")
