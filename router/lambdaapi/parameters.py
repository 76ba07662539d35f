"""Members of the requests on event source mappings: types, constraints, and what goes only with other sources.

Constraints and the wording of their violations: service model 2015-03-31 and captures of the service's answers. Members
that the model does not know are ignored, as the service does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from geodyne.triggers.mapping import INFINITE, RECORD_AGE_S_MIN
from geodyne.triggers.patterns import FILTERS_MAX
from router.lambdaapi.errors import MALFORMED, LambdaError, invalid

Body = Mapping[str, Any]

REPORT_FAILURES: Final = "ReportBatchItemFailures"
UUID_LENGTH: Final = 36
PATTERN_LENGTH_MAX: Final = 4096
ARN_PATTERN: Final = (
    r"arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)"
)
FUNCTION_PATTERN: Final = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
# Regions here may have other names than those of AWS: what a violation shows is the service's, what counts is this.
_REGION_OF_AWS: Final = r"(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}"
_REGION: Final = r"[a-z][a-z0-9-]*"
ARN_LENGTH_MAX: Final = 10_000
FUNCTION_LENGTH_MAX: Final = 256
_POSITIONS: Final = ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")

# Members that belong to other sources than DynamoDB streams, or to a service that is not here.
_OF_OTHER_SOURCES: Final = (
    "AmazonManagedKafkaEventSourceConfig",
    "DocumentDBEventSourceConfig",
    "LoggingConfig",
    "ProvisionedPollerConfig",
    "Queues",
    "ScalingConfig",
    "SelfManagedEventSource",
    "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations",
    "StartingPositionTimestamp",
    "Topics",
)
_NOT_SUPPORTED: Final = ("KMSKeyArn", "MetricsConfig", "Tags")
_RANGES: Final = {
    "BatchSize": (1, 10_000),
    "MaximumBatchingWindowInSeconds": (0, 300),
    "ParallelizationFactor": (1, 10),
    "MaximumRecordAgeInSeconds": (INFINITE, 604_800),
    "MaximumRetryAttempts": (INFINITE, 10_000),
    "TumblingWindowInSeconds": (0, 900),
}
_INTEGERS: Final = {
    "BatchSize": "batch_size",
    "MaximumBatchingWindowInSeconds": "batching_window_s",
    "ParallelizationFactor": "parallelization_factor",
    "MaximumRecordAgeInSeconds": "max_record_age_s",
    "MaximumRetryAttempts": "max_retries",
    "TumblingWindowInSeconds": "tumbling_window_s",
}
_BOOLEANS: Final = {"Enabled": "enabled", "BisectBatchOnFunctionError": "bisect"}
_TYPES: Final[Mapping[type, str]] = {str: "string", int: "integer", bool: "boolean", list: "list", dict: "structure"}


class Violations:
    """Collects what a request violates: the service names all of it at once."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, member: str, value: object, constraint: str) -> None:
        shown = "null" if value is None else f"'{value}'"
        name = member[0].lower() + member[1:]
        self._found.append(f"Value {shown} at '{name}' failed to satisfy constraint: {constraint}")

    def raise_any(self) -> None:
        """Raises LambdaError when there are any."""
        if self._found:
            errors = "error" if len(self._found) == 1 else "errors"
            raise invalid(f"{len(self._found)} validation {errors} detected: {'; '.join(self._found)}")


def check_shape(body: Body, *, creating: bool) -> None:
    """Raises LambdaError for a member of a wrong type, or with a value that the service model excludes."""
    found = Violations()
    for name, (least, most) in _RANGES.items():
        value = _typed(body, name, int)
        if value is not None:
            check_range(found, name, value, least, most)
    for name in _BOOLEANS:
        _typed(body, name, bool)
    function = _typed(body, "FunctionName", str)
    if function is not None or creating:
        check_text(found, "FunctionName", function, FUNCTION_PATTERN, FUNCTION_LENGTH_MAX)
    if creating:
        check_text(found, "EventSourceArn", _typed(body, "EventSourceArn", str), ARN_PATTERN, ARN_LENGTH_MAX)
        position = _typed(body, "StartingPosition", str)
        if position is None:
            found.add("StartingPosition", None, "Member must not be null")
        elif position not in _POSITIONS:
            found.add("StartingPosition", position, f"Member must satisfy enum value set: [{', '.join(_POSITIONS)}]")
    _check_response_types(found, _typed(body, "FunctionResponseTypes", list))
    _check_filters(found, _typed(body, "FilterCriteria", dict))
    found.raise_any()
    for name in _OF_OTHER_SOURCES:
        if body.get(name) is not None:
            raise invalid(f"{name} is not supported for DynamoDB stream event sources.")
    for name in _NOT_SUPPORTED:
        if body.get(name):
            raise invalid(f"{name} is not supported.")


def check_range(found: Violations, name: str, value: int, least: int, most: int) -> None:
    if value < least:
        found.add(name, value, f"Member must have value greater than or equal to {least}")
    elif value > most:
        found.add(name, value, f"Member must have value less than or equal to {most}")


def check_text(found: Violations, name: str, value: str | None, pattern: str, length_max: int) -> None:
    """A text that must be there and match."""
    if value is None:
        found.add(name, None, "Member must not be null")
    elif len(value) > length_max:
        found.add(name, value[:length_max], f"Member must have length less than or equal to {length_max}")
    elif not re.fullmatch(pattern.replace(_REGION_OF_AWS, _REGION), value, re.ASCII):
        found.add(name, value, f"Member must satisfy regular expression pattern: {pattern}")


def check_uuid(uuid: str) -> None:
    """Raises LambdaError for what cannot be the UUID of a mapping."""
    found = Violations()
    if len(uuid) < UUID_LENGTH:
        found.add("UUID", uuid, f"Member must have length greater than or equal to {UUID_LENGTH}")
    elif len(uuid) > UUID_LENGTH:
        found.add("UUID", uuid[:64], f"Member must have length less than or equal to {UUID_LENGTH}")
    found.raise_any()


def mapping_members(body: Body) -> dict[str, Any]:
    """What a checked request says, as members of `geodyne.triggers.mapping.Mapping`. Raises LambdaError."""
    said: dict[str, Any] = {}
    for name, member in {**_INTEGERS, **_BOOLEANS}.items():
        if body.get(name) is not None:
            said[member] = body[name]
    if 0 <= said.get("max_record_age_s", INFINITE) < RECORD_AGE_S_MIN:
        raise invalid(f"MaximumRecordAgeInSeconds must be {INFINITE} or at least {RECORD_AGE_S_MIN}.")
    if body.get("FilterCriteria") is not None:
        filters = body["FilterCriteria"].get("Filters") or []
        said["filters"] = tuple(one.get("Pattern") or "{}" for one in filters)
    if body.get("FunctionResponseTypes") is not None:
        said["report_failures"] = REPORT_FAILURES in body["FunctionResponseTypes"]
    if body.get("DestinationConfig") is not None:
        said["on_failure"] = _on_failure(body)
    return said


def _check_response_types(found: Violations, types: list[Any] | None) -> None:
    for one in types or ():
        if one != REPORT_FAILURES:
            constraint = f"Member must satisfy enum value set: [{REPORT_FAILURES}]"
            found.add("FunctionResponseTypes", one, f"Member must satisfy constraint: [{constraint}]")
    if types is not None and len(types) > 1:
        found.add("FunctionResponseTypes", types, "Member must have length less than or equal to 1")


def _check_filters(found: Violations, criteria: dict[str, Any] | None) -> None:
    filters = _typed(criteria or {}, "Filters", list) or []
    if len(filters) > FILTERS_MAX:
        raise invalid(f"FilterCriteria has more than {FILTERS_MAX} filters.")
    for place, one in enumerate(filters, 1):
        if not isinstance(one, dict):
            raise _malformed("Filters", dict)
        pattern = _typed(one, "Pattern", str)
        if pattern is not None and len(pattern) > PATTERN_LENGTH_MAX:
            name = f"filterCriteria.filters.{place}.member.pattern"
            found.add(name, pattern[:64], f"Member must have length less than or equal to {PATTERN_LENGTH_MAX}")


def _on_failure(body: Body) -> str:
    destinations = _typed(body, "DestinationConfig", dict) or {}
    succeeded = _typed(destinations, "OnSuccess", dict) or {}
    if succeeded.get("Destination") is not None:
        raise invalid("OnSuccess destinations are not supported for event source mappings.")
    failed = _typed(destinations, "OnFailure", dict) or {}
    return _typed(failed, "Destination", str) or ""


def _typed(body: Body, name: str, wanted: Callable[..., Any]) -> Any:
    """The member, None when it is absent or null. Raises LambdaError when it is of another type."""
    value = body.get(name)
    if value is None or type(value) is wanted:
        return value
    raise _malformed(name, wanted)


def _malformed(name: str, wanted: Callable[..., Any]) -> LambdaError:
    return LambdaError(MALFORMED, f"{name} must be of type {_TYPES[wanted]}")  # type: ignore[index]
