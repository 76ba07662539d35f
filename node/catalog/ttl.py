"""Time to Live of a table as control operations change it. Pure.

Wording of the refusals as the service has it; a table's TTL may be changed once in an interval (an hour there:
UpdateTimeToLive in the API reference), which is the asker's to name. A change is ENABLING or DISABLING until all
partitions have applied the definition. The regions of a global table have one setting: each change is passed on with
the time at which it was asked for, and the newest wins everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import TableRecord, TtlStatus
from geodyne.errors import ApiError, validation

TOO_SOON = "Time to live has been modified multiple times within a fixed interval"


def check_known(by_all: bool) -> None:
    """Raises ServiceUnavailable while some node of the region is of a version that knows neither streams nor TTL: it
    would forget what expires."""
    if not by_all:
        raise ApiError(
            "ServiceUnavailable", "Time to Live can be changed once all nodes of the region run this version"
        )


def asked(table: TableRecord, body: Mapping[str, Any], now_ms: int, revision: int) -> TableRecord:
    """After the change that a client of this region asks for. Raises ApiError."""
    attribute, enabled = body["attribute"], body["enabled"]
    if enabled == bool(table.expires_by) and (not enabled or attribute == table.ttl_attribute):
        raise validation(f"TimeToLive is already {'enabled' if enabled else 'disabled'}")
    if table.expires_by and attribute != table.ttl_attribute:
        raise validation(
            f"TimeToLive is active on a different AttributeName: current AttributeName is {table.ttl_attribute}"
        )
    if table.ttl_changed_ms and abs(now_ms - table.ttl_changed_ms) < body.get("interval_ms", 0):
        raise validation(TOO_SOON)
    return _changed(table, attribute, enabled, max(now_ms, table.ttl_changed_ms + 1), revision)


def taken_over(table: TableRecord, body: Mapping[str, Any], revision: int) -> TableRecord:
    """After another region's change; the same table when it is older than what is known here."""
    attribute, enabled, changed_ms = body["attribute"], body["enabled"], body["changed_ms"]
    known = (table.ttl_changed_ms, bool(table.expires_by), table.ttl_attribute or "")
    if (changed_ms, enabled, attribute) <= known:
        return table
    if enabled == bool(table.expires_by) and (not enabled or attribute == table.ttl_attribute):
        return replace(table, ttl_changed_ms=changed_ms)
    return _changed(table, attribute, enabled, changed_ms, revision)


def news(table: TableRecord) -> dict[str, Any]:
    """The setting as another region takes it over."""
    attribute, enabled = table.ttl_attribute or "", bool(table.expires_by)
    return {"ttl": {"attribute": attribute, "enabled": enabled, "changed_ms": table.ttl_changed_ms}}


def settled(table: TableRecord) -> TableRecord:
    """Once all partitions have applied the definition."""
    if table.ttl_status is TtlStatus.ENABLING:
        return replace(table, ttl_status=TtlStatus.ENABLED)
    if table.ttl_status is TtlStatus.DISABLING:
        return replace(table, ttl_status=TtlStatus.DISABLED, ttl_attribute=None)
    return table


def changing(table: TableRecord) -> bool:
    """Whether `settled` is yet to come."""
    return table.ttl_status in (TtlStatus.ENABLING, TtlStatus.DISABLING)


def _changed(table: TableRecord, attribute: str, enabled: bool, changed_ms: int, revision: int) -> TableRecord:
    status = TtlStatus.ENABLING if enabled else TtlStatus.DISABLING
    named = attribute if enabled else table.ttl_attribute
    return replace(table, ttl_attribute=named, ttl_status=status, ttl_changed_ms=changed_ms, revision=revision)
