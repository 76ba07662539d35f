"""Who leads while clocks of a region are wrong: somebody always, and never a node that knows its clock to be off."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.messages import ReadRows, Rows
from geodyne.model.version import time_us
from geodyne.sim.region import SimNode
from geodyne.sim.scene import PK, Scene, play
from node.clocks import ClockWatch

OFF_US = 300_000_000
OFFSETS_US = (-OFF_US, OFF_US)
AFTER_ELECTIONS_S = 30.0
PAGE_BYTES = 1 << 20


def clocks_are_not_compared() -> AbstractContextManager[Any]:
    """The rule left out."""
    return patch.object(ClockWatch, "look", lambda *_: None)


def leads(scene: Scene, node: SimNode) -> bool:
    return any(scene.here.leader(partition) is node for partition in scene.partitions)


async def newest_us(scene: Scene) -> int:
    answer = await scene.here.client.call(ReadRows(scene.partition, 1, b"", PAGE_BYTES), timeout_ms=10_000)
    assert isinstance(answer, Rows)
    return max(time_us(row.version) for row in answer.rows)


async def a_leader_whose_clock_is_wrong_stands_back_until_it_is_right(scene: Scene, off_us: int) -> None:
    wrong = scene.leader
    right_us = wrong.clock.skew_us
    wrong.clock.skew_us += off_us
    await scene.here.until(lambda: not leads(scene, wrong), "it gives all away")
    await scene.items.put(PK, "by one whose clock is right")
    assert abs(await newest_us(scene) - scene.leader.clock.wall_us()) < OFF_US / 2
    await scene.here.run_for(AFTER_ELECTIONS_S)
    assert not leads(scene, wrong)
    wrong.clock.skew_us = right_us
    await scene.here.until(scene.here.lead_by(scene.partition, wrong), "it leads again")
    await scene.settle()


@pytest.mark.parametrize("off_us", OFFSETS_US)
def test_a_leader_whose_clock_is_wrong_stands_back_until_it_is_right(tmp_path: Path, off_us: int) -> None:
    async def scenario(scene: Scene) -> None:
        await a_leader_whose_clock_is_wrong_stands_back_until_it_is_right(scene, off_us)

    play(tmp_path, scenario)


def test_without_the_rule_it_leads_on(tmp_path: Path) -> None:
    """The scenario above notices."""

    async def scenario(scene: Scene) -> None:
        await a_leader_whose_clock_is_wrong_stands_back_until_it_is_right(scene, OFF_US)

    with clocks_are_not_compared(), pytest.raises(AssertionError, match="it gives all away"):
        play(tmp_path, scenario)


def test_one_leads_however_much_all_clocks_differ(tmp_path: Path) -> None:
    """The one in the middle is off by nothing."""

    async def scenario(scene: Scene) -> None:
        low, middle, high = scene.here.nodes
        low.clock.skew_us, middle.clock.skew_us, high.clock.skew_us = -OFF_US, 0, OFF_US
        everything = scene.partitions
        await scene.here.until(lambda: all(scene.here.leader(p) is middle for p in everything), "the middle leads all")
        await scene.items.put(PK, "written")
        await scene.settle()

    play(tmp_path, scenario)


def test_a_wrong_clock_leads_rather_than_nobody(tmp_path: Path) -> None:
    """It alone has what was committed, of those that are left; and it gives away again once others have it."""

    async def scenario(scene: Scene) -> None:
        wrong = scene.leader
        wrong.clock.skew_us += OFF_US
        await scene.here.until(lambda: scene.here.leader(scene.partition) not in (None, wrong), "another one leads")
        leader = scene.leader
        behind = next(node for node in scene.followers if node is not wrong)
        scene.here.isolate(behind, from_clients=True)
        await scene.items.put(PK, "which one of the right clocks lacks")
        await leader.kill()
        scene.here.world.heal()
        await scene.here.until(lambda: scene.here.leader(scene.partition) is wrong, "the wrong clock leads")
        await scene.items.put(PK, "under the wrong clock")
        leader.start()
        await scene.here.until(lambda: not leads(scene, wrong), "it gives all away again")
        await scene.settle()

    play(tmp_path, scenario)
