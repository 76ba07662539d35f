"""Tables that come, change and go while nodes do the same; and the change feed. As in test_scenarios."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from geodyne.catalog import stream_consumer
from geodyne.messages import (
    METADATA_PARTITION,
    AdvanceCursor,
    Applied,
    Busy,
    ControlDone,
    FeedPage,
    Found,
    Get,
    Moved,
    Range,
    ReadFeed,
    ReadRows,
    Rows,
    WriteId,
    Written,
)
from geodyne.model.values import loads
from geodyne.sim.items import key_of, putting
from geodyne.sim.region import SimNode
from geodyne.sim.scene import PK, REPLICA, Scene, play
from geodyne.sim.storage import copy_directory
from node.raft.effects import FORGOTTEN
from node.storage.wal import Wal

# --- the catalog --------------------------------------------------------------------------------------------


def test_tables_made_deleted_and_made_again_while_a_node_is_down(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        await scene.items.put(PK, "first life")
        away = here.nodes[2]
        await away.kill()
        assert isinstance(await here.control("delete_table", {"name": "T"}), ControlDone)
        await here.until(lambda: "T" not in here.client.catalog.tables, "the table is gone")
        table = await here.create_table()
        assert not {partition.id for partition in table.partitions} & set(scene.partitions)
        assert await scene.items.read(PK) == ""
        away.start()
        scene.partitions = [partition.id for partition in table.partitions]
        await here.settle(scene.partitions)
        assert away.node is not None
        await here.run_for(0.5)
        held = {METADATA_PARTITION, *scene.partitions}
        assert {group.partition for group in away.node.service.groups} == held
        assert set(away.node._store._groups) == held
        assert counting(away) == held

    play(tmp_path, scenario)


def counting(node: SimNode) -> set[int]:
    """The groups in whose logs there is more than the mark of a replica that was given up."""
    assert node.node is not None
    return {group for group, log in node.node._log._index.groups.items() if log.vote != FORGOTTEN or log.last_index}


def test_a_node_whose_catalog_falls_back_before_a_deletion_does_not_speak_for_the_replicas_it_dropped(
    tmp_path: Path,
) -> None:
    """A power cut may take back what the state had applied, and nothing of the log, where their promises were. A mark
    that they were given up stays until the catalog cannot fall back so far."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        await scene.items.put(PK, "x")
        await here.settle(scene.partitions)
        back = scene.followers[0]
        kept = tmp_path / "before"
        copy_directory(back.data, kept)
        assert isinstance(await here.control("delete_table", {"name": "T"}), ControlDone)
        await here.until(lambda: all(counting(node) == {METADATA_PARTITION} for node in here.nodes), "all is dropped")
        await back.kill()
        for name in ("state.db", "state.db-wal"):
            shutil.copyfile(kept / name, back.data / name)
        here.isolate(back, from_clients=False)
        back.start()
        await here.run_for(3.0)
        again = here.group(back, scene.partition)
        assert again is not None
        assert again.raft.newcomer
        here.world.heal()
        await here.settle([])
        assert here.group(back, scene.partition) is None
        for number in range(3):
            await here.create_table(f"other {number}")

        def marks() -> list[int]:
            return [len(node.node._log._index.groups) - len(counting(node)) for node in here.nodes if node.node]

        await here.until(lambda: marks() == [0, 0, 0], "nothing is left of them")

    play(tmp_path, scenario, small=True)


def test_whoever_waits_at_a_table_that_is_deleted_is_told(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        leader, follower = scene.leader, scene.followers[0]
        group = scene.group(leader)
        feed = ReadFeed(scene.partition, 1, REPLICA, 1 << 40, 1000, 60_000)
        polling = [leader.ask(feed), follower.ask(feed)]
        group.frozen += 1
        await scene.items.put(PK, "x")
        held = leader.ask(Range(scene.partition, 1, b"", b"\xff" * 9, None, False, 0, 1 << 20, True))
        group.serving = False  # as before a new leader is ready
        parked = leader.ask(putting(scene.partition, PK, "y"))
        group.handing_over = True
        await here.run_for(0.05)
        assert [polling, held, parked] == [[[], []], [], []]
        assert isinstance(await here.control("delete_table", {"name": "T"}), ControlDone)
        await here.run_for(0.5)
        for answers in (*polling, held, parked):
            assert isinstance(answers[0], Moved)
        await here.until(lambda: "T" not in here.client.catalog.tables, "the table is gone")

    play(tmp_path, scenario)


def test_a_marker_reaches_every_partition_and_a_node_that_was_away(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        away = here.nodes[1]
        await away.kill()
        answer = await here.control("update_table", {"name": "T", "replicas_add": ["eu-west-1"]})
        assert isinstance(answer, ControlDone)
        table = await here.active()
        await scene.items.put(PK, "x")
        await scene.items.delete(PK)
        away.start()
        await scene.settle()
        for node in here.nodes:
            for partition in scene.partitions:
                group = here.group(node, partition)
                assert group is not None
                assert group.state.definition.revision == table.revision
                assert table.stream_label is not None  # a table with replicas has a stream
                assert group.state.cursors.keys() == {REPLICA, stream_consumer(table.stream_label)}
        rows = scene.leader.ask(ReadRows(scene.partition, 1, b"", 1 << 20))
        await here.run_for(0.1)
        assert isinstance(rows[0], Rows)
        assert [row.image for row in rows[0].rows] == [None]  # a table with replicas keeps tombstones

    play(tmp_path, scenario)


def test_a_deletion_behind_an_unapplied_marker_keeps_its_tombstone(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here, leader = scene.here, scene.leader
        await scene.items.put(PK, "x")
        scene.group(leader).frozen += 1
        await here.control("update_table", {"name": "T", "replicas_add": ["eu-west-1"]})
        await here.run_for(0.2)
        assert scene.group(leader).state.definition.tombstones is False
        await scene.items.delete(PK)
        scene.group(leader).frozen -= 1
        leader.handler.touch(scene.group(leader))
        await scene.settle()
        rows = here.dump(leader, scene.partition)["rows"]
        assert [(key, row.value) for key, row in rows] == [(key_of(PK), None)]

    play(tmp_path, scenario)


def test_control_operations_queued_behind_another_are_answered_when_the_leadership_ends(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        leader = here.leader(METADATA_PARTITION)
        assert leader is not None
        for node in here.others(leader):
            here.world.block(leader.id, node.id)
        bodies = [{"name": "T", "read_units": number} for number in range(1, 4)]
        updates = [asyncio.ensure_future(here.control("update_table", body)) for body in bodies]
        await here.run_for(0.2)
        assert not any(update.done() for update in updates)
        here.isolate(leader, from_clients=False)
        await here.until(lambda: here.leader(METADATA_PARTITION) not in (None, leader), "another leader")
        here.world.heal()
        await asyncio.wait_for(asyncio.gather(*updates), 10)
        await here.active()
        await scene.settle()

    play(tmp_path, scenario)


def test_two_control_operations_never_share_a_revision(tmp_path: Path) -> None:
    """Calls that were parked at a new metadata leader run before it plans anything of its own."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        old = here.leader(METADATA_PARTITION)
        assert old is not None
        await old.kill()
        updates = [
            asyncio.ensure_future(here.control("create_table", {"definition": _definition(name)}))
            for name in ("U", "V", "W")
        ]
        await asyncio.wait_for(asyncio.gather(*updates), 20)
        old.start()
        for name in ("U", "V", "W"):
            await here.active(name)
        await here.settle([METADATA_PARTITION])
        revisions = {node.handler.catalog.revision for node in here.nodes}
        assert len(revisions) == 1

    play(tmp_path, scenario)


def test_a_node_that_has_not_heard_of_a_table_sends_its_readers_elsewhere(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        behind = next(node for node in here.nodes if node is not here.leader(METADATA_PARTITION))
        here.isolate(behind, from_clients=False)
        answer = await here.control("create_table", {"definition": _definition("U")})
        assert isinstance(answer, ControlDone)
        partition = answer.body["table"]["partitions"][0]["id"]
        asked = behind.ask(Get(partition, 1, key_of(PK), False))
        gone = behind.ask(Get(partition + 1000, 1, key_of(PK), False))
        await here.run_for(0.05)
        assert isinstance(asked[0], Busy)
        assert isinstance(gone[0], Busy)
        here.world.heal()
        await here.active("U")

    play(tmp_path, scenario)


# --- the change feed ----------------------------------------------------------------------------------------


def test_the_feed_is_the_same_on_every_replica_in_order_across_leaders_and_trimmed_by_its_cursors(
    tmp_path: Path,
) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        await scene.items.put(PK, "before the marker")
        await here.control("update_table", {"name": "T", "replicas_add": ["eu-west-1"]})
        table = await here.active()
        assert table.stream_label is not None
        wanted = []
        for number in range(12):
            if number == 6:
                old = scene.leader
                await old.kill(power_loss=True)
                await scene.new_leader(old)
            await scene.items.put(PK, str(number))
            wanted.append(str(number))
        old.start()
        await scene.settle()
        pages = [node.ask(ReadFeed(scene.partition, 1, REPLICA, -1, 1 << 20, 0)) for node in here.nodes]
        await here.run_for(0.1)
        assert pages[0] == pages[1] == pages[2]
        page = pages[0][0]
        assert isinstance(page, FeedPage)
        images = [record.change.image for record in page.records]
        assert [loads(image)["v"]["S"] for image in images if image] == wanted
        sequences = [record.sequence for record in page.records]
        assert sequences == sorted(set(sequences))
        middle = sequences[5]
        for consumer in (REPLICA, stream_consumer(table.stream_label)):
            untrimmed = scene.leader.ask(ReadFeed(scene.partition, 1, REPLICA, sequences[0], 1 << 20, 0))
            done = scene.leader.ask(AdvanceCursor(scene.partition, 1, consumer, middle))
            await here.run_for(0.1)
            assert isinstance(untrimmed[0], FeedPage)
            assert not untrimmed[0].trimmed, "the slowest one holds it"
            assert done == [Applied(1)]
            await scene.settle()
        for node in here.nodes:
            rest, too_old = (
                node.ask(ReadFeed(scene.partition, 1, REPLICA, after, 1 << 20, 0)) for after in (-1, sequences[0])
            )
            await here.run_for(0.05)
            assert isinstance(rest[0], FeedPage)
            assert [record.sequence for record in rest[0].records] == sequences[6:]
            assert isinstance(too_old[0], FeedPage)
            assert too_old[0].trimmed

    play(tmp_path, scenario)


def _definition(name: str) -> dict[str, object]:
    return {"name": name, "hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None}


def test_writers_are_asked_to_come_back_while_the_logs_disk_does_not_keep_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a slow disk is bounded; nobody is told anything about an outcome, and reads go on."""

    async def scenario(scene: Scene) -> None:
        leader, write = scene.leader, putting(scene.partition, PK, "1")
        monkeypatch.setattr(Wal, "overloaded", True)
        refused = leader.ask(write, WriteId(99, 1, 1))
        read = leader.ask(scene.get())
        await scene.here.run_for(0.5)
        assert [type(answer) for answer in refused] == [Busy]
        assert read == [Found(None, 0)]
        monkeypatch.undo()
        taken = leader.ask(write, WriteId(99, 1, 1))
        await scene.here.run_for(0.5)
        assert [type(answer) for answer in taken] == [Written]

    play(tmp_path, scenario)


def test_a_parked_call_whose_time_is_up_takes_no_effect(tmp_path: Path) -> None:
    """Its caller has been told that the outcome is unknown: doing it later than that would surprise everybody."""

    async def scenario(scene: Scene) -> None:
        leader, group = scene.leader, scene.group(scene.leader)
        group.serving, group.handing_over = False, True  # leads, but takes nothing yet
        late = leader.ask(putting(scene.partition, PK, "late"), WriteId(99, 1, 1))
        await scene.here.run_for(11.0)
        in_time = leader.ask(putting(scene.partition, PK, "in time"), WriteId(99, 2, 1))
        await scene.here.run_for(0.1)
        group.handing_over = False
        leader.handler.touch(group)
        await scene.here.run_for(0.5)
        assert [type(answer) for answer in late] == [Busy]
        assert [type(answer) for answer in in_time] == [Written]
        assert await scene.items.read(PK) == "in time"

    play(tmp_path, scenario)
