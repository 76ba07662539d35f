"""The protocol under the operations: targets, bodies, headers, and the order in which a request is looked at."""

from __future__ import annotations

import json
import zlib

import pytest

from router.api.registry import OPERATIONS, STREAM_OPERATIONS
from tests.api.service import AMZ_JSON, STREAMS_TARGET, TARGET, Item, Service
from tests.api.wrongtypes import operation_names, wrong_types

CORAL = "com.amazon.coral.service#"
SERIALIZATION = CORAL + "SerializationException"
VALIDATE = "com.amazon.coral.validate#"
DYNAMODB = "com.amazonaws.dynamodb.v20120810#"


def test_an_answer_carries_its_headers(service: Service) -> None:
    answer = service.call("ListTables", {})
    assert answer.headers["content-type"] == AMZ_JSON
    assert len(answer.headers["x-amzn-requestid"]) == 52
    assert answer.headers["x-amzn-requestid"] != service.call("ListTables", {}).headers["x-amzn-requestid"]
    assert int(answer.headers["content-length"]) > 0
    wrong = service.call("GetItem", {})
    assert wrong.headers["content-type"] == AMZ_JSON
    assert int(wrong.headers["x-amz-crc32"]) > 0


def test_the_checksum_is_that_of_the_body(service: Service) -> None:
    answer = service.call("DescribeLimits", {})
    body = json.dumps(answer.body, separators=(",", ":")).encode()
    assert int(answer.headers["x-amz-crc32"]) == zlib.crc32(body)


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        (b"", CORAL + "SerializationException"),
        (b"{", CORAL + "SerializationException"),
        (b"[]", CORAL + "SerializationException"),
        (b'"x"', CORAL + "SerializationException"),
        (b'{"TableName": "abc", }', CORAL + "SerializationException"),
        (b"\xff\xfe", CORAL + "SerializationException"),
    ],
)
def test_a_body_that_is_no_json_object_is_a_serialization_error(service: Service, body: bytes, type_: str) -> None:
    answer = service.call("GetItem", body)
    assert (answer.status, answer.body["__type"]) == (400, type_)


@pytest.mark.parametrize("target", ["", "GetItem", TARGET + "getitem", TARGET + "Nope", "DynamoDB_20111205.GetItem"])
def test_an_unknown_target_is_an_unknown_operation(service: Service, target: str) -> None:
    headers = {"Content-Type": AMZ_JSON}
    if target:
        headers["X-Amz-Target"] = target
    answer = service.send(b"{}", headers)
    assert (answer.status, answer.body["__type"]) == (400, CORAL + "UnknownOperationException")


@pytest.mark.parametrize("operation", sorted(set(operation_names()) - set(OPERATIONS)))
def test_an_operation_that_is_not_there_says_so(service: Service, operation: str) -> None:
    answer = service.call(operation, {"TableName": "missing-table"})
    assert (answer.status, answer.body) == (400, {"__type": CORAL + "UnknownOperationException"})


@pytest.mark.parametrize("target", [TARGET + "ListStreams", STREAMS_TARGET + "ListTables", STREAMS_TARGET])
def test_an_operation_of_another_service_is_unknown(service: Service, target: str) -> None:
    answer = service.send(b"{}", {"X-Amz-Target": target, "Content-Type": AMZ_JSON})
    assert (answer.status, answer.body) == (400, {"__type": CORAL + "UnknownOperationException"})


@pytest.mark.parametrize(
    ("of", "operation"),
    [("dynamodb", name) for name in sorted(OPERATIONS)]
    + [("dynamodbstreams", name) for name in sorted(STREAM_OPERATIONS)],
)
def test_no_member_of_any_operation_takes_another_json_type(service: Service, of: str, operation: str) -> None:
    wrong = []
    for case in wrong_types(operation, of):
        answer = service.call(operation, case.body)
        if (answer.status, answer.body) != (400, {"__type": SERIALIZATION, "Message": case.message}):
            wrong.append((case.path, case.body, answer.body))
    assert wrong == []


def test_another_content_type_is_not_the_protocol(service: Service) -> None:
    answer = service.send(b"{}", {"X-Amz-Target": TARGET + "ListTables", "Content-Type": "text/plain"})
    assert answer.status == 404


def test_errors_name_their_service(service: Service, table: str, key: Item) -> None:
    assert service.call("GetItem", {"TableName": "x!"}).body["__type"] == VALIDATE + "ValidationException"
    missing = service.call("GetItem", {"TableName": "missing-table", "Key": key})
    assert missing.body["__type"] == DYNAMODB + "ResourceNotFoundException"
    failed = service.call("DeleteItem", {"TableName": table, "Key": key, "ConditionExpression": "attribute_exists(pk)"})
    assert failed.body == {
        "__type": DYNAMODB + "ConditionalCheckFailedException",
        "message": "The conditional request failed",
    }
    typed = service.call("GetItem", {"TableName": 5})
    assert typed.body == {
        "__type": CORAL + "SerializationException",
        "Message": "NUMBER_VALUE cannot be converted to String",
    }


def test_unknown_members_and_nulls_are_ignored(service: Service, table: str, key: Item) -> None:
    service.do("PutItem", TableName=table, Item=key, Nonsense={"x": 1}, ConditionExpression=None, ReturnValues=None)
    found = service.do("GetItem", TableName=table, Key=key, Foo=[1], ConsistentRead=None, ProjectionExpression=None)
    assert found == {"Item": key}


@pytest.mark.parametrize(
    ("operation", "body", "message"),
    [
        ("GetItem", {"TableName": 5}, "NUMBER_VALUE cannot be converted to String"),
        ("GetItem", {"TableName": 5.5}, "DECIMAL_VALUE cannot be converted to String"),
        ("GetItem", {"TableName": True}, "TRUE_VALUE cannot be converted to String"),
        ("GetItem", {"TableName": ["x"]}, "Unrecognized collection type class java.lang.String"),
        ("GetItem", {"TableName": {}}, "Start of structure or map found where not expected"),
        ("GetItem", {"ConsistentRead": "yes"}, "Unexpected token received from parser"),
        ("GetItem", {"ConsistentRead": 1}, "NUMBER_VALUE cannot be converted to Boolean"),
        ("GetItem", {"Key": "x"}, "Unexpected field type"),
        ("GetItem", {"Key": {"pk": "x"}}, "Unexpected value type in payload"),
        ("GetItem", {"ExpressionAttributeNames": {"#a": 5}}, "NUMBER_VALUE cannot be converted to String"),
        ("Scan", {"Limit": "x"}, "STRING_VALUE cannot be converted to Integer"),
        ("Scan", {"Limit": True}, "TRUE_VALUE cannot be converted to Integer"),
        ("BatchGetItem", {"RequestItems": "x"}, "Unexpected field type"),
        ("BatchGetItem", {"RequestItems": {"t": "x"}}, "Unexpected value type in payload"),
        ("BatchWriteItem", {"RequestItems": {"t": "x"}}, "Unexpected field type"),
        ("BatchWriteItem", {"RequestItems": {"t": ["x"]}}, "Unexpected value type in payload"),
        ("CreateTable", {"KeySchema": "x"}, "Unexpected field type"),
        ("ListTables", {"Limit": "5"}, "STRING_VALUE cannot be converted to Integer"),
    ],
)
def test_a_wrong_json_type_comes_before_everything_about_meaning(
    service: Service, operation: str, body: Item, message: str
) -> None:
    assert service.refused(operation, body) == ("SerializationException", message)


def test_all_broken_constraints_are_reported_together(service: Service) -> None:
    message = service.invalid(
        "PutItem", TableName="a b", ReturnConsumedCapacity="SOME", ReturnValues="MOST", ReturnItemCollectionMetrics="X"
    )
    assert message.startswith("5 validation errors detected: ")
    for part in (
        "Value 'a b' at 'tableName' failed to satisfy constraint: Member must satisfy regular expression pattern: "
        "[a-zA-Z0-9_.-]+",
        "Value null at 'item' failed to satisfy constraint: Member must not be null",
        "Value 'SOME' at 'returnConsumedCapacity' failed to satisfy constraint: Member must satisfy enum value set: "
        "[INDEXES, TOTAL, NONE]",
        "Value 'MOST' at 'returnValues' failed to satisfy constraint: Member must satisfy enum value set: "
        "[ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]",
        "Value 'X' at 'returnItemCollectionMetrics' failed to satisfy constraint: Member must satisfy enum value set: "
        "[SIZE, NONE]",
    ):
        assert part in message


# Each body breaks the rule named by its answer and every later one: what is left out of it is right.
LADDER: list[tuple[Item, str]] = [
    ({"TableName": "missing-table", "Key": {"pk": {"S": 5}}, "ReturnValues": "MOST"}, "SerializationException"),
    ({"TableName": "missing-table", "Key": {"pk": {"S": ""}}, "ReturnValues": "MOST"}, "validation error detected"),
    (
        {
            "TableName": "missing-table",
            "Key": {"pk": {}},
            "UpdateExpression": "SET",
            "Expected": {"a": {"Exists": False}},
        },
        "Can not use both expression and non-expression parameters",
    ),
    ({"TableName": "missing-table", "Key": {"pk": {}}, "UpdateExpression": "SET"}, "Supplied AttributeValue is empty"),
    ({"TableName": "missing-table", "Key": {"pk": {"S": ""}}, "UpdateExpression": "SET"}, "Invalid UpdateExpression"),
    ({"TableName": "missing-table", "Key": {"pk": {"S": ""}}}, "Requested resource not found"),
]


@pytest.mark.parametrize(("body", "answer"), LADDER)
def test_a_request_is_checked_in_the_services_order(service: Service, body: Item, answer: str) -> None:
    code, message = service.refused("UpdateItem", body)
    assert answer in (code + " " + (message or ""))


def test_a_large_body_is_refused(service: Service, table: str, key: Item) -> None:
    item = {**key, "v": {"S": "x" * (17 * 1024 * 1024)}}
    answer = service.call("PutItem", {"TableName": table, "Item": item})
    assert answer.status in (400, 413)


def test_a_health_check_needs_no_signature(service: Service) -> None:
    answer = service.send(b"", {}, method="GET")
    assert answer.status == 200
    assert answer.body.startswith(b"healthy: dynamodb.")
