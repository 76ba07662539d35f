"""A node loses its disk and comes back empty: whatever of the others is away meanwhile, what was acknowledged stays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.catalog import TableRecord
from geodyne.messages import METADATA_PARTITION
from geodyne.peermessages import Introduction
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import Violation
from geodyne.sim.region import Region, SimNode, region
from geodyne.sim.scene import PK, Scene, play
from node import groups
from node.raft.core import ConsensusViolation, Raft
from node.raft.effects import FORGOTTEN, HardState
from node.storage.directory import INCARNATION_MAX
from node.storage.roster import Roster


async def lose(node: SimNode) -> None:
    await node.kill()
    node.lose_disk()


def newcomers(here: Region, node: SimNode) -> list[int]:
    assert node.node is not None
    return [group.partition for group in node.node.service.groups if group.raft.newcomer]


def test_a_write_outlives_the_disk_of_one_holder_while_the_other_one_is_away(tmp_path: Path) -> None:
    """Two of three hold it. One of them is away, the other one comes back empty: the third one and the empty one are
    two of three as well, and must not go on without it."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        away = scene.leader
        lacking, emptied = scene.followers
        here.world.block(away.id, lacking.id)
        await scene.items.put(PK, "kept")
        await away.kill()
        await lose(emptied)
        here.world.heal()
        emptied.start()
        await here.run_for(10.0)
        assert here.leader(scene.partition) is None
        assert here.leader(METADATA_PARTITION) is None
        away.start()
        await scene.settle()
        assert await scene.items.read(PK) == "kept"
        assert newcomers(here, emptied) == []

    play(tmp_path, scenario)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_rebuilt_node_counts_again(tmp_path: Path, compacted: bool) -> None:
    """From the log or from a snapshot; then one of the others may go."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        emptied, other = scene.followers
        await scene.items.put(PK, "one")
        await lose(emptied)
        if compacted:
            scene.reached = scene.group(scene.leader).raft.commit_index
            await scene.write_until_compacted(emptied)
        emptied.start()
        await scene.settle()
        await here.run_for(1.0)  # it has all at once by a snapshot, and is admitted by an entry after that
        assert newcomers(here, emptied) == []
        await scene.items.put(PK, "two")
        await here.run_for(1.0)
        await scene.leader.kill()
        assert await scene.items.read(PK) == "two"
        await scene.items.put(PK, "three")
        if not other.alive:
            other.start()
        for node in here.nodes:
            if not node.alive:
                node.start()
        await scene.settle()
        assert await scene.items.read(PK) == "three"

    play(tmp_path, scenario, small=compacted)


def test_one_disk_after_the_other_may_be_lost(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        await scene.items.put(PK, "kept")
        for node in here.nodes:
            await lose(node)
            node.start()
            await scene.settle()
            assert newcomers(here, node) == []
        assert await scene.items.read(PK) == "kept"
        # Nobody is as old as the region any more. What is made now is new to everybody, whoever is away.
        directories = {node.node._directory.roster.directory for node in here.nodes if node.node is not None}
        assert len(directories) == 3
        away = scene.followers[0]
        await away.kill()
        table = await here.create_table("after")
        await here.until(lambda: all(here.leader(p.id) is not None for p in table.partitions), "the new table is led")
        away.start()
        await here.settle([partition.id for partition in table.partitions])
        assert newcomers(here, away) == []

    play(tmp_path, scenario)


def test_a_newcomer_that_restarts_is_one_still(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        away = scene.leader
        lacking, emptied = scene.followers
        here.world.block(away.id, lacking.id)
        await scene.items.put(PK, "kept")
        await away.kill()
        await lose(emptied)
        here.world.heal()
        for _ in range(3):
            emptied.start()
            await here.run_for(3.0)
            await emptied.kill()
            await lacking.kill()
            lacking.start()
        emptied.start()
        await here.run_for(5.0)
        assert here.leader(scene.partition) is None
        away.start()
        await scene.settle()
        assert await scene.items.read(PK) == "kept"

    play(tmp_path, scenario)


def test_a_holder_that_leaves_before_the_empty_node_has_caught_up_is_waited_for(tmp_path: Path) -> None:
    """It had the time to say by which directory it knew that node, and for nothing else."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        holder = scene.leader
        lacking, emptied = scene.followers
        here.world.block(holder.id, lacking.id)
        await scene.items.put(PK, "kept")
        await lose(emptied)
        emptied.start()
        roster = emptied.handler._roster
        await here.until(lambda: roster.known(holder.id), "they have met", step_s=0.0001)
        await holder.kill()
        here.world.heal()
        await here.run_for(10.0)
        assert here.leader(scene.partition) is None
        holder.start()
        await scene.settle()
        assert await scene.items.read(PK) == "kept"

    play(tmp_path, scenario)


def test_an_emptied_node_whose_clock_was_set_back_takes_part_again(tmp_path: Path) -> None:
    """The number of its first process comes from that clock. It is told that its peers know a larger one, so that it
    counts as a process that is gone, and starts anew with a number that is larger still."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        emptied = scene.followers[0]
        await scene.items.put(PK, "kept")
        await lose(emptied)
        emptied.clock.skew_us -= 600_000_000
        emptied.start()
        first = emptied.life
        await here.until(lambda: emptied.alive and emptied.life > first, "it starts anew")
        await scene.settle()
        await here.run_for(1.0)
        assert emptied.life == first + 1
        assert newcomers(here, emptied) == []
        await scene.leader.kill()
        assert await scene.items.read(PK) == "kept"

    play(tmp_path, scenario)


def test_a_number_that_no_process_can_have_makes_no_node_start_anew(tmp_path: Path) -> None:
    """It would write it down, and could not start any more."""

    async def scenario(scene: Scene) -> None:
        node, other = scene.followers
        life = node.life
        node.handler.on_peer_messages(other.id, [Introduction(1, 0, INCARNATION_MAX), Introduction(1, 0, 1 << 64)])
        await scene.here.run_for(0.5)
        assert node.alive
        assert node.life == life
        await scene.settle()

    play(tmp_path, scenario)


def test_a_region_begins_once_its_nodes_have_met(tmp_path: Path) -> None:
    """Two nodes that find each other empty cannot know whether the third one has what both have lost."""

    async def run() -> None:
        async with region(1, tmp_path) as here:
            table: TableRecord = await here.create_table()
            for node in here.nodes:
                assert newcomers(here, node) == []
            for node in here.nodes:
                await node.kill()
            for node in here.nodes[:2]:
                node.lose_disk()
                node.start()
            await here.run_for(10.0)
            assert here.leader(METADATA_PARTITION) is None
            here.nodes[2].start()
            await here.run_for(10.0)
            assert here.leader(METADATA_PARTITION) is None  # a majority of the disks is gone: nothing is made up
            assert here.group(here.nodes[2], table.partitions[0].id) is not None

    run_simulated(run())


# --- deliberate faults --------------------------------------------------------------------------------------

Mutation = Callable[[], AbstractContextManager[Any]]
MUTATIONS: dict[str, tuple[Mutation, Callable[[Path], None]]] = {
    "every directory is trusted": (
        lambda: patch.object(Roster, "trusted", lambda roster, partition, voters: True),
        test_a_write_outlives_the_disk_of_one_holder_while_the_other_one_is_away,
    ),
    "newcomers vote": (
        lambda: patch.multiple(
            Raft, _votes=property(lambda raft: True), _stands=property(lambda raft: raft.node_id in raft.voters)
        ),
        test_a_write_outlives_the_disk_of_one_holder_while_the_other_one_is_away,
    ),
    "by which directory it knew a node is not said": (
        lambda: patch.object(Introduction, "knows", property(lambda introduction: 0)),
        test_a_holder_that_leaves_before_the_empty_node_has_caught_up_is_waited_for,
    ),
    "which process it knew of a node is not said": (
        lambda: patch.object(Introduction, "incarnation", property(lambda introduction: 0)),
        test_an_emptied_node_whose_clock_was_set_back_takes_part_again,
    ),
    "that a node is a newcomer is forgotten at a restart": (
        lambda: patch.object(groups, "HardState", lambda term, vote: HardState(term, vote.replace(FORGOTTEN, ""))),
        test_a_newcomer_that_restarts_is_one_still,
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_node_without_a_rule_loses_the_write(tmp_path: Path, name: str) -> None:
    mutation, scene = MUTATIONS[name]
    with mutation(), pytest.raises((Violation, AssertionError, ConsensusViolation)):
        scene(tmp_path)
