"""When an item expires: the Number of seconds since the epoch that its table's TTL attribute holds.

Rules (Developer Guide, "Using time to live (TTL) in DynamoDB"): only a top-level attribute of type Number counts, as
seconds; an item is expired once that time is less than the current one; one whose time lies more than five years back
is not deleted. A number that is no whole second, or lies beyond the calendar (milliseconds, for one), is no time at
all here.
"""

from __future__ import annotations

from geodyne.model.values import dumps, loads

SECOND_MAX = 253_402_300_799  # the end of year 9999
PAST_S_MAX = 5 * 365 * 86_400  # what expired earlier stays: more likely a mistake than an old item
_US = 1_000_000
_DIGITS_MAX = len(str(SECOND_MAX))


class Expiry:
    """The rule of one table: which attribute tells when an item expires."""

    __slots__ = ("_mark", "attribute")

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute
        self._mark = dumps({attribute: {"N": ""}})[1:-3]  # what an item with such a number holds somewhere

    def second(self, value: bytes | None) -> int | None:
        """The second at which an item, as stored, expires; None when it never does, or there is no item."""
        if value is None or self._mark not in value:
            return None
        text = loads(value).get(self.attribute, {}).get("N", "")
        if not text.isdigit() or len(text) > _DIGITS_MAX:
            return None
        second = int(text)
        return second if 0 < second <= SECOND_MAX else None

    def due(self, value: bytes | None, wall_us: int) -> bool:
        """Whether an item, as stored, is to be deleted at that time (microseconds since the epoch)."""
        second = self.second(value)
        if second is None:
            return False
        oldest, newest = due_seconds(wall_us)
        return oldest <= second <= newest


def due_seconds(wall_us: int) -> tuple[int, int]:
    """The seconds (from, through) of items that are to be deleted at that time (microseconds since the epoch)."""
    newest = (wall_us - 1) // _US
    return newest - PAST_S_MAX, newest
