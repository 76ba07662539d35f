"""How long a busy process waits between two messages of a stream, so that more travels in each.

A gRPC message costs about as much CPU as ten requests inside one. On an idle process a message leaves at once: a lone
request must not wait for company that never comes. On a busy one, waiting a little costs no throughput (the CPU is what
is short) and saves most of the messages. Being busy is measured as the process's own share of a core.
"""

from __future__ import annotations

import time
from collections.abc import Callable

BUSY_FROM = 0.20  # share of a core below which nothing waits
BUSY_FULL = 0.40  # and from which on the wait is GAP_S_MAX
GAP_S_MAX = 0.004
SAMPLE_S = 0.05


class Pace:
    """One for each process. `wall_s` and `cpu_s` are clocks in seconds: monotonic time and CPU time of the process."""

    __slots__ = ("_cpu", "_cpu_s", "_gap_s", "_wall", "_wall_s")

    def __init__(
        self, wall_s: Callable[[], float] = time.monotonic, cpu_s: Callable[[], float] = time.process_time
    ) -> None:
        self._wall_s = wall_s
        self._cpu_s = cpu_s
        self._wall = wall_s()
        self._cpu = cpu_s()
        self._gap_s = 0.0

    def gap_s(self) -> float:
        """Seconds to leave between two messages of one stream, by how busy the process has been lately."""
        now = self._wall_s()
        passed = now - self._wall
        if passed >= SAMPLE_S:
            cpu = self._cpu_s()
            share = (cpu - self._cpu) / passed
            self._wall, self._cpu = now, cpu
            full = min(1.0, max(0.0, (share - BUSY_FROM) / (BUSY_FULL - BUSY_FROM)))
            self._gap_s = full * GAP_S_MAX
        return self._gap_s


PROCESS_PACE = Pace()
