"""Clients that ask and do not read the answers: what is kept for them is bounded, nobody else notices, and who reads
after all gets every answer."""

from __future__ import annotations

import json
import select
import socket
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster.devservers import DevServer
from tests.cluster.memory import resident_bytes
from tests.cluster.tables import create_table

pytestmark = pytest.mark.cluster

TABLE = "unread"
ITEM_BYTES = 350_000
CLIENTS = 12
REQUESTS = 200  # of each: 840 MB of answers in all
READS = 200  # by another client, which has its turn after each of the others
STUCK_S = 1.0  # a socket that takes no more for so long is not read from any more
GROWTH_BYTES_MAX = 128 << 20
READ_S_MAX = 20.0


def request(host: str) -> bytes:
    body = json.dumps({"TableName": TABLE, "Key": {"pk": {"S": "large"}}}).encode()
    return (
        f"POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: DynamoDB_20120810.GetItem\r\n"
        f"Content-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def send_until_stuck(connection: socket.socket, data: bytes) -> int:
    """Bytes that the other end took."""
    connection.setblocking(False)
    sent = 0
    while sent < len(data) and select.select([], [connection], [], STUCK_S)[1]:
        sent += connection.send(data[sent:])
    connection.setblocking(True)
    return sent


def read_answer(stream: socket.SocketIO) -> int:
    """Reads one answer; bytes of its body."""
    assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
    length = 0
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.decode().partition(":")
        length = int(value) if name.lower() == "content-length" else length
    return len(stream.read(length) or b"")


def test_answers_that_nobody_reads_take_bounded_memory_and_hold_nobody_up(tmp_path: Path) -> None:
    with DevServer(tmp_path / "data", "--auth", "off") as server, ExitStack() as stack:
        client = server.client()
        create_table(client, TABLE)
        client.put_item(TableName=TABLE, Item={"pk": {"S": "large"}, "v": {"S": "x" * ITEM_BYTES}})
        parts = urlsplit(server.endpoint)
        one = request(parts.netloc)
        before = resident_bytes(server.pid)
        connections = []
        for _ in range(CLIENTS):
            connection = socket.create_connection((parts.hostname, parts.port), READ_S_MAX)
            connections.append(stack.enter_context(closing(connection)))
            send_until_stuck(connection, one * REQUESTS)
        client.put_item(TableName=TABLE, Item={"pk": {"S": "other"}})
        growth = 0
        for _ in range(READS):
            assert "Item" in client.get_item(TableName=TABLE, Key={"pk": {"S": "other"}})
            growth = max(growth, resident_bytes(server.pid) - before)
        assert growth <= GROWTH_BYTES_MAX, f"{growth >> 20} MB more"
        with connections[0].makefile("rb") as stream:
            answers = [read_answer(stream) for _ in range(20)]
        assert len(set(answers)) == 1
        assert answers[0] > ITEM_BYTES
        client.close()
