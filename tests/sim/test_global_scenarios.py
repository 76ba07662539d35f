"""Three regions in situations that random faults seldom bring about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from geodyne.sim.globalchecks import GlobalChecks, watched
from geodyne.sim.globalregions import TABLE, Regions, Shape, regions
from geodyne.sim.globalworkload import KEYS, Writers
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import Violation

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
