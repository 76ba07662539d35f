"""Known good and bad histories of items, as the simulation and the drills record them."""

from __future__ import annotations

import pytest

from geodyne.checkers.linearizability import FOREVER, Operation, Verdict, check
from geodyne.sim.histories import Histories
from geodyne.sim.items import Step, step
from geodyne.sim.network import Violation
from geodyne.sim.sdk import Attempt

History = list[Operation[Step]]


def put(start: float, end: float, value: str, old: str | None = None) -> Operation[Step]:
    return Operation(start, end, Step("put", value, answer=None if end == FOREVER else "ok", old=old))


def cas(start: float, end: float, expected: str, value: str, answer: str | None = "ok") -> Operation[Step]:
    return Operation(start, end, Step("cas", value, expected, None if end == FOREVER else answer))


def delete(start: float, end: float, old: str | None = None) -> Operation[Step]:
    return Operation(start, end, Step("delete", answer=None if end == FOREVER else "ok", old=old))


def add(start: float, end: float, answer: str | None) -> Operation[Step]:
    return Operation(start, end, Step("add", answer=answer))


def read(start: float, end: float, value: str) -> Operation[Step]:
    return Operation(start, end, Step("read", answer=value))


GOOD: dict[str, History] = {
    "a condition that held": [put(0, 1, "a"), cas(2, 3, "a", "b"), read(4, 5, "b")],
    "a condition that did not hold changes nothing": [put(0, 1, "a"), cas(2, 3, "x", "b", "failed"), read(4, 5, "a")],
    "an item that was not there is made once": [cas(0, 5, "", "a"), cas(0, 5, "", "b", "failed"), read(6, 7, "a")],
    "a deletion, and the item made anew": [put(0, 1, "a"), delete(2, 3), cas(4, 5, "", "b"), read(6, 7, "b")],
    "a deletion on a condition": [put(0, 1, "a"), cas(2, 3, "a", ""), read(4, 5, "")],
    "a deletion tells what it deleted": [put(0, 1, "a"), delete(2, 3, "a"), delete(4, 5, "")],
    "a write tells what it replaced": [put(0, 9, "a", ""), put(0, 9, "b", "a"), read(10, 11, "b")],
    "an unknown write that took effect later": [put(0, FOREVER, "a"), read(1, 2, ""), read(9, 10, "a")],
    "an unknown write that never did": [put(0, FOREVER, "a"), read(1, 2, ""), read(9, 10, "")],
    "an unknown deletion under a later condition": [put(0, 1, "a"), delete(2, FOREVER), cas(5, 6, "", "b")],
    "an unknown condition that held": [put(0, 1, "a"), cas(2, FOREVER, "a", "b"), read(8, 9, "b")],
    "an unknown condition that did not": [put(0, 1, "a"), cas(2, FOREVER, "x", "b"), read(8, 9, "a")],
    "two attempts of one addition, one of them unknown": [add(0, FOREVER, None), add(2, 3, "2"), read(4, 5, "2")],
    "an addition to what is not there begins at nothing": [delete(0, 1), add(2, 3, "1")],
}
BAD: dict[str, History] = {
    "a stale read": [put(0, 1, "a"), put(2, 3, "b"), read(4, 5, "a")],
    "a lost update": [put(0, 1, "a"), cas(2, 3, "a", "b"), cas(4, 5, "a", "c")],
    "two that both found nothing there": [cas(0, 5, "", "a"), cas(0, 5, "", "b")],
    "a value that rose again": [put(0, 1, "a"), delete(2, 3), read(4, 5, "a")],
    "a value that rose again under an unknown write": [
        put(0, FOREVER, "a"),
        read(1, 2, "a"),
        delete(3, 4),
        read(5, 6, "a"),
    ],
    "a read of what was refused": [put(0, 1, "a"), cas(2, 3, "x", "b", "failed"), read(4, 5, "b")],
    "a refusal although the condition held": [put(0, 1, "a"), cas(2, 3, "a", "b", "failed")],
    "a deletion that tells another value": [put(0, 1, "a"), put(2, 3, "b"), delete(4, 5, "a")],
    "an acknowledged write that is gone": [put(0, 1, "a"), read(2, 3, "")],
    "an acknowledged deletion that is gone": [put(0, 1, "a"), delete(2, 3), put(4, 5, "b", "a")],
    "an addition that counted twice": [add(0, 1, "1"), add(2, 3, "3")],
    "an unknown addition that counted twice": [add(0, FOREVER, None), add(2, 3, "3")],
    "a read before the write": [read(0, 1, "a"), put(2, 3, "a")],
    "reads that disagree on the order": [
        *(put(0, 9, "a"), put(0, 9, "b")),
        *(read(10, 11, "a"), read(12, 13, "b")),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_of_items_pass(name: str) -> None:
    assert check(GOOD[name], "", step) is Verdict.LINEARIZABLE


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_of_items_are_found(name: str) -> None:
    assert check(BAD[name], "", step) is Verdict.VIOLATION


def test_each_attempt_of_a_write_may_have_taken_effect_by_itself() -> None:
    histories = Histories()
    attempts = [Attempt(0, 1, None, {}), Attempt(2, 3, "ServiceUnavailable", {}), Attempt(4, 5, "", {})]
    assert histories.wrote({"i": Step("put", "a")}, attempts) == ""
    assert [(op.start, op.end, op.call.answer) for op in histories.steps["i"]] == [(0, FOREVER, None), (4, 5, "ok")]
    assert histories.unknown == 1


def test_an_answer_that_no_trouble_explains_is_a_violation() -> None:
    with pytest.raises(Violation, match="ValidationException"):
        Histories().wrote(
            {"i": Step("put", "a")}, [Attempt(0, 1, "ValidationException", {"__type": "ValidationException"})]
        )


def test_a_stale_read_may_lag_but_finds_only_what_somebody_wrote() -> None:
    histories = Histories()
    histories.wrote({"i": Step("put", "a")}, [Attempt(0, 1, "", {})])
    histories.wrote({"i": Step("put", "b")}, [Attempt(2, 3, "", {})])
    histories.wrote({"i": Step("cas", "c", "x")}, [Attempt(4, 5, "ConditionalCheckFailedException", {})])
    for value in ("", "a", "b"):
        histories.read_stale(9, {"i": value})
    histories.judge()
    histories.read_stale(9, {"i": "c"})
    with pytest.raises(Violation, match="never written"):
        histories.judge()


def test_a_stale_read_does_not_see_the_future() -> None:
    histories = Histories()
    histories.read_stale(1, {"i": "a"})
    histories.wrote({"i": Step("put", "a")}, [Attempt(2, 3, "", {})])
    with pytest.raises(Violation, match="never written"):
        histories.judge()


def test_a_stale_counter_is_at_most_what_was_asked_for() -> None:
    histories = Histories()
    histories.wrote({"i": Step("add")}, [Attempt(0, 1, None, {})])
    histories.read_stale(2, {"i": "1"})
    histories.judge()
    histories.read_stale(2, {"i": "2"})
    with pytest.raises(Violation, match="never written"):
        histories.judge()
