"""DeleteTable of a replica, and replicas that cannot be made or do not go, as the catalog keeps them."""

from __future__ import annotations

import pytest

from geodyne.catalog import LeavingStage, TableStatus, replica_consumer
from geodyne.errors import replica_exists
from node.catalog.leaving import BEYOND_MS, SOURCE_KEPT_MS
from node.catalog.machine import Catalog
from node.state import definition_of
from tests.unit.node.test_index_catalog import AROUND, global_table, made, refused, run, settle, the_table

DELETE = {"name": "T"}
NEW = "sa-east-1"


def others(catalog: Catalog) -> list[str]:
    return [region for region in the_table(catalog).replicas if region != AROUND.region]


def test_a_replica_is_deleted_once_all_others_have_forgotten_it() -> None:
    catalog = global_table()
    run(catalog, "delete_table", DELETE)
    leaving = the_table(catalog).leaving
    assert leaving is not None
    assert (leaving.stage, leaving.deletes) == (LeavingStage.FENCED, True)
    assert leaving.through_us == (AROUND.now_ms + BEYOND_MS) * 1000
    settle(catalog)
    assert the_table(catalog).status is TableStatus.UPDATING
    assert refused(catalog, "delete_table", DELETE)[0] == "ResourceInUseException"
    *first, last = others(catalog)
    for region in first:
        run(catalog, "drop_replica", {"name": "T", "region": region})
        settle(catalog)
        assert the_table(catalog).status is TableStatus.UPDATING
    run(catalog, "drop_replica", {"name": "T", "region": last})
    assert the_table(catalog).status is TableStatus.DELETING
    assert the_table(catalog).replicas == {}


def test_a_replica_that_is_protected_is_not_deleted() -> None:
    catalog = global_table()
    run(catalog, "update_table", {"name": "T", "deletion_protection": True})
    settle(catalog)
    assert refused(catalog, "delete_table", DELETE)[0] == "ValidationException"
    assert "protected" in refused(catalog, "delete_table", {**DELETE, "as_replica": True})[1]


def test_the_region_that_others_were_added_from_stays_for_a_day() -> None:
    catalog = made()
    run(catalog, "update_table", {"name": "T", "replicas_add": [NEW]})
    settle(catalog)
    run(catalog, "set_replica", {"name": "T", "region": NEW, "status": "ACTIVE", "expected": "CREATING"})
    code, message = refused(catalog, "delete_table", DELETE)
    assert code == "ValidationException"
    assert "acted as a source region for new replica(s)" in message
    table = the_table(catalog)
    earlier = {**table.to_json(), "extra": {"sourced_ms": AROUND.now_ms - SOURCE_KEPT_MS}}
    catalog.apply(catalog.revision + 1, [("table/T", earlier)])
    run(catalog, "delete_table", DELETE)
    assert the_table(catalog).leaving is not None


def test_a_table_whose_replicas_are_all_removed_is_deleted_at_once() -> None:
    catalog = made()
    run(catalog, "update_table", {"name": "T", "replicas_add": [NEW]})
    settle(catalog)
    run(catalog, "drop_replica", {"name": "T", "region": NEW})
    settle(catalog)
    assert "sourced_ms" not in the_table(catalog).extra
    run(catalog, "delete_table", DELETE)
    assert the_table(catalog).status is TableStatus.DELETING


def test_a_replica_does_not_go_while_others_come_or_go() -> None:
    catalog = global_table()
    run(catalog, "update_table", {"name": "T", "replicas_remove": [others(catalog)[0]]})
    settle(catalog)
    assert refused(catalog, "delete_table", DELETE)[0] == "ResourceInUseException"


def adding() -> Catalog:
    catalog = made()
    run(catalog, "update_table", {"name": "T", "replicas_add": [NEW]})
    settle(catalog)
    return catalog


def fail(catalog: Catalog, why: str = "why") -> None:
    said = {"status": "CREATION_FAILED", "expected": "CREATING", "trouble": why}
    run(catalog, "set_replica", {"name": "T", "region": NEW, **said})


def test_for_a_replica_that_cannot_be_made_nothing_is_kept_and_it_can_be_removed() -> None:
    catalog = adding()
    before = the_table(catalog)
    assert replica_consumer(NEW) in definition_of(before, AROUND.region).consumers
    fail(catalog)
    table = the_table(catalog)
    assert (table.status, table.replicas[NEW]) == (TableStatus.UPDATING, "CREATION_FAILED")
    assert table.revision > before.revision
    assert replica_consumer(NEW) not in definition_of(table, AROUND.region).consumers
    assert table.extra["replica_troubles"] == {NEW: "why"}
    settle(catalog)
    run(catalog, "update_table", {"name": "T", "replicas_remove": [NEW]})
    assert "replica_troubles" not in the_table(catalog).extra
    settle(catalog)
    run(catalog, "drop_replica", {"name": "T", "region": NEW})
    settle(catalog)
    assert the_table(catalog).replicas == {}


def test_only_a_replica_that_is_being_made_fails() -> None:
    catalog = global_table()
    run(catalog, "set_replica", {"name": "T", "region": others(catalog)[0], "status": "CREATION_FAILED",
                                 "expected": "CREATING"})  # fmt: skip
    assert set(the_table(catalog).replicas.values()) == {"ACTIVE"}


@pytest.mark.parametrize("status", ["CREATING", "DELETING"])
def test_trouble_is_told_and_over_without_a_change_of_definition(status: str) -> None:
    catalog = adding()
    if status == "DELETING":
        run(catalog, "update_table", {"name": "T", "replicas_remove": [NEW]})
        settle(catalog)
    revision = the_table(catalog).revision
    for text, kept in (("not reached", {NEW: "not reached"}), ("", None)):
        said = {"status": status, "expected": status, "trouble": text}
        run(catalog, "set_replica", {"name": "T", "region": NEW, **said})
        assert the_table(catalog).extra.get("replica_troubles") == kept
    assert the_table(catalog).revision == revision


def test_a_name_that_another_table_has_is_taken_for_good_and_one_that_goes_is_not() -> None:
    catalog = made()
    body = {"definition": {"name": "T"}, "members": {"a": "ACTIVE"}, "table_id": "other"}
    assert refused(catalog, "ensure_replica", body)[0] == "TableAlreadyExistsException"
    run(catalog, "delete_table", DELETE)
    assert refused(catalog, "ensure_replica", body)[0] == "ResourceInUseException"


def test_a_member_is_not_added_twice() -> None:
    body = {"name": "T", "replicas_add": [NEW]}
    assert refused(adding(), "update_table", body) == ("ValidationException", replica_exists("T"))
