"""What an event source mapping says: one stream, one function, and how batches are made, tried and given up.

Members, ranges and defaults are those of the Lambda API's event source mappings for DynamoDB streams (service model
2015-03-31, CreateEventSourceMapping; Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB"). The record that
the catalog keeps is `to_record`; readers ignore members that they do not know, and a member that is absent is its
default.
"""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from dataclasses import asdict, dataclass, fields
from typing import Any

from geodyne.catalog import TRIGGER_OLDEST_PREFIX, TRIGGER_PREFIX
from geodyne.triggers.patterns import FILTERS_MAX, PatternError, parse_pattern
from geodyne.triggers.urls import HTTP_SCHEMES, UrlError, check_http_url

TRIM_HORIZON = "TRIM_HORIZON"
LATEST = "LATEST"
STARTING_POSITIONS = (TRIM_HORIZON, LATEST)  # AT_TIMESTAMP is for other sources than DynamoDB
INFINITE = -1

BATCH_SIZE_DEFAULT = 100
BATCH_SIZE_MAX = 10_000
BATCHING_WINDOW_S_MAX = 300
PARALLELIZATION_MAX = 10
RECORD_AGE_S_MIN = 60
RECORD_AGE_S_MAX = 604_800
RETRIES_MAX = 10_000
TUMBLING_WINDOW_S_MAX = 900
DESTINATION_LENGTH_MAX = 350
DESTINATION_SCHEMES = ("file:///", *HTTP_SCHEMES)


class MappingError(ValueError):
    """A mapping that cannot be. `member` is the Lambda API's name of what is wrong; the text is for the user."""

    def __init__(self, member: str, message: str) -> None:
        super().__init__(message)
        self.member = member


@dataclass(frozen=True, slots=True)
class Mapping:
    """One event source mapping. Times in seconds; -1 (INFINITE) means no limit but the stream's 24 hours."""

    uuid: str
    table: str
    stream_label: str
    function: str
    starting_position: str
    batch_size: int = BATCH_SIZE_DEFAULT
    batching_window_s: int = 0
    parallelization_factor: int = 1
    max_record_age_s: int = INFINITE
    max_retries: int = INFINITE
    bisect: bool = False
    report_failures: bool = False
    tumbling_window_s: int = 0
    filters: tuple[str, ...] = ()
    on_failure: str = ""
    enabled: bool = True

    @property
    def bookmark(self) -> str:
        """The consumer under which its cursors are committed. The name says where an unmoved one begins."""
        prefix = TRIGGER_OLDEST_PREFIX if self.starting_position == TRIM_HORIZON else TRIGGER_PREFIX
        return prefix + self.uuid

    def to_record(self) -> dict[str, Any]:
        """JSON-compatible members of the catalog's record."""
        return {**asdict(self), "filters": list(self.filters)}

    @classmethod
    def from_record(cls, record: Dictionary[str, Any]) -> Mapping:
        """The inverse of `to_record`. Members of later versions are ignored."""
        known = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        if "filters" in known:
            known["filters"] = tuple(known["filters"])
        return cls(**known)


def check(mapping: Mapping) -> None:
    """Raises MappingError for the first member that is out of its range."""
    _one_of("StartingPosition", mapping.starting_position, STARTING_POSITIONS)
    _within("BatchSize", mapping.batch_size, 1, BATCH_SIZE_MAX)
    _within("MaximumBatchingWindowInSeconds", mapping.batching_window_s, 0, BATCHING_WINDOW_S_MAX)
    _within("ParallelizationFactor", mapping.parallelization_factor, 1, PARALLELIZATION_MAX)
    if mapping.max_record_age_s != INFINITE:
        _within("MaximumRecordAgeInSeconds", mapping.max_record_age_s, RECORD_AGE_S_MIN, RECORD_AGE_S_MAX)
    _within("MaximumRetryAttempts", mapping.max_retries, INFINITE, RETRIES_MAX)
    _within("TumblingWindowInSeconds", mapping.tumbling_window_s, 0, TUMBLING_WINDOW_S_MAX)
    if len(mapping.filters) > FILTERS_MAX:
        raise MappingError("FilterCriteria", f"at most {FILTERS_MAX} filters, not {len(mapping.filters)}")
    for text in mapping.filters:
        try:
            parse_pattern(text)
        except PatternError as error:
            raise MappingError("FilterCriteria", f"Invalid filter pattern definition. {error}") from error
    if mapping.on_failure:
        _check_destination(mapping.on_failure)


def _within(member: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise MappingError(member, f"{member} must be between {least} and {most}, not {value}")


def _one_of(member: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise MappingError(member, f"{member} must be one of {', '.join(allowed)}, not {value!r}")


def _check_destination(destination: str) -> None:
    if len(destination) > DESTINATION_LENGTH_MAX:
        raise MappingError("DestinationConfig", f"Destination is longer than {DESTINATION_LENGTH_MAX} characters")
    if not destination.startswith(DESTINATION_SCHEMES):
        schemes = ", ".join(DESTINATION_SCHEMES)
        raise MappingError("DestinationConfig", f"Destination must begin with one of {schemes}")
    if destination.startswith(HTTP_SCHEMES):
        try:
            check_http_url(destination)
        except UrlError as error:
            raise MappingError("DestinationConfig", f"Destination: {error}") from None
    elif "?" in destination or "#" in destination:
        raise MappingError("DestinationConfig", "Destination: the name of a directory has no ? and no # here")
