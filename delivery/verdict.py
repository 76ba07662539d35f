"""What the answer of a function means for the batch that it was given.

Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB": partial batch responses are looked at only when the
mapping asks for them; an empty or null response, or an empty or null list, is a complete success; an identifier that is
empty, null, under another name, or of no record of the batch makes the whole batch a failure; of several the lowest
counts. A function of a mapping with tumbling windows must return a `state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import orjson

UNHANDLED = "Unhandled"  # Lambda's word for an error that the function let out


class Returned(NamedTuple):
    """The function returned; `response` is the JSON value."""

    response: Any


class Raised(NamedTuple):
    """The function received the batch and failed: an exception, a crash, or too much time or memory. `error` is the
    value of `functionError`, `detail` for people."""

    detail: str
    error: str = UNHANDLED


class NotReached(NamedTuple):
    """The batch did not reach the function: it was not there, or would not take more just now."""

    detail: str


Reply = Returned | Raised | NotReached


class Outcome(Enum):
    DONE = 1
    PARTLY = 2  # the first `done` records are, the rest is to be tried again
    FAILED = 3
    NOT_REACHED = 4


class Verdict(NamedTuple):
    """`state`: of a tumbling window, when the outcome is DONE or PARTLY; `error`: the functionError ("": none)."""

    outcome: Outcome
    done: int = 0
    detail: str = ""
    error: str = ""
    state: Any = None


def judge(reply: Reply, identifiers: Sequence[str], *, report_failures: bool, windowed: bool) -> Verdict:
    """`identifiers` are the sequence numbers of the batch's records, in order."""
    match reply:
        case NotReached(detail):
            return Verdict(Outcome.NOT_REACHED, detail=detail)
        case Raised(detail, error):
            return Verdict(Outcome.FAILED, detail=detail, error=error)
        case Returned(response):
            return _judge_response(response, identifiers, report_failures, windowed)


def _judge_response(response: Any, identifiers: Sequence[str], report_failures: bool, windowed: bool) -> Verdict:
    state = None
    if windowed:
        if not isinstance(response, dict) or "state" not in response:
            return Verdict(Outcome.FAILED, detail="the response has no state")
        state = response["state"]
        try:
            orjson.dumps(state)
        except TypeError as error:  # deeper than can be handed on
            return Verdict(Outcome.FAILED, detail=f"the state cannot be kept: {error}")
    if not report_failures or response is None:
        return Verdict(Outcome.DONE, len(identifiers), state=state)
    if not isinstance(response, dict):
        return Verdict(Outcome.FAILED, detail="the response is not a JSON object")
    failures = response.get("batchItemFailures")
    if failures is None:
        return Verdict(Outcome.DONE, len(identifiers), state=state)
    if not isinstance(failures, list):
        return Verdict(Outcome.FAILED, detail="batchItemFailures is not a list")
    places = {identifier: place for place, identifier in enumerate(identifiers)}
    lowest = len(identifiers)
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        place = places.get(identifier) if isinstance(identifier, str) else None
        if place is None:
            return Verdict(Outcome.FAILED, detail="batchItemFailures names no record of the batch")
        lowest = min(lowest, place)
    if lowest == len(identifiers):
        return Verdict(Outcome.DONE, lowest, state=state)
    detail = f"{len(failures)} of {len(identifiers)} records reported as failed"
    if lowest == 0:
        return Verdict(Outcome.FAILED, detail=detail)
    return Verdict(Outcome.PARTLY, lowest, detail=detail, state=state)
