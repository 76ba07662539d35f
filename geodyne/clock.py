"""The real clocks of this machine."""

from __future__ import annotations

import time

# Leases must count the time that the machine was suspended: a leader must find its
# lease expired when it wakes.
# Linux has CLOCK_BOOTTIME for that; on macOS CLOCK_MONOTONIC, unlike time.monotonic(), goes on during sleep.
_LEASE_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Implements geodyne.ports.Clock with the operating system's clocks."""

    __slots__ = ()

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch; may jump."""
        return time.time_ns() // 1_000

    def lease_ms(self) -> int:
        """Milliseconds that never go back and count the time that the machine was suspended."""
        return time.clock_gettime_ns(_LEASE_CLOCK) // 1_000_000
