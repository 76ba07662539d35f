"""The region that serves the global endpoint's clients is killed under writes, and returns.

Clients put items of their own at a steady rate through the global endpoint and insist as SDKs do. All processes of the
region are ended by SIGKILL at one moment, while the supervisor stands still: it starts none of them again, and the
routers' ports stay open but silent. Printed: how long no write was answered (RTO), what had been answered and was not
in the other region when that began to serve (RPO), and what is missing once the region is back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from geodyne.cli.verify import EXIT_EQUAL
from tests.bench.lag import ROUND_TRIP_MS, server_of
from tests.bench.load import Server, signed
from tests.bench.steady import Answer, drive, part
from tests.cluster.clusters import Cluster, settings_of_the_sdk
from tests.cluster.tables import create_table, make_global
from tests.cluster.waiting import until

HOME, AWAY = REGIONS = ("us-east-1", "eu-west-1")
TOPOLOGY = f'round_trip_ms = {ROUND_TRIP_MS}\n[global]\nlocation = "{HOME}"\n[regions.{HOME}]\n[regions.{AWAY}]\n'
TABLE = "Failover"
PER_SECOND = 200.0
CONNECTIONS = 64
BEFORE_S, AFTER_S = 8.0, 10.0
EQUAL_S_MAX = 120.0
RTO_S_TARGET = 5.0


@dataclass(frozen=True, slots=True)
class Failover:
    """Times in seconds. `lost`: writes that the dead region had answered and the other one did not have when it began
    to serve; `lost_ms`: from the answer of the oldest of them to the region's last answer."""

    writes: int
    first_elsewhere_s: float
    gap_s: float
    usual_p99_ms: float
    slowest_s: float
    answered_at_home: int
    lost: int
    lost_ms: float
    back_s: float
    equal_s: float
    missing: int


def measure(directory: Path) -> Failover:
    with settings_of_the_sdk():
        cluster = Cluster(directory / "failover", TOPOLOGY, "--capacity", "account")
        try:
            cluster.start()
            home = cluster.client(HOME)
            create_table(home, TABLE)
            make_global(cluster, HOME, TABLE, REGIONS)
            home.close()
            return asyncio.run(_measure(cluster))
        finally:
            cluster.close()


async def _measure(cluster: Cluster) -> Failover:
    loop = asyncio.get_running_loop()
    server = server_of(cluster, "global", HOME)
    requests = [_put(server, number) for number in range(int((BEFORE_S + AFTER_S) * PER_SECOND))]
    pids = [process.pid for process in cluster.processes(HOME) if process.pid is not None]
    away = cluster.client(AWAY)
    answers: list[Answer] = []
    elsewhere = asyncio.Event()

    def on_answer(answer: Answer) -> None:
        answers.append(answer)
        if answer.region == AWAY:
            elsewhere.set()

    driving = asyncio.ensure_future(drive(server, requests, PER_SECOND, CONNECTIONS, on_answer))
    await asyncio.sleep(BEFORE_S)
    with _standing_still(cluster.supervisor_pid):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        killed_s = loop.time()
        await elsewhere.wait()
        first_s = loop.time()
        held = await asyncio.to_thread(_numbers, away)
        await driving
    began = time.monotonic()
    await asyncio.to_thread(cluster.await_running)
    back_s = time.monotonic() - began
    await asyncio.to_thread(until, "the regions are equal", lambda: _equal(cluster), EQUAL_S_MAX)
    equal_s = time.monotonic() - began
    at_home = [answer for answer in answers if answer.region == HOME]
    lost = [answer for answer in at_home if answer.number not in held]
    times = sorted(answer.answered_s for answer in answers)
    left = await asyncio.to_thread(_numbers, away)
    away.close()
    return Failover(
        writes=len(answers),
        first_elsewhere_s=first_s - killed_s,
        gap_s=max(after - before for before, after in pairwise(times)),
        usual_p99_ms=part([(a.answered_s - a.due_s) * 1e3 for a in answers if a.answered_s < killed_s], 0.99),
        slowest_s=max(answer.answered_s - answer.due_s for answer in answers),
        answered_at_home=len(at_home),
        lost=len(lost),
        lost_ms=(max(a.answered_s for a in at_home) - min(a.answered_s for a in lost)) * 1e3 if lost else 0.0,
        back_s=back_s,
        equal_s=equal_s,
        missing=len({answer.number for answer in answers} - left),
    )


def _put(server: Server, number: int) -> bytes:
    item = {"pk": {"S": f"write-{number}"}, "text": {"S": "x" * 400}}
    return signed(server, "PutItem", {"TableName": TABLE, "Item": item})


def _numbers(client: Any) -> set[int]:
    """Of the writes that a strong scan of the region finds."""
    found = set()
    for page in client.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True, ProjectionExpression="pk"):
        found |= {int(item["pk"]["S"].removeprefix("write-")) for item in page["Items"]}
    return found


def _equal(cluster: Cluster) -> bool:
    return cluster.run("verify", TABLE).returncode == EXIT_EQUAL


@contextmanager
def _standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def report(found: Failover) -> None:
    print(
        f"\n{HOME} is killed under {PER_SECOND:.0f} writes a second through the global endpoint, "
        f"{ROUND_TRIP_MS} ms from {AWAY}:\n"
        f"  RTO: {AWAY} answers after {found.first_elsewhere_s:.2f} s; "
        f"longest time without an answer {found.gap_s:.2f} s\n"
        f"  RPO: {found.lost} of {found.answered_at_home} answered writes were not in {AWAY} then, "
        f"the oldest answered {found.lost_ms:.0f} ms before its last answer\n"
        f"  slowest of {found.writes} writes {found.slowest_s:.2f} s, attempts and waiting together; "
        f"usually p99 {found.usual_p99_ms:.0f} ms\n"
        f"  {HOME} runs again after {found.back_s:.1f} s and `geodyne verify` says equal after {found.equal_s:.1f} s; "
        f"{found.missing} writes are missing"
    )
    for name, met, goal in (
        ("fail over", found.gap_s < RTO_S_TARGET, f"under {RTO_S_TARGET:.0f} s"),
        ("no request hangs", found.slowest_s < RTO_S_TARGET, f"none over {RTO_S_TARGET:.0f} s"),
        ("nothing is lost once both regions are there", not found.missing, "0 writes"),
    ):
        print(f"{'met' if met else 'MISSED':<7} {name}, target {goal}")
