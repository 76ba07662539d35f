"""Which regions are to be compared because another one was removed, as the catalog keeps it."""

from __future__ import annotations

from typing import Any

from geodyne.catalog import TO_COMPARE
from node.catalog.machine import Catalog, evaluate
from tests.unit.node.test_index_catalog import AROUND, global_table, run, settle, the_table
from tests.unit.node.test_leaving import conclude, leaving

ACTIVE: dict[str, Any] = {"name": "T", "status": "ACTIVE", "expected": "ACTIVE"}
OTHERS = ("eu", "ap")


def dropped(region: str = "eu") -> Catalog:
    catalog = global_table()
    run(catalog, "drop_replica", {"name": "T", "region": region})
    settle(catalog)
    return catalog


def asked(catalog: Catalog) -> dict[str, int]:
    found: dict[str, int] = the_table(catalog).extra.get(TO_COMPARE, {})
    return found


def test_with_a_region_dropped_those_that_remain_are_to_be_compared_until_they_are_the_same() -> None:
    catalog = dropped()
    (revision,) = asked(catalog).values()
    assert asked(catalog) == {"ap": revision}
    before = the_table(catalog)
    run(catalog, "set_replica", {**ACTIVE, "region": "ap", "compared": revision})
    assert TO_COMPARE not in the_table(catalog).extra
    assert the_table(catalog).revision == before.revision, "partitions need not know"


def test_a_comparison_from_before_the_last_removal_does_not_count() -> None:
    catalog = dropped()
    revision = asked(catalog)["ap"]
    assert evaluate(catalog, "set_replica", {**ACTIVE, "region": "ap", "compared": revision - 1}, AROUND)[0] == []
    assert evaluate(catalog, "set_replica", {**ACTIVE, "region": "ap"}, AROUND)[0] == []
    assert asked(catalog) == {"ap": revision}


def test_a_region_that_is_dropped_itself_is_compared_no_more() -> None:
    catalog = dropped()
    run(catalog, "drop_replica", {"name": "T", "region": "ap"})
    assert TO_COMPARE not in the_table(catalog).extra


def test_a_replica_that_leaves_compares_with_nobody() -> None:
    catalog = leaving()
    conclude(catalog, arrived=True)
    settle(catalog)
    run(catalog, "drop_replica", {"name": "T", "region": OTHERS[0]})
    assert TO_COMPARE not in the_table(catalog).extra
