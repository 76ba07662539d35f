"""What a table or an index is paid for: provisioned units, on-demand ceilings, warm throughput.

Ceilings and warm throughput are kept in a record's `extra` and described as they were set; they do not yet govern what
is served.  `extra` holds, beside them, what DescribeTable tells of the past: decreases of the day, times of changes.

Sources: Developer Guide, "On-demand capacity mode", "Understanding DynamoDB warm throughput", "Quotas".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from geodyne.errors import ApiError, validation
from geodyne.limits import (
    DECREASES_AT_ANY_TIME_MAX,
    ON_DEMAND_READ_UNITS,
    ON_DEMAND_WRITE_UNITS,
    THROUGHPUT_UNITS_MAX,
)
from router.api.refusals import INVALID

PROVISIONED, ON_DEMAND = "PROVISIONED", "PAY_PER_REQUEST"
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
REMOVED = -1  # as a ceiling in UpdateTable: none any more

# Members of `extra` and of the requests they come from.
_CEILINGS = (("MaxReadRequestUnits", "read"), ("MaxWriteRequestUnits", "write"))
_WARM = (("ReadUnitsPerSecond", "read"), ("WriteUnitsPerSecond", "write"))

Units = tuple[int, int]  # read, write
Extra = dict[str, Any]


def table_units(mode: str, throughput: dict[str, Any] | None) -> Units:
    """The units of a new table; none on demand. Raises ValidationException unless mode and units fit."""
    if mode == ON_DEMAND:
        if throughput is not None:
            raise units_on_demand()
        return 0, 0
    if throughput is None:
        raise validation(
            f"{INVALID}ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED"
        )
    return provisioned_units(throughput)


def new_index_units(mode: str, throughput: dict[str, Any] | None, index: str) -> Units:
    """The units of a global index that is created with its table. Raises ValidationException."""
    if mode == ON_DEMAND:
        if throughput is not None:
            raise validation(
                f"{INVALID}ProvisionedThroughput should not be specified for index: {index} when BillingMode is "
                "PAY_PER_REQUEST"
            )
        return 0, 0
    if throughput is None:
        raise validation(f"{INVALID}ProvisionedThroughput is not specified for index: {index}")
    return provisioned_units(throughput, index)


def changed_index_units(mode: str, throughput: dict[str, Any] | None, index: str) -> Units:
    """The units of a global index that UpdateTable adds or changes. Raises ValidationException."""
    if mode == ON_DEMAND:
        if throughput is not None:
            raise validation(
                f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified for index: {index} when "
                "BillingMode is PAY_PER_REQUEST"
            )
        return 0, 0
    if throughput is None:
        raise validation(f"{INVALID}Both ReadCapacityUnits and WriteCapacityUnits must be specified for index: {index}")
    return provisioned_units(throughput, index)


def units_on_demand() -> ApiError:
    return validation(
        f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is "
        "PAY_PER_REQUEST"
    )


def provisioned_units(throughput: dict[str, Any], index: str | None = None) -> Units:
    """Read and write units of a ProvisionedThroughput. Raises ValidationException beyond all bounds."""
    units = int(throughput["ReadCapacityUnits"]), int(throughput["WriteCapacityUnits"])
    of_index = "" if index is None else f" for index {index}"
    for member, value in zip(("ReadCapacityUnits", "WriteCapacityUnits"), units, strict=True):
        if value > THROUGHPUT_UNITS_MAX:
            raise validation(f"Given value {value} for {member} is out of bounds{of_index}")
    return units


def check_units_change(current: Units, wanted: Units, index: str | None = None) -> None:
    """Raises ValidationException when provisioned units would stay what they are."""
    if current != wanted:
        return
    what, where = ("table", "table") if index is None else (f"index {index}", "index")
    (read, write), (wanted_read, wanted_write) = current, wanted
    raise validation(
        f"The provisioned throughput for the {what} will not change. The requested value equals the current value. "
        f"Current ReadCapacityUnits provisioned for the {where}: {read}. "
        f"Requested ReadCapacityUnits: {wanted_read}. "
        f"Current WriteCapacityUnits provisioned for the {where}: {write}. "
        f"Requested WriteCapacityUnits: {wanted_write}. "
        "Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits."
    )


# --- when units changed ---------------------------------------------------------------------------------


def decreases_today(extra: Mapping[str, Any], now_ms: int) -> int:
    """Decreases of provisioned units since midnight, UTC."""
    return int(extra.get("decreases", 0)) if extra.get("decreases_day") == now_ms // DAY_MS else 0


def times_of_change(extra: Mapping[str, Any], current: Units, wanted: Units, now_ms: int) -> Extra:
    """Members of `extra` for a change of provisioned units at `now_ms`.

    Raises LimitExceededException for one decrease too many: four a day are free, after that one an hour.
    """
    changes: Extra = {}
    if any(new > old for new, old in zip(wanted, current, strict=True)):
        changes["last_increase_ms"] = now_ms
    if any(new < old for new, old in zip(wanted, current, strict=True)):
        count = decreases_today(extra, now_ms)
        last_ms = int(extra.get("last_decrease_ms", 0))
        if count >= DECREASES_AT_ANY_TIME_MAX and now_ms - last_ms < HOUR_MS:
            raise _too_many_decreases(count, last_ms)
        changes |= {"last_decrease_ms": now_ms, "decreases": count + 1, "decreases_day": now_ms // DAY_MS}
    return changes


def _too_many_decreases(count: int, last_ms: int) -> ApiError:
    return ApiError(
        "LimitExceededException",
        "Subscriber limit exceeded: Provisioned throughput decreases are limited within a given UTC day. After the "
        f"first {DECREASES_AT_ANY_TIME_MAX} decreases, each subsequent decrease in the same UTC day can be performed "
        f"at most once every {HOUR_MS // 1000} seconds. Number of decreases today: {count}. "
        f"Last decrease at {_date(last_ms)}. Next decrease can be made at {_date(last_ms + HOUR_MS)}",
    )


def _date(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{at:%A, %B} {at.day}, {at.year} at {(at.hour - 1) % 12 + 1}:{at:%M:%S %p} Coordinated Universal Time"


# --- on-demand ceilings ---------------------------------------------------------------------------------


def new_ceilings(mode: str, asked: dict[str, Any] | None) -> Extra:
    """The ceilings of a new table or index, as a member of its `extra`. Raises ValidationException."""
    ceilings = _ceilings(asked, mode, "when table BillingMode is PROVISIONED.", lowest_special=None)
    return {"on_demand_max": ceilings} if ceilings else {}


def changed_ceilings(mode: str, asked: dict[str, Any] | None, extra: Mapping[str, Any]) -> Extra:
    """The ceilings after a change, as a member of `extra`: what is not named stays, -1 removes.

    Raises ValidationException.
    """
    changes = _ceilings(asked, mode, "when the table BillingMode is PROVISIONED", lowest_special=REMOVED)
    if not changes:
        return {}
    merged = {**extra.get("on_demand_max", {}), **changes}
    return {"on_demand_max": {name: units for name, units in merged.items() if units != REMOVED} or None}


def _ceilings(asked: dict[str, Any] | None, mode: str, refusal: str, lowest_special: int | None) -> dict[str, int]:
    named = {member: int(asked[member]) for member, _ in _CEILINGS if asked and asked.get(member) is not None}
    if named and mode == PROVISIONED:
        raise validation(f"{INVALID}{next(iter(named))} for OnDemandThroughput cannot be specified {refusal}")
    for member, units in named.items():
        if units < 1 and units != lowest_special:
            raise validation(f"{INVALID}{member} for OnDemandThroughput must be greater than or equal to 1")
        if units > THROUGHPUT_UNITS_MAX:
            raise validation(f"Given value {units} for {member} is out of bounds")
    return {name: named[member] for member, name in _CEILINGS if member in named}


def describe_ceilings(extra: Mapping[str, Any]) -> Extra:
    """The member OnDemandThroughput of a description; empty without ceilings."""
    kept = extra.get("on_demand_max")
    if not kept:
        return {}
    return {"OnDemandThroughput": {member: kept[name] for member, name in _CEILINGS if name in kept}}


# --- warm throughput ------------------------------------------------------------------------------------


def warm_units(mode: str, units: Units, extra: Mapping[str, Any]) -> Units:
    """What a table or index serves at once: what was asked for, but never less than its mode or units give."""
    least = (ON_DEMAND_READ_UNITS, ON_DEMAND_WRITE_UNITS) if mode == ON_DEMAND else units
    asked = extra.get("warm", {})
    return max(least[0], asked.get("read", 0)), max(least[1], asked.get("write", 0))


def raised_warm(asked: dict[str, Any] | None, current: Units, index: str | None = None) -> Extra:
    """Warm throughput after a change, as a member of `extra`. Raises ValidationException: it is never lowered."""
    wanted: dict[str, int] = {}
    of = "table" if index is None else f"index {index}"
    for (member, name), floor in zip(_WARM, current, strict=True):
        if asked is None or asked.get(member) is None:
            continue
        wanted[name] = int(asked[member])
        if wanted[name] < floor:
            raise validation(
                f"{INVALID}Requested {member} for WarmThroughput for {of} is lower than current WarmThroughput, "
                "decreasing WarmThroughput is not supported"
            )
        if wanted[name] > THROUGHPUT_UNITS_MAX:
            raise validation(f"Given value {wanted[name]} for {member} is out of bounds")
    if not wanted:
        return {}
    return {"warm": {"read": wanted.get("read", current[0]), "write": wanted.get("write", current[1])}}
