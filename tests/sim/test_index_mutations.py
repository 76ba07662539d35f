"""Global indexes with one rule broken: some scenario must notice, or the scenarios are worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.messages import ApplyIndex, FeedPage, FeedRecord, IndexEntry, Item
from geodyne.sim.network import Violation
from node import applying, group
from node.indexes import maintainer
from node.indexes.entries import differences
from node.indexes.maintainer import Maintainer
from node.indexes.sources import BatchStanding
from node.state import IndexDefinition, IndexSource
from tests.sim import test_index_scenarios as scenes

Mutation = Callable[[], AbstractContextManager[Any]]
Hunt = Callable[[Path], object]


def standing_by(rule: Callable[[ApplyIndex, IndexSource], BatchStanding]) -> Mutation:
    return lambda: patch.object(group, "standing", rule)


def unfenced(call: ApplyIndex, known: IndexSource) -> BatchStanding:
    return BatchStanding.REPEATED if (call.term, call.number) == (known.term, known.number) else BatchStanding.NEWS


def unnumbered(call: ApplyIndex, known: IndexSource) -> BatchStanding:
    return BatchStanding.FENCED if call.term < known.term else BatchStanding.NEWS


def nothing_removed() -> AbstractContextManager[Any]:
    def without(index: IndexDefinition, record: FeedRecord, old: Item | None, new: Item | None) -> Iterator[IndexEntry]:
        return (entry for entry in differences(index, record, old, new) if entry.image is not None)

    return patch.object(maintainer, "differences", without)


def cursor_runs_ahead() -> AbstractContextManager[Any]:
    """What has been read counts as passed."""
    real = Maintainer._read

    def read(self: Maintainer) -> FeedPage:
        page = real(self)
        if page.records:
            self._pass(page)
            self._commit()
        return page

    return patch.object(Maintainer, "_read", read)


def many_deaths(path: Path) -> None:
    for seed in range(1, 7):
        for victim in ("table", "index"):
            (path / f"{victim}-{seed}").mkdir()
            scenes.test_leaders_die_while_entries_are_on_their_way(path / f"{victim}-{seed}", victim, seed)


def rows_of_the_backfill(path: Path) -> None:
    scenes.test_an_index_that_comes_later_is_filled_while_items_change(path)


MUTATIONS: dict[str, tuple[Mutation, Hunt]] = {
    "a deposed leader is not fenced": (
        standing_by(unfenced),
        lambda path: scenes.test_a_batch_that_comes_late_changes_nothing(path, True),
    ),
    "batches are not numbered": (
        standing_by(unnumbered),
        lambda path: scenes.test_a_batch_that_comes_late_changes_nothing(path, False),
    ),
    "what was taken is taken again": (
        lambda: patch.object(group, "news", lambda call, known: iter(call.entries)),
        scenes.test_an_entry_never_goes_back_in_time,
    ),
    "old entries stay": (nothing_removed, scenes.test_entries_follow_the_items_and_the_feed_is_trimmed),
    "the cursor is committed over what was not sent": (cursor_runs_ahead, many_deaths),
    "an index is reported filled without its rows": (
        lambda: patch.object(Maintainer, "_fill_some", Maintainer._report_filled),
        rows_of_the_backfill,
    ),
    "a record is passed before the catalog names the index": (
        lambda: patch.object(Maintainer, "_look_up_targets", _look_up_at_once),
        scenes.test_a_leader_whose_catalog_is_old_passes_nothing,
    ),
    "a source is not part of the state": (
        lambda: patch.object(applying, "source_of", lambda message: (message.source, IndexSource())),
        scenes.test_what_a_partition_of_an_index_has_taken_survives_its_leaders,
    ),
}


def _look_up_at_once(self: Maintainer) -> bool:
    state = self._group.state
    table = self._host.table_of(self._group.partition)
    assert table is not None
    pairs = [(definition, table.index(definition.name)) for definition in state.definition.global_indexes]
    self._targets = tuple(maintainer.Target(definition, record) for definition, record in pairs if record is not None)
    return True


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_index_is_caught(name: str, tmp_path: Path) -> None:
    mutation, hunt = MUTATIONS[name]
    with mutation(), pytest.raises((Violation, AssertionError)):
        hunt(tmp_path)
