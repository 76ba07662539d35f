"""Whether a wall clock's word is taken for how old something is.

What was committed is stamped by the wall clock of whoever led then, and is asked about by the clock of whoever leads
now. One of them may be minutes off, or be set while it is looked at. So an age counts only as far as this leader has
been watching: the lease clock, which is never set, says for how long.
"""

from __future__ import annotations

JUMP_US = 5_000_000  # a wall clock that moved against the lease clock by more than this was set; less is drift


class Watched:
    """Since when one leader has seen its two clocks go alike."""

    __slots__ = ("_apart_us", "_since_ms")

    def __init__(self) -> None:
        self._apart_us: int | None = None
        self._since_ms = 0

    def look(self, wall_us: int, lease_ms: int) -> int:
        """The clocks are read now. Returns for how many microseconds they have gone alike: 0 at the first look, and
        where the wall clock was set since the last one."""
        apart_us = wall_us - lease_ms * 1_000
        if self._apart_us is None or abs(apart_us - self._apart_us) > JUMP_US:
            self._since_ms = lease_ms
        self._apart_us = apart_us
        return (lease_ms - self._since_ms) * 1_000
