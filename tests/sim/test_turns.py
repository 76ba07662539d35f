"""What a leader builds is proposed before it can hear that it leads no more; one that leads no more builds nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import patch

from geodyne.messages import ApplyChanges, Change, Prepare, Prepared, Refused, Write, WriteKind
from geodyne.sim.items import key_of
from geodyne.sim.region import SimNode
from geodyne.sim.scene import PK, Scene, play
from node.storage.port import GroupDamaged, Row
from node.storage.sqlite import StateStore
from node.transactions.participant import Decision
from node.transactions.recovery import Recovery

VERSION = b"\x7f" * 8 + b"eu"


def step_down(scene: Scene, node: SimNode) -> None:
    """By a message or a timer, say: the group is told at the end of the next turn."""
    scene.group(node).raft.step_down(node.clock.lease_ms())
    assert scene.group(node).serving


def test_what_a_call_has_built_before_it_meets_damage_is_proposed_in_its_turn(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        leader = scene.leader
        group, real = scene.group(leader), StateStore.get

        def get(store: StateStore, partition: int, key: bytes) -> Row | None:
            if key == key_of("damaged"):
                raise GroupDamaged(partition, "a row")
            return real(store, partition, key)

        changes = tuple(Change(key_of(pk), VERSION, b"{}", 2) for pk in ("whole", "damaged"))
        before = group.raft.log.last_index
        with patch.object(StateStore, "get", get):
            answers = leader.ask(ApplyChanges(scene.partition, 1, changes))
            await scene.here.run_for(0.01)
        assert isinstance(answers[0], Refused)
        assert group.raft.log.last_index == before + 1
        await scene.settle()

    play(tmp_path, scenario)


def test_a_leader_that_leads_no_more_logs_no_marker(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        old = scene.leader
        group = scene.group(old)
        before = group.raft.log.last_index
        step_down(scene, old)
        newer = group.state.definition._replace(revision=group.state.definition.revision + 1)
        assert not group.define(newer, old.clock.wall_us())
        assert group.raft.log.last_index == before
        old.handler.touch(group)
        await scene.items.put(PK, "goes on")
        await scene.settle()

    play(tmp_path, scenario)


def test_the_ledgers_answer_to_a_leader_that_leads_no_more_is_left_to_the_next_one(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here, old = scene.here, scene.leader
        asked, told = asyncio.Event(), asyncio.Event()

        async def decision(recovery: Recovery, held: object, cancel: bool) -> Decision:
            asked.set()
            await told.wait()
            return Decision.CANCELLED

        def ended() -> bool:
            leader = here.leader(scene.partition)
            return leader is not None and not scene.group(leader).participant.busy

        check = Write(scene.partition, 1, WriteKind.CHECK, key_of(PK), b"", 0, "attribute_not_exists(pk)", None)
        with patch.object(Recovery, "_decision", decision):
            answers = old.ask(Prepare(scene.partition, 1, b"t" * 16, 1, b"d", (check,)))
            await asyncio.wait_for(asked.wait(), 10)
            assert isinstance(answers[0], Prepared)
            step_down(scene, old)
            told.set()
            for _ in range(10):
                await asyncio.sleep(0)
            assert scene.group(old).participant.busy
            old.handler.touch(scene.group(old))
            await here.until(ended, "the next one brings it to its end")
        await scene.settle()

    play(tmp_path, scenario)
