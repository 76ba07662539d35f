"""Quotas on provisioned units (API reference, DescribeLimits)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import IndexRecord, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.limits import ACCOUNT_READ_UNITS_MAX
from router.api.quotas import check_changed_table, check_new_table

INDEX = IndexRecord("index", True, (("pk", "S"),), (), "ALL", read_units=10_000, write_units=1)
TABLE = TableRecord(
    "first", "id", TableStatus.ACTIVE, 1, 0, "pk", "S", None, None, "PROVISIONED", 30_000, 1, (), indexes=(INDEX,)
)
OTHER = replace(TABLE, name="second")
FULL = {table.name: table for table in (TABLE, OTHER)}  # together all read units that the account can have


def new(read: int) -> dict[str, Any]:
    return {"name": "third", "read_units": read, "write_units": 1, "indexes": []}


def test_tables_and_indexes_together_fill_the_account_quota() -> None:
    check_new_table(new(ACCOUNT_READ_UNITS_MAX // 2), {"first": TABLE})
    check_new_table(new(0), FULL)
    with pytest.raises(ApiError, match="account-level limit") as caught:
        check_new_table(new(1), FULL)
    assert caught.value.kind.code == "LimitExceededException"


@pytest.mark.parametrize(
    "change",
    [
        {"read_units": 30_001},
        {"index_update": {"index": {"read_units": 10_001, "write_units": 1}}},
        {"index_add": {"name": "more", "read_units": 1, "write_units": 1}},
    ],
)
def test_a_change_beyond_the_account_quota_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="80001 ReadCapacityUnits"):
        check_changed_table(change, TABLE, FULL)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"read_units": 40_000, "index_remove": "index"},
        {"read_units": 29_999, "index_update": {"index": {"read_units": 10_001, "write_units": 1}}},
        {"read_units": 30_000, "write_units": 2},
    ],
)
def test_a_change_that_stays_within_the_account_quota_passes(change: dict[str, Any]) -> None:
    check_changed_table(change, TABLE, FULL)


def test_a_decrease_is_allowed_even_where_the_quota_is_exceeded() -> None:
    beyond = replace(OTHER, read_units=ACCOUNT_READ_UNITS_MAX)
    check_changed_table({"read_units": 1}, TABLE, {"first": TABLE, "second": beyond})
