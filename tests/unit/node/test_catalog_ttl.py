"""Time to Live in the catalog: what may be asked for when, when it is settled, and one setting in all regions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import TableStatus, TtlStatus
from geodyne.errors import ApiError
from node.catalog.controller import plan
from node.catalog.machine import TTL_SETTLED, Catalog, Surroundings, evaluate
from node.state import definition_of
from tests.unit.node.test_catalog import AROUND, run, table_made

HOUR_MS = 3_600_000


def ttl(
    catalog: Catalog, enabled: bool, attribute: str = "expires", around: Surroundings = AROUND, **more: Any
) -> None:
    body = {"name": "T", "attribute": attribute, "enabled": enabled, **more}
    changes, _ = evaluate(catalog, "set_ttl", body, around)
    catalog.apply(catalog.revision + 1, changes)


def later(ms: int) -> Surroundings:
    return replace(AROUND, now_ms=AROUND.now_ms + ms)


def settle(catalog: Catalog) -> None:
    table = catalog.tables["T"]
    led = {partition.id: table.revision for partition in table.all_partitions}
    due = [body for operation, body in plan(catalog, led) if operation == TTL_SETTLED]
    for body in due:
        run(catalog, TTL_SETTLED, body)


def enabled() -> Catalog:
    catalog = table_made()
    ttl(catalog, True)
    settle(catalog)
    return catalog


def test_a_change_is_under_way_until_all_partitions_have_applied_it_and_the_table_stays_active() -> None:
    catalog = table_made()
    before = catalog.tables["T"]
    ttl(catalog, True)
    table = catalog.tables["T"]
    assert (table.status, table.ttl_status, table.ttl_attribute) == (TableStatus.ACTIVE, TtlStatus.ENABLING, "expires")
    assert table.revision > before.revision
    assert definition_of(table, "here").ttl == "expires"
    led = {partition.id: table.revision for partition in table.partitions[1:]}
    assert TTL_SETTLED not in dict(plan(catalog, {**led, table.partitions[0].id: before.revision}))
    settle(catalog)
    assert catalog.tables["T"].ttl_status is TtlStatus.ENABLED
    ttl(catalog, False)
    table = catalog.tables["T"]
    assert (table.ttl_status, table.ttl_attribute, table.expires_by) == (TtlStatus.DISABLING, "expires", "")
    assert definition_of(table, "here").ttl == ""
    settle(catalog)
    table = catalog.tables["T"]
    assert (table.ttl_status, table.ttl_attribute) == (TtlStatus.DISABLED, None)


def test_what_is_so_already_and_another_attribute_are_refused() -> None:
    catalog = table_made()
    with pytest.raises(ApiError, match="TimeToLive is already disabled"):
        ttl(catalog, False)
    ttl(catalog, True)
    with pytest.raises(ApiError, match="TimeToLive is already enabled"):
        ttl(catalog, True)
    for asked in (True, False):
        with pytest.raises(ApiError, match="active on a different AttributeName: current AttributeName is expires"):
            ttl(catalog, asked, "other")
    settle(catalog)
    ttl(catalog, False)
    with pytest.raises(ApiError, match="TimeToLive is already disabled"):
        ttl(catalog, False)
    ttl(catalog, True, "other")
    settle(catalog)
    assert catalog.tables["T"].expires_by == "other"


def test_a_change_too_soon_after_the_one_before_is_refused() -> None:
    catalog = enabled()
    with pytest.raises(ApiError, match="Time to live has been modified multiple times within a fixed interval"):
        ttl(catalog, False, around=later(HOUR_MS - 1), interval_ms=HOUR_MS)
    ttl(catalog, False, around=later(HOUR_MS), interval_ms=HOUR_MS)
    assert catalog.tables["T"].ttl_status is TtlStatus.DISABLING


@pytest.mark.parametrize("status", [TableStatus.CREATING, TableStatus.DELETING])
def test_a_table_that_comes_or_goes_cannot_be_changed(status: TableStatus) -> None:
    catalog = table_made()
    catalog.tables["T"] = replace(catalog.tables["T"], status=status)
    with pytest.raises(ApiError) as caught:
        ttl(catalog, True)
    assert caught.value.kind.code == "ResourceInUseException"


def test_nothing_expires_while_some_node_does_not_know_of_it() -> None:
    catalog = table_made()
    with pytest.raises(ApiError) as caught:
        ttl(catalog, True, around=replace(AROUND, streams_known=False))
    assert caught.value.kind.code == "ServiceUnavailable"


def test_of_two_regions_changes_the_newest_wins_in_both_whatever_comes_first() -> None:
    one, other = ({"attribute": name, "enabled": True, "changed_ms": ms} for name, ms in (("a", 5), ("b", 9)))
    outcomes = []
    for order in ((one, other), (other, one), (one, other, one)):
        catalog = table_made()
        for change in order:
            run(catalog, "set_ttl", {"name": "T", "as_replica": True, **change})
        outcomes.append((catalog.tables["T"].expires_by, catalog.tables["T"].ttl_changed_ms))
    assert outcomes == [("b", 9)] * 3


def test_a_change_of_a_global_table_is_passed_on_to_its_other_regions() -> None:
    catalog = table_made()
    record = replace(catalog.tables["T"], replicas={AROUND.region: "ACTIVE", "there": "ACTIVE", "gone": "DELETING"})
    catalog.tables["T"] = record
    ttl(catalog, True)
    table = catalog.tables["T"]
    assert [news.regions for news in table.index_news] == [("there",)]
    assert table.index_news[0].change == {
        "ttl": {"attribute": "expires", "enabled": True, "changed_ms": table.ttl_changed_ms}
    }
    there = table_made()
    run(there, "set_ttl", {"name": "T", "as_replica": True, **table.index_news[0].change["ttl"]})
    assert there.tables["T"].expires_by == "expires"
    assert there.tables["T"].index_news == ()
