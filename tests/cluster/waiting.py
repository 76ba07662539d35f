"""Waiting for what must become true, with a deadline: no test synchronises by sleeping for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 60.0  # generous: the machine may be busy with other work; rules with a number assert it by themselves
POLL_S = 0.05


def until(what: str, condition: Callable[[], T | None], seconds_max: float = DEADLINE_S, poll_s: float = POLL_S) -> T:
    """The first true value of `condition`. Raises AssertionError, with the last value seen, when the time is up."""
    deadline = time.monotonic() + seconds_max
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds_max:.0f} s: {what} (last seen: {value!r})")
        time.sleep(poll_s)


def until_none(
    what: str, problem: Callable[[], T | None], seconds_max: float = DEADLINE_S, poll_s: float = 0.2
) -> None:
    """Until `problem` finds nothing to complain of. Raises AssertionError with its last complaint."""
    deadline = time.monotonic() + seconds_max
    while (found := problem()) is not None:
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds_max:.0f} s: {what}: {found}")
        time.sleep(poll_s)
