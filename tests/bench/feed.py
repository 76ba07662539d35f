"""What a stream costs: the CPU that it adds to a put, and the CPU of reading its records.

Tables with and without a stream take the same puts in turn, so that other load on the machine meets them alike: read
the ratios. Reading begins at TRIM_HORIZON and takes whole pages: of a table whose records are about 1 KB (new items),
and of those that were put to.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPResponse
from statistics import median
from typing import Any

import orjson

from tests.bench.load import Server, cpu_seconds, puts, run, signed

PLAIN, KEYS, BOTH, NEW = "FeedOff", "FeedKeys", "FeedBoth", "FeedNew"
VIEWS = {PLAIN: None, KEYS: "KEYS_ONLY", BOTH: "NEW_AND_OLD_IMAGES", NEW: "NEW_AND_OLD_IMAGES"}
ROUNDS, ROUND_S = 6, 3
NEW_ITEMS, NEW_ITEM_TEXT, BATCH = 20_000, 800, 25
READ_RECORDS_MAX = 20_000
ADDED_TARGET = 1.30
_STREAMS = "DynamoDBStreams_20120810"


@dataclass(frozen=True, slots=True)
class Read:
    """Of GetRecords, the CPU of all server processes and that of the nodes alone, in microseconds a record."""

    records: int
    page_records: float
    answer_mb: float
    cpu_us: float
    node_cpu_us: float


@dataclass(frozen=True, slots=True)
class Feed:
    """By table: the CPU of all server processes for a put in microseconds, how much more than without a stream that is,
    each the median of the rounds, and what reading costs."""

    server: str
    put_cpu_us: dict[str, float]
    ratios: dict[str, float]
    reads: dict[str, Read]


def measure(server: Server, client: Any, connections: int, seconds: int = ROUND_S) -> Feed:
    for table, view in VIEWS.items():
        _make(client, table, view)
    costs: dict[str, list[float]] = {PLAIN: [], KEYS: [], BOTH: []}
    for table in costs:
        run(server, puts(table), connections, 1)
    for number in range(ROUNDS):
        order = list(costs) if number % 2 else list(reversed(costs))
        for table in order:
            costs[table].append(run(server, puts(table), connections, seconds).cpu_us)
    ratios = {
        table: median(with_stream / without for with_stream, without in zip(costs[table], costs[PLAIN], strict=True))
        for table in (KEYS, BOTH)
    }
    reads: dict[str, Read] = {}
    with closing(_Caller(server)) as caller:
        _fill(caller)
        for table in (NEW, BOTH, KEYS):
            reads[table] = _read(server, caller, client.describe_table(TableName=table)["Table"]["LatestStreamArn"])
    return Feed(server.name, {table: median(each) for table, each in costs.items()}, ratios, reads)


def _make(client: Any, table: str, view: str | None) -> None:
    stream = {} if view is None else {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": view}}
    client.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        **stream,
    )
    client.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1})


class _Caller:
    """One connection. Its own CPU is not counted."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket = socket.create_connection((server.host, server.port))

    def call(self, operation: str, body: dict[str, Any], service: str = _STREAMS) -> bytes:
        self._socket.sendall(signed(self._server, operation, body, service))
        with HTTPResponse(self._socket) as response:
            response.begin()
            answer = response.read()
        assert response.status == 200, answer
        return answer

    def close(self) -> None:
        self._socket.close()


def _fill(caller: _Caller) -> None:
    for first in range(0, NEW_ITEMS, BATCH):
        items = [
            {"pk": {"S": f"new-{number:07d}"}, "n": {"N": str(number)}, "text": {"S": "x" * NEW_ITEM_TEXT}}
            for number in range(first, first + BATCH)
        ]
        puts = [{"PutRequest": {"Item": item}} for item in items]
        caller.call("BatchWriteItem", {"RequestItems": {NEW: puts}}, "DynamoDB_20120810")


def _read(server: Server, caller: _Caller, arn: str) -> Read:
    described = orjson.loads(caller.call("DescribeStream", {"StreamArn": arn}))["StreamDescription"]
    records, pages, size = 0, 0, 0
    before, before_nodes = cpu_seconds(server.pids), cpu_seconds(server.nodes)
    for shard in described["Shards"]:
        for answer in _pages(caller, arn, shard["ShardId"]):
            if records >= READ_RECORDS_MAX:
                break
            records += answer.count(b'"eventID":')
            pages += 1
            size += len(answer)
    cpu, cpu_of_nodes = cpu_seconds(server.pids) - before, cpu_seconds(server.nodes) - before_nodes
    return Read(records, records / pages, size / 1e6, cpu * 1e6 / records, cpu_of_nodes * 1e6 / records)


def _pages(caller: _Caller, arn: str, shard: str) -> Iterator[bytes]:
    """Until the first empty one. What is decoded of a page is its iterator, which stands at the end."""
    place = {"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
    iterator = orjson.loads(caller.call("GetShardIterator", place))["ShardIterator"]
    while True:
        answer = caller.call("GetRecords", {"ShardIterator": iterator, "Limit": 1000})
        if answer.startswith(b'{"Records":[]'):
            return
        yield answer
        iterator = answer.rpartition(b'"NextShardIterator":"')[2].rstrip(b'"}').decode()


def report(found: Feed) -> None:
    print(f"\n{found.server}: streams, CPU of all server processes")
    base = found.put_cpu_us[PLAIN]
    print(f"  PutItem 1 KB {base:6.0f} µs without a stream")
    for table, ratio in found.ratios.items():
        verdict = "met" if ratio <= ADDED_TARGET else "MISSED"
        cost = found.put_cpu_us[table]
        print(f"  PutItem 1 KB {cost:6.0f} µs with {VIEWS[table]}: {ratio:.2f}x, target {ADDED_TARGET}x: {verdict}")
    for table, read in found.reads.items():
        what = "new items" if table == NEW else f"{VIEWS[table]}"
        nodes = f", of which {read.node_cpu_us:.1f} µs at the nodes" if read.node_cpu_us else ""
        print(f"  GetRecords {read.cpu_us:6.1f} µs a record ({1e6 / read.cpu_us:,.0f} a CPU second){nodes}: {what},")
        each = read.answer_mb * 1e6 / read.records
        print(f"    {read.records} records in pages of {read.page_records:.0f}, {each:.0f} bytes each")
