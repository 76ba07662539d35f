"""Replication lag as clients see it: from the answer to a write in one region to the first read elsewhere that shows
it.

500 puts a second of 1 KB each, whatever comes back (steady.py), to one region of three zones; every twentieth goes to a
key of its own that a reader in each other region asks for from the moment of the answer on, every few milliseconds.
Half of the readers read strongly, half eventually. What the replicator itself measures stands beside it.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.load import Server, cpu_seconds, item, signed
from tests.bench.steady import Answer, Caller, drive, part
from tests.cluster.clusters import Cluster, settings_of_the_sdk
from tests.cluster.tables import create_table, make_global

REGIONS = ("us-east-1", "eu-west-1", "ap-northeast-2")
TABLE = "Lag"
PER_SECOND = 500.0
SECONDS = 30.0
WARM_S = 3.0
CONNECTIONS = 32
ROUND_TRIP_MS = 80
WATCHED_EVERY = 20
POLL_S = 0.004  # between two reads of one watched item: an error of half of that
SEEN_S_MAX = 20.0
P99_MS_TARGET = 400.0


@dataclass(frozen=True, slots=True)
class Way:
    """From the source to one destination, in ms: as readers saw it, by kind of read, and as the replicator's histogram
    has it (the share of batches within the target)."""

    destination: str
    strong_ms: tuple[float, ...]
    eventual_ms: tuple[float, ...]
    batches: int
    batches_late: int

    @property
    def all_ms(self) -> tuple[float, ...]:
        return self.strong_ms + self.eventual_ms


@dataclass(frozen=True, slots=True)
class Lag:
    """`write_ms`: latencies of the puts, from when they were due. `cpu`: cores used, by kind of process. `waited`: how
    much of the time the process that waited most stood in line for a core; above some percent all figures are those of
    the machine's other load."""

    regions: int
    writes: int
    write_ms: tuple[float, ...]
    paths: tuple[Way, ...]
    cpu: dict[str, float]
    waited: float


def measure(directory: Path, regions: int, seconds: float = SECONDS) -> Lag:
    names = REGIONS[:regions]
    shape = "".join(f"[regions.{name}]\n" for name in names)
    with settings_of_the_sdk():
        topology = f"round_trip_ms = {ROUND_TRIP_MS}\n{shape}"
        cluster = Cluster(directory / f"lag-{regions}", topology, "--capacity", "account")
        try:
            cluster.start()
            home = cluster.client(names[0])
            create_table(home, TABLE)
            make_global(cluster, names[0], TABLE, names)
            home.close()
            return asyncio.run(_measure(cluster, names, seconds))
        finally:
            cluster.close()


async def _measure(cluster: Cluster, names: Sequence[str], seconds: float) -> Lag:
    servers = [server_of(cluster, name, name) for name in names]
    warm, timed = int(WARM_S * PER_SECOND), int(seconds * PER_SECOND)
    requests = [_put(servers[0], number) for number in range(warm + timed)]
    watchers = [_Watcher(server) for server in servers[1:]]
    for watcher in watchers:
        watcher.prepare(range(warm, warm + timed, WATCHED_EVERY))
    await drive(servers[0], requests[:warm], PER_SECOND, CONNECTIONS, lambda _: None)
    latencies: list[float] = []

    def on_answer(answer: Answer) -> None:
        latencies.append((answer.answered_s - answer.due_s) * 1e3)
        for watcher in watchers:
            watcher.watch(warm + answer.number, answer.answered_s)

    pids = [process.pid for process in cluster.processes() if process.pid is not None]
    before, cpu_before, waited_before = _histograms(cluster, names), _cpu(cluster), _waited_s(pids)
    began = time.monotonic()
    await drive(servers[0], requests[warm:], PER_SECOND, CONNECTIONS, on_answer)
    took_s = time.monotonic() - began
    waited = max(after - before for before, after in zip(waited_before, _waited_s(pids), strict=True)) / took_s
    for watcher in watchers:
        await watcher.end()
    after, cpu_after = _histograms(cluster, names), _cpu(cluster)
    paths = tuple(
        replace(watcher.path(), batches=after[name][0] - before[name][0], batches_late=after[name][1] - before[name][1])
        for name, watcher in zip(names[1:], watchers, strict=True)
    )
    cpu = {kind: (cpu_after[kind] - cpu_before[kind]) / took_s for kind in cpu_after}
    return Lag(len(names), timed, tuple(latencies), paths, cpu, waited)


def server_of(cluster: Cluster, endpoint: str, region: str) -> Server:
    """An endpoint, a region's or the global one, whose requests are signed for `region`."""
    host, _, port = cluster.endpoint(endpoint).removeprefix("http://").partition(":")
    return Server(endpoint, host, int(port), region, *cluster.keys, ())


def _key(number: int) -> str:
    return f"watched-{number}" if number % WATCHED_EVERY == 0 else str(item(number)["pk"]["S"])


def _put(server: Server, number: int) -> bytes:
    return signed(server, "PutItem", {"TableName": TABLE, "Item": item(number) | {"pk": {"S": _key(number)}}})


class _Watcher:
    """A region's readers: one for each watched item, from its answer until it is there."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._requests: dict[int, bytes] = {}
        self._idle: list[Caller] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: tuple[list[float], list[float]] = ([], [])

    def prepare(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            body = {"TableName": TABLE, "Key": {"pk": {"S": _key(number)}}, "ConsistentRead": self._strongly(number)}
            self._requests[number] = signed(self._server, "GetItem", body | {"ProjectionExpression": "pk"})

    @staticmethod
    def _strongly(number: int) -> bool:
        return number // WATCHED_EVERY % 2 == 0

    def watch(self, number: int, since_s: float) -> None:
        if number in self._requests:
            task = asyncio.get_running_loop().create_task(self._watch(number, since_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _watch(self, number: int, since_s: float) -> None:
        loop = asyncio.get_running_loop()
        caller = self._idle.pop() if self._idle else Caller(self._server)
        while True:
            _, _, body = await caller.insist(self._requests[number])
            if b"watched" in body:
                break
            assert loop.time() < since_s + SEEN_S_MAX, f"{_key(number)} was not seen in {self._server.name}"
            await asyncio.sleep(POLL_S)
        self._seen[self._strongly(number)].append((loop.time() - since_s) * 1e3)
        self._idle.append(caller)

    async def end(self) -> None:
        await asyncio.gather(*self._tasks)
        for caller in self._idle:
            caller.close()

    def path(self) -> Way:
        eventual, strong = self._seen
        return Way(self._server.name, tuple(strong), tuple(eventual), 0, 0)


def _cpu(cluster: Cluster) -> dict[str, float]:
    """Seconds so far, by region and role."""
    spent: dict[str, float] = {}
    for process in cluster.processes():
        if process.pid is not None:
            name = f"{process.id.partition('/')[0]} {process.role}"
            spent[name] = spent.get(name, 0.0) + cpu_seconds([process.pid])
    return spent


def _waited_s(pids: Sequence[int]) -> list[float]:
    """How long the main thread of each process has stood in line for a core."""
    return [int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9 for pid in pids]


def _histograms(cluster: Cluster, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """By destination: batches that were answered, and those of them that took longer than the target."""
    replicator = cluster.processes(names[0], "replicator")[0]
    connection = http.client.HTTPConnection(replicator.metrics, timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    found = {}
    for name in names[1:]:
        buckets = {
            float(bound): float(count)
            for labels, count in re.findall(r"^geodyne_replication_latency_seconds_bucket\{(.*)\} (\S+)$", text, re.M)
            if f'destination="{name}"' in labels
            for bound in re.findall(r'le="([^"]+)"', labels)
        }
        within = max((count for bound, count in buckets.items() if bound <= P99_MS_TARGET / 1e3), default=0.0)
        every = buckets.get(float("inf"), 0.0)
        found[name] = (int(every), int(every - within))
    return found


def report(found: Lag) -> None:
    print(
        f"\n{found.regions} regions of three zones, {ROUND_TRIP_MS} ms of round trip, {PER_SECOND:.0f} puts of 1 KB a "
        f"second in {REGIONS[0]}:\n"
        f"  puts            p50 {part(found.write_ms, 0.5):6.1f} ms, p99 {part(found.write_ms, 0.99):6.1f} ms, "
        f"longest {max(found.write_ms):6.1f} ms, of {found.writes}"
    )
    for path in found.paths:
        for name, values in (("strong reads", path.strong_ms), ("eventual reads", path.eventual_ms)):
            print(
                f"  {path.destination}, {name:<15} p50 {part(values, 0.5):6.1f} ms, p99 {part(values, 0.99):6.1f} ms, "
                f"longest {max(values):6.1f} ms, of {len(values)}"
            )
        print(
            f"  {path.destination}: {path.batches} batches, {path.batches_late} acknowledged after more than the target"
        )
    print("  CPU, cores:     " + ", ".join(f"{name} {share:.2f}" for name, share in found.cpu.items()))
    print(f"  stood in line for a core, the process that did most: {found.waited:.0%} of the time")
    for path in found.paths:
        p99 = part(path.all_ms, 0.99)
        verdict = "met" if p99 < P99_MS_TARGET else "MISSED"
        print(f"{verdict:<7} lag to {path.destination}: p99 {p99:.0f} ms, target {P99_MS_TARGET:.0f} ms")
