"""A replica that leaves its global table, as the catalog keeps it: two stages, and no way back from the second."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.catalog import LeavingStage, TableStatus
from node.catalog.leaving import BEYOND_MS, WAIT_MS_MAX
from node.catalog.machine import Catalog
from tests.unit.node.test_index_catalog import AROUND, DEFINITION, global_table, made, refused, run, settle, the_table

LEAVE = {"name": "T", "leave": True}
UNPROTECTED = {"name": "T", "extra": {"disassociation_protection": False}}


def unprotected() -> Catalog:
    catalog = global_table()
    run(catalog, "update_table", UNPROTECTED)
    settle(catalog)
    return catalog


def leaving() -> Catalog:
    catalog = unprotected()
    run(catalog, "update_table", LEAVE)
    settle(catalog)
    return catalog


def conclude(catalog: Catalog, *, arrived: bool) -> None:
    leaves = the_table(catalog).leaving
    assert leaves is not None
    run(catalog, "leave_result", {"name": "T", "through_us": leaves.through_us, "arrived": arrived})


def test_the_table_is_updating_until_the_last_other_region_is_dropped() -> None:
    catalog = leaving()
    table = the_table(catalog)
    assert table.status is TableStatus.UPDATING
    assert table.leaving is not None
    assert table.leaving.through_us == (AROUND.now_ms + BEYOND_MS) * 1000
    assert table.leaving.give_up_ms == AROUND.now_ms + WAIT_MS_MAX
    conclude(catalog, arrived=True)
    settle(catalog)
    assert the_table(catalog).status is TableStatus.UPDATING
    for region in [region for region in table.replicas if region != AROUND.region]:
        run(catalog, "drop_replica", {"name": "T", "region": region})
    settle(catalog)
    table = the_table(catalog)
    assert (table.status, table.replicas, table.leaving) == (TableStatus.ACTIVE, {}, None)
    assert "disassociation_protection" not in table.extra


def test_a_wait_that_is_given_up_leaves_a_replica_that_may_be_asked_again() -> None:
    catalog = leaving()
    replicas = the_table(catalog).replicas
    conclude(catalog, arrived=False)
    settle(catalog)
    table = the_table(catalog)
    assert (table.status, table.replicas, table.leaving) == (TableStatus.ACTIVE, replicas, None)
    run(catalog, "update_table", LEAVE)
    assert the_table(catalog).leaving is not None


def test_what_became_of_an_older_wait_changes_nothing_and_the_second_stage_is_not_given_up() -> None:
    catalog = leaving()
    run(catalog, "leave_result", {"name": "T", "through_us": 1, "arrived": True})
    assert the_table(catalog).leaving.stage is LeavingStage.WAITING  # type: ignore[union-attr]
    conclude(catalog, arrived=True)
    conclude(catalog, arrived=False)
    assert the_table(catalog).leaving.stage is LeavingStage.FENCED  # type: ignore[union-attr]


def test_protection_is_on_by_default() -> None:
    code, message = refused(global_table(), "update_table", LEAVE)
    assert code == "ValidationException"
    assert "protected against disassociation" in message


def test_a_table_without_replicas_has_nothing_to_leave() -> None:
    assert refused(made(), "update_table", LEAVE)[0] == "ValidationException"


def test_no_replica_leaves_while_another_is_added() -> None:
    catalog = unprotected()
    run(catalog, "update_table", {"name": "T", "replicas_add": ["ap-south-1"]})
    settle(catalog)
    code, message = refused(catalog, "update_table", LEAVE)
    assert code == "ResourceInUseException"
    assert "ap-south-1" in message


@pytest.mark.parametrize("gone", [False, True])
def test_an_old_word_of_another_region_makes_it_no_replica_again(gone: bool) -> None:
    catalog = leaving()
    table = the_table(catalog)
    members: dict[str, Any] = {**table.replicas, "ap-south-1": "CREATING"}
    if gone:
        for region in [region for region in table.replicas if region != AROUND.region]:
            run(catalog, "drop_replica", {"name": "T", "region": region})
        settle(catalog)
    body = {"definition": {"name": "T"}, "members": members, "table_id": table.id}
    code = "TableAlreadyExistsException" if gone else "ResourceInUseException"
    assert refused(catalog, "ensure_replica", body)[0] == code


def test_a_table_that_leaves_is_changed_by_nobody_else() -> None:
    catalog = leaving()
    for operation, body in (("update_table", {"name": "T", "read_units": 9}), ("delete_table", {"name": "T"})):
        assert refused(catalog, operation, body)[0] == "ResourceInUseException"


def test_a_replica_comes_back_only_once_every_partition_has_logged_that_it_was_gone() -> None:
    """A partition that never did would keep the mark up to which all of the former replica is here, and take changes of
    the new one, whose clocks may be behind, for ones that were deleted since."""
    catalog = global_table()
    table = the_table(catalog)
    run(catalog, "drop_replica", {"name": "T", "region": "eu"})
    back = {"definition": {"name": "T"}, "members": {**table.replicas, "eu": "CREATING"}, "table_id": table.id}
    assert refused(catalog, "ensure_replica", back)[0] == "ResourceInUseException"
    settle(catalog)
    run(catalog, "ensure_replica", back)
    assert the_table(catalog).replicas["eu"] == "CREATING"


@pytest.mark.parametrize(("name", "table_id"), [("$transactions", "t"), ("a/b", "t"), ("T", "../../t"), ("T", "")])
def test_no_region_makes_tables_here_whose_names_mean_something_else(name: str, table_id: str) -> None:
    body = {"definition": {**DEFINITION, "name": name}, "members": {AROUND.region: "ACTIVE"}, "table_id": table_id}
    assert refused(Catalog(), "ensure_replica", body)[0] == "ValidationException"
