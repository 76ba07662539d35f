"""A client's copy of the catalog: mappings and functions."""

from __future__ import annotations

from typing import Any

from geodyne.messages import Watched
from geodyne.rpc.catalogview import CatalogView


def told(view: CatalogView, revision: int, *records: tuple[str, dict[str, Any] | None], full: bool = False) -> None:
    view.apply(Watched(revision, full, records, 0, (), 0, ()))


def test_mappings_and_functions_follow_the_catalog() -> None:
    view = CatalogView()
    told(view, 1, ("mapping/a", {"n": 1}), ("mapping/b", {"n": 2}), ("function/f", {"n": 3}), ("member/x", {}))
    assert (view.mappings, view.functions) == ({"a": {"n": 1}, "b": {"n": 2}}, {"f": {"n": 3}})
    told(view, 2, ("mapping/a", None), ("function/g", {"n": 4}))
    assert (view.mappings, view.functions) == ({"b": {"n": 2}}, {"f": {"n": 3}, "g": {"n": 4}})


def test_they_are_the_same_objects_until_one_of_them_changes() -> None:
    view = CatalogView()
    told(view, 1, ("mapping/a", {"n": 1}), ("function/f", {}))
    mappings, functions = view.mappings, view.functions
    told(view, 2, ("function/g", {}))
    assert view.mappings is mappings
    assert view.functions is not functions


def test_a_full_answer_replaces_everything() -> None:
    view = CatalogView()
    told(view, 1, ("mapping/a", {}), ("function/f", {}))
    told(view, 2, ("mapping/b", {}), full=True)
    assert (view.mappings, view.functions) == ({"b": {}}, {})
