"""What must hold at the instants that matter, one at a time: a leader dies between two steps, an answer is lost, a
replica comes back to a world that has moved on. Deterministic: virtual time, one seed each."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import patch

import pytest

from geodyne.messages import (
    METADATA_PARTITION,
    Answer,
    ApplyChanges,
    Change,
    Found,
    NotLeader,
    Page,
    Range,
    ReadRows,
    Refused,
    ReturnValues,
    Rows,
    Unknown,
    WriteId,
    WriteKind,
    Written,
)
from geodyne.model.keys import hash_of
from geodyne.model.values import loads
from geodyne.sim.items import addition, key_of, putting
from geodyne.sim.scene import PK, Scene, play
from node import service
from node.compose import HAND_OVER_S, HAND_OVER_STEPS
from node.handover import SETTLED_MS


def cut_off_followers(scene: Scene) -> None:
    for node in scene.followers:
        scene.here.world.block(scene.leader.id, node.id)


# --- a leader dies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power_loss", [False, True])
def test_a_write_that_only_the_dead_leader_had_takes_effect_once(tmp_path: Path, power_loss: bool) -> None:
    """Killed between append and commit: the router's resend is the only attempt that counts."""

    async def scenario(scene: Scene) -> None:
        old = scene.leader
        before = scene.group(old).raft.log.last_index
        cut_off_followers(scene)
        adding = asyncio.ensure_future(scene.items.add(PK))
        await scene.here.until(lambda: scene.group(old).raft.log.persisted_index > before, "the leader has it on disk")
        assert not adding.done()
        await old.kill(power_loss)
        scene.here.world.heal()
        assert await adding == "1"
        old.start()
        await scene.settle()
        assert await scene.items.read(PK) == "1"

    play(tmp_path, scenario)


@pytest.mark.parametrize("power_loss", [False, True])
def test_a_write_whose_answer_died_with_the_leader_is_not_done_again(tmp_path: Path, power_loss: bool) -> None:
    """Killed between commit and answer: the resend is answered from the deduplication window."""

    async def scenario(scene: Scene) -> None:
        old = scene.leader
        for client in scene.here.clients:
            scene.here.world.block(old.id, client.id)
        before = scene.group(old).raft.commit_index
        adding = asyncio.ensure_future(scene.items.add(PK))
        await scene.here.until(lambda: scene.group(old).raft.commit_index > before, "the write is committed")
        await old.kill(power_loss)
        scene.here.world.heal()
        assert await adding == "1"
        old.start()
        await scene.settle()
        assert await scene.items.read(PK) == "1"
        assert scene.items.unknown == 0

    play(tmp_path, scenario)


@pytest.mark.parametrize("power_loss", [False, True])
def test_an_acknowledged_write_that_was_never_applied_is_there_after_the_leader_died(
    tmp_path: Path, power_loss: bool
) -> None:
    async def scenario(scene: Scene) -> None:
        old = scene.leader
        scene.group(old).frozen += 1  # as while a snapshot is begun: committed entries stay in the overlay
        assert await scene.items.add(PK) == "1"
        assert scene.group(old).state.items == 0
        assert await scene.items.read(PK) == "1"
        await old.kill(power_loss)
        assert await scene.items.add(PK) == "2"
        old.start()
        await scene.settle()

    play(tmp_path, scenario)


def test_a_new_leader_counts_on_from_what_the_dead_one_had_just_acknowledged(tmp_path: Path) -> None:
    """It has the entry and has not been told that it is committed."""

    async def scenario(scene: Scene) -> None:
        old = scene.leader
        assert await scene.items.add(PK) == "1"
        commits = [scene.group(node).raft.commit_index for node in scene.followers]
        assert max(commits) < scene.group(old).raft.commit_index
        await old.kill()
        assert await scene.items.add(PK) == "2"
        old.start()
        await scene.settle()

    play(tmp_path, scenario)


def test_acknowledged_writes_survive_a_power_cut_of_all_three_zones(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        for number in range(20):
            await scene.items.put(f"k{number}", str(number))
        for node in scene.here.nodes:
            await node.kill(power_loss=True)
        for node in scene.here.nodes:
            node.start()
        for number in range(20):
            assert await scene.items.read(f"k{number}") == str(number)
        await scene.settle()

    play(tmp_path, scenario)


def test_a_restarted_node_has_a_larger_incarnation_and_is_counted_again(tmp_path: Path) -> None:
    """Two of three restart in turn: the region can only serve if each counts for the leases afterwards."""

    async def scenario(scene: Scene) -> None:
        for node in scene.here.nodes[:2]:
            assert node.node is not None
            before = node.node.incarnation
            await node.kill()
            node.start()
            assert node.node.incarnation > before
            await scene.settle()
        await scene.here.nodes[2].kill()
        assert await scene.items.add(PK) == "1"
        assert await scene.items.read(PK) == "1"
        scene.here.nodes[2].start()
        await scene.settle()

    play(tmp_path, scenario)


# --- answers that must wait ---------------------------------------------------------------------------------


def test_an_answer_that_rests_on_an_uncommitted_image_waits_for_its_commit(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        cut_off_followers(scene)
        leader = scene.leader
        put = leader.ask(putting(scene.partition, PK, "x"))
        failing = leader.ask(putting(scene.partition, PK, "y", condition="attribute_not_exists(pk)"))
        same = leader.ask(putting(scene.partition, PK, "x", returns=ReturnValues.ALL_OLD))
        reading = leader.ask(scene.get())
        await scene.here.run_for(0.3)
        assert (put, failing, same) == ([], [], [])
        assert reading == [Found(None, 0)]  # nothing of it is committed, so a read does not see it
        scene.here.world.heal()
        await scene.here.run_for(0.3)
        assert put == [Written(0, put[0].size_after)]  # type: ignore[union-attr]
        assert isinstance(failing[0], Refused)
        assert isinstance(same[0], Written)
        assert same[0].attributes is not None
        assert loads(same[0].attributes)["v"] == {"S": "x"}

    play(tmp_path, scenario)


def test_a_leader_that_lost_tells_unknown_of_what_it_logged_and_not_leader_of_the_rest(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        old = scene.leader
        scene.here.isolate(old, from_clients=True)
        put = old.ask(putting(scene.partition, PK, "x"))
        failing = old.ask(putting(scene.partition, PK, "y", condition="attribute_not_exists(pk)"))
        change = old.ask(ApplyChanges(scene.partition, 1, (Change(key_of("z"), b"\x7f" * 8 + b"eu", b"{}", 2),)))
        await scene.new_leader(old)
        scene.here.world.heal()
        await scene.here.until(lambda: not scene.group(old).leading, "the old leader follows")
        await scene.here.run_for(0.1)
        assert isinstance(put[0], Unknown)
        assert isinstance(change[0], Unknown)
        assert isinstance(failing[0], NotLeader)
        assert old.ask(scene.get()) != [Unknown(scene.partition, "")]
        await scene.settle()
        assert await scene.items.read(PK) == ""

    play(tmp_path, scenario)


def test_calls_in_the_turn_that_ends_a_leadership_are_sent_on_and_do_not_end_the_node(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        old = scene.leader
        scene.here.isolate(old, from_clients=True)
        new = await scene.new_leader(old)
        group = scene.group(old)
        old.handler._touched.discard(group)
        group.raft.step_down(old.clock.lease_ms())  # as a message of a later term does, within the turn
        assert group.serving
        writing = old.ask(putting(scene.partition, PK, "x"))
        await scene.here.run_for(0.1)
        assert isinstance(writing[0], NotLeader)
        assert new is not old
        await scene.settle()

    play(tmp_path, scenario)


# --- reads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_an_isolated_leader_does_not_answer_strong_reads_once_another_may_lead(tmp_path: Path, seed: int) -> None:
    async def scenario(scene: Scene) -> None:
        old = scene.leader
        await scene.items.put(PK, "before")
        scene.here.isolate(old, from_clients=False)
        alone, elsewhere = scene.here.clients[0].id, scene.here.clients[1].id
        for node in scene.followers:
            scene.here.world.block(alone, node.id)
            scene.here.world.block(node.id, alone)
        scene.here.world.block(elsewhere, old.id)
        scene.here.world.block(old.id, elsewhere)
        writing = asyncio.ensure_future(scene.other_items.put(PK, "after"))
        asked: list[tuple[bool, list[Answer]]] = []
        for _ in range(200):
            asked.append((writing.done(), old.ask(scene.get())))
            page = Range(scene.partition, 1, b"", b"\xff" * 9, None, False, 0, 1 << 20, True)
            asked.append((writing.done(), old.ask(page)))
            await scene.here.run_for(0.02)
        assert writing.done()
        await scene.settle()
        for written, answers in asked:
            assert len(answers) == 1
            item = answers[0].item if isinstance(answers[0], Found) else None
            if isinstance(answers[0], Page):
                item = answers[0].items[0]
            assert item is None or b"before" in item
            assert not (written and item), "a stale read"
        assert any(isinstance(answers[0], Found) for _, answers in asked)  # while the lease lasted

    play(tmp_path, scenario, seed)


def test_a_strong_page_waits_for_what_was_committed_when_it_was_asked_for(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        leader = scene.leader
        scene.group(leader).frozen += 1
        await scene.items.put(PK, "x")
        page = Range(scene.partition, 1, b"", b"\xff" * 9, None, False, 0, 1 << 20, True)
        strong, raw = leader.ask(page), leader.ask(ReadRows(scene.partition, 1, b"", 1 << 20))
        eventual = leader.ask(page._replace(strong=False))
        await scene.here.run_for(0.2)
        assert (strong, raw) == ([], [])
        assert isinstance(eventual[0], Page)
        assert eventual[0].count == 0  # behind, and allowed to be
        scene.group(leader).frozen -= 1
        leader.handler.touch(scene.group(leader))
        await scene.here.run_for(0.1)
        assert isinstance(strong[0], Page)
        assert strong[0].count == 1
        assert isinstance(raw[0], Rows)
        assert len(raw[0].rows) == 1

    play(tmp_path, scenario)


def test_a_held_page_is_sent_on_when_the_leadership_ends(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        old = scene.leader
        scene.group(old).frozen += 1
        await scene.items.put(PK, "x")
        held = old.ask(Range(scene.partition, 1, b"", b"\xff" * 9, None, False, 0, 1 << 20, True))
        await scene.here.run_for(0.05)
        assert held == []
        scene.here.isolate(old, from_clients=True)
        await scene.here.until(lambda: not scene.group(old).leading, "the old leader gives up")
        await scene.here.run_for(0.1)
        assert isinstance(held[0], NotLeader)
        scene.group(old).frozen -= 1
        old.handler.touch(scene.group(old))
        await scene.settle()

    play(tmp_path, scenario)


# --- snapshots ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_replica_that_was_away_too_long_gets_a_snapshot_under_writes_and_then_serves(
    tmp_path: Path, seed: int
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.items.add("c")
        away = scene.followers[0]
        scene.reached = scene.group(away).raft.log.last_index
        await away.kill(power_loss=True)
        await scene.write_until_compacted(away)
        away.start()
        for number in range(60):
            await scene.items.put(PK, f"during {number}")
            await scene.items.add("c")
        await scene.settle()
        assert away.count("geodyne_snapshots_total", direction="received", result="ok") >= 1
        for partition in scene.partitions:
            await scene.here.until(scene.here.lead_by(partition, away), "the replica leads")
        assert await scene.items.read(PK) == "during 59"
        assert await scene.items.read("c") == "61"
        await scene.settle()

    play(tmp_path, scenario, seed, small=True)


def test_a_resent_write_is_recognised_by_a_leader_that_was_built_from_a_snapshot_and_restarted(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        away = scene.followers[0]
        scene.reached = scene.group(away).raft.log.last_index
        await away.kill()
        first = scene.leader.ask(addition(scene.partition, PK), WriteId(77, 5, 5))
        await scene.here.run_for(0.2)
        assert isinstance(first[0], Written)
        other = "two"
        while scene.items.table().partition_of(hash_of(key_of(other))).id != scene.partition:
            other += "."
        while scene.group(scene.leader).raft.log.offset_index <= scene.reached:
            await scene.items.put(other, "x" * 300 + str(scene.here.loop.time()))
            await scene.here.run_for(0.05)
        away.start()
        await scene.settle()
        assert away.count("geodyne_snapshots_total", direction="received", result="ok") >= 1
        for restarted in (False, True):
            if restarted:
                await away.kill(power_loss=True)
                away.start()
                await scene.settle()
            await scene.here.until(scene.here.lead_by(scene.partition, away), "the replica leads")
            again = away.ask(addition(scene.partition, PK), WriteId(77, 5, 5))
            await scene.here.run_for(0.2)
            assert again == first
        assert await scene.items.read(PK) == "1"

    play(tmp_path, scenario, small=True)


def test_a_table_is_deleted_while_a_snapshot_of_it_is_installed(tmp_path: Path) -> None:
    """Nothing of the replica may come back after it was dropped."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        away = next(node for node in scene.followers if node is not here.leader(METADATA_PARTITION))
        scene.reached = scene.group(away).raft.log.last_index
        await away.kill()
        await scene.write_until_compacted(away)
        away.start()

        def installing() -> bool:
            assert away.node is not None
            return scene.partition in away.node.service.transfers._installing

        await here.until(installing, "the snapshot is being installed", 10, step_s=0.0002)
        away.handler.groups._give_up(scene.partition)
        await here.run_for(0.5)
        assert away.node is not None
        assert scene.partition not in away.node._store._groups
        assert away.node._log._index.groups[scene.partition].last_index == 0

    play(tmp_path, scenario, small=True)


# --- an orderly stop ----------------------------------------------------------------------------------------


def test_a_node_that_stops_hands_its_leadership_over_first(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        stopping = scene.leader
        await scene.items.add(PK)
        assert stopping.node is not None
        started = here.loop.time()
        adding = asyncio.ensure_future(_add_many(scene, 40))
        await stopping.node.hand_over()
        assert here.loop.time() - started < 0.3
        assert not any(group.leading for group in stopping.node.service.groups)
        longest = await adding
        assert longest < 0.3, "the clients waited for an election"
        await stopping.stop()
        assert await scene.items.read(PK) == "41"
        stopping.start()
        await scene.settle()

    play(tmp_path, scenario)


def test_a_node_that_stops_stays_until_its_vote_for_its_successor_has_left(tmp_path: Path) -> None:
    """The third one has started less than a lease ago and votes for nobody: so the successor cannot do without the vote
    of the node that stops, and that waits for an fsync."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        stopping, restarted = scene.leader, scene.followers[0]
        await here.run_for(SETTLED_MS / 1000)
        await restarted.stop()
        restarted.start()
        assert stopping.node is not None
        assert stopping.disk is not None
        network = stopping.node.service.network
        await here.until(lambda: network.connected(restarted.id), "it is connected", step_s=0.001)
        adding = asyncio.ensure_future(_add_many(scene, 40, pause_s=0.01))
        with patch.object(stopping.disk, "sync_delay_s", lambda now: 3 * HAND_OVER_S / HAND_OVER_STEPS):
            await stopping.stop()
        assert await adding < HAND_OVER_S, "the clients waited for an election"
        stopping.start()
        await scene.settle()

    play(tmp_path, scenario)


def test_a_node_without_peers_does_not_wait_to_hand_over(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        leader = scene.leader
        for node in scene.followers:
            scene.here.world.block(node.id, leader.id)
            scene.here.world.cut(node.id, leader.id)
        started = scene.here.loop.time()
        assert leader.node is not None
        await leader.node.hand_over()
        assert scene.here.loop.time() == started
        await scene.settle()

    play(tmp_path, scenario)


def test_leadership_goes_back_to_the_preferred_replicas_and_then_stays(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        away = here.nodes[0]
        preferred = {p.id: p.voters[0] for p in scene.items.table().partitions}
        assert away.id in preferred.values()

        def in_place() -> bool:
            leaders = {partition: here.leader(partition) for partition in preferred}
            return all(leader is not None and leader.id == preferred[p] for p, leader in leaders.items())

        await away.kill()
        await here.run_for(3.0)
        away.start()
        await here.run_for(3.0)
        assert not in_place()  # it has to prove steady first
        adding = asyncio.ensure_future(_add_many(scene, 500, pause_s=0.02))
        await here.until(in_place, "every partition is led by its preferred replica")
        assert await adding < 0.3
        changes = sum(node.count("geodyne_raft_term_changes_total") for node in here.nodes)
        await here.run_for(20.0)
        assert in_place()
        assert sum(node.count("geodyne_raft_term_changes_total") for node in here.nodes) == changes
        await scene.settle()

    play(tmp_path, scenario)


def test_an_idle_region_makes_no_checkpoints(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        await scene.items.put(PK, "x")
        await here.run_for(100.0)  # past the checkpoints that the work above asks for
        before = [node.count("geodyne_checkpoints_total") for node in here.nodes]
        assert min(before) > 0
        await here.run_for(200.0)
        assert [node.count("geodyne_checkpoints_total") for node in here.nodes] == before

    play(tmp_path, scenario)


async def _add_many(scene: Scene, count: int, pause_s: float = 0.0) -> float:
    """The longest that a client waited for an answer, in seconds."""
    longest = 0.0
    for _ in range(count):
        await asyncio.sleep(pause_s)
        started = scene.here.loop.time()
        await scene.items.add(PK)
        longest = max(longest, scene.here.loop.time() - started)
    return longest


def test_an_item_deleted_and_put_again_within_one_turn_of_applying_is_there(tmp_path: Path) -> None:
    """Both entries are applied in one transaction, though the turn's budget ends a batch between them."""

    async def scenario(scene: Scene) -> None:
        node = scene.leader
        group = scene.group(node)
        writes = [putting(scene.partition, PK, "old"), putting(scene.partition, PK, "new")]
        deletion = writes[0]._replace(kind=WriteKind.DELETE, item=b"", size=0)
        await scene.items.put(PK, "first")
        group.frozen += 1  # so that several entries wait to be applied
        for call in (deletion, writes[0], deletion, writes[1]):
            answers = node.ask(call)
            await scene.here.run_for(0.2)
            assert isinstance(answers[0], Written)
        with patch.object(service, "APPLY_TURN_EFFECTS_MAX", 5):
            group.frozen -= 1
            node.handler.touch(group)
            await scene.here.run_for(0.2)
        pages = node.ask(Range(scene.partition, 1, b"", b"\xff" * 64, None, False, 0, 1 << 20, False))
        await scene.here.run_for(0.1)
        assert isinstance(pages[0], Page)
        assert [loads(item)["v"]["S"] for item in pages[0].items] == ["new"]

    play(tmp_path, scenario)


# --- the simulation itself ------------------------------------------------------------------------------------


def test_a_process_that_was_killed_does_nothing_more_and_what_it_still_had_to_say_counts_for_nothing(
    tmp_path: Path,
) -> None:
    async def scenario(scene: Scene) -> None:
        node = scene.followers[0]
        dead, life = node.node, node.life
        assert dead is not None
        assert dead._task is not None
        node.crash()
        assert dead._task.cancelling()
        await node.buried()
        node.start()
        node._on_fatal(life, "the log cannot be written")
        await scene.settle()

    play(tmp_path, scenario)
