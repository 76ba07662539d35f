"""The operations on Kinesis streaming destinations: Enable, Disable, Update and Describe.

API reference, the four operations; Developer Guide, "Using Kinesis Data Streams to capture changes to DynamoDB": one
data stream a table, in the table's region. An endpoint may keep its streams under another account than this one's, so
the ARN's account is not compared.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from geodyne.catalog import ControlOperation, KinesisDestination, TableRecord, TableStatus
from geodyne.errors import validation
from router.api.context import Context
from router.api.control import check_not_busy, control
from router.api.parameters import Body
from router.api.shapes import validator
from router.api.tablerecords import not_found

PRECISION_DEFAULT = "MICROSECOND"  # Developer Guide, "Getting started with Kinesis Data Streams for DynamoDB"
CHANGE_WAITS_MAX = 10  # of one description that finds a change under way: each for the catalog's next revision,
CHANGE_WAIT_MS = 25  # or for this long

_check_enable = validator("EnableKinesisStreamingDestination")
_check_disable = validator("DisableKinesisStreamingDestination")
_check_update = validator("UpdateKinesisStreamingDestination")
_check_describe = validator("DescribeKinesisStreamingDestination")

_arn_matches = re.compile(r"arn:aws[a-z-]*:kinesis:([a-z0-9-]+):[0-9]{12}:stream/[a-zA-Z0-9_.-]{1,128}").fullmatch


async def enable(body: Body, context: Context) -> bytes:
    """EnableKinesisStreamingDestination: changes from about now on go to the data stream. Raises ApiError."""
    _check_enable(body)
    _check_arn(body["StreamArn"], context)
    given = body.get("EnableKinesisStreamingConfiguration") or {}
    precision = given.get("ApproximateCreationDateTimePrecision") or PRECISION_DEFAULT
    record = await _change(body, context, ControlOperation.ENABLE_KINESIS, precision=precision)
    answer = _answer(record, body)
    if given:
        answer["EnableKinesisStreamingConfiguration"] = {"ApproximateCreationDateTimePrecision": precision}
    return orjson.dumps(answer)


async def disable(body: Body, context: Context) -> bytes:
    """DisableKinesisStreamingDestination. What the stream has not got by then it will not get. Raises ApiError."""
    _check_disable(body)
    record = await _change(body, context, ControlOperation.DISABLE_KINESIS)
    return orjson.dumps(_answer(record, body))


async def update(body: Body, context: Context) -> bytes:
    """UpdateKinesisStreamingDestination: the precision of times, from about now on. Raises ApiError."""
    _check_update(body)
    given = body.get("UpdateKinesisStreamingConfiguration") or {}
    precision = given.get("ApproximateCreationDateTimePrecision")
    if precision is None:
        raise validation(
            "Streaming destination cannot be updated with given parameters: "
            "UpdateKinesisStreamingConfiguration cannot be null or contain only null values"
        )
    record = await _change(body, context, ControlOperation.UPDATE_KINESIS, precision=precision)
    configuration = {"ApproximateCreationDateTimePrecision": precision}
    return orjson.dumps({**_answer(record, body), "UpdateKinesisStreamingConfiguration": configuration})


async def describe(body: Body, context: Context) -> bytes:
    """DescribeKinesisStreamingDestination, after a short wait while a change is under way: one takes a fraction of a
    second here. Raises ApiError."""
    _check_describe(body)
    client = context.region_client
    waits = 0
    while True:
        record = _record(body, context)
        if waits == CHANGE_WAITS_MAX or not any(one.status.endswith("ING") for one in record.kinesis):
            break
        waits += 1
        await client.wait_revision(client.catalog.revision + 1, CHANGE_WAIT_MS)
    destinations = [_described(one) for one in record.kinesis]
    return orjson.dumps({"TableName": record.name, "KinesisDataStreamDestinations": destinations})


async def _change(body: Body, context: Context, operation: ControlOperation, **more: str) -> TableRecord:
    record = _record(body, context)
    if record.status is not TableStatus.UPDATING:
        check_not_busy(record)
    change = {"name": record.name, "table_id": record.id, "stream_arn": body["StreamArn"], **more}
    return await control(context, operation, change)


def _answer(record: TableRecord, body: Body) -> dict[str, Any]:
    changed = next(one for one in record.kinesis if one.stream_arn == body["StreamArn"])
    return {"TableName": record.name, "StreamArn": changed.stream_arn, "DestinationStatus": changed.status.value}


def _described(destination: KinesisDestination) -> dict[str, Any]:
    described = {
        "StreamArn": destination.stream_arn,
        "DestinationStatus": destination.status.value,
        "ApproximateCreationDateTimePrecision": destination.precision,
    }
    if destination.description:
        described["DestinationStatusDescription"] = destination.description
    return described


def _check_arn(arn: str, context: Context) -> None:
    found = _arn_matches(arn)
    if found is None:
        raise validation(f"Invalid StreamArn: {arn}")
    if found[1] != context.region:
        raise validation(f"Invalid StreamArn: the data stream must be in the table's region {context.region}: {arn}")


def _record(body: Body, context: Context) -> TableRecord:
    found = context.tables.find(context.region_client.catalog.tables, body["TableName"])
    if found is None or found.record.status is TableStatus.DELETING:
        raise not_found(context.tables.name_of(body["TableName"]))
    return found.record
