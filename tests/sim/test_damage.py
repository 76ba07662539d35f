"""Damage to the state of a replica: it is found where it is read or compared, is never served, and heals."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.errors import ApiError
from geodyne.messages import Found, NotLeader, Range, Refused
from geodyne.sim.items import key_of
from geodyne.sim.network import Violation
from geodyne.sim.region import SimNode
from geodyne.sim.scene import PK, Scene, play
from node import scrub
from node.healing import Healing
from node.storage.port import GroupUpdate


def spoil(
    scene: Scene, node: SimNode, change: str = "value = CAST(X'00' || value AS BLOB)", *, checked: bool = True
) -> None:
    """Change the row of PK in a node's database behind its back; unless `checked`, so that its checksum is right."""
    assert node.node is not None
    store = node.node._store
    space = store._groups[scene.partition].space
    key = key_of(PK)
    count = store._db.execute(f"UPDATE items SET {change} WHERE space=? AND key=?", (space, key)).rowcount
    assert count == 1
    if not checked:
        store._db.execute("UPDATE items SET checksum=NULL WHERE space=? AND key=?", (space, key))
        store._groups[scene.partition].checked = False


def damaged(scene: Scene, node: SimNode) -> bool:
    group = scene.here.group(node, scene.partition)
    return group is not None and bool(group.damaged)


async def healed(scene: Scene, node: SimNode) -> None:
    await scene.here.until(
        lambda: node.count("geodyne_healed_replicas_total") and not damaged(scene, node), f"{node.id} is healed"
    )
    await scene.settle()


async def applied(scene: Scene) -> None:
    """Everything is in the databases, and no read is answered from memory."""
    await scene.here.settle(scene.partitions)


def test_a_leader_that_reads_a_damaged_row_gives_way_and_heals_and_the_client_sees_nothing(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.items.put(PK, "right")
        await applied(scene)
        old = scene.leader
        spoil(scene, old)
        assert await scene.items.read(PK) == "right"
        assert scene.here.leader(scene.partition) is not old
        await healed(scene, old)
        await scene.here.until(scene.here.lead_by(scene.partition, old), "the healed replica leads again")
        assert await scene.items.read(PK) == "right"

    play(tmp_path, scenario)


def test_a_write_that_meets_a_damaged_row_is_judged_by_a_sound_replica(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        assert await scene.items.add(PK) == "1"
        await applied(scene)
        old = scene.leader
        spoil(scene, old)
        assert await scene.items.add(PK) == "2"
        await healed(scene, old)

    play(tmp_path, scenario)


def test_a_follower_does_not_serve_a_damaged_row_and_heals(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.items.put(PK, "right")
        await applied(scene)
        follower = scene.followers[0]
        spoil(scene, follower)
        answers = follower.ask(scene.get(strong=False))
        await scene.here.until(lambda: answers, "an answer")
        assert isinstance(answers[0], NotLeader)
        page = follower.ask(Range(scene.partition, 1, b"", b"\xff" * 64, None, False, 10, 1 << 20, False))
        await scene.here.until(lambda: page, "a page")
        assert isinstance(page[0], NotLeader)
        await healed(scene, follower)
        again = follower.ask(scene.get(strong=False))
        await scene.here.until(lambda: again, "an answer")
        assert isinstance(again[0], Found)
        assert again[0].item is not None
        assert b"right" in again[0].item

    play(tmp_path, scenario)


def test_writes_go_on_while_a_replica_heals(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.items.put(PK, "right")
        await applied(scene)
        follower = scene.followers[0]
        spoil(scene, follower)
        follower.ask(scene.get(strong=False))
        for number in range(20):
            await scene.items.put(f"other-{number}", "x")
        await healed(scene, follower)

    play(tmp_path, scenario)


def test_a_replica_with_other_rows_than_the_majority_is_found_by_comparison_and_heals(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        for number in range(30):
            await scene.items.put(f"item-{number}", "x")
        await scene.items.put(PK, "right")
        await applied(scene)
        odd = scene.followers[1]
        spoil(scene, odd, "value = CAST(replace(value, 'right', 'wrong') AS BLOB)", checked=False)
        await healed(scene, odd)
        assert scene.leader.count("geodyne_scrubs_total", result="different") >= 1

    with soon():
        play(tmp_path, scenario)


def test_a_leader_with_other_rows_than_the_majority_finds_itself_wrong(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.items.put(PK, "right")
        await applied(scene)
        odd = scene.leader
        spoil(scene, odd, "value = CAST(replace(value, 'right', 'wrong') AS BLOB)", checked=False)
        await healed(scene, odd)
        assert await scene.items.read(PK) == "right"

    with soon():
        play(tmp_path, scenario)


def test_a_row_that_is_missing_on_one_replica_is_found_by_comparison(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.items.put(PK, "right")
        await applied(scene)
        odd = scene.followers[0]
        spoil(scene, odd, "space = space + 1000")
        await healed(scene, odd)

    with soon():
        play(tmp_path, scenario)


def test_equal_replicas_are_compared_and_left_alone(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        async def write() -> None:
            for number in range(200):
                await scene.items.put(f"item-{number % 40}", str(number))

        writing = asyncio.ensure_future(write())
        await scene.here.run_for(15)
        await writing
        await scene.settle()
        nodes = scene.here.nodes
        assert sum(node.count("geodyne_scrubs_total", result="equal") for node in nodes) > 10
        assert not any(node.count("geodyne_scrubs_total", result="different") for node in nodes)
        assert not any(node.count("geodyne_damage_found_total") for node in nodes)

    with soon(rest_ms=1_000, rows=8):
        play(tmp_path, scenario)


@pytest.mark.parametrize("what", ["state", "database"])
def test_a_node_whose_state_is_damaged_at_rest_starts_and_is_rebuilt(tmp_path: Path, what: str) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.items.put(PK, "right")
        await applied(scene)
        node = scene.followers[0]
        node.rotten = True
        reached = scene.group(node).raft.log.last_index
        await node.stop()
        scene.reached = reached
        path = node._directory(node.life + 1) / "state.db"
        if what == "database":
            path.write_bytes(b"\xee" * path.stat().st_size)
        else:
            spoil_states(path)
        await scene.write_until_compacted(node)
        node.start()
        assert node.count("geodyne_damage_found_total") >= 1
        await scene.settle()
        answers = node.ask(scene.get(strong=False))
        await scene.here.until(lambda: answers, "an answer")
        assert isinstance(answers[0], Found)

    play(tmp_path, scenario, small=True)


def spoil_states(path: Path) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    assert database.execute("UPDATE groups SET state = CAST(X'00' || state AS BLOB)").rowcount >= 2
    database.close()


def soon(rest_ms: int = 2_000, rows: int = 16) -> ExitStack:
    """Comparisons that begin at once and hardly rest."""
    stack = ExitStack()
    for name, value in (("FIRST_PASS_MS", 500), ("REST_MS", rest_ms), ("RANGE_ROWS", rows)):
        stack.enter_context(patch.object(scrub, name, value))
    return stack


def test_damage_that_no_replica_can_heal_is_refused_alone(tmp_path: Path) -> None:
    """All three replicas of one row: the item is refused, its neighbours are not."""

    async def scenario(scene: Scene) -> None:
        await scene.items.put(PK, "right")
        await applied(scene)
        for node in scene.here.nodes:
            spoil(scene, node)
        for node in scene.followers:
            node.ask(scene.get(strong=False))
        await scene.here.run_for(2)
        leader = scene.leader
        answers = leader.ask(scene.get())
        await scene.here.until(lambda: answers, "an answer")
        assert isinstance(answers[0], Refused)
        assert scene.leader is leader
        await scene.items.put("neighbour", "fine")
        assert await scene.items.read("neighbour") == "fine"

    play(tmp_path, scenario)


# --- with the rules taken out, the scenarios above must fail ----------------------------------------------------


def _matches(*_: object) -> bool:
    return True


def _nothing(*_: object) -> None:
    return None


BROKEN: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "checksums are not looked at": lambda: patch("node.storage.sqlite.row_matches", _matches),
    "a damaged leader keeps on": lambda: patch.object(Healing, "_give_away", _nothing),
    "nobody asks for a snapshot": lambda: patch.object(Healing, "_ask", _nothing),
    "a damaged replica takes no older snapshot": lambda: patch("node.transfer._heals", lambda *_: False),
    "damage is not reported": lambda: patch.object(Healing, "found", _nothing),
}


@pytest.mark.parametrize("what", BROKEN)
def test_without_one_of_its_rules_healing_is_seen_to_fail(tmp_path: Path, what: str) -> None:
    def mended(path: Path) -> None:
        test_a_leader_that_reads_a_damaged_row_gives_way_and_heals_and_the_client_sees_nothing(path)

    with BROKEN[what](), pytest.raises((Violation, AssertionError, TimeoutError, ApiError, ValueError)):
        mended(tmp_path)


def test_without_a_verdict_of_the_majority_a_differing_replica_stays_as_it_is(tmp_path: Path) -> None:
    with patch.object(scrub.Scrub, "_differing", _nothing), pytest.raises(Violation):
        test_a_replica_with_other_rows_than_the_majority_is_found_by_comparison_and_heals(tmp_path)


def test_a_damaged_row_under_a_local_index_is_met_while_applying_and_the_replica_heals(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.items.put(PK, "right")
        await applied(scene)
        follower = scene.followers[0]
        assert follower.node is not None
        store = follower.node._store

        def meets_damage(updates: Sequence[GroupUpdate]) -> None:
            if any(update.partition == scene.partition for update in updates):
                raise store._damaged(scene.partition, "a row")
            real(updates)

        real = store.apply
        with patch.object(store, "apply", meets_damage):
            for number in range(10):
                await scene.items.put(PK, str(number))
            await scene.here.run_for(0.1)
            assert damaged(scene, follower)
        await healed(scene, follower)

    play(tmp_path, scenario)
