"""Whether a history of one object could have happened one operation at a time, each between its call and its answer.

The search of Wing and Gong (1993) as Lowe (2017) improved it: operations are tried in every order that the times allow,
and a pair of (operations done, state reached) that has been tried is not tried again. Linearizability is
local (Herlihy and Wing 1990): a history of many keys is linearizable if each key's is, so check key by key.

An operation without an answer may have taken effect at any time after its call, or never. Its `end` is FOREVER.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

FOREVER = float("inf")
STEPS_MAX = 1_000_000  # of the search; beyond, the verdict is UNDECIDED, which is not a pass

State = TypeVar("State", bound=Hashable)
Call = TypeVar("Call")


class Verdict(Enum):
    LINEARIZABLE = 1
    VIOLATION = 2
    UNDECIDED = 3


class Operation(NamedTuple, Generic[Call]):
    """`start` and `end` on one clock, any unit. `call` holds the request and its answer, for the model alone."""

    start: float
    end: float
    call: Call


Step = Callable[[State, Call], State | None]
"""The model: the state after a call, or None when the call cannot have been answered so in this state. For an operation
without an answer it must say what the call would do."""


class _Event:
    """A call or a return in a doubly linked list by time; `partner` is a call's return and None for a return."""

    __slots__ = ("following", "operation", "partner", "previous")

    def __init__(self, operation: int) -> None:
        self.operation = operation
        self.partner: _Event | None = None
        self.previous: _Event | None = None
        self.following: _Event | None = None


def check(
    history: Sequence[Operation[Call]], initial: State, step: Step[State, Call], steps_max: int = STEPS_MAX
) -> Verdict:
    """Judge the history of one object that began as `initial`. Raises ValueError for an operation that ends before it
    starts. Two operations that touch (one ends when the other starts) count as concurrent."""
    head = _events(history)
    unanswered = sum(operation.end == FOREVER for operation in history)
    left = len(history) - unanswered
    tried: set[tuple[int, State]] = set()
    done = 0  # a bit for each operation
    state = initial
    taken: list[tuple[_Event, State]] = []
    event = head.following
    for _ in range(steps_max):
        if left == 0:
            return Verdict.LINEARIZABLE
        if event is not None and event.partner is not None:
            after = step(state, history[event.operation].call)
            bits = done | 1 << event.operation
            if after is not None and (bits, after) not in tried:
                tried.add((bits, after))
                taken.append((event, state))
                done, state = bits, after
                left -= history[event.operation].end != FOREVER
                _lift(event)
                event = head.following
            else:
                event = event.following
        else:  # an operation has returned that none of the orders tried so far has room for
            if not taken:
                return Verdict.VIOLATION
            event, state = taken.pop()
            done &= ~(1 << event.operation)
            left += history[event.operation].end != FOREVER
            _put_back(event)
            event = event.following
    return Verdict.UNDECIDED


def _events(history: Sequence[Operation[Call]]) -> _Event:
    """The list's head, which stands for no event. Operations without an answer have no return event."""
    timed: list[tuple[float, int, int]] = []
    for number, operation in enumerate(history):
        if operation.end < operation.start:
            raise ValueError(f"operation {number} ends before it starts")
        timed.append((operation.start, 0, number))  # at equal times calls come first
        if operation.end != FOREVER:
            timed.append((operation.end, 1, number))
    head = last = _Event(-1)
    calls: dict[int, _Event] = {}
    for _, is_return, number in sorted(timed):
        event = _Event(number)
        event.previous, last.following = last, event
        last = event
        if is_return:
            calls[number].partner = event
        else:
            calls[number] = event
            event.partner = event  # until its return is met; an unanswered call stays its own partner
    return head


def _lift(call: _Event) -> None:
    """Take a call and its return out of the list."""
    returned = call.partner
    assert returned is not None
    _unlink(call)
    if returned is not call:
        _unlink(returned)


def _put_back(call: _Event) -> None:
    """Undo `_lift`; the last lifted comes back first."""
    returned = call.partner
    assert returned is not None
    if returned is not call:
        _link(returned)
    _link(call)


def _unlink(event: _Event) -> None:
    assert event.previous is not None
    event.previous.following = event.following
    if event.following is not None:
        event.following.previous = event.previous


def _link(event: _Event) -> None:
    assert event.previous is not None
    event.previous.following = event
    if event.following is not None:
        event.following.previous = event
