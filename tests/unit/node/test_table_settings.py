"""Settings that all replicas of a global table have in common: passed on, and the newest holds everywhere."""

from __future__ import annotations

from typing import Any

from geodyne.catalog import CONFLICT_LOG, SETTINGS_CHANGED
from node.catalog.machine import Catalog
from node.state import Definition, definition_of
from replication import lifecycle
from tests.unit.node.test_index_catalog import an_index, global_table, made, run, settle, the_table


def passed_on(catalog: Catalog) -> dict[str, Any]:
    return dict(the_table(catalog).index_news[-1].change["settings"])


def take_over(catalog: Catalog, settings: dict[str, Any]) -> None:
    body = {"name": "T", "table_id": "t", "as_replica": True, "settings": settings}
    run(catalog, "update_table", body)
    settle(catalog)


def shown(catalog: Catalog) -> tuple[object, ...]:
    table = the_table(catalog)
    units = [(index.name, index.read_units, index.write_units, index.extra) for index in table.indexes]
    return table.billing_mode, table.read_units, table.write_units, table.table_class, table.extra, units


def test_an_edit_of_the_table_and_its_indexes_holds_in_the_region_that_takes_it_over() -> None:
    here, there = global_table(an_index("one")), global_table(an_index("one"))
    index = {"one": {"read_units": 7, "write_units": 8, "extra": {"warm": [9, 9]}}}
    body = {"name": "T", "read_units": 5, "write_units": 6, "table_class": "STANDARD_INFREQUENT_ACCESS"}
    run(here, "update_table", {**body, "extra": {"on_demand_max": [1, 2]}, "index_update": index})
    settle(here)
    take_over(there, passed_on(here))
    assert shown(there) == shown(here)
    assert the_table(there).index_news == ()


def test_a_change_of_indexes_alone_is_passed_on_too() -> None:
    catalog = global_table(an_index("one"))
    run(catalog, "update_table", {"name": "T", "index_update": {"one": {"read_units": 3, "write_units": 4}}})
    assert passed_on(catalog)["indexes"]["one"]["read_units"] == 3


def test_a_new_replica_begins_with_all_that_an_edit_passes_on() -> None:
    catalog = global_table()
    extra = {"on_demand_max": {"read": 9}, "on_demand_since_ms": 5, "table_class_updated_ms": 6, CONFLICT_LOG: True}
    run(catalog, "update_table", {"name": "T", "extra": extra})
    settings = passed_on(catalog)
    begun = lifecycle.definition_of(the_table(catalog))["extra"]
    assert begun == {**settings["extra"], SETTINGS_CHANGED: settings["changed_ms"]}
    assert extra.items() <= begun.items()


def test_a_setting_that_was_taken_off_goes_elsewhere_too() -> None:
    here, there = global_table(an_index("one")), global_table(an_index("one"))
    for value in ([1, 2], None):
        index = {"one": {"extra": {"on_demand_max": value}}}
        run(here, "update_table", {"name": "T", "extra": {"on_demand_max": value}, "index_update": index})
        settle(here)
        take_over(there, passed_on(here))
        assert shown(there) == shown(here)
    assert "on_demand_max" not in the_table(there).extra


def test_of_two_edits_the_newest_holds_whichever_comes_last_and_of_one_time_both_regions_choose_alike() -> None:
    here, there = global_table(), global_table()
    run(here, "update_table", {"name": "T", "read_units": 5})
    run(there, "update_table", {"name": "T", "read_units": 6})
    settle(here)
    settle(there)
    first, second = passed_on(here), passed_on(there)
    assert first["changed_ms"] == second["changed_ms"]
    take_over(here, second)
    take_over(there, first)
    assert shown(here) == shown(there)
    run(here, "update_table", {"name": "T", "read_units": 9})
    settle(here)
    take_over(there, passed_on(here))
    take_over(there, second)
    assert the_table(there).read_units == the_table(here).read_units == 9


def test_deletion_protection_and_what_is_asked_of_a_table_without_replicas_are_not_passed_on() -> None:
    catalog = global_table()
    run(catalog, "update_table", {"name": "T", "deletion_protection": True})
    assert the_table(catalog).index_news == ()
    alone = made()
    run(alone, "update_table", {"name": "T", "read_units": 5})
    assert the_table(alone).index_news == ()
    assert SETTINGS_CHANGED not in the_table(alone).extra


def test_whether_conflicts_are_kept_holds_in_all_regions() -> None:
    here, there = global_table(), global_table()
    for on in (True, None):
        run(here, "update_table", {"name": "T", "extra": {CONFLICT_LOG: on}})
        settle(here)
        take_over(there, passed_on(here))
        assert the_table(there).extra.get(CONFLICT_LOG) is on
        assert definition_of(the_table(there), "us-east-1").conflicts is bool(on)
        kept = definition_of(the_table(there), "us-east-1")
        assert Definition.from_wire(kept.to_wire()) == kept


def test_an_index_that_this_region_lacks_is_left_out_of_what_it_takes_over() -> None:
    here, there = global_table(an_index("one")), global_table()
    run(here, "update_table", {"name": "T", "read_units": 5, "index_update": {"one": {"read_units": 3}}})
    take_over(there, passed_on(here))
    assert the_table(there).read_units == 5
    assert the_table(there).indexes == ()
