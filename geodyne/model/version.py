"""Versions of items: hybrid logical time and region, ordered as bytes.

version = 8 bytes of big-endian microseconds ‖ region name. The larger one wins everywhere (last writer wins; the
region breaks ties), so every region ends with the same image whatever the order of arrival.
"""

from __future__ import annotations

_TIME_BYTES = 8


def make(time_us: int, region: bytes) -> bytes:
    return time_us.to_bytes(_TIME_BYTES, "big") + region


def time_us(version: bytes) -> int:
    return int.from_bytes(version[:_TIME_BYTES], "big")


def region(version: bytes) -> str:
    return version[_TIME_BYTES:].decode("ascii")


def well_formed(version: bytes) -> bool:
    """Whether it has a time and a region."""
    name = version[_TIME_BYTES:]
    return bool(name) and name.isascii()


def next_time_us(wall_us: int, last_us: int, replaced: bytes | None) -> int:
    """The time of a new version: beyond physical time, the partition's last version and the one it replaces."""
    floor = max(wall_us, last_us + 1)
    if replaced is not None:
        floor = max(floor, time_us(replaced) + 1)
    return floor
