"""Nodes come and go under load: replicas move, no call fails, nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from geodyne.catalog import PartitionRecord
from geodyne.messages import METADATA_PARTITION, Refused
from geodyne.peermessages import Append, PeerMessage, Vote, VoteRequest
from geodyne.sim.growth import Growth
from geodyne.sim.items import UNKNOWN, Items, judge
from geodyne.sim.network import Violation
from geodyne.sim.region import REGION, SimNode
from geodyne.sim.scene import Scene, play
from node.raft.configuration import Configuration

WRITERS = 4
PAUSE_S = 0.05
KEYS = tuple(f"k{number}" for number in range(6))


class Load:
    """Writers and readers that must never fail."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.failed: list[str] = []
        self.done = 0
        self._stop = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for number in range(WRITERS):
            items = self.scene.items if number % 2 else self.scene.other_items
            self._tasks.append(asyncio.ensure_future(self._run(items, KEYS[number % len(KEYS)])))

    async def _run(self, items: Items, pk: str) -> None:
        while not self._stop:
            for call in (items.add(pk), items.read(pk), items.read(pk, strong=False)):
                answer = await call
                self.done += 1
                if answer == UNKNOWN:
                    self.failed.append(pk)
            await asyncio.sleep(PAUSE_S)

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


Change = Callable[[Scene, Growth, Load], Awaitable[None]]


def grow(path: Path, change: Change, *, seed: int = 1, small: bool = True, failures: bool = False) -> None:
    async def scenario(scene: Scene) -> None:
        growth, load = Growth(scene.here), Load(scene)
        load.start()
        await scene.here.run_for(0.5)
        await change(scene, growth, load)
        await load.stop()
        scene.here.world.heal()
        await growth.settled()
        await growth.equal()
        judge(scene.items.histories)
        assert load.done > 100
        assert failures or not load.failed
        for pk in KEYS:
            assert await scene.items.read(pk) != UNKNOWN

    play(path, scenario, seed, small=small)


async def drained(growth: Growth, node: SimNode) -> None:
    """Until the catalog names the node nowhere, and nothing of tables is left on it."""
    await growth.settled()
    listed = {member["node"]: member for member in (await growth.control("node_list"))["members"]}
    assert (listed[node.id]["replicas"], listed[node.id]["joining"]) == (0, 0)
    assert not growth.holders(node)


async def grown(scene: Scene, growth: Growth) -> SimNode:
    """A fourth node that has its share."""
    node = await growth.add("node-a2", "a")
    await scene.here.until(lambda: growth.holders(node), "the new node has a replica")
    await growth.settled()
    return node


def test_a_node_more_takes_its_share_and_no_call_fails(tmp_path: Path) -> None:
    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        node = await grown(scene, growth)
        moved = growth.holders(node)
        assert 0 < len(moved) < len(scene.partitions)
        listed = {member["node"]: member["replicas"] for member in (await growth.control("node_list"))["members"]}
        metadata = int(node.id in growth.records()[METADATA_PARTITION].voters)
        assert listed[node.id] == len(moved) + metadata

    grow(tmp_path, change)


def test_a_drained_node_is_empty_and_no_call_fails(tmp_path: Path) -> None:
    """One that leads, and votes for the catalog: leadership, replicas and the catalog's vote go to others."""

    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        await grown(scene, growth)
        old = scene.here.nodes_by_id[f"{REGION}/node-a"]
        await growth.control("node_drain", node=old.id)
        await drained(growth, old)
        assert old.id not in growth.records()[METADATA_PARTITION].voters
        await growth.control("node_remove", node=old.id)
        await growth.leave(old)
        await scene.here.run_for(2)

    grow(tmp_path, change)


def test_a_drain_that_is_taken_back_fills_the_node_again(tmp_path: Path) -> None:
    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        node = await grown(scene, growth)
        had = growth.holders(node)
        await growth.control("node_drain", node=node.id)
        await drained(growth, node)
        await growth.control("node_activate", node=node.id)
        await scene.here.until(lambda: growth.holders(node) == had, "its share is back")

    grow(tmp_path, change)


def test_the_last_node_of_a_zone_goes_only_by_force_and_its_groups_heal_with_the_next(tmp_path: Path) -> None:
    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        old = scene.here.nodes_by_id[f"{REGION}/node-c"]
        refused = await scene.here.control("node_drain", {"node": old.id})
        assert isinstance(refused, Refused)
        assert "two replicas" in refused.message
        await growth.control("node_drain", node=old.id, force=True)
        await drained(growth, old)
        assert all(len(record.voters) == 2 for record in growth.records().values())
        await growth.control("node_remove", node=old.id)
        await growth.leave(old)
        other = scene.here.nodes_by_id[f"{REGION}/node-b"]
        refused = await scene.here.control("node_drain", {"node": other.id, "force": True})
        assert isinstance(refused, Refused)
        assert "fewer than" in refused.message
        await growth.add("node-c2", "c")
        await scene.here.until(lambda: all(len(r.voters) == 3 for r in growth.records().values()), "three again", 60)

    grow(tmp_path, change)


def test_the_replicas_of_a_dead_node_are_rebuilt_in_its_zone_and_it_takes_them_back(tmp_path: Path) -> None:
    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        await grown(scene, growth)
        old = scene.here.nodes_by_id[f"{REGION}/node-a"]
        had = growth.holders(old)
        assert had
        growth.rebuild_after(3.0)
        await old.kill()
        gone = lambda: not any(old.id in record.voters for record in growth.records().values())  # noqa: E731
        await scene.here.until(gone, "its replicas are elsewhere", 60)
        await growth.settled()
        old.start()
        await scene.here.until(lambda: growth.holders(old) == had, "it has its share again", 60)

    grow(tmp_path, change)


def test_a_dead_node_without_another_in_its_zone_keeps_its_place(tmp_path: Path) -> None:
    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        old = scene.here.nodes_by_id[f"{REGION}/node-b"]
        growth.rebuild_after(3.0)
        await old.kill()
        await scene.here.run_for(10)
        listed = {member["node"]: member for member in (await growth.control("node_list"))["members"]}
        assert listed[old.id]["state"] == "DOWN"
        assert all(len(record.voters) == 3 for record in growth.records().values())
        leader = scene.here.leader(METADATA_PARTITION)
        assert leader is not None
        assert leader.node is not None
        assert METADATA_PARTITION in leader.node.status()["short"]
        old.start()
        await scene.here.run_for(3)

    grow(tmp_path, change)


def test_the_old_voter_counts_until_the_new_one_votes(tmp_path: Path) -> None:
    """The new node takes nothing in, and another voter dies: the group goes on with the one that is to go."""

    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        here = scene.here
        new = await grown(scene, growth)
        old = here.nodes_by_id[f"{REGION}/node-a"]
        assert growth.holders(old)
        here.isolate(new, from_clients=False)
        partition = min(growth.holders(old))
        other, third = (here.nodes_by_id[f"{REGION}/node-{zone}"] for zone in "bc")
        await here.until(here.lead_by(partition, third), "another node leads")
        await growth.control("node_drain", node=old.id)
        await here.run_for(1.5)
        await other.kill()
        await here.run_for(4)
        assert here.leader(partition) is not None
        other.start()
        here.world.heal()

    grow(tmp_path, change, failures=True)


def test_a_region_that_stops_in_the_middle_goes_on_when_it_starts(tmp_path: Path) -> None:
    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        here = scene.here
        new = await growth.add("node-a2", "a")
        await here.until(partial(Watch(scene, growth, new).at, "learner"), "a replica learns", 20, 0.003)
        for node in here.nodes:
            await node.kill(power_loss=True)
        for node in here.nodes:
            node.start()
        await here.run_for(3)
        await growth.settled()
        assert growth.holders(new)

    grow(tmp_path, change, failures=True)


def test_a_replica_with_a_joint_entry_that_no_voter_has_is_given_up_with_its_move(tmp_path: Path) -> None:
    """The entry reached only the node that learns; its leader dies, and the next one is told that the move is off."""

    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        here = scene.here
        new = await growth.add("node-a2", "a")
        watch = Watch(scene, growth, new)
        await here.until(watch.about_to_be_joint, "a replica has caught up", 20, 0.003)
        partition, leader = watch.partition, here.leader(watch.partition)
        assert leader is not None
        for other in here.others(leader):
            if other is not new:
                here.world.block(leader.id, other.id)
                here.world.block(new.id, other.id)
                here.world.block(other.id, new.id)
        await here.until(lambda: watch.configuration(new).joint, "the joint entry is there", 5, 0.003)
        await leader.kill()
        await here.until(lambda: here.leader(partition) not in (None, leader), "another node leads")
        await growth.control("node_drain", node=new.id)
        await here.until(lambda: growth.records() != {} and not growth.records()[partition].target, "the move is off")
        await here.until(lambda: watch.configuration(here.leader(partition)).learners == (), "nobody learns")
        assert watch.configuration(new).joint
        here.world.cut(new.id)  # what was on its way there is lost
        leader.start()
        here.world.heal()
        await drained(growth, new)

    grow(tmp_path, change, failures=True)


def test_what_is_said_to_a_replica_that_was_given_up_is_not_kept_for_the_next_one(tmp_path: Path) -> None:
    """That it is a member now, least of all. And who still asks it whether it leads gets an answer."""

    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        node = await grown(scene, growth)
        held = min(growth.holders(node))
        await growth.control("node_drain", node=node.id)
        await drained(growth, node)
        service, peer = node.handler, f"{REGION}/node-b"
        sent: list[PeerMessage] = []
        with patch.object(service.network, "send", lambda to, message: sent.append(message)):
            service.on_peer_messages(peer, [Append(held, 1, 0, 0, (), 0, service.liveness.incarnation)])
            service.on_peer_messages(peer, [VoteRequest(held, 1, 0, 0, True, False)])
            service._turn()
        assert [message.resigned for message in sent if isinstance(message, Vote)] == [True]
        assert service._early.take(held) == []
        unknown = max(growth.records()) + 1000
        service.on_peer_messages(peer, [Append(unknown, 1, 0, 0, (), 0)])
        service._turn()
        assert len(service._early.take(unknown)) == 1

    grow(tmp_path, change)


def test_a_group_is_told_of_its_leaders_node_though_that_is_none_of_its_members(tmp_path: Path) -> None:
    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        follower = scene.followers[0]
        group = scene.group(follower)
        group.peers = frozenset()
        told: list[int] = []
        follower.handler.tell_groups(lambda raft, peer, now_ms: told.append(raft.group), scene.leader.id, 0)
        assert group.partition in told
        group.configuration_changed()

    grow(tmp_path, change)


def test_a_node_that_has_stopped_says_nothing_to_who_connects(tmp_path: Path) -> None:
    """A heartbeat would have the others take what it led for led."""

    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        node, peer = scene.followers
        hello, service = peer.hello, node.handler
        service.stop()
        sent: list[PeerMessage] = []
        with patch.object(service.network, "send", lambda to, message: sent.append(message)):
            service.on_peer_connected(peer.id, hello)
        assert sent == []
        await node.kill()
        node.start()

    grow(tmp_path, change, failures=True)


# --- killed on the way --------------------------------------------------------------------------------------

STAGES = ("begun", "learner", "joint", "voted", "told")
VICTIMS = ("leader", "metadata", "new", "old")


class Watch:
    """Sees a stage of some partition's move, and who has which part in it."""

    def __init__(self, scene: Scene, growth: Growth, new: SimNode | None) -> None:
        self.scene = scene
        self.growth = growth
        self.new = new
        self.partition = -1

    def at(self, stage: str) -> bool:
        for record in self.growth.records().values():
            leader = self.scene.here.leader(record.id)
            group = self.scene.here.group(leader, record.id) if leader is not None else None
            if group is None or record.id == METADATA_PARTITION:
                continue
            if self._is(stage, record, group.raft.configuration):
                self.partition = record.id
                return True
        return False

    def about_to_be_joint(self) -> bool:
        """The new node has caught up, and the leader stays."""
        assert self.new is not None
        for record in self.growth.records().values():
            leader = self.scene.here.leader(record.id)
            group = self.scene.here.group(leader, record.id) if leader is not None else None
            if leader is None or group is None or record.id == METADATA_PARTITION or leader.id not in record.target:
                continue
            leadership = group.raft._leadership
            if leadership is not None and leadership.caught_up(self.new.id, leader.handler.now_ms()):
                self.partition = record.id
                return not group.raft.configuration.joint
        return False

    def configuration(self, node: SimNode | None) -> Configuration:
        group = self.scene.here.group(node, self.partition) if node is not None else None
        return group.raft.configuration if group is not None else Configuration(("nobody",), (), ("nobody else",))

    def _is(self, stage: str, record: PartitionRecord, configuration: Configuration) -> bool:
        match stage:
            case "begun":
                return bool(record.target) and not configuration.learners and not configuration.joint
            case "learner":
                return bool(configuration.learners)
            case "joint":
                return configuration.joint
            case "voted":
                return bool(record.target) and configuration.voters == record.target and not configuration.joint
            case _:
                return record.configuration > 0 and not record.target

    def victim(self, who: str, old: SimNode) -> SimNode:
        here = self.scene.here
        if who == "leader":
            return here.leader(self.partition) or old
        if who == "metadata":
            return here.leader(METADATA_PARTITION) or old
        return (self.new or old) if who == "new" else old


def killed_on_the_way(path: Path, seed: int) -> None:
    random = Random(seed)

    async def change(scene: Scene, growth: Growth, load: Load) -> None:
        here = scene.here
        old = here.nodes_by_id[f"{REGION}/node-a"]
        new = await growth.add("node-a2", "a")
        await _strike(scene, growth, Watch(scene, growth, new), old, random)
        await growth.settled()
        await growth.control("node_drain", node=random.choice([old, new]).id)
        await _strike(scene, growth, Watch(scene, growth, new), old, random)

    grow(path, change, seed=seed, failures=True)


async def _strike(scene: Scene, growth: Growth, watch: Watch, old: SimNode, random: Random) -> None:
    for stage in sorted(random.sample(STAGES, random.randint(1, 3)), key=STAGES.index):
        with contextlib.suppress(Violation):  # it may be over before it was seen
            await scene.here.until(partial(watch.at, stage), stage, 5, 0.003)
        if scene.here.problems:
            return
        victim = watch.victim(random.choice(VICTIMS), old)
        if not victim.alive:
            continue
        await scene.here.run_for(random.choice([0.0, 0.002, 0.02, 0.1]))
        await victim.kill(power_loss=random.random() < 0.5)
        await scene.here.run_for(random.choice([0.1, 0.5, 3.0]))
        victim.start()
        await scene.here.run_for(random.choice([0.0, 0.5, 2.0]))


@pytest.mark.parametrize("seed", range(4))
def test_a_move_goes_on_whoever_is_killed_on_the_way(tmp_path: Path, seed: int) -> None:
    killed_on_the_way(tmp_path, seed)
