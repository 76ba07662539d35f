"""Indexes in the catalog: how they come, change and go."""

import itertools

import orjson
import pytest

from geodyne.catalog import HASH_SPACE, IndexStatus, TableRecord, TableStatus
from geodyne.errors import ApiError
from node.catalog.controller import plan
from node.catalog.indexes import PARTITIONS_OF_AN_INDEX, live_partitions
from node.catalog.machine import ACTIVATE, FORGET, Catalog, Surroundings, evaluate
from node.catalog.news import NEWS_MAX
from node.catalog.placement import rings_by_zone

IDS = itertools.count()
AROUND = Surroundings(
    region="us-east-1",
    now_ms=1_000,
    placement=rings_by_zone({"n-a": "a", "n-b": "b", "n-c": "c"}),
    new_id=lambda: f"id-{next(IDS)}",
    stream_label=lambda now_ms: f"label-{now_ms}",
)
DEFINITION = {"name": "T", "hash_key": "pk", "hash_type": "S", "range_key": "sk", "range_type": "S"}


def an_index(name: str, **more: object) -> dict:
    return {
        "name": name,
        "is_global": True,
        "hash_keys": [["v", "S"]],
        "range_keys": [["n", "N"]],
        "projection": "INCLUDE",
        "included": ["x"],
        "read_units": 3,
        "write_units": 4,
        **more,
    }


LOCAL = an_index("local", is_global=False, hash_keys=[["pk", "S"]], read_units=0, write_units=0)


def run(catalog: Catalog, operation: str, body: dict) -> dict:
    changes, answer = evaluate(catalog, operation, orjson.loads(orjson.dumps(body)), AROUND)
    if changes:
        catalog.apply(catalog.revision + 1, orjson.loads(orjson.dumps(changes)))
    return answer


def the_table(catalog: Catalog) -> TableRecord:
    return catalog.tables["T"]


def led(catalog: Catalog) -> dict[int, int]:
    """As when every partition that is to be held has a leader with the newest definition."""
    return {p.id: the_table(catalog).revision for p in live_partitions(the_table(catalog))}


def settle(catalog: Catalog) -> None:
    for _ in range(10):
        due = plan(catalog, led(catalog))
        if not due:
            return
        for operation, body in due:
            run(catalog, operation, body)
    raise AssertionError("there is always something due")


def made(*indexes: dict) -> Catalog:
    catalog = Catalog()
    run(catalog, "create_table", {"definition": {**DEFINITION, "indexes": list(indexes)}})
    settle(catalog)
    return catalog


def fill(catalog: Catalog, name: str = "one") -> None:
    index = the_table(catalog).index(name)
    assert index is not None
    for partition in the_table(catalog).partitions:
        body = {"name": "T", "index": name, "revision": index.revision, "partition": partition.id}
        run(catalog, "index_filled", body)


def refused(catalog: Catalog, operation: str, body: dict) -> tuple[str, str]:
    with pytest.raises(ApiError) as error:
        evaluate(catalog, operation, body, AROUND)
    return error.value.kind.code, error.value.message or ""


def test_indexes_come_with_their_table() -> None:
    catalog = Catalog()
    body = {"definition": {**DEFINITION, "indexes": [an_index("one"), LOCAL, an_index("two"), {**LOCAL, "name": "b"}]}}
    run(catalog, "create_table", body)
    one, local, two, other = the_table(catalog).indexes
    assert (one.status, one.backfilling, one.slot) == (IndexStatus.CREATING, False, 0)
    assert (local.status, local.slot, local.partitions) == (IndexStatus.ACTIVE, 1, ())
    assert other.slot == 2
    assert (one.hash_keys, one.range_keys) == ((("v", "S"),), (("n", "N"),))
    assert (one.projection, one.included, one.read_units, one.write_units) == ("INCLUDE", ("x",), 3, 4)
    ids = [partition.id for partition in the_table(catalog).all_partitions]
    assert len(ids) == len(set(ids)) == 4 + 2 * PARTITIONS_OF_AN_INDEX
    assert two.partitions[0].low == 0
    assert two.partitions[-1].high == HASH_SPACE
    settle(catalog)
    assert the_table(catalog).status is TableStatus.ACTIVE
    assert {index.status for index in the_table(catalog).indexes} == {IndexStatus.ACTIVE}


def test_a_table_waits_for_the_partitions_of_its_indexes() -> None:
    catalog = Catalog()
    run(catalog, "create_table", {"definition": {**DEFINITION, "indexes": [an_index("one")]}})
    table = the_table(catalog)
    base = {partition.id: table.revision for partition in table.partitions}
    assert plan(catalog, base) == []
    assert plan(catalog, led(catalog)) == [(ACTIVATE, {"name": "T", "revision": table.revision})]


def test_an_index_that_comes_later_is_backfilled_before_it_is_active() -> None:
    catalog = made()
    run(catalog, "update_table", {"name": "T", "index_add": an_index("one")})
    index = the_table(catalog).indexes[0]
    assert the_table(catalog).status is TableStatus.UPDATING
    assert (index.status, index.backfilling) == (IndexStatus.CREATING, False)
    settle(catalog)
    index = the_table(catalog).indexes[0]
    assert the_table(catalog).status is TableStatus.ACTIVE
    assert (index.status, index.backfilling) == (IndexStatus.CREATING, True)
    first, *rest = [partition.id for partition in the_table(catalog).partitions]
    body = {"name": "T", "index": "one", "revision": index.revision}
    run(catalog, "index_filled", {**body, "partition": first})
    assert the_table(catalog).indexes[0].filled == (first,)
    for partition in rest:
        run(catalog, "index_filled", {**body, "partition": partition})
    index = the_table(catalog).indexes[0]
    assert (index.status, index.backfilling, index.filled) == (IndexStatus.ACTIVE, False, ())


@pytest.mark.parametrize("change", [{"revision": 99}, {"index": "two"}])
def test_a_report_of_another_index_changes_nothing(change: dict) -> None:
    catalog = made()
    run(catalog, "update_table", {"name": "T", "index_add": an_index("one")})
    settle(catalog)
    index = the_table(catalog).indexes[0]
    body = {"name": "T", "index": "one", "revision": index.revision, "partition": 1, **change}
    changes, _ = evaluate(catalog, "index_filled", body, AROUND)
    assert changes == []


def test_a_removed_index_is_there_until_its_partitions_are_gone() -> None:
    catalog = made(an_index("one"), an_index("two"))
    gone = [partition.id for partition in the_table(catalog).indexes[0].partitions]
    run(catalog, "update_table", {"name": "T", "index_remove": "one"})
    assert the_table(catalog).indexes[0].status is IndexStatus.DELETING
    assert not {p.id for p in live_partitions(the_table(catalog))} & set(gone)
    assert plan(catalog, {**led(catalog), gone[1]: 1}) == []
    settle(catalog)
    assert [index.name for index in the_table(catalog).indexes] == ["two"]
    assert the_table(catalog).status is TableStatus.ACTIVE


def test_an_index_that_is_made_again_is_another_one() -> None:
    catalog = made(an_index("one"))
    old = the_table(catalog).indexes[0]
    run(catalog, "update_table", {"name": "T", "index_remove": "one"})
    settle(catalog)
    run(catalog, "update_table", {"name": "T", "index_add": an_index("one")})
    new = the_table(catalog).indexes[0]
    assert new.revision > old.revision
    assert not {p.id for p in new.partitions} & {p.id for p in old.partitions}


def test_throughput_of_an_index_changes_through_updating() -> None:
    catalog = made(an_index("one", extra={"a": 1, "b": 2}))
    change = {"read_units": 9, "extra": {"a": None, "c": 3}}
    run(catalog, "update_table", {"name": "T", "index_update": {"one": change}})
    index = the_table(catalog).indexes[0]
    assert (index.status, index.read_units, index.write_units) == (IndexStatus.UPDATING, 9, 4)
    assert index.extra == {"b": 2, "c": 3}
    settle(catalog)
    assert the_table(catalog).indexes[0].status is IndexStatus.ACTIVE


def test_other_settings_may_change_while_an_index_is_backfilled() -> None:
    catalog = made()
    run(catalog, "update_table", {"name": "T", "index_add": an_index("one")})
    settle(catalog)
    run(catalog, "update_table", {"name": "T", "deletion_protection": True})
    settle(catalog)
    assert the_table(catalog).indexes[0].backfilling
    fill(catalog)
    assert the_table(catalog).indexes[0].status is IndexStatus.ACTIVE


def test_an_index_in_backfill_may_be_removed() -> None:
    catalog = made()
    run(catalog, "update_table", {"name": "T", "index_add": an_index("one")})
    settle(catalog)
    run(catalog, "update_table", {"name": "T", "index_remove": "one"})
    settle(catalog)
    assert the_table(catalog).indexes == ()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"index_add": an_index("one")}, "ValidationException", "Attempting to create an index which already exists"),
        ({"index_add": LOCAL}, "ValidationException", "Attempting to create an index which already exists"),
        ({"index_remove": "none"}, "ResourceNotFoundException", "Requested resource not found"),
        ({"index_remove": "local"}, "ResourceNotFoundException", "Requested resource not found"),
        ({"index_update": {"none": {}}}, "ResourceNotFoundException", "Requested resource not found"),
    ],
)
def test_what_cannot_be_done_is_refused(change: dict, code: str, message: str) -> None:
    catalog = made(an_index("one"), LOCAL)
    assert refused(catalog, "update_table", {"name": "T", **change}) == (code, message)


@pytest.mark.parametrize("change", [{"index_add": an_index("three")}, {"index_remove": "one"}])
def test_only_one_index_is_made_at_a_time(change: dict) -> None:
    catalog = made(an_index("one"))
    run(catalog, "update_table", {"name": "T", "index_add": an_index("two")})
    assert refused(catalog, "update_table", {"name": "T", **change})[0] == "ResourceInUseException"
    settle(catalog)
    assert refused(catalog, "update_table", {"name": "T", **change}) == (
        "LimitExceededException",
        "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table",
    )


def test_a_table_cannot_go_while_an_index_is_being_allocated() -> None:
    catalog = made()
    run(catalog, "update_table", {"name": "T", "index_add": an_index("one")})
    assert refused(catalog, "delete_table", {"name": "T"})[0] == "ResourceInUseException"


def test_a_deleted_table_is_forgotten_once_its_indexes_are_led_by_nobody() -> None:
    catalog = made(an_index("one"))
    run(catalog, "delete_table", {"name": "T"})
    table = the_table(catalog)
    assert plan(catalog, {table.indexes[0].partitions[0].id: 1}) == []
    assert plan(catalog, {}) == [(FORGET, {"name": "T", "id": table.id})]


def test_members_of_extra_are_merged_and_removed() -> None:
    catalog = Catalog()
    run(catalog, "create_table", {"definition": {**DEFINITION, "extra": {"a": 1, "b": 2}}})
    settle(catalog)
    run(catalog, "update_table", {"name": "T", "extra": {"b": None, "c": {"d": 1}}})
    assert the_table(catalog).extra == {"a": 1, "c": {"d": 1}}


def test_tags_change_without_a_change_of_status() -> None:
    catalog = made()
    before = the_table(catalog)
    run(catalog, "tag_table", {"name": "T", "add": {"a": "1", "b": "2"}})
    run(catalog, "tag_table", {"name": "T", "add": {"c": "3"}, "remove": ["a"]})
    after = the_table(catalog)
    assert after.tags == {"b": "2", "c": "3"}
    assert (after.status, after.revision) == (before.status, before.revision)
    assert evaluate(catalog, "tag_table", {"name": "T", "remove": ["none"]}, AROUND)[0] == []
    run(catalog, "delete_table", {"name": "T"})
    assert refused(catalog, "tag_table", {"name": "T", "add": {"x": "y"}})[0] == "ResourceInUseException"


def test_a_replica_of_a_table_has_its_indexes() -> None:
    source = the_table(made(an_index("one"), LOCAL))
    catalog = Catalog()
    definition = {**DEFINITION, "indexes": source.index_definitions()}
    body = {"definition": definition, "members": {"us-east-1": "CREATING", "eu": "ACTIVE"}, "table_id": "t"}
    run(catalog, "ensure_replica", body)
    settle(catalog)
    assert the_table(catalog).index_definitions() == source.index_definitions()
    assert the_table(catalog).indexes[0].status is IndexStatus.ACTIVE


def global_table(*indexes: dict) -> Catalog:
    catalog = Catalog()
    members = {"us-east-1": "ACTIVE", "eu": "ACTIVE", "ap": "ACTIVE"}
    definition = {**DEFINITION, "indexes": list(indexes)}
    run(catalog, "ensure_replica", {"definition": definition, "members": members, "table_id": "t"})
    settle(catalog)
    return catalog


def test_other_regions_are_to_take_over_what_changes_here_until_they_have() -> None:
    catalog = global_table(an_index("one"))
    run(catalog, "update_table", {"name": "T", "index_add": an_index("two")})
    settle(catalog)
    fill(catalog, "two")
    run(catalog, "update_table", {"name": "T", "index_remove": "one", "deletion_protection": True})
    settle(catalog)
    added, removed = the_table(catalog).index_news
    assert (added.change["index_add"]["name"], added.regions) == ("two", ("eu", "ap"))
    assert removed.change == {"index_remove": "one"}
    run(catalog, "index_told", {"name": "T", "region": "eu", "revision": added.revision})
    assert [news.regions for news in the_table(catalog).index_news] == [("ap",), ("eu", "ap")]
    run(catalog, "drop_replica", {"name": "T", "region": "ap"})
    assert [news.regions for news in the_table(catalog).index_news] == [("eu",)]
    run(catalog, "index_told", {"name": "T", "region": "eu", "revision": removed.revision})
    assert the_table(catalog).index_news == ()


def test_a_change_that_another_region_asks_for_is_not_passed_on() -> None:
    catalog = global_table()
    body = {"name": "T", "table_id": "t", "as_replica": True, "index_add": an_index("one")}
    run(catalog, "update_table", body)
    assert the_table(catalog).index_news == ()
    assert refused(catalog, "update_table", {**body, "table_id": "other"})[0] == "ResourceNotFoundException"


def test_changes_that_no_region_takes_over_are_bounded() -> None:
    catalog = global_table()
    for _ in range(NEWS_MAX // 2):
        run(catalog, "update_table", {"name": "T", "index_add": an_index("one")})
        settle(catalog)
        run(catalog, "update_table", {"name": "T", "index_remove": "one"})
        settle(catalog)
    assert refused(catalog, "update_table", {"name": "T", "index_add": an_index("one")})[0] == "LimitExceededException"
