"""Settings that one replica has of its own: known in all regions, until the setting is edited for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from geodyne import overrides
from geodyne.catalog import OVERRIDES, TableRecord
from node.catalog.machine import Catalog
from tests.unit.node.test_index_catalog import AROUND, an_index, global_table, run, settle, the_table
from tests.unit.node.test_table_settings import passed_on, take_over

HERE = AROUND.region
THERE = "eu"


def edit(catalog: Catalog, **change: Any) -> None:
    run(catalog, "update_table", {"name": "T", **change})
    settle(catalog)


def own(catalog: Catalog) -> dict[str, Any]:
    return dict(the_table(catalog).extra.get(OVERRIDES, {}))


def shown(catalog: Catalog, region: str = HERE) -> TableRecord:
    return overrides.effective(the_table(catalog), region)


def table(*indexes: dict[str, Any]) -> Catalog:
    catalog = global_table(*indexes)
    assert THERE in the_table(catalog).replicas
    edit(catalog, billing_mode="PROVISIONED", read_units=20, write_units=10)
    return catalog


def test_an_override_holds_in_its_region_and_every_region_is_told() -> None:
    here, there = table(an_index("one")), table(an_index("one"))
    asked = {"read_units": 7, "table_class": "STANDARD_INFREQUENT_ACCESS", "indexes": {"one": {"read_units": 8}}}
    edit(here, overrides={THERE: asked})
    take_over(there, passed_on(here))
    for catalog in (here, there):
        assert own(catalog) == {THERE: asked}
        assert (shown(catalog).read_units, shown(catalog).table_class) == (20, "STANDARD")
        record = shown(catalog, THERE)
        assert (record.read_units, record.write_units, record.table_class) == (7, 10, "STANDARD_INFREQUENT_ACCESS")
        index = record.index("one")
        assert index is not None
        assert (index.read_units, index.write_units) == (8, 4)


def test_what_is_not_named_stays_and_null_takes_off() -> None:
    catalog = table()
    edit(catalog, overrides={THERE: {"read_units": 7, "table_class": "STANDARD_INFREQUENT_ACCESS"}})
    edit(catalog, overrides={THERE: {"read_units": 9}})
    assert own(catalog) == {THERE: {"read_units": 9, "table_class": "STANDARD_INFREQUENT_ACCESS"}}
    edit(catalog, overrides={THERE: {"read_units": None, "table_class": None}})
    assert OVERRIDES not in the_table(catalog).extra


def test_an_edit_of_a_setting_takes_the_place_of_its_overrides_everywhere_and_of_no_other() -> None:
    catalog = table()
    for region in (HERE, THERE):
        edit(catalog, overrides={region: {"read_units": 7, "table_class": "STANDARD_INFREQUENT_ACCESS"}})
    edit(catalog, read_units=30, write_units=10)
    assert the_table(catalog).read_units == 30
    kept = {"table_class": "STANDARD_INFREQUENT_ACCESS"}
    assert own(catalog) == {HERE: kept, THERE: kept}
    edit(catalog, table_class="STANDARD")  # another than what this region shows
    assert own(catalog) == {}


def test_an_edit_that_repeats_what_its_region_shows_leaves_the_common_value_alone() -> None:
    catalog = table()
    edit(catalog, overrides={HERE: {"read_units": 7}})
    edit(catalog, read_units=7, write_units=11)
    assert (the_table(catalog).read_units, the_table(catalog).write_units) == (20, 11)
    assert own(catalog) == {HERE: {"read_units": 7}}


def test_the_same_holds_for_indexes_and_ceilings() -> None:
    catalog = global_table(an_index("one"), an_index("two"))
    edit(catalog, billing_mode="PAY_PER_REQUEST", read_units=0, write_units=0, extra={"on_demand_max": {"write": 5}})
    each = {"on_demand_read": 9}
    edit(catalog, overrides={THERE: {**each, "indexes": {"one": each, "two": each}}})
    assert shown(catalog, THERE).extra["on_demand_max"] == {"write": 5, "read": 9}
    edit(catalog, extra={"on_demand_max": {"write": 6}})
    assert own(catalog) == {THERE: {**each, "indexes": {"one": each, "two": each}}}
    edit(catalog, index_update={"one": {"extra": {"on_demand_max": {"read": 3}}}})
    assert own(catalog) == {THERE: {**each, "indexes": {"two": each}}}
    edit(catalog, extra={"on_demand_max": {"write": 6, "read": 4}})
    assert own(catalog) == {THERE: {"indexes": {"two": each}}}
    edit(catalog, index_remove="two")
    assert own(catalog) == {}


def test_the_other_capacity_mode_has_none_of_its_overrides() -> None:
    catalog = table(an_index("one"))
    edit(catalog, overrides={THERE: {"read_units": 7, "indexes": {"one": {"read_units": 8}}}})
    edit(catalog, billing_mode="PAY_PER_REQUEST", read_units=0, write_units=0)
    assert own(catalog) == {}


def test_of_two_regions_that_edit_at_once_the_newest_holds_with_its_overrides() -> None:
    here, there = table(), table()
    edit(here, overrides={THERE: {"read_units": 7}})
    edit(there, read_units=40, write_units=10)
    first, second = passed_on(here), passed_on(there)
    take_over(here, second)
    take_over(there, first)
    assert own(here) == own(there)
    assert the_table(here).read_units == the_table(there).read_units


def test_overrides_go_with_their_replica_and_a_table_that_is_alone_keeps_what_it_showed() -> None:
    catalog = table()
    others = [region for region in the_table(catalog).replicas if region != HERE]
    edit(catalog, overrides={HERE: {"read_units": 7}, others[0]: {"read_units": 8}})
    run(catalog, "drop_replica", {"name": "T", "region": others[0]})
    settle(catalog)
    assert others[0] not in own(catalog)
    for region in others[1:]:
        run(catalog, "drop_replica", {"name": "T", "region": region})
        settle(catalog)
    alone = the_table(catalog)
    assert (alone.read_units, alone.replicas, alone.extra.get(OVERRIDES)) == (7, {}, None)


def test_a_new_replica_comes_with_its_overrides() -> None:
    catalog = table()
    edit(catalog, replicas_add=["sa-east-1"], overrides={"sa-east-1": {"read_units": 3}})
    assert own(catalog) == {"sa-east-1": {"read_units": 3}}
    assert passed_on(catalog)["extra"][OVERRIDES] == {"sa-east-1": {"read_units": 3}}


def test_a_table_without_overrides_is_what_it_was() -> None:
    record = the_table(table())
    assert overrides.effective(record, HERE) is record
    assert overrides.pruned(record) is record
    assert overrides.settled(record, replace(record, read_units=3), HERE).read_units == 3
