"""What the default cluster costs at rest: time until it is ready, memory of all its processes, CPU while idle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import cpu_seconds

TOPOLOGY = "[global]\nport = 0\n" + "".join(
    f"\n[regions.{name}]\nport = 0\n" for name in ("us-east-1", "eu-west-1", "ap-northeast-2")
)
SETTLE_S = 5.0
READY_S_TARGET, MEMORY_MB_TARGET, IDLE_TARGET = 20.0, 1_500.0, 0.15


@dataclass(frozen=True, slots=True)
class Footprint:
    """`idle` is a share of one core. `memory_mb` is the sum of resident sizes, shared pages counted in each."""

    ready_s: float
    processes: int
    memory_mb: float
    idle: float


def measure(directory: Path, environment: dict[str, str], idle_s: float) -> Footprint:
    """Start the default shape on free ports, let it rest, stop it."""
    topology = directory / "default.toml"
    topology.write_text(TOPOLOGY, encoding="utf-8")
    geodyne = [sys.executable, "-m", "geodyne.cli"]
    where = ["--data-dir", str(directory / "default")]
    began = time.monotonic()
    up = [*geodyne, "up", "--detach", "--topology", str(topology), *where]
    subprocess.run(up, check=True, env=environment, stdout=subprocess.DEVNULL)
    ready_s = time.monotonic() - began
    try:
        status = json.loads(subprocess.check_output([*geodyne, "status", "--json", *where], env=environment))
        pids = [entry["pid"] for region in status["regions"].values() for entry in region["processes"]]
        pids += [entry["pid"] for entry in status["global_processes"]]
        time.sleep(SETTLE_S)
        before = cpu_seconds(pids)
        time.sleep(idle_s)
        idle = (cpu_seconds(pids) - before) / idle_s
        return Footprint(ready_s, len(pids), memory_mb(pids), idle)
    finally:
        subprocess.run([*geodyne, "down", *where], check=True, env=environment, stdout=subprocess.DEVNULL)


def memory_mb(pids: Iterable[int]) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def report(found: Footprint) -> None:
    rows = (
        ("ready after", f"{found.ready_s:.1f} s", found.ready_s <= READY_S_TARGET, f"{READY_S_TARGET:.0f} s"),
        ("memory", f"{found.memory_mb:.0f} MB", found.memory_mb <= MEMORY_MB_TARGET, f"{MEMORY_MB_TARGET:.0f} MB"),
        ("idle CPU", f"{found.idle:.1%} of a core", found.idle <= IDLE_TARGET, f"{IDLE_TARGET:.0%}"),
    )
    print(f"\nthe default cluster, {found.processes} processes:")
    for name, figure, met, target in rows:
        print(f"{'met' if met else 'MISSED':<7} {name}: {figure}, target {target}")
