"""Three regions in situations that random faults seldom bring about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.catalog import DISASSOCIATION_PROTECTION, TO_COMPARE, LeavingStage, TableRecord
from geodyne.sim import network
from geodyne.sim.globalchecks import GlobalChecks, watched
from geodyne.sim.globalregions import TABLE, Regions, Shape, regions
from geodyne.sim.globalrun import compared
from geodyne.sim.globalworkload import KEYS, Writers
from geodyne.sim.items import key_of
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import Violation
from node.catalog import leaving, replicas
from node.feed import tombstones
from node.group import Group
from node.storage.port import Row
from replication import collecting, comparing
from replication import watermarks as marking
from replication.comparing import Comparing
from replication.tail import Tail
from replication.verify import Standing, Verifier

FIRST, SECOND, THIRD = "us-east-1", "eu-west-1", "ap-south-1"
STEADY_S = 60.0
LOOK_S = 0.5
Play = Callable[[Regions, GlobalChecks, Writers], Awaitable[None]]


def among_three(path: Path, play: Play) -> None:
    async def main() -> None:
        async with regions(1, path, Shape((1, 1, 1), 1 << 30), 60.0) as all_:
            checks = GlobalChecks(all_, KEYS)
            with watched(checks):
                writers = Writers(all_, 1, Counter())
                await writers.prepare(30.0)
                await play(all_, checks, writers)
                checks.check()

    run_simulated(main())


async def until(all_: Regions, what: Callable[[], object], within_s: float) -> None:
    end = all_.loop.time() + within_s
    while not what():
        if all_.loop.time() > end:
            raise Violation(f"not within {within_s} s; {all_.told()}")
        await all_.run_for(LOOK_S)


def watermarks(all_: Regions) -> list[int]:
    return [
        us
        for one in all_.replicators.values()
        if one.replicator is not None
        for us in one.replicator.status()["watermarks"].get(TABLE, {}).values()
    ]


def test_every_region_knows_watermarks_of_every_other_though_each_has_one_node(tmp_path: Path) -> None:
    async def play(all_: Regions, checks: GlobalChecks, writers: Writers) -> None:
        await until(all_, lambda: len(watermarks(all_)) == 6 and all(watermarks(all_)), 10.0)
        first = min(watermarks(all_))
        await until(all_, lambda: min(watermarks(all_)) > first + 3_000_000, 10.0)  # nothing is written meanwhile

    among_three(tmp_path, play)


@pytest.mark.parametrize("adds", [FIRST, THIRD])
def test_what_a_removed_region_had_sent_to_one_member_alone_reaches_all_once_it_is_back(
    tmp_path: Path, adds: str
) -> None:
    """Nobody sends it on before. Whoever adds the region, the member that has the item gives it back."""

    async def play(all_: Regions, checks: GlobalChecks, writers: Writers) -> None:
        first, second = all_.replicators[FIRST].id, all_.replicators[SECOND].id
        all_.world.block(first, second)
        all_.world.block(second, first)
        await writers.put(all_.by_name[SECOND], "k1", Random(1))
        await until(all_, lambda: not checks.difference(THIRD), 5.0)
        await all_.by_name[THIRD].control("update_table", {"name": TABLE, "replicas_remove": [SECOND]})
        await all_.until_steady([FIRST, THIRD], STEADY_S)
        all_.world.cut(first, second)  # and what was on its way is lost
        all_.world.heal()
        await all_.run_for(3.0)
        assert checks.difference(FIRST), "nothing was lost: the scenario shows nothing"
        await all_.by_name[adds].control("update_table", {"name": TABLE, "replicas_add": [SECOND]})
        await all_.until_steady([FIRST, SECOND, THIRD], STEADY_S)
        await until(all_, lambda: not any(checks.difference(name) for name in all_.by_name), 10.0)

    among_three(tmp_path, play)


# --- a region leaves, and the others forget it at different times


def nothing_is_fenced() -> AbstractContextManager[Any]:
    return patch.object(Tail, "set_fence", lambda self, fence_us: None)


def stage(all_: Regions, name: str) -> LeavingStage | None:
    table = all_.table(name)
    return table.leaving.stage if table is not None and table.leaving is not None else None


@pytest.mark.parametrize("fenced", [True, False])
def test_members_that_forget_a_leaving_region_at_different_times_have_the_same_of_it(
    tmp_path: Path, fenced: bool
) -> None:
    """The second goes on hearing it and is not heard, while the third has forgotten it already."""

    async def play(all_: Regions, checks: GlobalChecks, writers: Writers) -> None:
        leaving, first, second = all_.by_name[FIRST], all_.replicators[FIRST], all_.replicators[SECOND]
        await leaving.control("update_table", {"name": TABLE, "extra": {DISASSOCIATION_PROTECTION: False}})
        await leaving.control("update_table", {"name": TABLE, "leave": True})
        await until(all_, lambda: stage(all_, FIRST) is LeavingStage.FENCED, 30.0)
        table = all_.table(FIRST)
        assert table is not None
        assert table.leaving is not None
        through_us = table.leaving.through_us
        await all_.run_for((through_us - first.clock.wall_us()) / 1e6 - 1.0)
        all_.world.block(second.id, first.id)
        await writers.put(leaving, "k1", Random(1))  # goes to both: it is early enough
        await until(all_, lambda: stage(all_, FIRST) and THIRD not in all_.members_of(FIRST), 10.0)
        assert SECOND in all_.members_of(FIRST)
        await writers.put(leaving, "k2", Random(1))
        await all_.run_for(1.0)
        all_.world.heal()
        await until(all_, lambda: all_.steady([SECOND, THIRD], alone=FIRST), STEADY_S)
        rows = {name: checks.stored(name) for name in all_.by_name}
        early, late = key_of("k1"), key_of("k2")
        assert rows[SECOND][early] == rows[THIRD][early] == rows[FIRST][early]
        assert (rows[SECOND] == rows[THIRD]) == fenced
        assert (rows[SECOND].get(late) == rows[FIRST][late]) != fenced
        if fenced:
            await compared(all_, [SECOND, THIRD])

    with ExitStack() as stack:
        stack.enter_context(patch.object(network, "KEEPALIVE_S", 60.0))  # what is not answered goes on
        if not fenced:
            stack.enter_context(nothing_is_fenced())
            stack.enter_context(pytest.raises(Violation, match="leaves, and still sends"))
        among_three(tmp_path, play)


# --- a region is removed for ever, after some of what it wrote reached one of the others alone

COMPARED_S = 90.0  # the wait, a look, patience with what differs, and a second try if a replicator was killed


async def one_member_alone_hears(all_: Regions, checks: GlobalChecks, writers: Writers, *, deletes: bool) -> None:
    """The second region writes an item, only the third hears of it, and the third removes the second."""
    first, second = all_.replicators[FIRST].id, all_.replicators[SECOND].id
    all_.world.block(first, second)
    all_.world.block(second, first)
    checks.gone.add(SECOND)
    if deletes:
        await writers.delete(all_.by_name[SECOND], "k0")
    else:
        await writers.put(all_.by_name[SECOND], "k1", Random(1))
    await until(all_, lambda: not checks.difference(THIRD), 5.0)
    await all_.by_name[THIRD].control("update_table", {"name": TABLE, "replicas_remove": [SECOND]})
    await all_.until_steady([FIRST, THIRD], STEADY_S)
    all_.world.cut(first, second)
    all_.world.heal()
    await all_.run_for(1.0)
    assert checks.difference(FIRST), "nothing was lost: the scenario shows nothing"


def asked(all_: Regions) -> list[str]:
    """Regions whose catalog still asks for a comparison."""
    tables = [(name, all_.table(name)) for name in (FIRST, THIRD)]
    return [name for name, table in tables if table is not None and table.extra.get(TO_COMPARE)]


async def same_again(all_: Regions, checks: GlobalChecks, within_s: float = COMPARED_S) -> None:
    names = [FIRST, THIRD]
    await until(all_, lambda: not any(checks.difference(name) for name in names) and not asked(all_), within_s)
    await compared(all_, names)


@pytest.mark.parametrize("deletes", [False, True])
def test_what_a_region_removed_for_ever_had_sent_to_one_member_alone_reaches_the_other(
    tmp_path: Path, deletes: bool
) -> None:
    """No write of the item is needed, and a deletion is not forgotten meanwhile."""

    async def play(all_: Regions, checks: GlobalChecks, writers: Writers) -> None:
        await one_member_alone_hears(all_, checks, writers, deletes=deletes)
        assert asked(all_) == [FIRST, THIRD]
        await same_again(all_, checks)
        deleted = [checks.stored(name).get(key_of("k0")) for name in (FIRST, THIRD) if deletes]
        assert all(row is None or row.image is None for row in deleted)

    among_three(tmp_path, play)


def test_replicators_that_are_killed_do_not_forget_that_regions_are_to_be_compared(tmp_path: Path) -> None:
    async def play(all_: Regions, checks: GlobalChecks, writers: Writers) -> None:
        await one_member_alone_hears(all_, checks, writers, deletes=False)
        for name in (FIRST, THIRD):
            one = all_.replicators[name]
            one.kill()
            await one.buried()
            await one.start()
        await same_again(all_, checks)

    among_three(tmp_path, play)


def no_tombstones_are_kept_for_it() -> AbstractContextManager[Any]:
    def settled(table: TableRecord) -> bool:
        return marking.settled(replace(table, extra={}))

    return patch.object(collecting, "settled", settled)


@pytest.mark.parametrize("kept", [True, False])
def test_a_deletion_that_one_member_alone_heard_of_is_kept_until_regions_have_been_compared(
    tmp_path: Path, kept: bool
) -> None:
    """Else the other, which has the item still, would be taken for the one that is right."""

    async def play(all_: Regions, checks: GlobalChecks, writers: Writers) -> None:
        await one_member_alone_hears(all_, checks, writers, deletes=True)
        await all_.run_for(15.0)
        assert (key_of("k0") in checks.stored(THIRD)) == kept
        if kept:
            await same_again(all_, checks)

    with ExitStack() as stack:
        stack.enter_context(patch.object(comparing, "NEEDED_FIRST_MS", 30_000))
        stack.enter_context(patch.object(collecting, "TELL_EVERY_MS", 1_000))
        stack.enter_context(patch.object(tombstones, "REST_MS", 1_000))
        if not kept:
            stack.enter_context(no_tombstones_are_kept_for_it())
            stack.enter_context(pytest.raises(Violation))  # the check of tombstones sees it too
        among_three(tmp_path, play)


def nothing_asks_for_a_comparison() -> AbstractContextManager[Any]:
    real = replicas.without

    def without(table: Any, *rest: Any) -> Any:
        dropped = real(table, *rest)
        return replace(dropped, extra={name: kept for name, kept in dropped.extra.items() if name != TO_COMPARE})

    return patch.object(leaving, "without", without)


def comparing_sees_no_difference() -> AbstractContextManager[Any]:
    async def compare_items(self: Verifier, low: bytes, high: bytes) -> None:
        return None

    return patch.object(Verifier, "_compare_items", compare_items)


def comparing_waits_for_what_nobody_sends() -> AbstractContextManager[Any]:
    real = Verifier._standing

    def standing(self: Verifier, *rest: Any) -> Standing:
        found = real(self, *rest)
        return Standing.OPEN if found is Standing.ORPHANED else found

    return patch.object(Verifier, "_standing", standing)


def comparing_repairs_nothing() -> AbstractContextManager[Any]:
    real = Comparing._verifier

    def verifier(self: Comparing, *rest: Any, repair: bool = False, **named: Any) -> Verifier:
        return real(self, *rest, repair=False, **named)

    return patch.object(Comparing, "_verifier", verifier)


def repair_ships_the_old_version() -> AbstractContextManager[Any]:
    def renew(self: Group, key: bytes, prior: Row, wall_us: int) -> int:
        return self._add(key, prior, prior.version, prior, None, None, wall_us)

    return patch.object(Group, "renew", renew)


@pytest.mark.parametrize(
    "mutation",
    [
        nothing_asks_for_a_comparison,
        comparing_sees_no_difference,
        comparing_waits_for_what_nobody_sends,
        comparing_repairs_nothing,
        repair_ships_the_old_version,
    ],
)
def test_without_the_mend_it_does_not_and_that_is_seen(
    tmp_path: Path, mutation: Callable[[], AbstractContextManager[Any]]
) -> None:
    shown = []

    async def play(all_: Regions, checks: GlobalChecks, writers: Writers) -> None:
        await one_member_alone_hears(all_, checks, writers, deletes=False)
        shown.append(True)
        await same_again(all_, checks, 50.0)

    with mutation(), pytest.raises(Violation):
        among_three(tmp_path, play)
    assert shown
