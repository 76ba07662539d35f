"""Broken nodes, each with one rule taken out: a scenario must see every one of them. Whole runs: test_sim_mutations.

A simulation that passes proves something only if it fails when it should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.errors import ApiError
from geodyne.sim.network import Violation
from node import scans
from node.catalog.keeper import CatalogKeeper
from node.group import Asker, Group
from node.raft.core import ConsensusViolation
from node.service import NodeService
from node.transfer import SnapshotTransfers
from tests.sim import mutations
from tests.sim import test_scenarios as scenes
from tests.sim import test_table_scenarios as tables

Mutation = Callable[[], AbstractContextManager[Any]]
Hunt = Callable[[Path], object]
SEEN = (Violation, ConsensusViolation, AssertionError, TimeoutError, ApiError, IndexError)


def admit_whoever_was_serving() -> AbstractContextManager[Any]:
    real = Group.admit

    def admit(group: Group, asker: Asker, again: Callable[[], None]) -> bool:
        return group.serving or real(group, asker, again)

    return patch.object(Group, "admit", admit)


@contextmanager
def pages_do_not_wait() -> Iterator[None]:
    class Scan(scans._Scan):
        __slots__ = ()

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.index = 0

    with patch.object(scans, "_Scan", Scan):
        yield


def isolated_leader(path: Path) -> None:
    for seed in range(1, 5):
        (path / str(seed)).mkdir()
        scenes.test_an_isolated_leader_does_not_answer_strong_reads_once_another_may_lead(path / str(seed), seed)


MUTATIONS: dict[str, tuple[Mutation, Hunt]] = {
    "resent writes are done again": (
        mutations.resent_writes_are_done_again,
        lambda path: scenes.test_a_write_whose_answer_died_with_the_leader_is_not_done_again(path, False),
    ),
    "the window is forgotten at a restart": (
        mutations.the_window_is_forgotten_at_restarts,
        scenes.test_a_resent_write_is_recognised_by_a_leader_that_was_built_from_a_snapshot_and_restarted,
    ),
    "snapshots come without the window": (
        mutations.snapshots_come_without_the_window,
        scenes.test_a_resent_write_is_recognised_by_a_leader_that_was_built_from_a_snapshot_and_restarted,
    ),
    "leases never end": (mutations.leases_never_end, isolated_leader),
    "reads are answered without a lease": (mutations.reads_do_not_look_at_the_lease, isolated_leader),
    "reads see what is not committed": (
        mutations.reads_see_what_is_not_committed,
        scenes.test_an_answer_that_rests_on_an_uncommitted_image_waits_for_its_commit,
    ),
    "writes are answered before they are committed": (
        mutations.writes_are_answered_before_they_are_committed,
        scenes.test_an_answer_that_rests_on_an_uncommitted_image_waits_for_its_commit,
    ),
    "refusals do not wait for what they rest on": (
        mutations.refusals_do_not_wait,
        scenes.test_an_answer_that_rests_on_an_uncommitted_image_waits_for_its_commit,
    ),
    "whoever waits at a leader that lost is forgotten": (
        lambda: patch.object(Group, "_stop_serving", lambda group: setattr(group, "serving", False)),
        scenes.test_a_leader_that_lost_tells_unknown_of_what_it_logged_and_not_leader_of_the_rest,
    ),
    "a leader that lost in this turn still evaluates": (
        admit_whoever_was_serving,
        scenes.test_calls_in_the_turn_that_ends_a_leadership_are_sent_on_and_do_not_end_the_node,
    ),
    "strong pages read what is applied": (
        pages_do_not_wait,
        scenes.test_a_strong_page_waits_for_what_was_committed_when_it_was_asked_for,
    ),
    "the disk lies": (mutations.disk_lies, scenes.test_acknowledged_writes_survive_a_power_cut_of_all_three_zones),
    "the marker binds only once it is applied": (
        lambda: patch.object(
            Group,
            "_definition",
            property(lambda group: group.state.definition, lambda group, value: None),
            create=True,
        ),
        tables.test_a_deletion_behind_an_unapplied_marker_keeps_its_tombstone,
    ),
    "control operations overtake each other": (
        lambda: patch.object(
            CatalogKeeper, "_in_flight", property(lambda keeper: (0, 0), lambda keeper, value: None), create=True
        ),
        tables.test_two_control_operations_never_share_a_revision,
    ),
    "queued control operations are forgotten": (
        lambda: patch.object(NodeService, "_retry_controls", lambda service: None),
        tables.test_control_operations_queued_behind_another_are_answered_when_the_leadership_ends,
    ),
    "parked calls die with the table": (
        lambda: patch.object(Group, "abandon", lambda group, answer: None),
        tables.test_whoever_waits_at_a_table_that_is_deleted_is_told,
    ),
    "a snapshot is installed into a replica that is gone": (
        lambda: patch.object(SnapshotTransfers, "forget", lambda transfers, partition: None),
        scenes.test_a_table_is_deleted_while_a_snapshot_of_it_is_installed,
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_node_is_caught(name: str, tmp_path: Path) -> None:
    mutation, hunt = MUTATIONS[name]
    with mutation(), pytest.raises(SEEN):
        hunt(tmp_path)
