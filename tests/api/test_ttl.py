"""Time to Live as clients see it: how it is set, what goes and what stays, and what a deletion leaves in the stream."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.service import ENDPOINT_VARIABLE, Item, Service
from tests.api.test_streams import Stream, stream

GONE_S_MAX = 20.0
HOUR_S = 3600
YEAR_S = 365 * 86_400
INDEX = {
    "IndexName": "by_owner",
    "KeySchema": [{"AttributeName": "owner", "KeyType": "HASH"}],
    "Projection": {"ProjectionType": "ALL"},
}

# DynamoDB itself takes days where this one takes seconds.
prompt = pytest.mark.skipif(ENDPOINT_VARIABLE in os.environ, reason="only of a server that deletes within seconds")


def now_s() -> int:
    return int(time.time())


def number(value: object) -> Item:
    return {"N": str(value)}


def set_ttl(service: Service, table: str, enabled: bool = True, attribute: str = "expires") -> dict[str, Any]:
    asked = {"Enabled": enabled, "AttributeName": attribute}
    answer: dict[str, Any] = service.do("UpdateTimeToLive", TableName=table, TimeToLiveSpecification=asked)
    return answer


def refused(service: Service, table: str, enabled: bool, attribute: str = "expires") -> str:
    asked = {"Enabled": enabled, "AttributeName": attribute}
    return service.invalid("UpdateTimeToLive", TableName=table, TimeToLiveSpecification=asked)


def described(service: Service, table: str) -> dict[str, str]:
    found: dict[str, str] = service.do("DescribeTimeToLive", TableName=table)["TimeToLiveDescription"]
    return found


def put(service: Service, table: str, pk: str, expires: Item | None = None, **more: Item) -> None:
    item = {"pk": {"S": pk}, **more}
    service.do("PutItem", TableName=table, Item=item if expires is None else {**item, "expires": expires})


def wait_gone(service: Service, table: str, *pks: str) -> None:
    end = time.monotonic() + GONE_S_MAX
    while left := [pk for pk in pks if service.get(table, {"pk": {"S": pk}}) is not None]:
        assert time.monotonic() < end, left


@pytest.fixture(scope="module")
def expiring(service: Service, make_table: Callable[..., str]) -> str:
    table = make_table(**stream("NEW_AND_OLD_IMAGES"))
    set_ttl(service, table)
    return table


# --- the setting ------------------------------------------------------------------------------------------------


def test_ttl_is_off_until_it_is_enabled_and_off_again_once_disabled(
    service: Service, make_table: Callable[..., str]
) -> None:
    table = make_table()
    assert described(service, table) == {"TimeToLiveStatus": "DISABLED"}
    assert set_ttl(service, table) == {"TimeToLiveSpecification": {"Enabled": True, "AttributeName": "expires"}}
    assert described(service, table) == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
    assert service.do("DescribeTable", TableName=table)["Table"]["TableStatus"] == "ACTIVE"
    assert refused(service, table, True) == "TimeToLive is already enabled"
    active = "TimeToLive is active on a different AttributeName: current AttributeName is expires"
    assert refused(service, table, True, "other") == active
    assert refused(service, table, False, "other") == active
    assert set_ttl(service, table, False) == {"TimeToLiveSpecification": {"Enabled": False, "AttributeName": "expires"}}
    assert described(service, table) == {"TimeToLiveStatus": "DISABLED"}
    assert refused(service, table, False) == "TimeToLive is already disabled"


def test_a_table_is_named_by_its_name_or_arn(service: Service, expiring: str) -> None:
    arn = service.do("DescribeTable", TableName=expiring)["Table"]["TableArn"]
    assert described(service, arn) == described(service, expiring)
    absent = service.unique("absent")
    asked = {"Enabled": True, "AttributeName": "expires"}
    for operation, more in (("DescribeTimeToLive", {}), ("UpdateTimeToLive", {"TimeToLiveSpecification": asked})):
        code, message = service.refused(operation, {"TableName": absent, **more})
        assert code == "ResourceNotFoundException"
        assert message == f"Requested resource not found: Table: {absent} not found"


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (None, "Value null at 'timeToLiveSpecification' failed to satisfy constraint: Member must not be null"),
        ({"Enabled": True}, "Value null at 'timeToLiveSpecification.attributeName' failed to satisfy constraint"),
        ({"AttributeName": "a"}, "Value null at 'timeToLiveSpecification.enabled' failed to satisfy constraint"),
        (
            {"Enabled": True, "AttributeName": ""},
            "Value '' at 'timeToLiveSpecification.attributeName' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
        ),
        ({"Enabled": True, "AttributeName": "a" * 256}, "Member must have length less than or equal to 255"),
    ],
)
def test_what_is_missing_or_out_of_bounds_is_named(
    service: Service, expiring: str, asked: dict[str, Any] | None, problem: str
) -> None:
    assert problem in service.invalid("UpdateTimeToLive", TableName=expiring, TimeToLiveSpecification=asked)


def test_boto3_sets_and_describes_it(service: Service, make_table: Callable[..., str]) -> None:
    table, client = make_table(), service.boto3_client()
    asked = {"Enabled": True, "AttributeName": "a"}
    assert (
        client.update_time_to_live(TableName=table, TimeToLiveSpecification=asked)["TimeToLiveSpecification"] == asked
    )
    found = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    assert found == {"TimeToLiveStatus": "ENABLED", "AttributeName": "a"}


# --- what goes --------------------------------------------------------------------------------------------------


@prompt
def test_what_is_due_goes_within_seconds_and_nothing_else_does(service: Service, expiring: str) -> None:
    now = now_s()
    staying = {
        "later": number(now + HOUR_S),
        "text": {"S": str(now - 60)},
        "set": {"NS": [str(now - 60)]},
        "fraction": number(f"{now - 60}.5"),
        "milliseconds": number((now - 60) * 1000),
        "five-years-old": number(now - 5 * YEAR_S - HOUR_S),
        "negative": number(-5),
        "nested": {"M": {"expires": number(now - 60)}},
        "without": None,
    }
    for pk, expires in staying.items():
        put(service, expiring, pk, expires)
    put(service, expiring, "due", number(now - 60))
    put(service, expiring, "four-years-old", number(now - 4 * YEAR_S))
    put(service, expiring, "soon", number(now + 2))
    wait_gone(service, expiring, "due", "four-years-old", "soon")
    assert now_s() >= now + 2
    assert [pk for pk in staying if service.get(expiring, {"pk": {"S": pk}}) is None] == []


@prompt
def test_an_item_that_is_renewed_in_time_stays(service: Service, expiring: str) -> None:
    soon = now_s() + 2
    for pk in ("renewed", "removed", "left-alone"):
        put(service, expiring, pk, number(soon))
    renewal = {"ExpressionAttributeValues": {":later": number(soon + HOUR_S)}}
    service.do(
        "UpdateItem",
        TableName=expiring,
        Key={"pk": {"S": "renewed"}},
        UpdateExpression="SET expires = :later",
        **renewal,
    )
    service.do("UpdateItem", TableName=expiring, Key={"pk": {"S": "removed"}}, UpdateExpression="REMOVE expires")
    wait_gone(service, expiring, "left-alone")
    put(service, expiring, "after", number(now_s() - 1))  # by then all that was due before has been looked at
    wait_gone(service, expiring, "after")
    assert service.get(expiring, {"pk": {"S": "renewed"}}) is not None
    assert service.get(expiring, {"pk": {"S": "removed"}}) is not None


@prompt
def test_items_that_were_there_before_go_too_and_indexes_follow(service: Service) -> None:
    table = service.unique("ttl-index")
    service.do(
        "CreateTable",
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[INDEX],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "owner")],
    )
    service.wait_active(table)
    for count in range(100):
        put(service, table, f"k{count}", number(now_s() - 1 if count else now_s() + HOUR_S), owner={"S": "o"})
    set_ttl(service, table)
    wait_gone(service, table, *(f"k{count}" for count in range(1, 100)))
    query = {
        "TableName": table,
        "IndexName": "by_owner",
        "KeyConditionExpression": "#o = :o",
        "ExpressionAttributeNames": {"#o": "owner"},
        "ExpressionAttributeValues": {":o": {"S": "o"}},
    }
    end = time.monotonic() + GONE_S_MAX
    while [item["pk"]["S"] for item in service.do("Query", **query)["Items"]] != ["k0"]:
        assert time.monotonic() < end
    service.do("DeleteTable", TableName=table)


@prompt
def test_a_deletion_for_its_time_carries_the_identity_of_the_service_and_one_by_a_client_does_not(
    service: Service, make_table: Callable[..., str]
) -> None:
    table = make_table(**stream("NEW_AND_OLD_IMAGES"))
    set_ttl(service, table)
    due = now_s() - 5
    put(service, table, "due", number(due))
    wait_gone(service, table, "due")
    put(service, table, "deleted", number(now_s() + HOUR_S))
    service.do("DeleteItem", TableName=table, Key={"pk": {"S": "deleted"}})
    removals = {
        record["dynamodb"]["Keys"]["pk"]["S"]: record
        for record in Stream(service, table).read(4)
        if record["eventName"] == "REMOVE"
    }
    expired = removals["due"]
    assert expired["userIdentity"] == {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
    assert expired["dynamodb"]["OldImage"] == {"pk": {"S": "due"}, "expires": number(due)}
    assert "userIdentity" not in removals["deleted"]
