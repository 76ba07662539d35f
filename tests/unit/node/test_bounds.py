"""Disk and memory of a node stay bounded, however much is written and whoever lags."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import patch

from geodyne.catalog import TableRecord
from geodyne.messages import Busy, Control, ControlDone, Write, WriteId, WriteKind
from geodyne.model.keys import encode_key, hash_of
from geodyne.model.values import dumps, item_size
from node import compose, group, maintenance
from node.compose import NoPeers
from node.maintenance import TAIL_BYTES, TAIL_BYTES_OF_NODE, tail_bytes
from node.storage.wal import SEALED_SEGMENTS_MAX, WalSettings
from tests.unit.node.test_kill_at_every_write import SCHEMA, Client, opened

KEYS = 40
ITEM_BYTES = 4_000
ROUNDS = 40
SEGMENT_BYTES = 64 * 1024
TAIL = 32 * 1024


def _small_segments(cluster: str, process: str, **more: Any) -> WalSettings:
    return WalSettings(cluster, process, segment_bytes=SEGMENT_BYTES, **more)


async def table_of(client: Client) -> TableRecord:
    await client.until_leading()
    definition = {"name": "T", "hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None}
    assert isinstance(await client.call(Control("create_table", {"definition": definition})), ControlDone)
    return await client.until_active()


def size_of(directory: Path) -> dict[str, int]:
    parts = {"log": 0, "state": 0}
    for path in directory.rglob("*"):
        if path.is_file():
            parts["log" if path.suffix == ".log" else "state"] += path.stat().st_size
    return parts


def test_endless_overwrites_take_no_more_disk(tmp_path: Path) -> None:
    """40 times the data are written. The log holds what the segments and tails may hold, the state a few times the
    data: pages that are free are used again, and SQLite's own log starts over at each checkpoint."""
    live = KEYS * ITEM_BYTES
    largest = {"log": 0, "state": 0}

    async def run() -> None:
        node = opened(tmp_path)
        node.start(NoPeers())
        client = Client(node)
        table = await table_of(client)
        for number in range(ROUNDS):
            for key in range(KEYS):
                await client.put(table, f"key-{key}", f"{number} ".ljust(ITEM_BYTES, "."))
            await node._maintenance.checkpoint()
            await node._store.collect_garbage()
            for part, size in size_of(tmp_path).items():
                largest[part] = max(largest[part], size)
        await node.stop()

    with patch.object(compose, "WalSettings", _small_segments), patch.object(maintenance, "TAIL_BYTES", TAIL):
        asyncio.run(run())
    batch = live + 64 * 1024  # what is written between two checkpoints
    tails = TAIL * 10
    assert largest["log"] < (SEALED_SEGMENTS_MAX + 2) * SEGMENT_BYTES + batch + tails
    assert largest["state"] < 3 * live + 2 * batch + 512 * 1024
    print(largest, {"written": ROUNDS * live, "live": live})


def test_the_tails_of_all_groups_together_have_a_bound() -> None:
    assert tail_bytes(5, low_on_space=False) == TAIL_BYTES
    assert 10_000 * tail_bytes(10_000, low_on_space=False) <= TAIL_BYTES_OF_NODE
    assert tail_bytes(0, low_on_space=False) == TAIL_BYTES
    assert tail_bytes(5, low_on_space=True) == 0


def test_what_all_groups_have_proposed_and_not_applied_has_a_bound(tmp_path: Path) -> None:
    """Writes to any partition are then refused for a while; the sum follows what is applied."""

    async def run() -> None:
        node = opened(tmp_path)
        node.start(NoPeers())
        client = Client(node)
        table = await table_of(client)
        groups = node.service.groups
        backlog = groups.backlog

        def write(pk: str) -> tuple[Write, WriteId]:
            key = encode_key(SCHEMA, {"pk": {"S": pk}})
            partition = table.partition_of(hash_of(key))
            item = {"pk": {"S": pk}, "v": {"S": "x" * 1_000}}
            client._sequence += 1
            own = WriteId(node.incarnation, client._sequence, client._sequence)
            return Write(partition.id, partition.epoch, WriteKind.PUT, key, dumps(item), item_size(item)), own

        async def until_applied() -> None:
            async with asyncio.timeout(5):
                while any(one.behind for one in groups):  # noqa: ASYNC110 - nobody is told
                    await asyncio.sleep(0)

        frozen = [groups.get(partition.id) for partition in table.partitions]
        for one in frozen:
            assert one is not None
            one.frozen += 1
        for number in range(8):
            await client.call(*write(f"pk-{number}"))
        assert backlog.bytes == sum(one.uncommitted_bytes for one in groups) > 8_000
        with patch.object(group, "UNCOMMITTED_BYTES_OF_NODE_MAX", 8_000):
            assert isinstance(await client.call(*write("more")), Busy)
            for one in frozen:
                assert one is not None
                one.frozen -= 1
                node.service.touch(one)
            await until_applied()
            assert backlog.bytes < 8_000
            assert not isinstance(await client.call(*write("more")), Busy)
        await until_applied()
        await node.stop()

    asyncio.run(run())


def test_a_group_that_stops_to_lead_gives_its_share_back() -> None:
    backlog = group.Backlog()
    one: Any = group.Group.__new__(group.Group)
    one._backlog, one._uncommitted_bytes = backlog, 0
    one.uncommitted_bytes += 700
    assert backlog.bytes == 700
    one.uncommitted_bytes = 0
    assert backlog.bytes == 0
