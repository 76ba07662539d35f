"""Majorities."""

from __future__ import annotations


def majority(voters: int) -> int:
    """The least number of `voters` of which any two sets share a member."""
    return voters // 2 + 1


def reached_by_majority(values: list[int]) -> int:
    """The largest number that a majority of the voters has reached, given what each has reached.

    `values` has one number for each voter and is sorted in place.
    """
    values.sort()
    return values[(len(values) - 1) // 2]
