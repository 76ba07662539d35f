"""Functions and event source mappings in the catalog: their states, their bookmarks, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.catalog import MappingState, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.triggers.functions import HTTP, FunctionSpec
from geodyne.triggers.mapping import LATEST, TRIM_HORIZON, Mapping
from node.catalog import triggers
from node.catalog.controller import plan
from node.catalog.machine import ACTIVATE, MAPPING_SETTLED, Catalog, Surroundings, evaluate
from node.catalog.placement import rings_by_zone
from node.state import definition_of

REGION = "us-east-1"
NOW_MS = 1_790_000_000_000
LABEL = "label"
DEFINITION = {"hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None, "stream_view": "KEYS_ONLY"}


class Region:
    """A catalog with tables T and U that have streams, and the functions f and g."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.ids = 0
        self.around = Surroundings(
            region=REGION,
            now_ms=NOW_MS,
            placement=rings_by_zone({"n-a": "a", "n-b": "b", "n-c": "c"}),
            new_id=self._new_id,
            stream_label=lambda _ms: LABEL,
        )
        for name in ("T", "U"):
            self.run("create_table", definition={"name": name, **DEFINITION})
            self.run(ACTIVATE, name=name, revision=self.catalog.tables[name].revision)
        for name in ("f", "g"):
            self.run("put_function", function=FunctionSpec(name, HTTP, url="http://h").to_record())

    def _new_id(self) -> str:
        self.ids += 1
        return f"id-{self.ids}"

    def run(self, operation: str, **body: Any) -> dict[str, Any]:
        changes, answer = evaluate(self.catalog, operation, body, self.around)
        if changes:
            self.catalog.apply(self.catalog.revision + 1, changes)
        return answer

    def refused(self, operation: str, **body: Any) -> tuple[str, str | None]:
        with pytest.raises(ApiError) as caught:
            self.run(operation, **body)
        return caught.value.kind.code, caught.value.message

    def create(self, position: str = LATEST, *, table: str = "T", function: str = "f", **more: Any) -> dict[str, Any]:
        mapping = Mapping("", table, LABEL, function, position, **more)
        created: dict[str, Any] = self.run("create_mapping", mapping=mapping.to_record())["mapping"]
        return created

    def due(self, *, applied: bool = True) -> list[tuple[str, dict[str, Any]]]:
        """What the metadata leader would do about mappings once all partitions have applied what is defined."""
        tables = self.catalog.tables.values()
        led = {p.id: table.revision if applied else 0 for table in tables for p in table.partitions}
        return [(name, body) for name, body in plan(self.catalog, led, NOW_MS) if name == MAPPING_SETTLED]

    def settle(self) -> None:
        for operation, body in self.due():
            self.run(operation, **body)

    def state(self, uuid: str) -> str | None:
        record = self.catalog.mappings.get(uuid)
        return record["state"] if record is not None else None

    @property
    def table(self) -> TableRecord:
        return self.catalog.tables["T"]


def test_a_mapping_is_enabled_once_all_partitions_have_its_bookmark() -> None:
    region = Region()
    revision = region.table.revision
    mapping = region.create()
    assert mapping["state"] == MappingState.CREATING
    assert region.table.bookmarks == (Mapping.from_record(mapping).bookmark,)
    assert region.table.status is TableStatus.ACTIVE, "the table goes on being used meanwhile"
    assert region.table.revision > revision
    assert definition_of(region.table, REGION).bookmarks == region.table.bookmarks
    assert region.due(applied=False) == []
    region.settle()
    assert region.state(mapping["uuid"]) == MappingState.ENABLED
    assert region.due() == []


@pytest.mark.parametrize(("position", "prefix"), [(LATEST, "trigger/"), (TRIM_HORIZON, "trigger-oldest/")])
def test_the_bookmark_says_where_it_begins(position: str, prefix: str) -> None:
    region = Region()
    mapping = region.create(position)
    assert region.table.bookmarks == (prefix + mapping["uuid"],)


def test_a_mapping_may_be_made_disabled() -> None:
    region = Region()
    mapping = region.create(enabled=False)
    region.settle()
    assert region.state(mapping["uuid"]) == MappingState.DISABLED


def test_while_a_change_is_under_way_the_next_one_is_refused() -> None:
    region = Region()
    uuid = region.create()["uuid"]
    for operation, doing in (("update_mapping", "update"), ("delete_mapping", "delete")):
        code, message = region.refused(operation, uuid=uuid, mapping={})
        assert (code, message) == (
            "ResourceInUseException",
            f"Cannot {doing} the event source mapping because it is in use.",
        )


@pytest.mark.parametrize(
    ("change", "between", "then"),
    [
        ({"enabled": False}, MappingState.DISABLING, MappingState.DISABLED),
        ({"batch_size": 7}, MappingState.UPDATING, MappingState.ENABLED),
        ({"function": "g"}, MappingState.UPDATING, MappingState.ENABLED),
    ],
)
def test_a_change_keeps_the_bookmark_and_all_that_it_does_not_name(
    change: dict[str, Any], between: MappingState, then: MappingState
) -> None:
    region = Region()
    before = region.create(max_retries=3)
    region.settle()
    table = region.table
    changed = region.run("update_mapping", uuid=before["uuid"], mapping=change)["mapping"]
    assert changed["state"] == between
    assert Mapping.from_record(changed).to_record() == {**Mapping.from_record(before).to_record(), **change}
    region.settle()
    assert region.state(before["uuid"]) == then
    assert region.table == table


def test_a_disabled_mapping_is_enabled_again() -> None:
    region = Region()
    uuid = region.create(enabled=False)["uuid"]
    region.settle()
    assert region.run("update_mapping", uuid=uuid, mapping={"enabled": True})["mapping"]["state"] == "Enabling"
    region.settle()
    assert region.state(uuid) == MappingState.ENABLED


def test_a_deleted_mapping_goes_with_its_bookmark_and_stops_at_once() -> None:
    region = Region()
    kept, gone = region.create(), region.create(function="g")
    region.settle()
    deleted = region.run("delete_mapping", uuid=gone["uuid"])["mapping"]
    assert (deleted["state"], deleted["enabled"]) == (MappingState.DELETING, False)
    assert region.table.bookmarks == (Mapping.from_record(kept).bookmark,)
    assert region.due(applied=False) == []
    region.settle()
    assert list(region.catalog.mappings) == [kept["uuid"]]


def test_a_settling_that_comes_late_changes_nothing() -> None:
    region = Region()
    uuid = region.create()["uuid"]
    late = region.due()
    region.settle()
    region.run("update_mapping", uuid=uuid, mapping={"batch_size": 9})
    for operation, body in late:
        region.run(operation, **body)
    assert region.state(uuid) == MappingState.UPDATING


def test_a_mapping_outlives_its_table_and_can_be_deleted() -> None:
    region = Region()
    uuid = region.create()["uuid"]
    region.settle()
    region.run("delete_table", name="T")
    region.run("forget", name="T", id=region.table.id)
    region.run("create_table", definition={"name": "T", **DEFINITION})
    assert region.state(uuid) == MappingState.ENABLED
    region.run("delete_mapping", uuid=uuid)
    assert region.table.bookmarks == ()
    region.settle()
    assert region.state(uuid) is None


def test_a_stream_and_a_function_are_mapped_once() -> None:
    region = Region()
    uuid = region.create()["uuid"]
    again = Mapping("", "T", LABEL, "f", TRIM_HORIZON).to_record()
    assert region.refused("create_mapping", mapping=again) == ("ResourceConflictException", uuid)
    region.create(table="U")
    other = region.create(function="g")["uuid"]
    region.settle()
    change = {"function": "f"}
    assert region.refused("update_mapping", uuid=other, mapping=change) == ("ResourceConflictException", uuid)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"table": "none"}, "TableNotFoundException"),
        ({"stream_label": "none"}, "TableNotFoundException"),
        ({"function": "none"}, "ResourceNotFoundException"),
    ],
)
def test_stream_and_function_must_exist(changed: dict[str, str], code: str) -> None:
    region = Region()
    mapping = {**Mapping("", "T", LABEL, "f", LATEST).to_record(), **changed}
    assert region.refused("create_mapping", mapping=mapping)[0] == code
    assert region.catalog.mappings == {}


def test_a_table_that_is_being_deleted_has_no_stream_to_map() -> None:
    region = Region()
    region.run("delete_table", name="T")
    mapping = Mapping("", "T", LABEL, "f", LATEST).to_record()
    assert region.refused("create_mapping", mapping=mapping)[0] == "TableNotFoundException"


def test_mappings_and_functions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    region = Region()
    region.create()
    monkeypatch.setattr(triggers, "MAPPINGS_OF_A_TABLE_MAX", 1)
    other = Mapping("", "T", LABEL, "g", LATEST).to_record()
    assert region.refused("create_mapping", mapping=other)[0] == "LimitExceededException"
    monkeypatch.setattr(triggers, "FUNCTIONS_MAX", 2)
    function = FunctionSpec("h", HTTP, url="http://h").to_record()
    assert region.refused("put_function", function=function)[0] == "LimitExceededException"
    region.run("put_function", function={**function, "name": "g"})


def test_a_result_is_kept_and_news_of_nothing_changes_nothing() -> None:
    region = Region()
    uuid = region.create()["uuid"]
    region.run("mapping_result", uuid=uuid, result="OK")
    revision = region.catalog.revision
    region.run("mapping_result", uuid=uuid, result="OK")
    region.run("mapping_result", uuid="none", result="OK")
    assert (region.catalog.mappings[uuid]["result"], region.catalog.revision) == ("OK", revision)


def test_a_function_in_use_is_deleted_only_by_force() -> None:
    region = Region()
    uuid = region.create()["uuid"]
    code, message = region.refused("delete_function", name="f")
    assert (code, message) == ("ResourceInUseException", f"Function f is used by the mappings {uuid}")
    region.run("delete_function", name="f", force=True)
    region.run("delete_function", name="g")
    assert region.run("function_list") == {"functions": []}
    assert region.refused("delete_function", name="f")[0] == "ResourceNotFoundException"


def test_a_catalog_that_is_restored_has_mappings_and_functions() -> None:
    region = Region()
    region.create()
    revision = region.catalog.revision
    _, records = region.catalog.since(0)
    restored = Catalog()
    restored.restore(revision, {key: (revision, record) for key, record in records if record is not None})
    assert (restored.mappings, restored.functions) == (region.catalog.mappings, region.catalog.functions)
