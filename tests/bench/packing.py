"""What packing the stream between regions costs and saves: two replicators over gRPC, before regions of dictionaries.

The same writes with and without, in turn: orders of about 1 KB and random bytes, over a path of 80 ms of round trip,
without bound and of 1 MB/s. Lag is from a change's version to its application. CPU is that of this process: both
replicators, the stand-ins for their nodes and the forwarder that is the path. Read the ratios.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from unittest.mock import patch

import orjson

from geodyne.clock import SystemClock
from geodyne.messages import Change, FeedPage, FeedRecord, ReadFeed
from geodyne.model.version import time_us
from geodyne.network import LinkQuality
from geodyne.peermessages import Hello
from geodyne.rpc.delay import DelayedLinks
from replication.packing import Packer
from replication.service import PeerReplicator, Replicator
from replication.values import FORMAT
from tests.unit.replication import fake_region
from tests.unit.replication.fake_region import FakePartition, FakeRegion, key_of
from tests.unit.replication.test_replicator import _free_port, until

ROUND_TRIP_MS = 80.0
NARROW_MBIT = 8.0
SECONDS, TICK_S, ENDED_S_MAX = 8.0, 0.02, 60.0
NARROW_PER_SECOND, FREE_PER_SECOND = 1_500, 1_500
ITEM_BYTES = 1_000
WORDS = re.findall(
    r"\w+",
    "the of order shipped late customer asked for refund item colour blue large small paid by card invoice address "
    "return window after before note please call delivered warehouse stock priority standard express gift wrapped",
)


@dataclass(frozen=True, slots=True)
class Packing:
    """One run. Lags in ms, of all changes until the writes ended and then until all had arrived."""

    contents: str
    path: str
    packed: bool
    changes: int
    lag_p50_ms: float
    lag_p99_ms: float
    behind_s: float  # from the last write until all had arrived
    encoded_mb: float
    sent_mb: float
    cpu_us: float  # of a change


class _Arrivals:
    """Lags of what a region stored, and whether that is all of it."""

    def __init__(self) -> None:
        self.lags_us: list[int] = []
        self.expected = 0  # 0: not known yet
        self.all_there = asyncio.Event()

    def add(self, change: Change) -> None:
        self.lags_us.append(time.time_ns() // 1_000 - time_us(change.version))
        self.look()

    def look(self) -> None:
        if self.expected and len(self.lags_us) >= self.expected:
            self.all_there.set()


@dataclass
class _Partition(FakePartition):
    """Pages found by bisection; tells what arrives."""

    arrivals: _Arrivals = field(default_factory=_Arrivals)

    def page(self, call: ReadFeed) -> FeedPage:
        after = self.cursors.get(call.consumer, self.floor) if call.after == -1 else call.after
        taken: list[FeedRecord] = []
        size, following = 0, after
        for place in range(bisect_right(self.feed, after, key=lambda record: record.sequence), len(self.feed)):
            record = self.feed[place]
            if size >= call.max_bytes:
                break
            following = record.sequence
            size += len(record.change.image or b"") + len(record.change.key)
            if record.change.version[8:].decode() == call.origin:
                taken.append(record)
        return FeedPage(tuple(taken), following, self.head, False, 0)

    def store(self, change: Change) -> bool:
        self.arrivals.add(change)
        return super().store(change)


def orders(random: Random) -> bytes:
    item: dict[str, object] = {
        "pk": {"S": f"order#{random.getrandbits(48):012x}"},
        "customer": {"S": f"{random.choice(WORDS)}.{random.getrandbits(20)}@example.org"},
        "at": {"S": f"2026-11-{random.randint(1, 28):02d}T{random.randint(0, 23):02d}:{random.randint(0, 59):02d}:00Z"},
        "status": {"S": random.choice(("PAID", "SHIPPED", "OPEN", "RETURNED"))},
        "total": {"N": str(random.randint(100, 99_999))},
    }
    lines: list[object] = []
    while len(orjson.dumps(item)) < ITEM_BYTES:
        note = " ".join(random.choices(WORDS, k=random.randint(2, 8)))
        line = {"sku": {"S": f"{random.getrandbits(40):010X}"}, "price": {"N": str(random.randint(100, 9_999))}}
        lines.append({"M": {**line, "note": {"S": note}}})
        item["lines"] = {"L": lines}
    return orjson.dumps(item)


def blobs(random: Random) -> bytes:
    """Binary attributes are stored as base64, which holds 6 bits in 8: deflate finds these two."""
    return orjson.dumps({"data": {"B": base64.b64encode(random.randbytes(ITEM_BYTES * 3 // 4)).decode()}})


CONTENTS: dict[str, Callable[[Random], bytes]] = {"orders": orders, "blobs": blobs}


def measure() -> list[Packing]:
    """All of them, one after the other."""
    found = []
    for contents, make in CONTENTS.items():
        for path, mbit, per_second in (("free", 0.0, FREE_PER_SECOND), ("1 MB/s", NARROW_MBIT, NARROW_PER_SECOND)):
            for packed in (False, True):
                with _packing(packed), patch.object(fake_region, "FakePartition", _Partition):
                    found.append(asyncio.run(_measure(contents, path, mbit, per_second, packed, make)))
    return found


@contextmanager
def _packing(on: bool) -> Iterator[None]:
    async def as_it_is(_packer: Packer, data: bytes) -> bytes:
        return data

    if on:
        yield
    else:
        with patch.object(Packer, "pack", as_it_is):
            yield


async def _measure(
    contents: str, path: str, mbit: float, per_second: int, packed: bool, make: Callable[[Random], bytes]
) -> Packing:
    clock, random = SystemClock(), Random(5)
    regions = {name: FakeRegion(name, clock) for name in "ab"}
    ports = {name: _free_port() for name in "ab"}
    links = {name: DelayedLinks() for name in "ab"}
    replicators = {}
    for name, other in ("ab", "ba"):
        target = f"127.0.0.1:{ports[other]}"
        peer = PeerReplicator(other, f"{other}/replicator-1", await links[name].via(target, ROUND_TRIP_MS / 2))
        links[name].set_quality(target, LinkQuality(ROUND_TRIP_MS, 0.0, 0.0, mbit))
        hello = Hello("cluster", name, f"{name}/replicator-1", 1, FORMAT)
        listen = f"127.0.0.1:{ports[name]}"
        replicators[name] = Replicator(hello, listen, {other: peer}, region=regions[name], clock=clock, random=random)
        await replicators[name].start()
    try:
        source, there = regions["a"], regions["b"]
        source.create("t")
        source.control("update_table", name="t", replicas_add=["b"])
        await until(lambda: source.table("t").replicas == dict.fromkeys("ab", "ACTIVE"), "both replicas are ACTIVE")
        arrivals = _Arrivals()
        for part in there.parts.values():
            assert isinstance(part, _Partition)
            part.arrivals = arrivals
        images = [make(random) for _ in range(1_000)]
        before = replicators["a"].figures()[0]
        cpu_s, began = time.process_time(), time.monotonic()
        written = 0
        while (passed := time.monotonic() - began) < SECONDS:
            while written < passed * per_second:
                source.write("t", key_of(written), images[written % len(images)])
                written += 1
            await asyncio.sleep(TICK_S)
        ended = time.monotonic()
        async with asyncio.timeout(ENDED_S_MAX):
            arrivals.expected = written
            arrivals.look()
            await arrivals.all_there.wait()
        behind_s, cpu_s = time.monotonic() - ended, time.process_time() - cpu_s
        after = replicators["a"].figures()[0]
    finally:
        for replicator in replicators.values():
            await replicator.close()
        for each in links.values():
            await each.close()
    lags_us = sorted(arrivals.lags_us)
    return Packing(
        contents,
        path,
        packed,
        written,
        lags_us[written // 2] / 1e3,
        lags_us[written * 99 // 100] / 1e3,
        behind_s,
        (after.encoded_bytes - before.encoded_bytes) / 1e6,
        (after.sent_bytes - before.sent_bytes) / 1e6,
        cpu_s / written * 1e6,
    )


def report(runs: list[Packing]) -> None:
    """A line each, and for each pair what packing changes."""
    print(f"\nPacking between regions: {ROUND_TRIP_MS:.0f} ms of round trip, items of {ITEM_BYTES} bytes")
    for run in runs:
        print(
            f"  {run.contents:7}{run.path:8}{'packed' if run.packed else 'plain':7} lag p50 {run.lag_p50_ms:6.0f} ms "
            f"p99 {run.lag_p99_ms:6.0f} ms, all there {run.behind_s:5.2f} s after the last write; "
            f"sent {run.sent_mb:5.2f} of {run.encoded_mb:5.2f} MB; CPU {run.cpu_us:4.0f} us a change"
        )


if __name__ == "__main__":
    report(measure())
