"""Broken nodes, each with one rule taken out: the schedules and scenarios must see every one of them.

A simulation that passes proves something only if it fails when it should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.errors import ApiError
from geodyne.messages import Answer, Found, Write, WriteId
from geodyne.sim import storage
from geodyne.sim.network import Violation
from geodyne.sim.schedule import run_schedule
from node import groups, scans, transfer
from node.catalog.keeper import CatalogKeeper
from node.group import Asker, Group
from node.raft.core import ConsensusViolation, Raft
from node.raft.leadership import Leadership
from node.service import NodeService
from node.storage.port import Row
from node.storage.sqlite_entries import EntryChanges
from node.storage.sqlite_snapshots import Import
from node.storage.wal_sync import SyncJob
from node.transfer import SnapshotTransfers
from node.window import Window
from tests.sim import test_scenarios as scenes
from tests.sim import test_table_scenarios as tables

Mutation = Callable[[], AbstractContextManager[Any]]
Hunt = Callable[[Path], object]
SEEN = (Violation, ConsensusViolation, AssertionError, TimeoutError, ApiError, IndexError)


def read_uncommitted() -> AbstractContextManager[Any]:
    def look_up(group: Group, key: bytes) -> Found:
        pending = group._overlay.newest(key)
        row = pending.row if pending is not None else group._store.get(group.partition, key)
        return Found(None, 0) if row is None or row.value is None else Found(row.value, row.size)

    return patch.object(Group, "look_up", look_up)


def answer_before_commit() -> AbstractContextManager[Any]:
    real = Group.write

    def write(group: Group, call: Write, write_id: WriteId | None, asker: Asker, wall_us: int) -> None:
        real(group, call, write_id, asker, wall_us)
        for index in list(group._waiting):
            for waiting, answer in group._waiting.pop(index):
                waiting.answer(answer)

    return patch.object(Group, "write", write)


def answer_reads_unconfirmed() -> AbstractContextManager[Any]:
    def confirm_reads(group: Group, now_ms: Callable[[], int]) -> bool:
        reads, group._reads = group._reads, []
        for asker, answer in reads:
            asker.answer(answer)
        return False

    return patch.object(Group, "confirm_reads", confirm_reads)


def admit_whoever_was_serving() -> AbstractContextManager[Any]:
    real = Group.admit

    def admit(group: Group, asker: Asker, again: Callable[[], None]) -> bool:
        return group.serving or real(group, asker, again)

    return patch.object(Group, "admit", admit)


def answer_refusals_at_once() -> AbstractContextManager[Any]:
    def answer_after(group: Group, index: int, asker: Asker, answer: Answer) -> None:
        asker.answer(answer)

    return patch.object(Group, "_answer_after", answer_after)


@contextmanager
def pages_do_not_wait() -> Iterator[None]:
    class Scan(scans._Scan):
        __slots__ = ()

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.index = 0

    with patch.object(scans, "_Scan", Scan):
        yield


def disk_lies() -> AbstractContextManager[Any]:
    """What is reported durable is not."""

    def submit(syncer: storage._TimedSyncer, job: SyncJob) -> None:
        asyncio.get_running_loop().call_soon(lambda: syncer._disk.dead or syncer._landed(None))

    return patch.object(storage._TimedSyncer, "submit", submit)


def schedule(*seeds: int) -> Hunt:
    def hunt(path: Path) -> None:
        for seed in seeds:
            run_schedule(seed)

    return hunt


def isolated_leader(path: Path) -> None:
    for seed in range(1, 5):
        (path / str(seed)).mkdir()
        scenes.test_an_isolated_leader_does_not_answer_strong_reads_once_another_may_lead(path / str(seed), seed)


def old_entries_stay() -> AbstractContextManager[Any]:
    real = EntryChanges.change

    def change(changes: EntryChanges, key: bytes, old: Row | None, new: Row | None) -> None:
        real(changes, key, None, new)

    return patch.object(EntryChanges, "change", change)


MUTATIONS: dict[str, tuple[Mutation, Hunt]] = {
    "resent writes are done again": (
        lambda: patch.object(Group, "_answered_before", lambda group, write_id, asker: False),
        lambda path: scenes.test_a_write_whose_answer_died_with_the_leader_is_not_done_again(path, False),
    ),
    "the window is forgotten at a restart": (
        lambda: patch.object(groups, "_window", lambda *parts: Window()),
        scenes.test_a_resent_write_is_recognised_by_a_leader_that_was_built_from_a_snapshot_and_restarted,
    ),
    "snapshots come without the window": (
        lambda: patch.object(Import, "window", property(lambda importing: b"")),
        scenes.test_a_resent_write_is_recognised_by_a_leader_that_was_built_from_a_snapshot_and_restarted,
    ),
    "leases never end": (lambda: patch.object(Leadership, "lease_valid", lambda term, now_ms: True), isolated_leader),
    "reads are answered without a lease": (answer_reads_unconfirmed, isolated_leader),
    "reads see what is not committed": (
        read_uncommitted,
        scenes.test_an_answer_that_rests_on_an_uncommitted_image_waits_for_its_commit,
    ),
    "writes are answered before they are committed": (
        answer_before_commit,
        scenes.test_an_answer_that_rests_on_an_uncommitted_image_waits_for_its_commit,
    ),
    "refusals do not wait for what they rest on": (
        answer_refusals_at_once,
        scenes.test_an_answer_that_rests_on_an_uncommitted_image_waits_for_its_commit,
    ),
    "a new leader serves before it knows what was committed": (
        lambda: patch.object(Raft, "ready_to_serve", property(lambda raft: raft._leadership is not None)),
        scenes.test_a_new_leader_counts_on_from_what_the_dead_one_had_just_acknowledged,
    ),
    "whoever waits at a leader that lost is forgotten": (
        lambda: patch.object(Group, "_stop_serving", lambda group: setattr(group, "serving", False)),
        scenes.test_a_leader_that_lost_tells_unknown_of_what_it_logged_and_not_leader_of_the_rest,
    ),
    "a leader that lost in this turn still evaluates": (
        admit_whoever_was_serving,
        scenes.test_calls_in_the_turn_that_ends_a_leadership_are_sent_on_and_do_not_end_the_node,
    ),
    "the state runs ahead of the log": (
        lambda: patch.object(Group, "_appliable_index", property(lambda group: group.raft.commit_index)),
        schedule(1, 2, 3, 4),
    ),
    "strong pages read what is applied": (
        pages_do_not_wait,
        scenes.test_a_strong_page_waits_for_what_was_committed_when_it_was_asked_for,
    ),
    "the disk lies": (disk_lies, scenes.test_acknowledged_writes_survive_a_power_cut_of_all_three_zones),
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
    "entries of a local index outlive what they stood for": (old_entries_stay, schedule(1)),
    "an installed snapshot has no entries": (
        lambda: patch.object(transfer, "_indexes_of", lambda state: None),
        schedule(1, 2),
    ),
    "the sizes of item collections are forgotten": (
        lambda: patch.object(EntryChanges, "_count", lambda changes, entries, sizes, sign: 0),
        schedule(1),
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
