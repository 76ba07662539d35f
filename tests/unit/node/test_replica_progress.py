"""How far a replica that is being filled has come, as the catalog keeps it."""

from __future__ import annotations

from geodyne.catalog import REPLICA_PROGRESS
from node.catalog.machine import Catalog, evaluate
from tests.unit.node.test_index_catalog import AROUND, made, run, settle, the_table

CREATING = {"name": "T", "region": "eu-west-1", "status": "CREATING", "expected": "CREATING"}


def filling() -> Catalog:
    catalog = made()
    run(catalog, "update_table", {"name": "T", "replicas_add": ["eu-west-1"]})
    settle(catalog)
    return catalog


def test_progress_is_kept_until_the_replica_is_complete() -> None:
    catalog = filling()
    run(catalog, "set_replica", {**CREATING, "progress": 40})
    assert the_table(catalog).extra[REPLICA_PROGRESS] == {"eu-west-1": 40}
    assert evaluate(catalog, "set_replica", {**CREATING, "progress": 40}, AROUND)[0] == []
    run(catalog, "set_replica", {**CREATING, "status": "ACTIVE"})
    assert REPLICA_PROGRESS not in the_table(catalog).extra
    assert the_table(catalog).replicas["eu-west-1"] == "ACTIVE"
    assert evaluate(catalog, "set_replica", {**CREATING, "progress": 50}, AROUND)[0] == []


def test_what_is_told_of_a_replica_changes_no_definition() -> None:
    catalog = filling()
    before = the_table(catalog)
    run(catalog, "set_replica", {**CREATING, "progress": 10})
    assert (the_table(catalog).revision, the_table(catalog).status) == (before.revision, before.status)


def test_progress_goes_with_a_replica_that_is_dropped() -> None:
    catalog = filling()
    run(catalog, "set_replica", {**CREATING, "progress": 40})
    run(catalog, "drop_replica", {"name": "T", "region": "eu-west-1"})
    assert REPLICA_PROGRESS not in the_table(catalog).extra
