"""What a write costs in an index, by what becomes of its entry."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from geodyne.messages import Item
from geodyne.model.indexcost import index_write_units
from geodyne.model.indexkeys import IndexSchema
from geodyne.model.keys import KeySchema

TABLE = KeySchema("pk", "S")


class Kept(NamedTuple):
    name: str
    schema: IndexSchema
    projection: str
    included: tuple[str, ...] = ()


BY_COLOR = Kept("by-color", IndexSchema((("color", "S"),), (), TABLE), "INCLUDE", ("note",))


def item(color: str | None, note: str = "", other: str = "") -> Item:
    made: Item = {"pk": {"S": "p"}, "note": {"S": note}, "other": {"S": other}}
    return made if color is None else {**made, "color": {"S": color}}


KB = "x" * 1024


@pytest.mark.parametrize(
    ("old", "new", "units"),
    [
        (None, item("red"), 1),
        (None, item(None), 0),
        (item("red"), None, 1),
        (item(None), None, 0),
        (item(None), item("red"), 1),
        (item("red"), item(None), 1),
        (item("red"), item("blue"), 2),
        (item("red", "a"), item("red", "b"), 1),
        (item("red", other="a"), item("red", other="b"), 0),
        (item("red"), item("red"), 0),
        (None, None, 0),
        (None, item("red", KB), 2),
        (item("red", KB), None, 2),
        (item("red", KB), item("red", "b"), 2),  # the larger of the two
        (item("red", "b"), item("red", KB * 2), 3),
        (item("red", KB), item("blue", "b"), 3),  # the old one goes, the new one comes
        (None, item("red", other=KB), 1),  # what the index does not keep costs it nothing
    ],
)
def test_a_write_pays_for_what_becomes_of_its_entry(old: Item | None, new: Item | None, units: int) -> None:
    assert index_write_units([BY_COLOR], old, new) == ((("by-color", units),) if units else ())


def test_each_index_pays_for_itself() -> None:
    keys_only = BY_COLOR._replace(name="keys", projection="KEYS_ONLY")
    whole = BY_COLOR._replace(name="whole", projection="ALL")
    old, new = item("red", other="a"), item("red", other=KB)
    assert index_write_units([keys_only, whole, BY_COLOR], old, new) == (("whole", 2),)
