"""The operations on event source mappings: Lambda API reference, "CreateEventSourceMapping" and what follows it.

The metadata group decides what depends on other mappings, functions and tables; here is what a request says and what
an answer shows. An operator may ask for more than a client of the API: on-failure destinations of every kind.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any, Final

from geodyne.catalog import ControlOperation
from geodyne.errors import ApiError
from geodyne.streams import parse_stream_arn, stream_arn
from geodyne.triggers.functions import HTTP
from geodyne.triggers.mapping import Mapping as EventSourceMapping
from geodyne.triggers.mapping import MappingError, check
from router.api.context import Context
from router.api.control import decided
from router.lambdaapi.errors import CONFLICT, NOT_FOUND, LambdaError, invalid
from router.lambdaapi.parameters import (
    ARN_LENGTH_MAX,
    ARN_PATTERN,
    FUNCTION_LENGTH_MAX,
    FUNCTION_PATTERN,
    REPORT_FAILURES,
    Violations,
    check_range,
    check_shape,
    check_text,
    check_uuid,
    mapping_members,
)

PAGE_MAX: Final = 100  # mappings in an answer, whatever MaxItems says
MAX_ITEMS_MAX: Final = 10_000
TRANSITION_REASON: Final = "User action"
STREAM_GONE: Final = "PROBLEM: Stream not found"
_NO_SUCH_MAPPING: Final = "The resource you requested does not exist."
_parts_of_function = re.compile(
    r"(?:(?:arn:aws:lambda:)?(?:(?P<region>[a-z][a-z0-9-]*):)?(?:(?P<account>\d{12}):)?function:|"
    r"(?:(?P<account_only>\d{12}):)?)(?P<name>[a-zA-Z0-9-_.]+)(?::(?P<qualifier>.+))?",
    re.ASCII,
).fullmatch

Answer = dict[str, Any]


# --- operations -------------------------------------------------------------------------------------------


async def create(body: Mapping[str, Any], context: Context, *, operator: bool = False) -> Answer:
    """CreateEventSourceMapping. Raises LambdaError, ApiError."""
    check_shape(body, creating=True)
    if body["StartingPosition"] == "AT_TIMESTAMP":
        raise invalid("AT_TIMESTAMP is not supported as StartingPosition for DynamoDB stream event sources.")
    arn, function = body["EventSourceArn"], _function_name(body["FunctionName"], context)
    stream = parse_stream_arn(arn)
    if stream is None:
        raise invalid(f"Unrecognized event source, must be the ARN of a DynamoDB stream: {arn}")
    if (stream.region, stream.account) != (context.region, context.account_id):
        raise invalid(f"Stream not found: {arn}")
    mapping = EventSourceMapping(
        uuid="",
        table=stream.table,
        stream_label=stream.label,
        function=function,
        starting_position=body["StartingPosition"],
        **mapping_members(body),
    )
    _check(mapping, _owners(context, operator))
    try:
        return await _control(context, ControlOperation.CREATE_MAPPING, {"mapping": mapping.to_record()})
    except ApiError as error:
        raise _named(error, arn, function, context) from None


async def update(uuid: str, body: Mapping[str, Any], context: Context, *, operator: bool = False) -> Answer:
    """UpdateEventSourceMapping. Raises LambdaError, ApiError."""
    check_uuid(uuid)
    check_shape(body, creating=False)
    said = mapping_members(body)
    if body.get("FunctionName") is not None:
        said["function"] = _function_name(body["FunctionName"], context)
    before = EventSourceMapping.from_record(_record(uuid, context))
    after = EventSourceMapping.from_record({**before.to_record(), **said})
    _check(after, _owners(context, operator, before.on_failure))
    changes = {name: value for name, value in after.to_record().items() if name in said}
    try:
        return await _control(context, ControlOperation.UPDATE_MAPPING, {"uuid": uuid, "mapping": changes})
    except ApiError as error:
        raise _named(error, _source(after, context), after.function, context) from None


async def delete(uuid: str, context: Context) -> Answer:
    """DeleteEventSourceMapping. Raises LambdaError, ApiError."""
    check_uuid(uuid)
    return await _control(context, ControlOperation.DELETE_MAPPING, {"uuid": uuid})


def get(uuid: str, context: Context) -> Answer:
    """GetEventSourceMapping. Raises LambdaError."""
    check_uuid(uuid)
    return shown(_record(uuid, context), context)


def list_(query: Mapping[str, str], context: Context) -> Answer:
    """ListEventSourceMappings; `query` are the parameters of its URL. Raises LambdaError."""
    found = Violations()
    source, function = query.get("EventSourceArn") or None, query.get("FunctionName") or None
    if source is not None:
        check_text(found, "EventSourceArn", source, ARN_PATTERN, ARN_LENGTH_MAX)
    if function is not None:
        check_text(found, "FunctionName", function, FUNCTION_PATTERN, FUNCTION_LENGTH_MAX)
    items_max = _items_max(found, query.get("MaxItems"))
    found.raise_any()
    after = _position(query["Marker"]) if query.get("Marker") else ""
    wanted = None if function is None else _function_name(function, context)
    mappings = context.region_client.catalog.mappings
    chosen = []
    for uuid in sorted(uuid for uuid in mappings if uuid > after):
        mapping = EventSourceMapping.from_record(mappings[uuid])
        if wanted in (None, mapping.function) and source in (None, _source(mapping, context)):
            chosen.append(uuid)
            if len(chosen) > items_max:
                break
    answer: Answer = {"EventSourceMappings": [shown(mappings[uuid], context) for uuid in chosen[:items_max]]}
    if len(chosen) > items_max:
        answer["NextMarker"] = urlsafe_b64encode(chosen[items_max - 1].encode()).decode()
    return answer


def shown(record: Mapping[str, Any], context: Context) -> Answer:
    """A mapping's record as the API shows it: EventSourceMappingConfiguration."""
    mapping = EventSourceMapping.from_record(record)
    answer: Answer = {
        "UUID": mapping.uuid,
        "StartingPosition": mapping.starting_position,
        "BatchSize": mapping.batch_size,
        "MaximumBatchingWindowInSeconds": mapping.batching_window_s,
        "ParallelizationFactor": mapping.parallelization_factor,
        "EventSourceArn": _source(mapping, context),
        "FunctionArn": _function_arn(mapping.function, context),
        "LastModified": record["modified_ms"] / 1000,
        "LastProcessingResult": _last_result(mapping, record, context),
        "State": record["state"],
        "StateTransitionReason": TRANSITION_REASON,
        "DestinationConfig": {"OnFailure": {"Destination": mapping.on_failure} if mapping.on_failure else {}},
        "MaximumRecordAgeInSeconds": mapping.max_record_age_s,
        "BisectBatchOnFunctionError": mapping.bisect,
        "MaximumRetryAttempts": mapping.max_retries,
        "TumblingWindowInSeconds": mapping.tumbling_window_s,
        "FunctionResponseTypes": [REPORT_FAILURES] if mapping.report_failures else [],
        "EventSourceMappingArn": (
            f"arn:aws:lambda:{context.region}:{context.account_id}:event-source-mapping:{mapping.uuid}"
        ),
    }
    if mapping.filters:
        answer["FilterCriteria"] = {"Filters": [{"Pattern": text} for text in mapping.filters]}
    return answer


# --- parts ------------------------------------------------------------------------------------------------


async def _control(context: Context, operation: ControlOperation, body: dict[str, Any]) -> Answer:
    """Let the metadata group decide; returns the mapping as it is then. Raises ApiError."""
    return shown((await decided(context, operation, body))["mapping"], context)


def _named(error: ApiError, arn: str, function: str, context: Context) -> Exception:
    """The region's refusal with the names that the client uses."""
    match error.kind.code:
        case "ResourceConflictException":
            return LambdaError(
                CONFLICT,
                f'The event source arn (" {arn} ") and function (" {function} ") provided mapping already exists. '
                f"Please update or delete the existing mapping with UUID {error.message}",
            )
        case "TableNotFoundException":
            return invalid(f"Stream not found: {arn}")
        case "ResourceNotFoundException" if error.message != _NO_SUCH_MAPPING:
            return LambdaError(NOT_FOUND, f"Function not found: {_function_arn(function, context)}")
    return error


def _owners(context: Context, operator: bool, known: str = "") -> frozenset[str] | None:
    """The destinations that may be asked for; None: any. Delivery stands inside the cluster's network, and writes files
    as the cluster's user: over the API a mapping gets no other place to send to than the owner has registered as an
    HTTP function, or than it has already (`known`)."""
    if operator:
        return None
    functions = context.region_client.catalog.functions.values()
    return frozenset({known, "", *(str(one["url"]) for one in functions if one["kind"] == HTTP)})


def _check(mapping: EventSourceMapping, destinations: frozenset[str] | None) -> None:
    """Raises LambdaError for a mapping that cannot be, or that only an operator may ask for."""
    try:
        check(mapping)
    except MappingError as error:
        raise invalid(str(error)) from None
    if destinations is not None and mapping.on_failure not in destinations:
        raise invalid(
            "Over this API a Destination is the URL of a registered HTTP function; others take `geodyne trigger`."
        )


def _record(uuid: str, context: Context) -> Mapping[str, Any]:
    record = context.region_client.catalog.mappings.get(uuid)
    if record is None:
        raise LambdaError(NOT_FOUND, _NO_SUCH_MAPPING)
    return record


def _last_result(mapping: EventSourceMapping, record: Mapping[str, Any], context: Context) -> str:
    catalog = context.region_client.catalog
    table = catalog.tables.get(mapping.table)
    if table is None or all(stream.label != mapping.stream_label for stream in table.streams):
        return STREAM_GONE
    if mapping.function not in catalog.functions:
        return f"PROBLEM: Function not found: {_function_arn(mapping.function, context)}"
    return str(record["result"])


def _source(mapping: EventSourceMapping, context: Context) -> str:
    return stream_arn(context.region, context.account_id, mapping.table, mapping.stream_label)


def _function_arn(name: str, context: Context) -> str:
    return f"arn:aws:lambda:{context.region}:{context.account_id}:function:{name}"


def _function_name(text: str, context: Context) -> str:
    """The name in any of the forms that the API takes. Raises LambdaError for one that is not of this region, or of a
    version other than $LATEST: there are none."""
    found = _parts_of_function(text)
    if found is None:
        raise LambdaError(NOT_FOUND, f"Function not found: {text}")
    account = found["account"] or found["account_only"] or context.account_id
    region = found["region"] or context.region
    if (region, account) != (context.region, context.account_id) or found["qualifier"] not in (None, "$LATEST"):
        raise LambdaError(NOT_FOUND, f"Function not found: {text}")
    return found["name"]


def _items_max(found: Violations, text: str | None) -> int:
    if not text:
        return PAGE_MAX
    if not (text.isascii() and text.lstrip("-").isdigit() and len(text) <= 20):
        raise invalid("MaxItems must be an integer.")
    check_range(found, "MaxItems", int(text), 1, MAX_ITEMS_MAX)
    return min(int(text), PAGE_MAX)


def _position(marker: str) -> str:
    try:
        return urlsafe_b64decode(marker.encode("ascii")).decode("ascii")
    except (Base64Error, UnicodeError):
        raise invalid("Invalid Marker") from None
