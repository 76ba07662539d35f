"""Sentences that several operations begin or end with."""

from __future__ import annotations

from geodyne.errors import ApiError, validation

INVALID = "One or more parameter values were invalid: "


def not_supported(name: str) -> ApiError:
    """What is known and not supported is refused by name, never ignored."""
    return validation(f"{INVALID}{name} is not supported")
