import time

from geodyne.clock import SystemClock


def test_the_lease_clock_never_goes_back():
    clock = SystemClock()
    readings = [clock.lease_ms() for _ in range(1_000)]
    assert readings == sorted(readings)


def test_the_wall_clock_is_unix_time_in_microseconds():
    assert abs(SystemClock().wall_us() - time.time() * 1e6) < 1e6
