"""A disk that takes no more writes, or has changed what it held: the group goes on, and the node comes back."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.messages import METADATA_PARTITION, ControlDone, Found
from geodyne.sim.region import SimNode
from geodyne.sim.scene import PK, Scene, play
from geodyne.sim.storage import SimDisk, SimFile
from node.failing import StorageFailure
from node.service import NodeService
from node.storage.directory import DataDirectory
from node.storage.disk import PosixDisk
from node.storage.port import Space, StateFailed
from node.storage.sqlite import StateStore

GIVEN_AWAY_S_MAX = 0.3  # an election after a silent death takes a second and more
LOW = Space(1 << 20, 10 << 30)


@contextmanager
def failing(node: SimNode, method: str, number: int) -> Iterator[None]:
    """The log of this node raises this error at each write or fsync."""
    real = getattr(SimFile, method)
    disk = node.disk
    assert disk is not None

    def fail(file: SimFile, *arguments: Any) -> Any:
        if file in disk.open_files:
            raise OSError(number, os.strerror(number))
        return real(file, *arguments)

    with patch.object(SimFile, method, fail):
        yield


@contextmanager
def failing_state(node: SimNode) -> Iterator[None]:
    assert node.node is not None
    store, real = node.node._store, StateStore._transaction

    def transaction(one: StateStore) -> AbstractContextManager[None]:
        if one is store:
            raise StateFailed("state.db: database or disk is full")
        return real(one)

    with patch.object(StateStore, "_transaction", transaction):
        yield


@contextmanager
def space(low: set[SimNode]) -> Iterator[None]:
    def found(disk: SimDisk, path: Path) -> Space:
        return LOW if any(node.disk is disk for node in low) else Space(5 << 30, 10 << 30)

    with patch.object(PosixDisk, "space", found), patch.object(SimDisk, "space", found):
        yield


def service(node: SimNode) -> NodeService:
    assert node.node is not None
    return node.node.service


async def dies(scene: Scene, node: SimNode) -> None:
    """The process ends itself; whoever looks after it sees that."""
    await scene.here.until(lambda: bool(node.fatal), "the process has ended")
    scene.here.problems.clear()
    await node.kill()


def _failures() -> list[Any]:
    of_log = [(method, number) for method in ("write", "sync") for number in (errno.ENOSPC, errno.EIO, errno.EROFS)]
    return [pytest.param(*one, id=f"{one[0]}-{errno.errorcode[one[1]]}") for one in of_log]


@pytest.mark.parametrize(("method", "number"), _failures())
def test_a_leader_whose_log_fails_gives_its_groups_away_at_once(tmp_path: Path, method: str, number: int) -> None:
    async def scenario(scene: Scene) -> None:
        here, old = scene.here, scene.leader
        await scene.items.put(PK, "before")
        with failing(old, method, number):
            write = here.loop.create_task(scene.items.put(PK, "meanwhile"))
            await here.until(lambda: bool(service(old).failure.reason), "the failure is noticed")
            began = here.loop.time()
            await scene.new_leader(old)
            assert here.loop.time() - began < GIVEN_AWAY_S_MAX
            await write
            await dies(scene, old)
        await scene.items.put(PK, "without it")
        old.start()
        await scene.settle()
        assert await scene.items.read(PK) == "without it"

    play(tmp_path, scenario)


def test_a_leader_whose_state_cannot_be_written_does_so_too(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        old = scene.leader
        with failing_state(old):
            await scene.items.put(PK, "written")
            await scene.new_leader(old)
            await dies(scene, old)
        old.start()
        await scene.settle()
        assert await scene.items.read(PK) == "written"

    play(tmp_path, scenario)


def test_so_does_one_that_cannot_let_go_of_what_the_log_has_dropped(tmp_path: Path) -> None:
    """Noticed when an fsync has landed, outside of any turn: whoever waits for the same one is told all the same."""

    async def scenario(scene: Scene) -> None:
        here, old = scene.here, scene.leader
        assert old.node is not None
        store, real = old.node._store, StateStore.destroy

        def destroy(one: StateStore, partition: int) -> None:
            if one is store:
                raise StateFailed("state.db: database or disk is full")
            real(one, partition)

        with patch.object(StateStore, "destroy", destroy):
            assert isinstance(await here.control("delete_table", {"name": "T"}), ControlDone)
            await dies(scene, old)
        old.start()
        await here.settle([])
        assert all(set(node.node._store._groups) == {METADATA_PARTITION} for node in here.nodes if node.node)

    play(tmp_path, scenario)


def test_so_does_one_whose_directory_takes_no_newer_mark(tmp_path: Path) -> None:
    """Before anything is written that older versions would misread."""

    async def scenario(scene: Scene) -> None:
        old = scene.leader
        assert old.node is not None
        directory, real = old.node._directory, DataDirectory.grow

        def grow(one: DataDirectory, data_format: int) -> None:
            if one is directory:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(one, data_format)

        with patch.object(DataDirectory, "grow", grow):
            making = scene.here.loop.create_task(scene.here.create_table("S", stream_view="KEYS_ONLY"))
            await scene.new_leader(old)
            await dies(scene, old)
        assert old.fatal.endswith("No space left on device")
        await making
        old.start()
        await scene.settle()

    play(tmp_path, scenario)


def test_an_answer_that_rests_on_a_failed_fsync_never_leaves(tmp_path: Path) -> None:
    """Both followers' fsyncs fail after the leader's write reached them: nobody acknowledged, so nobody is told."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        first, second = scene.followers
        await scene.items.put(PK, "before")
        with failing(first, "sync", errno.EIO), failing(second, "sync", errno.EIO):
            write = here.loop.create_task(scene.items.put(PK, "in doubt"))
            await dies(scene, first)
            await dies(scene, second)
            assert not write.done()
        first.start()
        second.start()
        await write
        await scene.settle()

    play(tmp_path, scenario)


def test_without_the_last_words_the_group_waits_for_an_election(tmp_path: Path) -> None:
    """The bound above can be missed: so it is those messages that keep it."""

    async def scenario(scene: Scene) -> None:
        here, old = scene.here, scene.leader
        with failing(old, "sync", errno.EIO), patch.object(StorageFailure, "_give_away", lambda failure: None):
            write = here.loop.create_task(scene.items.put(PK, "meanwhile"))
            await here.until(lambda: bool(service(old).failure.reason), "the failure is noticed")
            began = here.loop.time()
            await dies(scene, old)
            await scene.new_leader(old)
            assert here.loop.time() - began > GIVEN_AWAY_S_MAX
            await write
        old.start()
        await scene.settle()

    play(tmp_path, scenario)


def test_a_leader_that_is_short_of_space_gives_way_and_the_clients_see_nothing(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        old = scene.leader
        low = {old}
        with space(low):
            new = await scene.new_leader(old)
            await scene.items.put(PK, "elsewhere")
            guard = service(old).space
            assert guard is not None
            assert guard.low
            assert old.count("geodyne_disk_full") == 1
            assert new.count("geodyne_disk_full") == 0
            low.clear()
            await scene.here.run_for(2.0)
            assert not guard.low
        await scene.settle()

    play(tmp_path, scenario)


def test_where_all_are_short_of_space_reads_go_on_and_writes_wait(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        await scene.items.put(PK, "before")
        low = set(here.nodes)
        with space(low):
            await here.run_for(3.0)
            await here.until(lambda: here.leader(scene.partition) is not None, "somebody leads")
            write = here.loop.create_task(scene.items.put(PK, "later"))
            found = await here.clients[1].region.call(scene.get(), timeout_ms=5_000)
            assert isinstance(found, Found)
            await here.run_for(1.0)
            assert not write.done()
            low.clear()
            await write
        await scene.settle()

    play(tmp_path, scenario)


def damage_log(node: SimNode) -> Path:
    """Change a byte in the first half of the newest segment, behind which there is much that proves it durable."""
    log = node._directory(node.life + 1) / "log"
    segment = max(log.iterdir())
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    return log


@pytest.mark.parametrize("who", ["leader", "follower"])
@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_damaged_log_is_put_aside_and_the_replicas_go_on_from_their_states(
    tmp_path: Path, who: str, checkpointed: bool
) -> None:
    """Without a checkpoint the last part of the deduplication windows was in the log, and snapshots must bring it."""

    async def scenario(scene: Scene) -> None:
        here = scene.here
        for number in range(20):
            await scene.items.put(PK, f"value {number}")
        await here.settle(scene.partitions)
        hurt = scene.leader if who == "leader" else scene.followers[0]
        applied = scene.group(hurt).state.applied_index
        assert applied
        if checkpointed:
            assert hurt.node is not None
            await hurt.node._maintenance.checkpoint()
        await hurt.kill()
        log = damage_log(hurt)
        here.checks.disk_lost(hurt.id)
        hurt.start()
        assert log.with_name("log.damaged").exists()
        assert hurt.count("geodyne_damage_found_total") == 1
        held, stored = service(hurt).groups.get(scene.partition), service(hurt).groups.stored_state(scene.partition)
        state = held.state if held is not None else stored
        assert state is not None
        assert state.applied_index == applied
        await scene.settle()
        assert all(not group.raft.newcomer for group in service(hurt).groups)
        assert checkpointed == (hurt.count("geodyne_snapshots_total", direction="received", result="ok") == 0)
        other = next(node for node in here.others(hurt) if node is not here.leader(METADATA_PARTITION))
        await other.kill()
        assert await scene.items.read(PK) == "value 19"
        await scene.items.put(PK, "with its vote")
        other.start()
        await scene.settle()

    play(tmp_path, scenario)


def test_a_node_with_a_damaged_log_does_not_vote_for_those_who_lack_what_it_had_acknowledged(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        here = scene.here
        away = scene.leader
        lacking, hurt = scene.followers
        for number in range(5):
            await scene.items.put(PK, f"value {number}")
        here.world.block(away.id, lacking.id)
        await scene.items.put(PK, "kept")
        await away.kill()
        await hurt.kill()
        damage_log(hurt)
        here.checks.disk_lost(hurt.id)
        here.world.heal()
        hurt.start()
        await here.run_for(10.0)
        assert here.leader(scene.partition) is None
        away.start()
        await scene.settle()
        assert await scene.items.read(PK) == "kept"

    play(tmp_path, scenario)


def test_a_process_that_fails_half_way_through_its_start_is_dead_and_started_again(tmp_path: Path) -> None:
    """The data directory could be opened; the first replica could not be written."""

    async def scenario(scene: Scene) -> None:
        here, node = scene.here, scene.followers[0]
        await node.kill()
        node.lose_disk()
        life, node.trouble.write_error = node.life, errno.EROFS
        here.revive_soon(node, 0.0)
        await here.until(lambda: node.life > life + 1, "it was tried twice")
        assert not node.alive
        node.trouble.clear()
        await here.revived()
        await scene.settle()

    play(tmp_path, scenario)
