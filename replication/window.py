"""How much may be on the path to another region at once: as much as arrives there within about a second.

More would wait on the way, in front of commands, watermarks and the pings by which a live stream is told from a dead
one; on a path of 10 KB/s a few megabytes end every stream before anything of them has arrived, for ever. Less wastes a
long path. So the window follows the path, as TCP does, with delay for its signal: it doubles in each round trip while
it is used and what it lets through arrives in time, and is halved when something was late.

Pure: times are arguments, in seconds of a clock that never goes back.
"""

from __future__ import annotations

from typing import Final

WINDOW_BYTES_MIN: Final = 32 * 1024  # 3 s of a path of 10 KB/s
WINDOW_BYTES_MAX: Final = 16 * 1024 * 1024  # above bandwidth times delay: 50 MB/s at 180 ms need 9 MB
LATE_S: Final = 1.0  # round trips are up to 0.3 s; what is above that was spent in queues
PAGES: Final = 4  # that the window holds, so that one is read while another travels
PAGE_BYTES_MIN: Final = 8 * 1024


class Window:
    """Of one stream. What is sent has a size; it arrives in the order sent."""

    __slots__ = ("_halved_s", "size", "under_way")

    def __init__(self) -> None:
        self.size = WINDOW_BYTES_MIN
        self.under_way = 0  # bytes sent and not known to have arrived
        self._halved_s = 0.0

    def takes(self, size: int) -> bool:
        """Whether so much may be sent now; a single item of any size may travel alone."""
        return not self.under_way or self.under_way + size <= self.size

    def on_sent(self, size: int) -> None:
        self.under_way += size

    def on_arrived(self, size: int, sent_s: float, now_s: float) -> None:
        """What was sent at `sent_s` is there."""
        used = 2 * self.under_way >= self.size
        self.under_way -= size
        if now_s - sent_s > LATE_S:
            if sent_s >= self._halved_s:  # later ones say something about the window as it is now
                self.size = max(self.size // 2, WINDOW_BYTES_MIN)
                self._halved_s = now_s
        elif used:
            self.size = min(self.size + size, WINDOW_BYTES_MAX)

    @property
    def page_bytes(self) -> int:
        """What is worth reading at a time in order to be sent."""
        return max(self.size // PAGES, PAGE_BYTES_MIN)
