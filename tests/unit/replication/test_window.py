"""How much is under way to another region: enough for a long path, little on a slow one."""

from __future__ import annotations

from collections import deque

import pytest

from replication.window import PAGE_BYTES_MIN, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, Window

SHIP_BYTES_MAX = 64 * 1024


class Path:
    """A path of a bandwidth (bytes/s) and a round trip, whose sender always has more, in a time of its own."""

    def __init__(self, bandwidth: float, round_trip_s: float) -> None:
        self.bandwidth, self.round_trip_s = bandwidth, round_trip_s
        self.window = Window()
        self.now_s = self.free_s = 0.0
        self.held: deque[tuple[float, int, float]] = deque()
        self.arrived = 0
        self.queue_s_max = 0.0

    def run(self, seconds: float) -> float:
        """Bytes a second that have arrived; `queue_s_max` is the longest that one waited for the path."""
        self.arrived, self.queue_s_max = 0, 0.0
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            size = min(self.window.page_bytes, SHIP_BYTES_MAX)
            while self.window.takes(size):
                self.window.on_sent(size)
                self.free_s = max(self.free_s, self.now_s) + size / self.bandwidth
                self.queue_s_max = max(self.queue_s_max, self.free_s - self.now_s)
                self.held.append((self.free_s + self.round_trip_s, size, self.now_s))
            self.now_s, size, sent_s = self.held.popleft()
            self.window.on_arrived(size, sent_s, self.now_s)
            self.arrived += size
        return self.arrived / seconds


@pytest.mark.parametrize(
    ("bandwidth", "round_trip_s"), [(50e6, 0.18), (50e6, 0.001), (1e6, 0.08), (1e6, 0.3), (100e3, 0.08)]
)
def test_a_path_is_used_well_and_little_waits_for_it(bandwidth: float, round_trip_s: float) -> None:
    path = Path(bandwidth, round_trip_s)
    path.run(10.0)
    assert path.run(60.0) > 0.7 * bandwidth
    assert path.queue_s_max < 2.5


def test_the_window_opens_within_a_few_round_trips() -> None:
    path = Path(50e6, 0.18)
    path.run(12 * 0.18)
    assert path.run(5.0) > 0.7 * 50e6
    assert path.window.size <= WINDOW_BYTES_MAX


def test_on_a_very_slow_path_little_is_under_way_and_the_window_opens_when_it_is_fast_again() -> None:
    path = Path(10e3, 0.08)
    assert path.run(60.0) > 0.9 * 10e3
    assert path.window.size == WINDOW_BYTES_MIN
    assert path.queue_s_max <= 4.0
    path.bandwidth = 10e6
    path.run(10.0)
    assert path.run(10.0) > 7e6


def test_who_sends_little_keeps_the_window_as_it_is() -> None:
    window = Window()
    for second in range(100):
        window.on_sent(1_000)
        window.on_arrived(1_000, second, second + 0.1)
    assert window.size == WINDOW_BYTES_MIN
    assert window.page_bytes >= PAGE_BYTES_MIN


def test_an_item_larger_than_the_window_travels_alone() -> None:
    window = Window()
    assert window.takes(400_000)
    window.on_sent(400_000)
    assert not window.takes(1)
    window.on_arrived(400_000, 0.0, 0.5)
    assert window.under_way == 0
    assert window.takes(400_000)


def test_one_late_round_halves_the_window_once() -> None:
    window = Window()
    while window.size < 8 * WINDOW_BYTES_MIN:
        window.on_sent(window.size)
        window.on_arrived(window.size, 0.0, 0.1)
    for _ in range(8):
        window.on_sent(WINDOW_BYTES_MIN)
    for late_s in range(8):
        window.on_arrived(WINDOW_BYTES_MIN, 1.0, 3.0 + late_s)
    assert window.size == 4 * WINDOW_BYTES_MIN
