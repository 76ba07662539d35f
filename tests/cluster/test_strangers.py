"""What may arrive on the port of a node from who does not belong there, or is broken: a clear end of that stream, and
nothing else. Clients and the other processes do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import grpc
import grpc.aio
import pytest

from geodyne import messages as m
from geodyne import peermessages as pm
from geodyne.rpc.codec import OLDEST_STREAM_FORMAT, STREAM_FORMAT, decode_node_batch, encode_client_batch
from geodyne.rpc.peercodec import encode_peer_batch
from geodyne.rpc.stream import sealed, verify
from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table
from tests.cluster.traffic import Attempts, Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "strangers"
CLIENT_PATH = "/geodyne.node.v1.Node/Exchange"
PEER_PATH = "/geodyne.node.v1.Peer/Exchange"
VISITED = f"{REGION}/node-b"
PEER = f"{REGION}/node-a"  # dials the visited one
CONNECTIONS = 40
FRAMES = 25
MESSAGES = 3_000  # more than a node keeps for partitions that it has not heard of
NO_PARTITION = 1 << 40
KEYS = 30
STEPS = 20
ANSWER_S_MAX = 15.0
UNKNOWN_KIND = bytes.fromhex("1204a2060178")  # a batch of one message, which is of kind 100


@pytest.fixture
def disturbed(world: Cluster) -> Iterator[Cluster]:
    """A region at work: every process stays, and clients see nothing."""
    client = world.client(REGION)
    if TABLE not in client.list_tables()["TableNames"]:
        create_table(client, TABLE)
    attempts = Attempts(client)
    pids = {process.id: process.pid for process in world.processes(REGION)}

    def step(number: int) -> None:
        key = {"pk": {"S": f"item-{number % KEYS}"}}
        client.put_item(TableName=TABLE, Item={**key, "n": {"N": str(number)}})
        found = client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)["Item"]
        assert found["n"]["N"] == str(number)

    with Traffic("client", step) as traffic:
        yield world
        enough = traffic.steps + STEPS
        until("clients go on", lambda: traffic.check() and traffic.steps >= enough)
    assert attempts.failed == {}
    assert {process.id: process.pid for process in world.processes(REGION)} == pids
    client.close()


def cluster_id(world: Cluster) -> str:
    return str(json.loads((world.data_dir / "cluster.json").read_text())["cluster_id"])


def hello(world: Cluster, process_id: str = f"{REGION}/router-9", **changes: Any) -> pm.Hello:
    usual = pm.Hello(cluster_id(world), REGION, process_id, 1, STREAM_FORMAT, OLDEST_STREAM_FORMAT)
    return usual._replace(**changes)


def dialled(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),))


def end_of_stream(address: str, path: str, frames: Sequence[bytes]) -> str:
    """Send these and return how the node ends the stream: the status's text."""

    async def say() -> str:
        async with dialled(address) as channel:
            call = channel.stream_stream(path)()
            try:
                async with asyncio.timeout(ANSWER_S_MAX):
                    for frame in frames:
                        await call.write(frame)
                    while await call.read() is not grpc.aio.EOF:
                        pass
                    return str(await call.details())
            except (grpc.RpcError, asyncio.InvalidStateError):
                return str(await call.details())

    return asyncio.run(say())


def test_who_does_not_belong_here_is_told_why(disturbed: Cluster) -> None:
    address = disturbed.process(VISITED).address
    strangers: list[tuple[dict[str, Any], str]] = [
        ({"cluster_id": "another"}, "belongs to cluster another"),
        ({"format": 999, "oldest": 998}, "speaks stream format 998 to 999"),
        ({"format": 1, "oldest": 1}, "speaks stream format"),
        ({"process_id": "eu-west-1/node-x", "region": "eu-west-1"}, "is of region eu-west-1"),
    ]
    for changes, says in strangers:
        stranger = hello(disturbed, **changes)
        assert says in end_of_stream(address, CLIENT_PATH, [sealed(encode_client_batch(stranger))])
        assert says in end_of_stream(address, PEER_PATH, [sealed(encode_peer_batch(stranger))])
    client = sealed(encode_peer_batch(hello(disturbed)))
    assert "is no peer of" in end_of_stream(address, PEER_PATH, [client])


def test_a_first_message_that_is_no_hello_ends_the_stream(disturbed: Cluster) -> None:
    address = disturbed.process(VISITED).address
    assert "no hello" in end_of_stream(address, CLIENT_PATH, [sealed(b"")])
    assert "no hello" in end_of_stream(address, PEER_PATH, [sealed(encode_peer_batch([pm.TimeoutNow(1, 9)]))])
    assert "not a client batch" in end_of_stream(address, CLIENT_PATH, [b"\xff" * 100])
    damaged = bytearray(sealed(encode_client_batch(hello(disturbed))))
    damaged[-1] ^= 1
    assert "checksum" in end_of_stream(address, CLIENT_PATH, [bytes(damaged)])


def test_a_damaged_batch_costs_its_stream_and_the_next_one_is_answered(disturbed: Cluster) -> None:
    address = disturbed.process(VISITED).address
    first = sealed(encode_client_batch(hello(disturbed)))
    batch = sealed(encode_client_batch([m.Request(1, m.Get(NO_PARTITION, 1, b"k", True), None, 5_000)]))
    for damaged in (batch[:-1], bytes([batch[0] ^ 1]) + batch[1:]):
        assert "does not match its checksum" in end_of_stream(address, CLIENT_PATH, [first, damaged])
    assert isinstance(answer_to(address, first, batch), m.Moved | m.NotLeader | m.Busy)


def answer_to(address: str, first: bytes, batch: bytes) -> m.Answer:
    """What a client with a sound stream is answered."""

    async def ask() -> m.Answer:
        async with dialled(address) as channel, asyncio.timeout(ANSWER_S_MAX):
            call = channel.stream_stream(CLIENT_PATH)()
            await call.write(first)
            await call.read()
            await call.write(batch)
            data = await call.read()
            verify(data)
            decoded = decode_node_batch(data)
            assert not isinstance(decoded, pm.Hello)
            (response,) = decoded
            return response.answer

    return asyncio.run(ask())


def test_messages_of_a_peer_for_groups_that_are_not_there_do_no_harm(disturbed: Cluster) -> None:
    """Somebody who claims to be a peer of the node takes that one's place; the peer itself dials again."""
    address = disturbed.process(VISITED).address
    snapshot = pm.SnapshotChunk(NO_PARTITION, 1, 1, 1, 0, bytes(100_000), False)
    batches = [sealed(encode_peer_batch([pm.TimeoutNow(NO_PARTITION, 9)] * MESSAGES))]
    batches += [sealed(encode_peer_batch([snapshot] * 20))] * 10

    async def intrude() -> None:
        async with dialled(address) as channel, asyncio.timeout(ANSWER_S_MAX):
            call = channel.stream_stream(PEER_PATH)()
            await call.write(sealed(encode_peer_batch(hello(disturbed, PEER))))
            await call.read()
            with contextlib.suppress(grpc.aio.AioRpcError):  # the peer may take its place back before all is sent
                for batch in batches:
                    await call.write(batch)
                await call.read()
            call.cancel()

    asyncio.run(intrude())
    disturbed.await_running()


def random_frame(random: Random) -> bytes:
    return random.randbytes(random.choice((1, 7, 100, 5_000)))


def with_right_checksum(random: Random) -> bytes:
    return sealed(random_frame(random))


def of_a_later_kind(random: Random) -> bytes:
    return sealed(UNKNOWN_KIND)


@pytest.mark.long
@pytest.mark.parametrize("frame", [random_frame, with_right_checksum, of_a_later_kind])
@pytest.mark.parametrize(("path", "speaker"), [(CLIENT_PATH, f"{REGION}/router-9"), (PEER_PATH, PEER)])
def test_a_frame_that_cannot_be_read_costs_its_stream_only(
    disturbed: Cluster, frame: Callable[[Random], bytes], path: str, speaker: str
) -> None:
    """Also in the name of a peer that is there: it dials again."""
    address = disturbed.process(VISITED).address
    encode = encode_client_batch if path == CLIENT_PATH else encode_peer_batch
    random = Random(1)
    for _ in range(FRAMES):
        end_of_stream(address, path, [sealed(encode(hello(disturbed, speaker))), frame(random)])
    disturbed.await_running()


def test_a_frame_larger_than_any_message_ends_its_stream(disturbed: Cluster) -> None:
    address = disturbed.process(VISITED).address
    frames = [sealed(encode_client_batch(hello(disturbed))), bytes(40 << 20)]
    assert "larger than max" in end_of_stream(address, CLIENT_PATH, frames)


def test_bytes_that_are_no_protocol_disturb_nobody(disturbed: Cluster) -> None:
    host, _, port = disturbed.process(VISITED).address.rpartition(":")
    random = Random(2)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    held = []
    try:
        for number in range(CONNECTIONS):
            connection = socket.create_connection((host, int(port)), ANSWER_S_MAX)
            held.append(connection)
            connection.sendall((b"", preface, b"GET / HTTP/1.1\r\n\r\n")[number % 3] + random_frame(random))
    finally:
        for connection in held:
            connection.close()
