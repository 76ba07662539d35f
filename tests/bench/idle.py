"""What a thousand quiet partitions cost a region of three zones: made, at rest, started again, and one node short."""

from __future__ import annotations

import configparser
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.bench.load import cpu_seconds

TABLES = 250
PARTITIONS = 4  # of each table
REGION = "us-east-1"
TOPOLOGY = f'[global]\nport = 0\n\n[regions.{REGION}]\nport = 0\nzones = ["a", "b", "c"]\n'
CALLERS = 8
SETTLE_S = 15.0  # leaders go to their places, the first checkpoint is over
WAIT_S_MAX = 300.0
IDLE_TARGET = 0.05  # of a core, each node


@dataclass(frozen=True, slots=True)
class Idle:
    """`nodes` are shares of one core, one for each node; the rest is seconds."""

    groups: int
    tables_s: float
    nodes: tuple[float, ...]
    memory_mb: tuple[float, ...]
    start_s: float
    paused_s: float
    killed_s: float


def measure(directory: Path, environment: dict[str, str], idle_s: float, tables: int = TABLES) -> Idle:
    """Start a region, make the tables, let it rest, stop and start it, kill a node."""
    region = _Region(directory, environment)
    groups = tables * PARTITIONS + 2  # the catalog's and the health check's
    region.up()
    try:
        began = time.monotonic()
        region.make_tables(tables)
        region.until_led(groups)
        tables_s = time.monotonic() - began
        time.sleep(SETTLE_S)
        region.down()
        began = time.monotonic()
        region.up()
        region.until_led(groups)
        start_s = time.monotonic() - began
        time.sleep(SETTLE_S)
        nodes = region.nodes()
        shares = _shares([node["pid"] for node in nodes], idle_s)
        memory = tuple(_memory_mb(node["pid"]) for node in nodes)
        paused_s = region.lose(nodes, signal.SIGSTOP, groups)
        os.kill(nodes[0]["pid"], signal.SIGKILL)
        region.down()
        region.up()
        region.until_led(groups)
        time.sleep(SETTLE_S)
        killed_s = region.lose(region.nodes(), signal.SIGKILL, groups)
        return Idle(groups, tables_s, shares, memory, start_s, paused_s, killed_s)
    finally:
        region.down()


class _Region:
    """One region under `geodyne up --detach`."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._topology = directory / "idle.toml"
        self._topology.write_text(TOPOLOGY, encoding="utf-8")
        self._where = ["--data-dir", str(directory / "idle")]
        self._environment = environment

    def _geodyne(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "geodyne.cli", *arguments, *self._where]
        return subprocess.run(command, check=True, env=self._environment, stdout=subprocess.PIPE, text=True).stdout

    def up(self) -> None:
        self._geodyne("up", "--detach", "--topology", str(self._topology))

    def down(self) -> None:
        self._geodyne("down")

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self._geodyne("status", "--json")))

    def nodes(self) -> list[dict[str, Any]]:
        return [entry for entry in self.status()["regions"][REGION]["processes"] if entry["role"] == "node"]

    def make_tables(self, count: int) -> None:
        status = self.status()
        keys = configparser.ConfigParser(interpolation=None)
        keys.read(status["credentials"], encoding="utf-8")
        client = boto3.client(
            "dynamodb",
            endpoint_url=status["regions"][REGION]["endpoint"],
            region_name=REGION,
            aws_access_key_id=keys["default"]["aws_access_key_id"],
            aws_secret_access_key=keys["default"]["aws_secret_access_key"],
            config=Config(retries={"mode": "standard", "max_attempts": 10}, max_pool_connections=CALLERS),
        )

        def make(number: int) -> None:
            client.create_table(
                TableName=f"idle-{number:04d}",
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )

        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(make, range(count)))
        client.close()

    def until_led(self, groups: int, nodes: Sequence[dict[str, Any]] = ()) -> None:
        """Until these nodes (all, unless given) lead and serve all groups."""
        asked = nodes or self.nodes()
        _until(lambda: sum(_led(node["metrics"]) for node in asked) >= groups)

    def lose(self, nodes: Sequence[dict[str, Any]], how: signal.Signals, groups: int) -> float:
        """Stop or kill the first of these nodes. Seconds until the others lead and serve all groups. One that is
        stopped is dead to the others, and the supervisor has nothing to start again."""
        began = time.monotonic()
        os.kill(nodes[0]["pid"], how)
        try:
            self.until_led(groups, nodes[1:])
        except BaseException:
            os.kill(nodes[0]["pid"], signal.SIGKILL)
            raise
        return time.monotonic() - began


def _led(metrics: str) -> int:
    connection = http.client.HTTPConnection(metrics, timeout=30)
    try:
        connection.request("GET", "/metrics")
        found = re.search(rb"^geodyne_leader_partitions ([\d.e+]+)", connection.getresponse().read(), re.MULTILINE)
        return int(float(found.group(1))) if found else 0
    finally:
        connection.close()


def _until(condition: Callable[[], bool]) -> None:
    latest = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > latest:
            raise SystemExit(f"not all groups were led within {WAIT_S_MAX:.0f} s")
        time.sleep(0.05)


def _shares(pids: Sequence[int], seconds: float) -> tuple[float, ...]:
    before, began = [cpu_seconds([pid]) for pid in pids], time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return tuple((cpu_seconds([pid]) - used) / passed for pid, used in zip(pids, before, strict=True))


def _memory_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def report(found: Idle) -> None:
    worst = max(found.nodes)
    print(f"\n{found.groups} groups in one region of three nodes:")
    shares = ", ".join(f"{share:.1%}" for share in found.nodes)
    print(f"{'met' if worst < IDLE_TARGET else 'MISSED':<7} idle: {shares} of a core, target {IDLE_TARGET:.0%} each")
    print(f"        memory of each node: {', '.join(f'{size:.0f} MB' for size in found.memory_mb)}")
    print(f"        all tables made and led after {found.tables_s:.1f} s")
    print(f"        started again and all groups led after {found.start_s:.1f} s")
    print(f"        all groups led again after a node stopped (SIGSTOP): {found.paused_s:.1f} s")
    print(f"        all groups led again after a node was killed (SIGKILL): {found.killed_s:.1f} s")
