"""Kinesis streaming destinations as their operations show them, where no Kinesis endpoint is configured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.api.service import Service

SETTLED_S_MAX = 30.0


def arn(service: Service, name: str = "changes") -> str:
    return f"arn:aws:kinesis:{service.region}:000000000000:stream/{name}"


def settled(service: Service, table: str) -> list[dict[str, Any]]:
    """DescribeKinesisStreamingDestination until nothing changes any more."""
    end = time.monotonic() + SETTLED_S_MAX
    while time.monotonic() < end:
        found: list[dict[str, Any]] = service.do("DescribeKinesisStreamingDestination", TableName=table)[
            "KinesisDataStreamDestinations"
        ]
        if not any(one["DestinationStatus"].endswith("ING") for one in found):
            return found
    raise AssertionError(found)


def test_without_an_endpoint_a_destination_cannot_be_enabled_and_says_why(
    service: Service, make_table: Callable[..., str]
) -> None:
    table = make_table()
    assert settled(service, table) == []
    for precision in ("MILLISECOND", None):
        given = {"EnableKinesisStreamingConfiguration": {"ApproximateCreationDateTimePrecision": precision}}
        body = {"TableName": table, "StreamArn": arn(service), **(given if precision else {})}
        answer = service.do("EnableKinesisStreamingDestination", **body)
        assert answer == {**body, "DestinationStatus": "ENABLING"}
        assert settled(service, table) == [
            {
                "StreamArn": arn(service),
                "DestinationStatus": "ENABLE_FAILED",
                "DestinationStatusDescription": "No Kinesis endpoint is configured (--kinesis-endpoint)",
                "ApproximateCreationDateTimePrecision": precision or "MICROSECOND",
            }
        ]
    service.do("PutItem", TableName=table, Item={"pk": {"S": "a"}})
    assert service.get(table, {"pk": {"S": "a"}}) == {"pk": {"S": "a"}}


def test_only_an_active_destination_is_disabled_or_updated(service: Service, table: str) -> None:
    body = {"TableName": table, "StreamArn": arn(service)}
    assert "must be ACTIVE to perform DISABLE" in service.invalid("DisableKinesisStreamingDestination", **body)
    precision = {"UpdateKinesisStreamingConfiguration": {"ApproximateCreationDateTimePrecision": "MILLISECOND"}}
    assert "must be ACTIVE" in service.invalid("UpdateKinesisStreamingDestination", **body, **precision)


def test_an_update_names_a_precision(service: Service, table: str) -> None:
    body = {"TableName": table, "StreamArn": arn(service)}
    configurations: list[dict[str, Any]] = [{}, {"UpdateKinesisStreamingConfiguration": {}}]
    for configuration in configurations:
        message = service.invalid("UpdateKinesisStreamingDestination", **body, **configuration)
        assert message.endswith("cannot be null or contain only null values")


def test_the_arn_is_that_of_a_data_stream_of_the_region(service: Service, table: str) -> None:
    for wrong in (
        f"arn:aws:kinesis:{service.region}:000000000000:stream/",
        f"arn:aws:sns:{service.region}:000000000000:stream/changes",
        "arn:aws:kinesis:xx-north-9:000000000000:stream/changes",
        arn(service, "no spaces here"),
    ):
        message = service.invalid("EnableKinesisStreamingDestination", TableName=table, StreamArn=wrong)
        assert message.startswith("Invalid StreamArn")
    short = service.invalid("EnableKinesisStreamingDestination", TableName=table, StreamArn="arn:short")
    assert "Member must have length greater than or equal to 37" in short


def test_parameters_are_checked_and_tables_must_exist(service: Service, table: str) -> None:
    assert "streamArn" in service.invalid("EnableKinesisStreamingDestination", TableName=table)
    precision = {"EnableKinesisStreamingConfiguration": {"ApproximateCreationDateTimePrecision": "SECOND"}}
    message = service.invalid("EnableKinesisStreamingDestination", TableName=table, StreamArn=arn(service), **precision)
    assert "Member must satisfy enum value set" in message
    code, _ = service.refused("DescribeKinesisStreamingDestination", {"TableName": "missing"})
    assert code == "ResourceNotFoundException"
    code, _ = service.refused("EnableKinesisStreamingDestination", {"TableName": "missing", "StreamArn": arn(service)})
    assert code == "ResourceNotFoundException"


def test_the_sdk_takes_the_answers_and_a_table_may_be_named_by_arn(service: Service, make_table: Any) -> None:
    table = make_table()
    client = service.boto3_client()
    by_arn = service.wait_active(table)["TableArn"]
    enabled = client.enable_kinesis_streaming_destination(TableName=by_arn, StreamArn=arn(service))
    assert (enabled["TableName"], enabled["DestinationStatus"]) == (table, "ENABLING")
    settled(service, table)
    described = client.describe_kinesis_streaming_destination(TableName=by_arn)
    assert described["TableName"] == table
    client.close()
