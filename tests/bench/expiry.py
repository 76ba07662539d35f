"""Ten thousand items that expire in one second, beside a steady load: what its clients notice.

The load has a rate of its own, whatever comes back, so that waiting counts: each request is due at its own time, from
which its latency runs. Puts and strong reads take turns.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.load import Server, item, signed

TABLE = "Expiring"
ITEMS = 10_000
BATCH = 25
PER_SECOND = 150.0
CONNECTIONS = 16
GONE_S_MAX = 60.0
USUAL_S = 12.0
AHEAD_S = 45  # from the first item to the moment at which all expire


@dataclass(frozen=True, slots=True)
class Expired:
    """Latencies of the load in milliseconds, usually and while the items go; how long it took from their second on."""

    items: int
    usual_p50_ms: float
    usual_p99_ms: float
    during_p50_ms: float
    during_p99_ms: float
    gone_s: float


def measure(server: Server, client: Any, metrics: Sequence[str]) -> Expired:
    """`metrics`: host:port of the metrics page of each node."""
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=TABLE, WaiterConfig={"Delay": 1})
    client.update_time_to_live(TableName=TABLE, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"})
    second = int(time.time()) + AHEAD_S
    return asyncio.run(_measure(server, second, metrics))


async def _measure(server: Server, second: int, metrics: Sequence[str]) -> Expired:
    batches = [_batch(server, first, second) for first in range(0, ITEMS, BATCH)]
    await _drive(server, batches, per_second=80.0, seconds=len(batches) / 80.0)
    if time.time() > second - USUAL_S - 4:
        raise SystemExit(f"writing {ITEMS} items took longer than {AHEAD_S} s")
    load = [_request(server, number) for number in range(2_000)]
    await _drive(server, load, PER_SECOND, 2.0)  # warm up
    usual = await _drive(server, load, PER_SECOND, USUAL_S)
    await asyncio.sleep(max(0.0, second - time.time()))
    going = asyncio.ensure_future(asyncio.to_thread(_gone_s, metrics, second))
    during: list[float] = []
    while not going.done():
        during += await _drive(server, load, PER_SECOND, 1.0)
    return Expired(ITEMS, _part(usual, 0.5), _part(usual, 0.99), _part(during, 0.5), _part(during, 0.99), await going)


def _batch(server: Server, first: int, second: int) -> bytes:
    items = [
        {"pk": {"S": f"expiring-{number}"}, "expires": {"N": str(second)}, "text": {"S": "x" * 200}}
        for number in range(first, first + BATCH)
    ]
    return signed(
        server, "BatchWriteItem", {"RequestItems": {TABLE: [{"PutRequest": {"Item": item}} for item in items]}}
    )


def _request(server: Server, number: int) -> bytes:
    if number % 2:
        return signed(server, "PutItem", {"TableName": TABLE, "Item": item(number)})
    key = {"pk": item(number)["pk"]}
    return signed(server, "GetItem", {"TableName": TABLE, "Key": key, "ConsistentRead": True})


async def _drive(server: Server, requests: Sequence[bytes], per_second: float, seconds: float) -> list[float]:
    """Latencies in seconds of requests that are due one after the other at this rate."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    count = int(per_second * seconds)
    numbers = iter(range(count))
    latencies: list[float] = []

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        for number in numbers:
            due = began + number / per_second
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(requests[number % len(requests)])
            status = await _answered(reader)
            assert status == 200, status
            latencies.append(loop.time() - due)
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))
    return latencies


async def _answered(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None, head
    await reader.readexactly(int(length.group(1)))
    return int(head.split(b" ", 2)[1])


def _gone_s(metrics: Sequence[str], second: int) -> float:
    """Seconds from the moment at which the items expire until the nodes have deleted all of them."""
    while sum(map(_deleted, metrics)) < ITEMS:
        if time.time() > second + GONE_S_MAX:
            raise SystemExit(f"{ITEMS} items were not gone after {GONE_S_MAX:.0f} s")
        time.sleep(0.25)
    return time.time() - second


def _deleted(address: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    found = re.search(r"^geodyne_ttl_deleted_items_total ([\d.e+]+)$", text, re.MULTILINE)
    return int(float(found.group(1))) if found else 0


def _part(latencies: list[float], share: float) -> float:
    """In milliseconds: the latency that this share of the requests stay below."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1_000


def report(found: Expired) -> None:
    ratio = found.during_p99_ms / found.usual_p99_ms
    print(
        f"\n{found.items} items expire in one second, beside {PER_SECOND:.0f} puts and strong reads a second: "
        f"gone after {found.gone_s:.1f} s\n"
        f"  usually       p50 {found.usual_p50_ms:6.2f} ms, p99 {found.usual_p99_ms:6.2f} ms\n"
        f"  while they go p50 {found.during_p50_ms:6.2f} ms, p99 {found.during_p99_ms:6.2f} ms\n"
        f"{'met' if ratio <= 2 else 'MISSED':<7} p99 {ratio:.2f} times the usual one, target 2"
    )
