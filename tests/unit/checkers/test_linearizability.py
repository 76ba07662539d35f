from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.checkers.linearizability import FOREVER, Operation, Verdict, check


class Call(NamedTuple):
    """`answer` of a read or an addition; None: not known. A write's answer says nothing."""

    kind: str
    value: int = 0
    answer: int | None = None


def step(state: int, call: Call) -> int | None:
    if call.kind == "write":
        return call.value
    if call.kind == "read":
        return state if call.answer in (None, state) else None
    after = state + call.value
    return after if call.answer in (None, after) else None


def write(start: float, end: float, value: int) -> Operation[Call]:
    return Operation(start, end, Call("write", value))


def read(start: float, end: float, answer: int) -> Operation[Call]:
    return Operation(start, end, Call("read", 0, answer))


def add(start: float, end: float, answer: int | None) -> Operation[Call]:
    return Operation(start, end, Call("add", 1, answer))


GOOD = {
    "nothing happened": [],
    "one after the other": [write(0, 1, 5), read(2, 3, 5)],
    "a read during a write may see either value": [write(0, 10, 5), read(1, 2, 0), read(3, 4, 5)],
    "an unanswered write may take effect late": [write(0, FOREVER, 5), read(1, 2, 0), read(3, 4, 5)],
    "or never": [write(0, FOREVER, 5), read(1, 2, 0), read(30, 40, 0)],
    "an unanswered addition explains one step too many": [add(0, FOREVER, None), add(1, 2, 1), add(3, 4, 3)],
    "touching operations are concurrent": [write(0, 1, 5), read(1, 2, 0)],
    "the order of concurrent writes is free": [write(0, 5, 1), write(0, 5, 2), read(6, 7, 1)],
}
BAD = {
    "a stale read": [write(0, 1, 5), read(2, 3, 0)],
    "a value that nobody wrote": [write(0, 1, 5), read(2, 3, 6)],
    "a read that goes back": [write(0, 10, 5), read(1, 2, 5), read(3, 4, 0)],
    "an unanswered write that comes and goes": [write(0, FOREVER, 5), read(1, 2, 5), read(3, 4, 0)],
    "an increment that counted twice": [add(0, 1, 1), add(2, 3, 3)],
    "an increment that was lost": [add(0, 1, 1), add(2, 3, 1)],
    "an unanswered addition can count once only": [add(0, FOREVER, None), add(1, 2, 3)],
    "a write that took effect before its call": [read(0, 1, 5), write(2, 3, 5)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_pass(name: str) -> None:
    assert check(GOOD[name], 0, step) is Verdict.LINEARIZABLE


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_found(name: str) -> None:
    assert check(BAD[name], 0, step) is Verdict.VIOLATION


def test_an_operation_cannot_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="ends before"):
        check([write(2, 1, 5)], 0, step)


def test_a_search_that_is_too_long_is_no_pass() -> None:
    history = [write(0, 100, value) for value in range(12)]
    assert check([*history, read(101, 102, 99)], 0, step, steps_max=50) is Verdict.UNDECIDED


def by_brute_force(history: list[Operation[Call]]) -> Verdict:
    """Every order of every choice of unanswered operations."""
    answered = [op for op in history if op.end != FOREVER]
    open_ones = [op for op in history if op.end == FOREVER]
    for count in range(len(open_ones) + 1):
        for chosen in itertools.combinations(open_ones, count):
            for order in itertools.permutations([*answered, *chosen]):
                if any(order[j].end < order[i].start for i in range(len(order)) for j in range(i + 1, len(order))):
                    continue
                state: int | None = 0
                for operation in order:
                    state = step(state, operation.call)
                    if state is None:
                        break
                else:
                    return Verdict.LINEARIZABLE
    return Verdict.VIOLATION


@st.composite
def histories(draw: st.DrawFn) -> list[Operation[Call]]:
    history = []
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, 8))
        end = draw(st.one_of(st.just(FOREVER), st.integers(start, 12)))
        kind = draw(st.sampled_from(["write", "read", "add"]))
        answer = None if end == FOREVER else draw(st.integers(0, 3))
        history.append(Operation(start, end, Call(kind, draw(st.integers(0, 2)), answer)))
    return history


@given(histories())
@settings(max_examples=150, deadline=None)
def test_the_verdict_equals_that_of_trying_every_order(history: list[Operation[Call]]) -> None:
    assert check(history, 0, step) is by_brute_force(history)
