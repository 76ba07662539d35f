"""Counts of items: published by leaders, only when they change, and told to whoever does not know them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from geodyne.messages import Count, Watched
from geodyne.rpc.catalogview import CatalogView
from node.catalog import counts as module
from node.catalog.counts import Counts
from node.group import Group
from node.storage.sqlite import StateStore

STORE = cast(StateStore, SimpleNamespace(entry_counts=lambda partition: {2: (1, 10), 1: (3, 30)}))


def group(partition: int, items: int, *, serving: bool = True, indexed: bool = False) -> Group:
    state = SimpleNamespace(items=items, bytes=items * 10)
    held = SimpleNamespace(
        partition=partition, serving=serving, state=state, local_indexes=object() if indexed else None
    )
    return cast(Group, held)


def test_what_changed_is_published_once_and_told_to_those_who_know_less() -> None:
    counts = Counts()
    groups = {1: group(1, 5), 2: group(2, 7)}
    assert not counts.publish(groups.get, STORE)
    counts.touch(1)
    counts.touch(2)
    assert counts.publish(groups.get, STORE)
    first = counts.version
    assert counts.since(0, (1, 2)) == (Count(1, 0, 5, 50), Count(2, 0, 7, 70))
    groups[2] = group(2, 8)
    counts.touch(1)
    counts.touch(2)
    assert counts.publish(groups.get, STORE)
    assert counts.since(first, (1, 2)) == (Count(2, 0, 8, 80),)
    assert counts.since(counts.version, (1, 2)) == ()
    counts.touch(2)
    assert not counts.publish(groups.get, STORE)


def test_only_a_leader_tells_and_one_that_leads_again_tells_anew() -> None:
    counts = Counts()
    groups = {1: group(1, 5)}
    counts.touch(1)
    counts.publish(groups.get, STORE)
    known = counts.version
    assert counts.since(0, ()) == ()
    counts.forget(1)  # another leads, publishes something else ...
    counts.forget(1)  # ... and no longer leads
    assert counts.publish(groups.get, STORE)
    assert counts.since(known, (1,)) == (Count(1, 0, 5, 50),)
    groups[1] = group(1, 6, serving=False)
    counts.touch(1)
    assert not counts.publish(groups.get, STORE)


def test_entries_of_local_indexes_are_counted_by_slot() -> None:
    counts = Counts()
    counts.touch(1)
    counts.publish({1: group(1, 5, indexed=True)}.get, STORE)
    assert counts.since(0, (1,)) == (Count(1, 0, 5, 50), Count(1, 1, 3, 30), Count(1, 2, 1, 10))


def test_one_step_looks_at_a_bounded_number_of_partitions(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "PUBLISHED_MAX", 2)
    counts = Counts()
    groups = {number: group(number, number) for number in range(1, 4)}
    for number in groups:
        counts.touch(number)
    assert counts.publish(groups.get, STORE)
    assert len(counts.since(0, groups)) == 2
    assert counts.publish(groups.get, STORE)
    assert len(counts.since(0, groups)) == 3


def test_a_client_knows_what_it_was_told_until_the_partition_is_gone() -> None:
    def table(partition: int) -> dict[str, Any]:
        record = {"id": partition, "epoch": 1, "low": "0", "high": "1" + "0" * 16, "voters": ["n"]}
        members = {"name": "t", "id": "i", "status": "ACTIVE", "revision": 1, "created_ms": 0, "hash_key": "pk"}
        rest = {"hash_type": "S", "range_key": None, "range_type": None, "billing_mode": "PAY_PER_REQUEST"}
        return {**members, **rest, "read_units": 0, "write_units": 0, "partitions": [record]}

    view = CatalogView()
    assert view.counts(3) == Count(3, 0, 0, 0)
    view.counted((Count(3, 0, 5, 50), Count(3, 1, 2, 20), Count(9, 0, 1, 1)))
    view.apply(Watched(1, True, (("table/t", table(3)),), 0, ()))
    assert (view.counts(3).items, view.counts(3, 1).bytes, view.counts(9).items) == (5, 20, 1)
    view.apply(Watched(2, True, (("table/t", table(4)),), 0, ()))
    assert view.counts(3) == Count(3, 0, 0, 0)
    assert view.counts(9).items == 1  # ahead of this copy of the catalog
