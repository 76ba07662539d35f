"""What no process of the cluster would send arrives at a node's port: it is refused, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import grpc.aio
import pytest

from geodyne import messages as m
from geodyne.rpc.client import CLIENT_CONTRACT, NODE_PATH
from geodyne.rpc.codec import OLDEST_STREAM_FORMAT, STREAM_FORMAT, decode_node_batch, encode_client_batch
from geodyne.rpc.peercodec import encode_peer_batch
from geodyne.rpc.peers import PEER_CONTRACT, PEER_PATH
from geodyne.rpc.stream import sealed, verify
from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table
from tests.cluster.traffic import Attempts, Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "hostile-frames"
STEPS_AROUND = 30
NO_PARTITION = 1 << 40
SNAPSHOT = m.SnapshotChunk(NO_PARTITION, 1, 1, 1, 0, b"x" * 100_000, False)


def cluster_id_of(cluster: Cluster) -> str:
    return str(json.loads((cluster.data_dir / "cluster.json").read_bytes())["cluster_id"])


async def refusal(address: str, path: str, frames: Sequence[bytes]) -> str:
    """Why the node ends a stream that begins with these frames."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(path)()
        await call.write(frames[0])
        if frames[1:]:
            await call.read()
            await call.write(frames[1])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_to_the_end(call)
        return str(caught.value.details())


async def read_to_the_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def answers(address: str, hello: m.Hello, calls: Sequence[m.Call]) -> list[m.Answer]:
    """What a client with a sound stream is answered."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(NODE_PATH)()
        await call.write(CLIENT_CONTRACT.encode_hello(hello))
        await call.read()
        requests = [m.Request(number, each, None, 5_000) for number, each in enumerate(calls)]
        await call.write(sealed(encode_client_batch(requests)))
        found: dict[int, m.Answer] = {}
        while len(found) < len(calls):
            data = await call.read()
            verify(data)
            found.update((response.id, response.answer) for response in decode_node_batch(data))
        call.cancel()
        return [found[number] for number in range(len(calls))]


def test_hostile_frames_cost_their_own_streams_and_nothing_else(world: Cluster) -> None:
    client = world.client(REGION)
    create_table(client, TABLE)
    attempts = Attempts(client)
    node = world.processes(REGION, "node")[1]
    cluster_id = cluster_id_of(world)
    formats = STREAM_FORMAT, OLDEST_STREAM_FORMAT
    sound = m.Hello(cluster_id, REGION, "us-east-1/someone", 7, *formats)
    first = CLIENT_CONTRACT.encode_hello(sound)
    batch = sealed(encode_client_batch([m.Request(1, m.Get(1, 1, b"k", True), None, 1_000)]))
    hostile = [
        (NODE_PATH, [b"\xff" * 64], "not a client batch"),
        (NODE_PATH, [CLIENT_CONTRACT.encode_hello(sound._replace(cluster_id="other"))], "belongs to cluster other"),
        (NODE_PATH, [CLIENT_CONTRACT.encode_hello(sound._replace(region="eu-west-1"))], "is of region eu-west-1"),
        (NODE_PATH, [CLIENT_CONTRACT.encode_hello(sound._replace(format=99, oldest=98))], "stream format 98 to 99"),
        (NODE_PATH, [first, batch[:-1]], "does not match its checksum"),
        (NODE_PATH, [first, bytes([batch[0] ^ 1]) + batch[1:]], "does not match its checksum"),
        (NODE_PATH, [first, bytes(40 << 20)], "larger than max"),
        (PEER_PATH, [PEER_CONTRACT.encode_hello(sound)], "is no peer of"),
        (PEER_PATH, [sealed(encode_peer_batch([SNAPSHOT]))], "the first message is no hello"),
    ]
    with Traffic("counter", lambda number: step(client, number)) as traffic:
        for path, frames, says in hostile:
            assert says in asyncio.run(refusal(node.address, path, frames))
        gone = asyncio.run(answers(node.address, sound, [m.Get(NO_PARTITION, 1, b"k", True)]))
        assert isinstance(gone[0], m.Moved | m.NotLeader | m.Busy)
        goal = traffic.steps + STEPS_AROUND
        until("the client goes on", lambda: traffic.check() and traffic.steps >= goal)
    assert attempts.failed == {}
    assert world.process(node.id) == node
    client.close()


def step(client: Any, number: int) -> None:
    client.put_item(TableName=TABLE, Item={"pk": {"S": f"key-{number % 20}"}, "n": {"N": str(number)}})


def test_messages_of_a_peer_for_groups_that_are_not_there_do_no_harm(world: Cluster) -> None:
    """Somebody who claims to be a peer of the node takes that one's place; the peer itself dials again."""
    client = world.client(REGION)
    peer, node = world.processes(REGION, "node")[:2]
    hello = m.Hello(cluster_id_of(world), REGION, peer.id, 1, STREAM_FORMAT, OLDEST_STREAM_FORMAT)

    async def intrude() -> None:
        async with grpc.aio.insecure_channel(node.address) as channel:
            call = channel.stream_stream(PEER_PATH)()
            await call.write(PEER_CONTRACT.encode_hello(hello))
            await call.read()
            await call.write(sealed(encode_peer_batch([SNAPSHOT, m.TimeoutNow(NO_PARTITION, 9)] * 20)))
            await call.read()
            call.cancel()

    asyncio.run(intrude())
    world.await_running()
    assert world.process(node.id) == node
    client.list_tables()
    client.close()
