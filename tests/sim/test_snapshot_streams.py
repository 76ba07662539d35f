"""Snapshots over streams that break: what was acknowledged is not sent again."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from geodyne.peermessages import Append, RaftMessage, SnapshotChunk
from geodyne.sim.region import SimNode
from geodyne.sim.scene import PK, Scene, play
from node import transfer
from node.group import Group
from node.storage.sqlite import EXPORTS_MAX

SNAPSHOTS = "geodyne_snapshots_total"
CHUNKS = "geodyne_snapshot_chunks_total"
ITEMS = 40
CUTS = 5


@contextmanager
def small_chunks() -> Iterator[None]:
    with patch.object(transfer, "CHUNK_BYTES", 256):
        yield


async def emptied(scene: Scene) -> SimNode:
    """A follower that needs the whole state of a partition with many items, and has just been started."""
    for number in range(ITEMS):
        await scene.items.put(f"item-{number}", "x" * 200)
    node = scene.followers[0]
    scene.reached = scene.group(node).raft.log.last_index
    await node.kill()
    await scene.write_until_compacted(node)
    node.lose_disk()
    node.start()
    return node


async def until_taken(scene: Scene, node: SimNode, chunks: int) -> None:
    await scene.here.until(lambda: node.count(CHUNKS, direction="received") >= chunks, f"{chunks} chunks", 10, 0.0005)


def arrivals(scene: Scene, node: SimNode, kinds: list[SnapshotChunk]) -> None:
    """Note each part that reaches the node."""
    service = node.handler
    real = service.on_peer_messages

    def heard(peer: str, messages: list[object]) -> None:
        kinds.extend(message for message in messages if isinstance(message, SnapshotChunk))
        real(peer, messages)

    service.on_peer_messages = heard


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_snapshot_goes_on_behind_the_last_acknowledged_part(tmp_path: Path, seed: int) -> None:
    async def scenario(scene: Scene) -> None:
        parts: list[SnapshotChunk] = []
        with small_chunks():
            node = await emptied(scene)
            arrivals(scene, node, parts)
            for cut in range(1, CUTS + 1):
                await until_taken(scene, node, 6 * cut)
                for other in scene.here.others(node):
                    scene.here.world.cut(other.id, node.id)
            await scene.settle()
        whole = {(part.group, part.term, part.snapshot_index) for part in parts}
        assert len(whole) == len({part.group for part in parts})
        again = len(parts) - len({(part.group, part.number) for part in parts})
        assert again <= CUTS * (EXPORTS_MAX + 1)  # that of the catalog waits for none
        assert await scene.items.read("item-7") == "x" * 200

    play(tmp_path, scenario, seed, small=True)


def test_a_receiver_that_died_is_sent_everything_again(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        with small_chunks():
            node = await emptied(scene)
            await until_taken(scene, node, 8)
            await node.kill(power_loss=True)
            node.start()
            await scene.settle()
        assert node.count(SNAPSHOTS, direction="received", result="ok") >= 1
        assert await scene.items.read("item-7") == "x" * 200

    play(tmp_path, scenario, small=True)


def test_a_snapshot_speaks_for_the_term_in_which_it_was_begun(tmp_path: Path) -> None:
    """The leadership that began it may be over, in the same turn, before its task first runs: nothing of it may then
    come in the term of whoever leads now."""

    async def scenario(scene: Scene) -> None:
        here, old = scene.here, scene.leader
        group, transfers, begun = scene.group(old), old.handler.transfers, list[int]()
        parts: list[SnapshotChunk] = []
        for node in here.others(old):
            arrivals(scene, node, parts)
        step = group.raft.step

        def stepped(sender: str, message: RaftMessage, now_ms: int) -> None:
            ends = isinstance(message, Append) and group.leading
            if ends:
                begun.append(group.raft.term)
                transfers.begin(group, sender)  # a damaged replica asked for it just before
            step(sender, message, now_ms)
            if ends:
                assert not group.leading
                for peer in group.peers - {sender}:
                    transfers.begin(group, peer)
                assert list(transfers._outgoing) == [(scene.partition, sender)]

        here.isolate(old, from_clients=False)
        await scene.new_leader(old)
        with patch.object(group.raft, "step", stepped):
            here.world.heal()
            await here.until(lambda: begun, "the old leader hears the new one", step_s=0.0001)
            await here.until(lambda: not transfers._outgoing, "it is given up")
        await scene.settle()
        assert {part.term for part in parts} <= {*begun}

    play(tmp_path, scenario)


def test_a_sender_whose_receiver_stays_away_lets_go_of_what_it_kept(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        with small_chunks():
            node = await emptied(scene)
            await until_taken(scene, node, 8)
            sender = scene.leader
            scene.here.isolate(node, from_clients=False)
            await scene.here.run_for(transfer.RESUME_S_MAX + transfer.ACK_TIMEOUT_S + 1.0)
            assert not sender.handler.transfers._outgoing
            assert sender.node is not None
            assert sender.node._store._exports == 0
            await scene.here.run_for(transfer.IDLE_MS_MAX / 1000)
            assert not node.handler.transfers._incoming
            assert not node.node._store._importing  # type: ignore[union-attr]
            await scene.items.put(PK, "later")
            await scene.settle()

    play(tmp_path, scenario, small=True)


def test_a_part_that_changed_on_its_way_is_refused_and_everything_sent_again(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        with small_chunks():
            node = await emptied(scene)
            service = node.handler
            real, hit, begun = service.on_peer_messages, set[int](), Counter[int]()

            def changed(message: object) -> object:
                if isinstance(message, SnapshotChunk):
                    begun[message.group] += message.number == 0
                if isinstance(message, SnapshotChunk) and message.number == 5 and not hit:
                    hit.add(message.group)
                    return message._replace(data=message.data[:-1] + bytes([message.data[-1] ^ 1]))
                return message

            service.on_peer_messages = lambda peer, messages: real(peer, [changed(message) for message in messages])
            await scene.settle()
        assert [begun[group] for group in hit] == [2]
        assert await scene.items.read("item-7") == "x" * 200

    play(tmp_path, scenario, small=True)


def test_a_receiver_whose_log_fails_acknowledges_no_more_parts(tmp_path: Path) -> None:
    """What it has just taken was to be acknowledged behind an fsync that never comes."""

    async def scenario(scene: Scene) -> None:
        with small_chunks():
            node = await emptied(scene)
            assert node.node is not None
            life, log, transfers = node.life, node.node._log, node.handler.transfers
            real = transfers.on_chunk

            def taken(group: Group, peer: str, chunk: SnapshotChunk) -> None:
                real(group, peer, chunk)
                if chunk.number == 2 and not chunk.done:
                    node.trouble.failures += 1
                    log._fail(OSError(errno.EROFS, os.strerror(errno.EROFS)))

            with patch.object(transfers, "on_chunk", taken):
                await scene.here.until(lambda: node.life > life and node.alive, "it starts anew")
            await scene.settle()
        assert await scene.items.read("item-7") == "x" * 200

    play(tmp_path, scenario, small=True)
