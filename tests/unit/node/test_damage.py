"""A lone node whose state is damaged has nobody to heal from: it refuses what is damaged, and that alone."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from geodyne.clock import SystemClock
from geodyne.messages import (
    METADATA_PARTITION,
    Answer,
    Call,
    Control,
    ControlDone,
    Found,
    Get,
    Refused,
    Request,
    Response,
    Write,
    Written,
)
from geodyne.model.values import loads
from geodyne.sim.items import key_of, putting
from node.compose import Node, NoPeers, open_node, single_node_place
from node.storage.port import StateDamaged

WAIT_S = 5.0


def opened(directory: Path) -> Node:
    place = single_node_place("c", "r", directory)
    return open_node(
        place, clock=SystemClock(), random=Random(1), registry=CollectorRegistry(), fatal=pytest.fail, inline_sync=True
    )


async def ask(node: Node, call: Call) -> Answer:
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def reply(response: Response) -> None:
        answered.set_result(response.answer)

    node.service.on_requests((Request(1, call, None, 10_000),), reply)
    return await asyncio.wait_for(answered, WAIT_S)


async def leading(node: Node, partition: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            group = node.service.groups.get(partition)
            if group is not None and group.serving:
                return
            await asyncio.sleep(0.001)


async def started(directory: Path) -> tuple[Node, int]:
    """A node with a table with a local index, and the id of its partition."""
    node = opened(directory)
    node.start(NoPeers())
    await leading(node, METADATA_PARTITION)
    definition = {
        "name": "T",
        "hash_key": "pk",
        "hash_type": "S",
        "range_key": None,
        "range_type": None,
        "partitions": 1,
    }
    answer = await ask(node, Control("create_table", {"definition": definition}))
    assert isinstance(answer, ControlDone), answer
    partition = node.service.catalog.catalog.tables["T"].partitions[0].id
    await leading(node, partition)
    return node, partition


def spoil(node: Node, pk: str) -> None:
    changed = node._store._db.execute(
        "UPDATE items SET value=CAST('x' || value AS BLOB) WHERE key=?", (key_of(pk),)
    ).rowcount
    assert changed == 1


def test_a_lone_node_refuses_the_damaged_item_and_no_other_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        node, _ = await started(tmp_path / "n")
        partitions = node.service.catalog.catalog.tables["T"].partitions

        def place(call: Write | Get) -> Write | Get:
            hashed = int.from_bytes(call.key[:8], "big")
            record = next(one for one in partitions if one.low <= hashed < one.high)
            return call._replace(partition=record.id, epoch=record.epoch)

        try:
            for pk in ("sound", "spoilt"):
                for record in partitions:
                    await leading(node, record.id)
                assert isinstance(await ask(node, place(putting(0, pk, "v"))), Written)
            async with asyncio.timeout(WAIT_S):
                while any(group.behind for group in node.service.groups):  # noqa: ASYNC110 - a state tells nobody
                    await asyncio.sleep(0.001)
            spoil(node, "spoilt")
            with caplog.at_level(logging.ERROR, "geodyne"):
                for call in (Get(0, 1, key_of("spoilt"), True), Get(0, 1, key_of("spoilt"), False)):
                    assert isinstance(await ask(node, place(call)), Refused)
                assert isinstance(await ask(node, place(putting(0, "spoilt", "w"))), Refused)
            assert [record.getMessage()[:28] for record in caplog.records] == ["damage that no other replica"]
            answer = await ask(node, place(Get(0, 1, key_of("sound"), True)))
            assert isinstance(answer, Found)
            assert answer.item is not None
            assert loads(answer.item)["v"] == {"S": "v"}
            assert isinstance(await ask(node, place(putting(0, "sound", "w"))), Written)
        finally:
            await node.stop()

    asyncio.run(body())


def test_a_lone_node_does_not_start_without_the_state_of_a_partition(tmp_path: Path) -> None:
    async def body() -> None:
        node, partition = await started(tmp_path / "n")
        await node.stop()
        node = opened(tmp_path / "n")
        node._store._db.execute("UPDATE groups SET state=CAST('x' AS BLOB) WHERE partition=?", (partition,))
        await node.stop()
        with pytest.raises(StateDamaged, match=rf"partitions \[{partition}\].*backup"):
            opened(tmp_path / "n")

    asyncio.run(body())
