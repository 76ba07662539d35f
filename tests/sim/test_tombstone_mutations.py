"""Deliberate faults in promises and the collection of tombstones, each of which a scenario must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.messages import AdvanceCursor, FeedPage, ReadFeed
from geodyne.sim.network import Violation
from node.applying import Outcome
from node.entries import Decided
from node.feed import pages, tombstones
from node.feed.tombstones import TombstoneDuty
from node.formatmark import FormatMark
from node.group import Group
from node.state import GroupState
from node.window import Window
from tests.sim import test_tombstone_scenarios as scenes


def a_promise_binds_one_leader() -> AbstractContextManager[object]:
    def promise(state: GroupState, us: int) -> None:
        state.safe_us = max(state.safe_us, us)

    return patch.object(GroupState, "promise", promise)


@contextmanager
def forgotten_at_a_start(name: str, nothing: object) -> Iterator[None]:
    real = GroupState.from_bytes

    def from_bytes(data: bytes) -> GroupState:
        state = real(data)
        setattr(state, name, nothing)
        return state

    with patch.object(GroupState, "from_bytes", staticmethod(from_bytes)):
        yield


def not_yet_in_the_other_region() -> AbstractContextManager[object]:
    return patch.object(tombstones, "_passed", lambda group, head: True)


def whatever_was_found_goes() -> AbstractContextManager[object]:
    return patch.object(tombstones, "_still_deleted", lambda group, key, version: True)


@contextmanager
def without_marks() -> Iterator[None]:
    real = Group.collect

    def collect(group: Group, going: Any, arrived: Any, wall_us: int) -> None:
        real(group, going, (), wall_us)

    with patch.object(Group, "collect", collect):
        yield


@contextmanager
def as_soon_as_they_are_old() -> Iterator[None]:
    """The leader's promise is taken for what has arrived everywhere."""
    real = TombstoneDuty.hear

    def hear(duty: TombstoneDuty, group: Group, call: AdvanceCursor) -> None:
        real(duty, group, call._replace(stable_us=group.state.safe_us))

    with patch.object(TombstoneDuty, "hear", hear):
        yield


@contextmanager
def collected_by_the_leader_alone() -> Iterator[None]:
    real = Outcome.apply
    leaders: dict[int, Window] = {}  # of each entry: whoever applies it first

    def apply(outcome: Outcome, state: GroupState, window: Window, decided: Decided) -> None:
        if decided.payload.collected and leaders.setdefault(decided.payload.wall_us, window) is not window:
            payload = type(decided.payload).FromString(decided.payload.SerializeToString())
            payload.ClearField("collected")
            decided = decided._replace(payload=payload)
        real(outcome, state, window, decided)

    with patch.object(Outcome, "apply", apply):
        yield


def directory_is_not_marked() -> AbstractContextManager[object]:
    return patch.object(FormatMark, "entries", lambda mark, entries: None)


@contextmanager
def every_page_promises() -> Iterator[None]:
    real = pages.read_page

    def read_page(store: Any, state: GroupState, call: ReadFeed, late: bool) -> FeedPage | None:
        page = real(store, state, call, late)
        return page._replace(safe_us=state.safe_us) if page is not None and not page.trimmed else page

    with patch("node.calls.read_page", read_page), patch.object(pages, "read_page", read_page):
        yield


FAULTS: dict[str, tuple[Callable[[], AbstractContextManager[object]], Callable[[Path], object]]] = {
    "a promise binds one leader": (
        a_promise_binds_one_leader,
        lambda path: scenes.test_the_next_leader_keeps_what_one_promised_whose_clock_is_ahead(path, False),
    ),
    "marks are forgotten at a start": (
        lambda: forgotten_at_a_start("arrived", {}),
        scenes.test_a_late_duplicate_of_a_collected_item_is_refused_by_each_later_leader,
    ),
    "a snapshot has no marks": (
        lambda: forgotten_at_a_start("arrived", {}),
        scenes.test_a_replica_that_a_snapshot_built_refuses_it_as_well,
    ),
    "no marks are logged": (
        without_marks,
        scenes.test_a_late_duplicate_of_a_collected_item_is_refused_by_each_later_leader,
    ),
    "not yet in the other region": (
        not_yet_in_the_other_region,
        scenes.test_the_tombstone_of_an_expired_item_stays_until_the_other_region_has_it,
    ),
    "whatever was found goes": (
        whatever_was_found_goes,
        scenes.test_an_item_that_is_written_again_when_its_tombstone_is_about_to_go_stays,
    ),
    "as soon as they are old": (
        as_soon_as_they_are_old,
        scenes.test_while_something_older_of_the_other_region_is_on_its_way_a_tombstone_stays,
    ),
    "collected by the leader alone": (
        collected_by_the_leader_alone,
        lambda path: scenes.under_faults(path, 1, kills=0),
    ),
    "the directory is not marked": (
        directory_is_not_marked,
        scenes.test_while_the_other_region_reads_nothing_every_newer_tombstone_stays,
    ),
    "every page promises": (every_page_promises, scenes.test_a_page_that_does_not_reach_the_end_promises_nothing),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_node_that_breaks_the_rule_is_found_out(tmp_path: Path, fault: str) -> None:
    broken, hunt = FAULTS[fault]
    with broken(), pytest.raises((Violation, AssertionError)):
        hunt(tmp_path)
