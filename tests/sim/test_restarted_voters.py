"""A node restarts while the catalog and the log of one of its replicas do not agree on where the replica belongs."""

from __future__ import annotations

from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from geodyne.sim.growth import Growth
from geodyne.sim.network import Violation
from geodyne.sim.scene import Scene
from node.membership import Membership
from tests.sim.mutations import MUTATIONS
from tests.sim.test_membership import Load, Watch, drained, grow, grown


async def _restart_a_voter_that_the_catalog_has_given_up(scene: Scene, growth: Growth, load: Load) -> None:
    """The move is over by the log, and called off by the catalog, which has not been told."""
    here = scene.here
    with patch.object(Membership, "_report", lambda membership, group, now_ms: None):
        new = await growth.add("node-a2", "a")
        watch = Watch(scene, growth, new)
        await here.until(lambda: watch.at("voted"), "the new node votes", 20, 0.003)
        partition = watch.partition
        await here.until(lambda: new.id in watch.configuration(new).voters, "it knows", 5, 0.003)
        await growth.control("node_drain", node=new.id)
        await here.until(lambda: growth.records() and not growth.records()[partition].target, "the move is off")
        await here.run_for(1.0)
        assert new.id not in growth.records()[partition].holders
        await new.kill()
        new.start()
        await here.run_for(1.0)
        assert new.id in watch.configuration(new).voters
    await drained(growth, new)


def test_a_restarted_node_keeps_the_replica_that_votes_by_its_own_log(tmp_path: Path) -> None:
    grow(tmp_path, _restart_a_voter_that_the_catalog_has_given_up, failures=True)


def test_a_node_that_gives_it_up_is_noticed(tmp_path: Path) -> None:
    mutation = MUTATIONS["a restarted node gives up what its log knows"]
    with mutation(), pytest.raises(Violation, match="gives up group"):
        grow(tmp_path, _restart_a_voter_that_the_catalog_has_given_up, failures=True)


class _Least(Random):
    """Of what may be left of a file after a power cut, as little as possible."""

    def randint(self, a: int, b: int) -> int:
        return a


async def _start_with_an_older_catalog_than_what_was_given_up(scene: Scene, growth: Growth, load: Load) -> None:
    """A replica has moved to another node. A power cut takes back what its old node's state had applied, the catalog
    that says so included: it starts as one of the first voters of a partition that it has voted in before."""
    here = scene.here
    old = next(node for node in here.nodes if node.zone == "a")
    moved = growth.holders(await grown(scene, growth))
    with patch.object(here, "random", _Least(1)):
        old.crash(power_loss=True)
    await old.buried()
    old.start()
    held = [here.group(old, partition) for partition in moved]
    assert held
    assert None not in held
    here.check()
    assert all(group.raft.newcomer for group in held if group is not None)


def test_a_replica_that_was_given_up_does_not_count_when_an_older_catalog_brings_it_back(tmp_path: Path) -> None:
    grow(tmp_path, _start_with_an_older_catalog_than_what_was_given_up, small=False, failures=True)


def test_a_node_that_keeps_no_mark_of_it_is_noticed(tmp_path: Path) -> None:
    with MUTATIONS["dropped replicas leave no mark"](), pytest.raises(Violation, match="counts at once"):
        grow(tmp_path, _start_with_an_older_catalog_than_what_was_given_up, small=False, failures=True)
