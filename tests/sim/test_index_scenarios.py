"""Global indexes while nodes die, are cut off and come back: in the end each holds exactly what the items say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from geodyne.messages import INDEX_FENCED, Answer, Applied, ApplyIndex, Busy, ControlDone, Refused, Written
from geodyne.model.keys import hash_of
from geodyne.model.values import loads
from geodyne.sim import region as simulated
from geodyne.sim.indexes import BY_N, BY_V, PKS, IndexScene, play_indexed, sent_batches
from geodyne.sim.items import key_of, putting
from node.feed.retention import FeedSettings
from node.group import Asker, Group
from node.indexes import maintainer


def test_entries_follow_the_items_and_the_feed_is_trimmed(tmp_path: Path) -> None:
    async def scenario(scene: IndexScene) -> None:
        await scene.write(60, seed=1)
        await scene.settle()
        assert any(scene.held()["by-v"])
        assert any(scene.held()["by-n"])

    play_indexed(tmp_path, scenario)


@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("victim", ["table", "index"])
def test_leaders_die_while_entries_are_on_their_way(tmp_path: Path, victim: str, seed: int) -> None:
    async def scenario(scene: IndexScene) -> None:
        here = scene.here
        for turn in range(3):
            writing = asyncio.ensure_future(scene.write(25, seed=100 * seed + turn))
            await here.run_for(here.random.uniform(0.001, 0.05))
            partition = scene.base(turn) if victim == "table" else scene.index_partition(turn % 2)
            await here.until(lambda: here.leader(partition) is not None, "a leader")  # noqa: B023 - awaited here
            node = scene.leader(partition)
            await node.kill(power_loss=turn == 1)
            await writing
            node.start()
        await scene.settle()

    play_indexed(tmp_path, scenario, seed, small=seed % 2 == 0)


@pytest.mark.parametrize("deposed", [False, True])
def test_a_batch_that_comes_late_changes_nothing(tmp_path: Path, deposed: bool) -> None:
    """A row that a backfill sent, or that a leader who has been replaced sends, arrives when its item is long gone."""

    async def scenario(scene: IndexScene) -> None:
        here = scene.here
        await scene.items.put(PKS[0], "red")
        with sent_batches() as batches:
            await scene.add_index(BY_V)
            await scene.until_active()
        (late,) = [batch for batch in batches if batch.entries]
        if deposed:
            other = here.others(scene.leader(late.source))[0]
            await here.until(here.lead_by(late.source, other), "another leads the table's partition")
            late = late._replace(number=late.number + 1)
        await scene.items.delete(PKS[0])
        await scene.settle()
        answers = scene.leader(late.partition).ask(late)
        await here.run_for(0.5)
        assert answers == [
            Refused(INDEX_FENCED, "a later leader of the partition was heard") if deposed else Applied(0)
        ]
        await scene.settle()

    play_indexed(tmp_path, scenario, indexes=())


def test_an_entry_never_goes_back_in_time(tmp_path: Path) -> None:
    """A new leader sends again what its cursor does not cover; the index has seen later changes of the same item."""

    async def scenario(scene: IndexScene) -> None:
        here = scene.here
        await scene.items.put(PKS[0], "red")
        await scene.settle()
        partition = scene.table.partition_of(hash_of(key_of(PKS[0]))).id
        index = next(p.id for p in scene.table.indexes[0].partitions if scene.rows(p.id))
        keeper = scene.leader(index)
        for turn in range(3):
            await here.until(here.lead_by(partition, here.others(keeper)[turn % 2]), "the index is led elsewhere")
            for _ in range(20):
                await scene.items.add(PKS[0])
            newest = [0]

            def counted(newest: list[int] = newest) -> int:
                """What the index says now; never less than it said before."""
                (image,) = scene.rows(index).values()
                newest.append(int(loads(image).get("n", {"N": "0"})["N"]))
                assert newest[-1] >= newest[-2]
                return newest[-1]

            await here.until(lambda: counted() == 20 * (turn + 1), "the index has followed", step_s=0.0005)  # noqa: B023
            old = scene.leader(partition)
            await old.kill()
            await here.until(lambda: counted() and here.leader(partition) not in (None, old), "a leader", step_s=0.0005)  # noqa: B023
            for _ in range(2000):
                counted()
                await asyncio.sleep(0.0005)
            old.start()
            await scene.settle()
            assert scene.leader(index) is keeper

    with patch.object(maintainer, "PAGE_BYTES_MAX", 1):  # each change in a batch of its own
        play_indexed(tmp_path, scenario, indexes=(BY_V,))


def test_what_a_partition_of_an_index_has_taken_survives_its_leaders(tmp_path: Path) -> None:
    async def scenario(scene: IndexScene) -> None:
        here = scene.here
        await scene.items.put(PKS[0], "red")
        with sent_batches() as batches:
            await scene.add_index(BY_V)
            await scene.until_active()
        (late,) = [batch for batch in batches if batch.entries]
        await scene.items.delete(PKS[0])
        await scene.settle()
        old = scene.leader(late.partition)
        await old.kill()
        await here.until(lambda: here.leader(late.partition) not in (None, old), "another leads the index's partition")
        old.start()
        await scene.settle()
        answers = scene.leader(late.partition).ask(late)
        await here.run_for(0.5)
        assert answers == [Applied(0)]
        await scene.settle()

    play_indexed(tmp_path, scenario, indexes=())


def test_a_leader_whose_catalog_is_old_passes_nothing(tmp_path: Path) -> None:
    """It has the marker that names an index through the partition's log before it has the index's record."""

    async def scenario(scene: IndexScene) -> None:
        here = scene.here
        partition = scene.table.partition_of(hash_of(key_of(PKS[0]))).id
        behind = here.nodes[2]
        for each in (0, *[each.id for each in scene.table.all_partitions]):
            await here.until(here.lead_by(each, here.nodes[0]), "the others lead everything")
        metadata = here.group(behind, 0)
        assert metadata is not None
        metadata.frozen += 1  # its copy of the catalog stays as it is
        await scene.add_index(BY_V)
        await scene.until_active(timeout_s=60.0)
        await here.until(here.lead_by(partition, behind), "it leads")
        await scene.items.put(PKS[0], "late")
        await here.run_for(3.0)
        metadata.frozen -= 1
        behind.handler.touch(metadata)
        await scene.settle()
        assert any(b"late" in image for image in scene.held()["by-v"].values())

    play_indexed(tmp_path, scenario, indexes=(BY_N,))


def test_an_index_that_comes_later_is_filled_while_items_change(tmp_path: Path) -> None:
    async def scenario(scene: IndexScene) -> None:
        await scene.write(60, seed=3)
        writing = asyncio.ensure_future(scene.write(60, seed=4))
        await scene.add_index(BY_V)
        await scene.until_active()
        await writing
        await scene.settle()

    play_indexed(tmp_path, scenario, indexes=())


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_backfill_outlives_the_leaders_that_began_it(tmp_path: Path, seed: int) -> None:
    async def scenario(scene: IndexScene) -> None:
        here = scene.here
        await scene.write(80, seed=seed)
        await scene.add_index(BY_V)
        for turn in range(3):
            writing = asyncio.ensure_future(scene.write(20, seed=seed * 10 + turn))
            await here.run_for(here.random.uniform(0.01, 0.1))
            node = here.nodes[turn]
            await node.kill(power_loss=turn == 2)
            await writing
            node.start()
            await here.run_for(here.random.uniform(0.0, 0.5))
        await scene.until_active(timeout_s=60.0)
        await scene.settle()

    play_indexed(tmp_path, scenario, seed, indexes=(BY_N,), small=True)


def test_an_index_goes_and_another_of_its_name_comes(tmp_path: Path) -> None:
    async def scenario(scene: IndexScene) -> None:
        here = scene.here
        await scene.write(30, seed=5)
        gone = {scene.index_partition(0), scene.index_partition(1)}
        assert isinstance(await here.control("update_table", {"name": "T", "index_remove": "by-v"}), ControlDone)
        await here.active()
        assert scene.table.index("by-v") is None
        await scene.write(30, seed=6)
        other = {**BY_V, "projection": "KEYS_ONLY"}
        await scene.add_index(other)
        await scene.until_active()
        await scene.settle()
        for node in here.nodes:
            assert node.node is not None
            assert not gone & {group.partition for group in node.node.service.groups}

    play_indexed(tmp_path, scenario)


def test_a_table_goes_with_the_partitions_of_its_indexes(tmp_path: Path) -> None:
    async def scenario(scene: IndexScene) -> None:
        here = scene.here
        await scene.write(10, seed=7)
        assert isinstance(await here.control("delete_table", {"name": "T"}), ControlDone)
        await here.until(lambda: "T" not in here.client.catalog.tables, "the table is gone")
        for node in here.nodes:
            assert node.node is not None
            assert [group.partition for group in node.node.service.groups] == [0]

    play_indexed(tmp_path, scenario)


def test_a_region_that_was_stopped_goes_on_where_its_indexes_were(tmp_path: Path) -> None:
    async def scenario(scene: IndexScene) -> None:
        here = scene.here
        for turn in range(2):
            await scene.write(30, seed=8 + turn)
            for node in here.nodes:
                await node.kill(power_loss=bool(turn))
            for node in here.nodes:
                node.start()
            await here.until(lambda: here.leader(scene.base()) is not None, "a leader", 30.0)
        await scene.settle()

    play_indexed(tmp_path, scenario, small=True)


def test_a_table_without_indexes_opens_no_links_between_its_nodes(tmp_path: Path) -> None:
    async def scenario(scene: IndexScene) -> None:
        await scene.write(10, seed=9)
        for node in scene.here.nodes:
            assert node.node is not None
            assert not node.node.region_link.open
            assert not node.node.service.indexes._running

    play_indexed(tmp_path, scenario, indexes=())


@pytest.mark.parametrize("remedy", ["the index catches up", "the index goes"])
def test_writes_wait_for_an_index_that_is_far_behind(tmp_path: Path, remedy: str) -> None:
    async def scenario(scene: IndexScene) -> None:
        here, pk = scene.here, PKS[0]
        (base,) = [p for p in scene.table.partitions if p is scene.table.partition_of(hash_of(key_of(pk)))]

        async def answer() -> Answer:
            call = putting(base.id, pk, "x" * random.randrange(100, 200))
            return await here.clients[0].region.call(call, timeout_ms=1_000)

        def full() -> bool:
            group = here.group(scene.leader(base.id), base.id)
            return group is not None and group.feed_full

        def busy(group: Group, call: ApplyIndex, asker: Asker, wall_us: int) -> None:
            asker.answer(Busy("it takes nothing"))

        random = Random(1)
        with patch.object(Group, "apply_index", busy):
            while not full():
                assert isinstance(await answer(), Written)
                await here.run_for(0.05)
            refused = await answer()
            assert isinstance(refused, Refused)
            assert refused.code == "ThrottlingException"
            if remedy == "the index goes":
                assert isinstance(
                    await here.control("update_table", {"name": "T", "index_remove": "by-v"}), ControlDone
                )
                await here.active()
                await here.until(lambda: not full(), "writes go on", 5.0)
        await here.until(lambda: not full(), "writes go on", 20.0)
        assert isinstance(await answer(), Written)

    with patch.object(simulated, "FEED", FeedSettings(bytes_max=4_000)):
        play_indexed(tmp_path, scenario, indexes=(BY_V,))
