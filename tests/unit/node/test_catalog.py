import itertools

import pytest

from geodyne.catalog import HASH_SPACE, SYSTEM_PREFIX, ControlOperation, TableStatus
from geodyne.errors import ApiError
from geodyne.healthcheck import HEALTH_TABLE
from node.catalog.controller import plan
from node.catalog.machine import ACTIVATE, FORGET, Catalog, Surroundings, evaluate
from node.catalog.placement import rings_by_zone

IDS = itertools.count()
AROUND = Surroundings(
    region="us-east-1",
    now_ms=1_000,
    placement=rings_by_zone({"n-a": "a", "n-b": "b", "n-c": "c"}),
    new_id=lambda: f"id-{next(IDS)}",
    stream_label=lambda now_ms: f"label-{now_ms}",
)
DEFINITION = {"name": "T", "hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None}


def run(catalog: Catalog, operation: str, body: dict) -> dict:
    changes, answer = evaluate(catalog, operation, body, AROUND)
    if changes:
        catalog.apply(catalog.revision + 1, changes)
    return answer


def active(catalog: Catalog, name: str = "T") -> None:
    table = catalog.tables[name]
    run(catalog, ACTIVATE, {"name": name, "revision": table.revision})


def table_made() -> Catalog:
    catalog = Catalog()
    run(catalog, "create_table", {"definition": DEFINITION})
    active(catalog)
    return catalog


def test_a_new_table_has_four_partitions_that_cover_the_hash_space() -> None:
    catalog = Catalog()
    run(catalog, "create_table", {"definition": DEFINITION})
    partitions = catalog.tables["T"].partitions
    assert len(partitions) == 4
    assert partitions[0].low == 0
    assert partitions[-1].high == HASH_SPACE
    assert all(one.high == two.low for one, two in itertools.pairwise(partitions))
    assert catalog.tables["T"].partition_of(HASH_SPACE - 1) is partitions[-1]
    assert catalog.tables["T"].partition_of(partitions[1].low) is partitions[1]


def test_partition_ids_are_never_used_again() -> None:
    catalog = table_made()
    first = {partition.id for partition in catalog.tables["T"].partitions}
    run(catalog, "delete_table", {"name": "T"})
    run(catalog, FORGET, {"name": "T", "id": catalog.tables["T"].id})
    assert "T" not in catalog.tables
    run(catalog, "create_table", {"definition": DEFINITION})
    assert not first & {partition.id for partition in catalog.tables["T"].partitions}


def test_a_table_is_active_once_all_partitions_have_applied_its_definition() -> None:
    catalog = Catalog()
    run(catalog, "create_table", {"definition": DEFINITION})
    table = catalog.tables["T"]
    led = {partition.id: table.revision for partition in table.partitions}
    assert plan(catalog, {**led, table.partitions[2].id: table.revision - 1}) == []
    assert plan(catalog, led) == [(ACTIVATE, {"name": "T", "revision": table.revision})]


def test_a_table_disappears_once_no_partition_is_led() -> None:
    catalog = table_made()
    run(catalog, "delete_table", {"name": "T"})
    table = catalog.tables["T"]
    assert plan(catalog, {table.partitions[0].id: 1}) == []
    assert plan(catalog, {}) == [(FORGET, {"name": "T", "id": table.id})]


@pytest.mark.parametrize(
    ("operation", "body", "code"),
    [
        ("create_table", {"definition": DEFINITION}, "ResourceInUseException"),
        ("delete_table", {"name": "U"}, "ResourceNotFoundException"),
        ("update_table", {"name": "U"}, "ResourceNotFoundException"),
        ("update_table", {"name": "T", "replicas_remove": ["eu-west-1"]}, "ValidationException"),
        ("no_such_operation", {}, "UnknownOperationException"),
    ],
)
def test_impossible_operations_are_refused_and_change_nothing(operation: str, body: dict, code: str) -> None:
    catalog = table_made()
    with pytest.raises(ApiError) as refused:
        evaluate(catalog, operation, body, AROUND)
    assert refused.value.kind.code == code


def test_a_protected_table_is_not_deleted() -> None:
    catalog = table_made()
    run(catalog, "update_table", {"name": "T", "deletion_protection": True})
    active(catalog)
    with pytest.raises(ApiError, match="protected against deletion"):
        evaluate(catalog, "delete_table", {"name": "T"}, AROUND)


def test_adding_a_replica_makes_the_table_global_and_switches_its_stream_on() -> None:
    catalog = table_made()
    run(catalog, "update_table", {"name": "T", "replicas_add": ["eu-west-1"]})
    table = catalog.tables["T"]
    assert table.replicas == {"us-east-1": "ACTIVE", "eu-west-1": "CREATING"}
    assert table.stream_view == "NEW_AND_OLD_IMAGES"
    assert table.status is TableStatus.UPDATING


def test_ensuring_a_replica_twice_changes_nothing_the_second_time() -> None:
    catalog = Catalog()
    body = {"definition": DEFINITION, "table_id": "t", "members": {"us-east-1": "ACTIVE", "eu-west-1": "ACTIVE"}}
    run(catalog, "ensure_replica", body)
    assert evaluate(catalog, "ensure_replica", body, AROUND)[0] == []
    with pytest.raises(ApiError):
        evaluate(catalog, "ensure_replica", {**body, "table_id": "another"}, AROUND)


def test_a_copy_that_is_too_old_gets_everything() -> None:
    catalog = table_made()
    full, records = catalog.since(-1)
    assert full
    assert dict(records)["table/T"] is not None
    assert catalog.since(catalog.revision + 1) == (False, ())
    full, records = catalog.since(catalog.revision - 1)
    assert not full
    assert {key for key, _ in records} == {"table/T"}
    restored = Catalog()
    restored.restore(9, {"table/T": (9, catalog.tables["T"].to_json())})
    assert restored.since(3)[0]
    assert restored.tables == catalog.tables


def test_the_table_of_health_checks_is_made_once_has_one_partition_and_is_no_users() -> None:
    catalog = Catalog()
    first = run(catalog, ControlOperation.ENSURE_HEALTH, {})["table"]
    revision = catalog.revision
    assert run(catalog, ControlOperation.ENSURE_HEALTH, {})["table"] == first
    assert catalog.revision == revision
    table = catalog.tables[HEALTH_TABLE]
    assert [(one.low, one.high) for one in table.partitions] == [(0, HASH_SPACE)]
    assert table.name.startswith(SYSTEM_PREFIX)
