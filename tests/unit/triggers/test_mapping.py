"""Event source mappings as values: ranges, and the record in the catalog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from geodyne.triggers.functions import FunctionError, FunctionSpec
from geodyne.triggers.functions import check as check_function
from geodyne.triggers.mapping import LATEST, TRIM_HORIZON, Mapping, MappingError, check

MAPPING = Mapping("u" * 36, "table", "2026-11-24T03:44:12.123", "function", TRIM_HORIZON)


def test_the_record_comes_back_as_the_same_mapping() -> None:
    full = replace(MAPPING, filters=('{"a": ["b"]}',), on_failure="file:///tmp/x", bisect=True, max_retries=3)
    assert Mapping.from_record(orjson.loads(orjson.dumps(full.to_record()))) == full


def test_members_of_later_versions_are_ignored_and_missing_ones_are_defaults() -> None:
    record = MAPPING.to_record()
    del record["tumbling_window_s"]
    assert Mapping.from_record({**record, "added_later": 1}) == MAPPING


def test_the_defaults_are_those_of_lambda() -> None:
    check(MAPPING)
    assert (MAPPING.batch_size, MAPPING.max_retries, MAPPING.max_record_age_s) == (100, -1, -1)
    assert (MAPPING.parallelization_factor, MAPPING.batching_window_s, MAPPING.tumbling_window_s) == (1, 0, 0)


def test_the_bookmark_says_where_an_unmoved_one_begins() -> None:
    assert MAPPING.bookmark == "trigger-oldest/" + MAPPING.uuid
    assert replace(MAPPING, starting_position=LATEST).bookmark == "trigger/" + MAPPING.uuid


@pytest.mark.parametrize(
    ("member", "changes"),
    [
        ("StartingPosition", {"starting_position": "AT_TIMESTAMP"}),
        ("BatchSize", {"batch_size": 0}),
        ("BatchSize", {"batch_size": 10_001}),
        ("MaximumBatchingWindowInSeconds", {"batching_window_s": 301}),
        ("ParallelizationFactor", {"parallelization_factor": 0}),
        ("ParallelizationFactor", {"parallelization_factor": 11}),
        ("MaximumRecordAgeInSeconds", {"max_record_age_s": 59}),
        ("MaximumRecordAgeInSeconds", {"max_record_age_s": 604_801}),
        ("MaximumRetryAttempts", {"max_retries": -2}),
        ("MaximumRetryAttempts", {"max_retries": 10_001}),
        ("TumblingWindowInSeconds", {"tumbling_window_s": 901}),
        ("FilterCriteria", {"filters": ("{}",)}),
        ("FilterCriteria", {"filters": ('{"a": ["b"]}',) * 6}),
        ("DestinationConfig", {"on_failure": "arn:aws:sqs:us-east-1:000000000000:queue"}),
        ("DestinationConfig", {"on_failure": "file://relative"}),
        ("DestinationConfig", {"on_failure": "file:///data?x"}),
        ("DestinationConfig", {"on_failure": "http://"}),
        ("DestinationConfig", {"on_failure": "http://h:99999/"}),
        ("DestinationConfig", {"on_failure": "http://h:0/"}),
        ("DestinationConfig", {"on_failure": "http://[::1/"}),
        ("DestinationConfig", {"on_failure": "https://h/a b HTTP/1.1"}),
        ("DestinationConfig", {"on_failure": "https://h/a\r\nX: y"}),
        ("DestinationConfig", {"on_failure": "https://user:secret@h/"}),
        ("DestinationConfig", {"on_failure": "https://h/#part"}),
    ],
)
def test_what_is_out_of_range_is_refused_by_its_name(member: str, changes: dict[str, Any]) -> None:
    with pytest.raises(MappingError) as refused:
        check(replace(MAPPING, **changes))
    assert refused.value.member == member


@pytest.mark.parametrize(
    "spec",
    [
        FunctionSpec("f", "python", "/d", "no_colon"),
        FunctionSpec("f", "python", "/d", "a b:c"),
        FunctionSpec("f", "python", "relative", "a:b"),
        FunctionSpec("f", "python", "/d", "a:b", memory_mb=64),
        FunctionSpec("f", "python", "/d", "a:b", timeout_s=0),
        FunctionSpec("f", "python", "/d", "a:b", environment={"A": "x" * 5000}),
        FunctionSpec("f", "http", url="ftp://x"),
        FunctionSpec("f", "http", url="http://user:secret@h/"),
        FunctionSpec("f", "http", url="http://h/a b"),
        FunctionSpec("f", "other"),
    ],
)
def test_a_function_that_cannot_work_is_refused(spec: FunctionSpec) -> None:
    with pytest.raises(FunctionError):
        check_function(spec)


def test_a_function_comes_back_from_its_record() -> None:
    spec = FunctionSpec("f", "python", "/d", "a.b:c", environment={"A": "1"})
    check_function(spec)
    check_function(FunctionSpec("f", "http", url="https://host/path"))
    assert FunctionSpec.from_record(orjson.loads(orjson.dumps(spec.to_record()))) == spec
