"""A node that dies at any single write of its files has lost nothing that it answered, and goes on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from prometheus_client import CollectorRegistry

from geodyne.catalog import TableRecord, TableStatus
from geodyne.clock import SystemClock
from geodyne.messages import (
    METADATA_PARTITION,
    Answer,
    Call,
    Control,
    ControlDone,
    Found,
    Get,
    Request,
    Response,
    Write,
    WriteId,
    WriteKind,
    Written,
)
from geodyne.model.keys import KeySchema, encode_key, hash_of
from geodyne.model.values import dumps, item_size, loads
from geodyne.peermessages import Entry
from node import compose, maintenance, service
from node.compose import Node, NoPeers, open_node, single_node_place
from node.storage.directory import open_directory
from node.storage.port import GroupUpdate
from node.storage.sqlite import StateStore
from node.storage.sqlite_connection import quick_check
from node.storage.wal import Wal, WalSettings
from tests.unit.node.killpoints import KillPoints, NoLibrary

SCHEMA = KeySchema("pk", "S")
KEYS = [f"key-{number}" for number in range(6)]
ROUNDS = 5
WAIT_S = 5.0


class Client:
    """Calls a lone node without any network."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._sequence = 0

    async def call(self, call: Call, write_id: WriteId | None = None, note: Callable[[], None] | None = None) -> Answer:
        """`note` is called in the very moment of the answer."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(response: Response) -> None:
            if note is not None:
                note()
            answered.set_result(response.answer)

        self.node.service.on_requests((Request(1, call, write_id, 10_000),), reply)
        return await asyncio.wait_for(answered, WAIT_S)

    async def until_leading(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while not self._leads(METADATA_PARTITION):  # noqa: ASYNC110 - the node tells nobody
                await asyncio.sleep(0)

    async def until_active(self, name: str = "T") -> TableRecord:
        async with asyncio.timeout(WAIT_S):
            while True:
                table = self.node.service.catalog.catalog.tables.get(name)
                if table is not None and table.status is TableStatus.ACTIVE and self._led(table):
                    return table
                await asyncio.sleep(0)

    def _led(self, table: TableRecord) -> bool:
        return all(self._leads(partition.id) for partition in table.partitions)

    def _leads(self, partition: int) -> bool:
        group = self.node.service.groups.get(partition)
        return group is not None and group.serving

    async def put(self, table: TableRecord, pk: str, value: str, note: Callable[[], None] | None = None) -> None:
        item = {"pk": {"S": pk}, "v": {"S": value}}
        key = encode_key(SCHEMA, {"pk": {"S": pk}})
        partition = table.partition_of(hash_of(key))
        self._sequence += 1
        write = Write(partition.id, partition.epoch, WriteKind.PUT, key, dumps(item), item_size(item))
        answer = await self.call(write, WriteId(self.node.incarnation, self._sequence, self._sequence), note)
        assert isinstance(answer, Written), answer

    async def read(self, table: TableRecord, pk: str) -> str:
        key = encode_key(SCHEMA, {"pk": {"S": pk}})
        partition = table.partition_of(hash_of(key))
        answer = await self.call(Get(partition.id, partition.epoch, key, True))
        assert isinstance(answer, Found), answer
        return "" if answer.item is None else str(loads(answer.item)["v"]["S"])


def opened(directory: Path) -> Node:
    return open_node(
        single_node_place("c", "r", directory),
        clock=SystemClock(),
        random=Random(1),
        registry=CollectorRegistry(),
        fatal=pytest.fail,
        inline_sync=True,
    )


class Known:
    """What was answered, and the one write that may be under way."""

    def __init__(self) -> None:
        self.created = False
        self.values: dict[str, str] = {}
        self.trying: tuple[str, str] | None = None

    def answered(self) -> None:
        assert self.trying is not None
        pk, value = self.trying
        self.values[pk] = value
        self.trying = None

    def copy(self) -> tuple[bool, dict[str, str], tuple[str, str] | None]:
        return self.created, dict(self.values), self.trying


async def live(directory: Path, known: Known, rounds: range) -> None:
    """A node's life: a start, writes, checkpoints, an orderly stop."""
    node = opened(directory)
    node.start(NoPeers())
    client = Client(node)
    await client.until_leading()
    if not known.created:
        definition = {"name": "T", "hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None}
        answer = await client.call(Control("create_table", {"definition": definition}))
        assert isinstance(answer, ControlDone), answer
        known.created = True
    table = await client.until_active()
    for number in rounds:
        for pk in KEYS:
            known.trying = pk, f"{number}".ljust(700, ".")
            await client.put(table, *known.trying, known.answered)
        await node._maintenance.checkpoint()
        await node._store.collect_garbage()
        if number % 3 == 1:
            await install(node, table.partitions[0].id)
        if number % 3 == 2:
            await come_and_go(client, f"T{number}")
    await node.stop()


async def install(node: Node, partition: int) -> None:
    """A snapshot of the partition takes the place of its state, and then an empty log that of its log: what a replica
    does that was sent one (node.transfer)."""
    group = node.service.groups.get(partition)
    assert group is not None
    async with asyncio.timeout(WAIT_S):
        while group.state.applied_index < group.raft.log.last_index:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)
    export = await node.service.transfers._export(group)
    importing = node._store.begin_import(partition)
    async with aclosing(aiter(export)) as chunks:
        async for chunk in chunks:
            importing.add(chunk)
    await importing.commit()
    node._log.reset(partition, export.applied_index, export.applied_term)
    node._log.sync(lambda: None)


async def come_and_go(client: Client, name: str) -> None:
    """A table whose replicas are made, written to and destroyed."""
    definition: dict[str, Any] = {"name": name, "hash_key": "pk", "hash_type": "S", "partitions": 1}
    definition.update(range_key=None, range_type=None)
    assert isinstance(await client.call(Control("create_table", {"definition": definition})), ControlDone)
    table = await client.until_active(name)
    await client.put(table, "pk", "value")
    assert isinstance(await client.call(Control("delete_table", {"name": name})), ControlDone)
    async with asyncio.timeout(WAIT_S):
        while client.node.service.groups.get(table.partitions[0].id) is not None:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)


async def check(directory: Path, mark: Any) -> None:
    """Everything that was answered is there, and the node takes more."""
    created, values, trying = mark
    node = opened(directory)
    node.start(NoPeers())
    client = Client(node)
    try:
        if not created:
            return
        table = await client.until_active()
        for pk, value in values.items():
            found = await client.read(table, pk)
            assert found == value or (pk, found) == trying, pk
        await client.put(table, "later", "value")
        assert await client.read(table, "later") == "value"
        assert await quick_check(node._store.path) == []
    finally:
        await node.stop()


def _small_segments(cluster: str, process: str, **more: Any) -> WalSettings:
    return WalSettings(cluster, process, segment_bytes=8_192, **more)


def killed_at_every_write(tmp_path: Path, every: int, torn_every: int) -> int:
    """Returns how many points were tried."""
    directory = tmp_path / "node"
    copies = tmp_path / "copies"
    copies.mkdir()
    known = Known()
    points = KillPoints(directory, copies, torn_every, every)
    points.mark = known.copy
    directory.mkdir()
    compacted: list[int] = []
    real = Wal.compact

    def compact(log: Wal, group: int, through_index: int, term: int) -> None:
        compacted.append(group)
        real(log, group, through_index, term)

    with (
        patch.object(compose, "WalSettings", _small_segments),
        patch.object(service, "TICK_S", 0.002),
        patch.object(maintenance, "TAIL_BYTES", 2_000),
        patch.object(Wal, "compact", compact),
    ):
        try:
            with points.watching():
                asyncio.run(live(directory, known, range(ROUNDS)))
                asyncio.run(live(directory, known, range(ROUNDS, ROUNDS + 2)))
        except NoLibrary as reason:
            pytest.skip(str(reason))
        assert compacted
        for what, copy, mark in points.points:
            try:
                asyncio.run(check(copy, mark))
            except BaseException as error:
                error.add_note(f"killed before: {what}, in {copy}")
                raise
            shutil.rmtree(copy)
    return len(points.points)


def test_a_node_killed_at_a_write_has_lost_nothing_that_it_answered(tmp_path: Path) -> None:
    """A sample of the points; all of them in the long tests."""
    assert killed_at_every_write(tmp_path, every=17, torn_every=3) > 20


def test_a_state_that_is_written_in_two_parts_is_seen_to_lose(tmp_path: Path) -> None:
    """The harness can fail: a kill between the transaction of the applied index and that of its rows loses them."""
    real = StateStore.apply

    def apply(store: StateStore, updates: Sequence[GroupUpdate]) -> None:
        real(store, [update._replace(rows={}) for update in updates])
        real(store, updates)

    with patch.object(StateStore, "apply", apply), pytest.raises(AssertionError):
        killed_at_every_write(tmp_path, every=3, torn_every=1_000)


@pytest.mark.long
def test_a_node_killed_at_any_write_has_lost_nothing_that_it_answered(tmp_path: Path) -> None:
    assert killed_at_every_write(tmp_path, every=1, torn_every=2) > 500


def test_a_log_that_is_put_aside_is_the_old_directorys_or_the_directory_is_another_one(tmp_path: Path) -> None:
    """At any write of it: a log never speaks for a directory that has given it up."""
    directory, copies = tmp_path / "node", tmp_path / "copies"
    copies.mkdir()
    first = open_directory(directory, "c", "a")
    log, _ = Wal.open(first.log_path, WalSettings("c", "a", inline=True))
    log.append(1, [Entry(1, 1, b"promised")])
    log.close()
    first.close()
    number = first.roster.directory
    points = KillPoints(directory, copies, torn_every=1)
    try:
        with points.watching():
            opened = open_directory(directory, "c", "a")
            opened.put_log_aside()
            log, _ = Wal.open(opened.log_path, WalSettings("c", "a", inline=True))
            log.append(1, [Entry(1, 2, b"of the new one")])
            log.close()
            opened.close()
    except NoLibrary as reason:
        pytest.skip(str(reason))
    seen: set[bool] = set()
    for what, copy, _ in points.points:
        found = open_directory(copy, "c", "a")
        log, recovered = Wal.open(found.log_path, WalSettings("c", "a", inline=True))
        group = recovered.groups.get(1)
        promised = group is not None and group.entries[:1] == [Entry(1, 1, b"promised")]
        assert promised == (found.roster.directory == number), what
        seen.add(promised)
        log.close()
        found.close()
    assert seen == {True, False}
