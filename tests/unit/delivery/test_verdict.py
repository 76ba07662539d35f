"""What a function's answer means for its batch."""

from __future__ import annotations

from typing import Any

import pytest

from delivery.verdict import NotReached, Outcome, Raised, Returned, Verdict, judge

BATCH = ("1001", "1002", "1003")


def judged(response: Any, *, report_failures: bool = True, windowed: bool = False) -> Verdict:
    return judge(Returned(response), BATCH, report_failures=report_failures, windowed=windowed)


def failed_items(*identifiers: Any) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": one} for one in identifiers]}


@pytest.mark.parametrize(
    "response", [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}, {"statusCode": 200}]
)
def test_an_empty_response_is_a_complete_success(response: Any) -> None:
    assert judged(response)[:2] == (Outcome.DONE, 3)


@pytest.mark.parametrize(
    "response",
    [
        failed_items(""),
        failed_items(None),
        failed_items("9999"),
        failed_items(1002),
        failed_items("1002", ""),
        {"batchItemFailures": [{"id": "1002"}]},
        {"batchItemFailures": ["1002"]},
        {"batchItemFailures": "1002"},
        "text",
        [],
    ],
)
def test_a_bad_identifier_makes_the_whole_batch_a_failure(response: Any) -> None:
    assert judged(response).outcome is Outcome.FAILED


def test_the_lowest_failure_counts() -> None:
    assert judged(failed_items("1003", "1002"))[:2] == (Outcome.PARTLY, 1)
    assert judged(failed_items("1001")).outcome is Outcome.FAILED


@pytest.mark.parametrize("response", [failed_items("1002"), failed_items(""), "text", 7])
def test_without_the_setting_the_response_is_not_looked_at(response: Any) -> None:
    assert judged(response, report_failures=False).outcome is Outcome.DONE


def test_a_window_needs_a_state() -> None:
    assert judged({"state": {"a": 1}}, windowed=True).state == {"a": 1}
    assert judged({"state": None}, windowed=True).outcome is Outcome.DONE
    for response in ({}, None, "x"):
        assert judged(response, windowed=True, report_failures=False).outcome is Outcome.FAILED
    partly = judged({"state": 5, **failed_items("1002")}, windowed=True)
    assert (partly.outcome, partly.state) == (Outcome.PARTLY, 5)


def test_an_error_is_a_failure_and_a_call_that_did_not_arrive_is_none() -> None:
    assert judge(Raised("boom"), BATCH, report_failures=False, windowed=False)[:4] == (
        Outcome.FAILED,
        0,
        "boom",
        "Unhandled",
    )
    assert judge(NotReached("busy"), BATCH, report_failures=True, windowed=True).outcome is Outcome.NOT_REACHED


def test_a_state_that_cannot_be_handed_on_is_a_failure() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    assert judged({"state": deep}, windowed=True).outcome is Outcome.FAILED
