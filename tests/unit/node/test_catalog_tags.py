"""Tags in the catalog: merged by key, bounded, and no change of the table's definition."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.catalog import TableStatus
from geodyne.errors import ApiError
from geodyne.limits import TAGS_MAX
from node.catalog.machine import Catalog, evaluate
from tests.unit.node.test_catalog import AROUND, run, table_made


def tag(catalog: Catalog, **change: Any) -> None:
    run(catalog, "tag_table", {"name": "T", **change})


def test_tags_are_merged_and_leave_the_definition_alone() -> None:
    catalog = table_made()
    before = catalog.tables["T"]
    tag(catalog, add={"a": "1", "b": "2"}, remove=[])
    tag(catalog, add={"a": "3"}, remove=["b", "absent"])
    after = catalog.tables["T"]
    assert after.tags == {"a": "3"}
    assert (after.status, after.revision) == (TableStatus.ACTIVE, before.revision)


def test_tags_that_are_there_already_change_nothing() -> None:
    catalog = table_made()
    tag(catalog, add={"a": "1"})
    changes, _ = evaluate(catalog, "tag_table", {"name": "T", "add": {"a": "1"}, "remove": ["x"]}, AROUND)
    assert changes == []


def test_no_race_brings_a_table_more_tags_than_it_may_have() -> None:
    catalog = table_made()
    tag(catalog, add={str(number): "" for number in range(TAGS_MAX)})
    with pytest.raises(ApiError, match="Number of Tags exceed"):
        tag(catalog, add={"one": "more"})
    assert len(catalog.tables["T"].tags) == TAGS_MAX


@pytest.mark.parametrize(
    ("body", "code"),
    [({"table_id": "other"}, "ResourceNotFoundException"), ({"deleting": True}, "ResourceInUseException")],
)
def test_tags_belong_to_the_table_that_was_meant(body: dict[str, Any], code: str) -> None:
    catalog = table_made()
    if body.pop("deleting", False):
        run(catalog, "delete_table", {"name": "T"})
    with pytest.raises(ApiError) as caught:
        tag(catalog, add={"a": "1"}, **body)
    assert caught.value.kind.code == code
