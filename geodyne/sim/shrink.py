"""Delta debugging of a fault list (Zeller and Hildebrandt 2002): what is left when nothing more can be left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
TRIES_MAX = 60


def shrink(plan: Sequence[T], fails: Callable[[Sequence[T]], bool], tries_max: int = TRIES_MAX) -> tuple[T, ...]:
    """A part of `plan`, which fails, that still fails, and the smallest one found in so many tries."""
    left = tuple(plan)
    parts = 2
    tries = 0
    while left and tries < tries_max:
        size = -(-len(left) // parts)
        for begin in range(0, len(left), size):
            smaller = left[:begin] + left[begin + size :]
            tries += 1
            if fails(smaller):
                left = smaller
                parts = max(2, parts - 1)
                break
            if tries >= tries_max:
                break
        else:
            if size == 1:
                break
            parts = min(len(left), 2 * parts)
    return left
