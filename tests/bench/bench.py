"""`make bench`: geodyne dev and a three-zone region beside a yardstick, and a thousand quiet partitions, in one run.

The yardstick is what Python needs for HTTP and a signature alone (yardstick.py). Absolute figures depend on the machine
and its other load: read the ratios. CPU is that of all server processes, user and system, per request.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import orjson
from botocore.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import expiry, failover, feed, idle, lag
from tests.bench import footprint as footprints
from tests.bench.load import Figures, Server, gets, puts, run

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "AKIABENCHBENCHBENCH0", "bench-secret-key-of-no-value"
TABLE = "Bench"
START_S_MAX = 60.0
ZONES_TOPOLOGY = f'[global]\nport = 0\n\n[regions.{REGION}]\nport = 0\nzones = ["a", "b", "c"]\n'

GET_OF_YARDSTICK, PUT_OF_YARDSTICK, ZONES_PUTS = 1 / 4, 1 / 6, 1_500.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="length of each measurement")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument(
        "--only",
        choices=["yardstick", "dev", "zones", "cluster", "idle", "ttl", "feed", "lag", "failover"],
        help="measure one thing only",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    if options.only not in ("cluster", "idle", "ttl", "lag", "failover") and shutil.which("wrk") is None:
        parser.error("wrk makes the load and is not on PATH (on Debian: apt-get install wrk)")
    rows: list[tuple[str, str, Figures]] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        credentials = directory / "credentials"
        credentials.write_text(
            f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n", encoding="utf-8"
        )
        for name, start in (("yardstick", yardstick), ("dev", dev), ("zones", zones)):
            if options.only in (None, name):
                with start(directory, credentials) as server:
                    rows += measure(server, options.connections, options.seconds)
        footprint = None
        if options.only in (None, "cluster"):
            footprint = footprints.measure(directory, environment(), idle_s=10.0)
        quiet = None
        if options.only in (None, "idle"):
            quiet = idle.measure(directory, environment(), idle_s=20.0)
        feeds: list[feed.Feed] = []
        if options.only in (None, "feed"):
            for start in (dev, zones):
                with start(directory / "feed", credentials) as server:
                    feeds.append(feed.measure(server, client_of(server), options.connections))
        expired = None
        if options.only in (None, "ttl"):
            with zones(directory / "ttl", credentials) as server:
                expired = expiry.measure(server, client_of(server), server.metrics)
        lags = [lag.measure(directory, regions) for regions in (2, 3) if options.only in (None, "lag")]
        failed_over = failover.measure(directory) if options.only in (None, "failover") else None
    if rows or options.json:
        report(rows, options.connections, as_json=options.json)
    if footprint is not None and not options.json:
        footprints.report(footprint)
    if quiet is not None and not options.json:
        idle.report(quiet)
    if not options.json:
        for each in feeds:
            feed.report(each)
    if expired is not None and not options.json:
        expiry.report(expired)
    if not options.json:
        for each_lag in lags:
            lag.report(each_lag)
    if failed_over is not None and not options.json:
        failover.report(failed_over)
    return 0


def measure(server: Server, connections: int, seconds: int) -> Iterator[tuple[str, str, Figures]]:
    if server.name != "yardstick":
        make_table(server)
    loads: list[tuple[str, Callable[[], list[tuple[str, dict[str, object]]]]]] = [
        ("PutItem 1 KB", lambda: puts(TABLE)),
        ("GetItem eventual", lambda: gets(TABLE, strong=False)),
        ("GetItem strong", lambda: gets(TABLE, strong=True)),
    ]
    if server.name == "yardstick":
        loads = loads[:1]
    for name, requests in loads:
        run(server, requests(), connections, 1)  # warm up; the first puts also fill the table
        yield server.name, name, run(server, requests(), connections, seconds)


def client_of(server: Server) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=f"http://{server.host}:{server.port}",
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(retries={"mode": "standard"}),
    )


def make_table(server: Server) -> None:
    client = client_of(server)
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=TABLE, WaiterConfig={"Delay": 1})


# --- servers ------------------------------------------------------------------------------------------------


@contextmanager
def yardstick(directory: Path, credentials: Path) -> Iterator[Server]:
    program = [sys.executable, str(ROOT / "tests/bench/yardstick.py"), "--port", "0", "--credentials", str(credentials)]
    with started(program) as process:
        yield server_of("yardstick", port_in(process), (process.pid,))


@contextmanager
def dev(directory: Path, credentials: Path) -> Iterator[Server]:
    program = [sys.executable, "-m", "geodyne.cli", "dev", "--port", "0", "--auth", "on"]
    program += ["--credentials", str(credentials), "--data-dir", str(directory / "dev"), "--region", REGION]
    with started(program) as process:
        yield server_of("dev", port_in(process), (process.pid,))


@contextmanager
def zones(directory: Path, credentials: Path) -> Iterator[Server]:
    """One region of three zones, capacity accounted but not enforced."""
    directory.mkdir(exist_ok=True)
    topology = directory / "zones.toml"
    topology.write_text(ZONES_TOPOLOGY, encoding="utf-8")
    geodyne = [sys.executable, "-m", "geodyne.cli"]
    where = ["--data-dir", str(directory / "zones")]
    up = ["up", "--topology", str(topology), "--credentials", str(credentials), "--capacity", "account"]
    with started([*geodyne, *up, *where]) as process:
        wait_for_line(process, "The cluster is ready")
        status = json.loads(subprocess.check_output([*geodyne, "status", "--json", *where], env=environment()))
        region = status["regions"][REGION]
        pids = tuple(entry["pid"] for entry in region["processes"] if entry["role"] in ("node", "router"))
        nodes = [entry for entry in region["processes"] if entry["role"] == "node"]
        yield replace(
            server_of("zones", int(region["endpoint"].rpartition(":")[2]), pids),
            metrics=tuple(entry["metrics"] for entry in nodes),
            nodes=tuple(entry["pid"] for entry in nodes),
        )


def server_of(name: str, port: int, pids: tuple[int, ...]) -> Server:
    return Server(name, "127.0.0.1", port, REGION, ACCESS_KEY, SECRET_KEY, pids)


@contextmanager
def started(program: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def port_in(process: subprocess.Popen[str]) -> int:
    line = wait_for_line(process, "http://127.0.0.1:", "listening on ")
    match = re.search(r"(?:127\.0\.0\.1:|listening on )(\d+)", line)
    assert match is not None, line
    return int(match.group(1))


def wait_for_line(process: subprocess.Popen[str], *texts: str) -> str:
    assert process.stdout is not None
    until = time.monotonic() + START_S_MAX
    for line in process.stdout:
        if any(text in line for text in texts):
            return line
        if time.monotonic() > until:
            break
    raise SystemExit(f"{' '.join(process.args)} did not say {texts[0]!r}")  # type: ignore[arg-type]


# --- report -------------------------------------------------------------------------------------------------


def report(rows: list[tuple[str, str, Figures]], connections: int, *, as_json: bool) -> None:
    base = next((figures.per_second for server, _, figures in rows if server == "yardstick"), None)
    if as_json:
        entries = [
            {"server": server, "load": load, **{k: getattr(f, k) for k in Figures.__slots__}}
            for server, load, f in rows
        ]
        print(orjson.dumps({"connections": connections, "rows": entries}).decode())
        return
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ",
        end="",
    )
    print(f"wrk with {connections} connections, signatures verified, capacity accounted\n")
    print(f"{'server':<10} {'load':<17} {'req/s':>8} {'p50 ms':>7} {'p99 ms':>7} {'CPU µs':>7} {'of yardstick':>12}")
    for server, load, f in rows:
        share = f"{f.per_second / base:>11.2f}x" if base else ""
        print(
            f"{server:<10} {load:<17} {f.per_second:>8.0f} {f.p50_ms:>7.2f} {f.p99_ms:>7.2f} {f.cpu_us:>7.0f} {share}"
        )
    goals(rows, base)


def goals(rows: list[tuple[str, str, Figures]], base: float | None) -> None:
    """The targets, met or not; printed, not asserted: these machines are shared."""
    found = {(server, load): figures.per_second for server, load, figures in rows}
    wanted = []
    if base:
        wanted += [
            ("dev", "GetItem eventual", base * GET_OF_YARDSTICK, "a quarter of the yardstick"),
            ("dev", "PutItem 1 KB", base * PUT_OF_YARDSTICK, "a sixth of the yardstick"),
        ]
    wanted.append(("zones", "PutItem 1 KB", ZONES_PUTS, "1,500 durable puts a second"))
    print()
    for server, load, least, text in wanted:
        if (server, load) in found:
            verdict = "met" if found[server, load] >= least else "MISSED"
            print(f"{verdict:<7} {server} {load}: {found[server, load]:.0f}/s, target {text} ({least:.0f}/s)")


if __name__ == "__main__":
    sys.exit(main())
