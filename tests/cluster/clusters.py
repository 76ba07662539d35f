"""A local cluster as a user runs it - `geodyne up` as a process - with ways to hurt its processes.

Everything that was started is ended again by process id, whatever state a test left it in.
"""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config

from geodyne.cli.control import call
from geodyne.cli.datadir import ClusterDirectory
from geodyne.cli.orphans import end_orphans
from tests.cluster.waiting import until

REPOSITORY = Path(__file__).parents[2]
START_S_MAX = 150.0  # the supervisor itself gives up after 120
STOP_S_MAX = 45.0
COMMAND_S_MAX = 90.0
LOG_TAIL_LINES = 25
LOG_TAIL_BYTES = 64 * 1024
NO_PROFILE = os.devnull  # an empty configuration: the developer's own settings of the SDK have no say in a test


@contextmanager
def settings_of_the_sdk() -> Iterator[None]:
    """Inside, the SDK finds nothing of the developer's own settings and uses no proxy."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", NO_PROFILE)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", NO_PROFILE)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


def geodyne(*arguments: str, state: Path, seconds_max: float = COMMAND_S_MAX) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end. `state` keeps its pointers to running clusters apart from the user's own."""
    return subprocess.run(
        command_line(*arguments),
        env=environment(state),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds_max,
        check=False,
    )


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "geodyne.cli", *arguments]


def environment(state: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_STATE_HOME": str(state), "PYTHONUNBUFFERED": "1"}


class Keys(NamedTuple):
    """A key pair, for clients."""

    access_key_id: str
    secret_access_key: str


def read_keys(credentials: Path) -> Keys:
    parser = configparser.ConfigParser(interpolation=None)
    with credentials.open(encoding="utf-8") as file:
        parser.read_file(file)
    profile = parser["default"]
    return Keys(profile["aws_access_key_id"], profile["aws_secret_access_key"])


def dynamodb(endpoint: str, region: str, keys: Keys, *, service: str = "dynamodb", **config: Any) -> Any:
    """A boto3 client. Without `config` with the SDK's own settings, retries included."""
    session = boto3.session.Session(keys.access_key_id, keys.secret_access_key, region_name=region)
    return session.client(service, endpoint_url=endpoint, config=Config(**config))


class Process(NamedTuple):
    """One process as `status` tells it."""

    id: str
    role: str
    zone: str
    pid: int | None
    address: str
    metrics: str
    state: str
    starts: int


class Cluster:
    """One run of `geodyne up`. `close` ends all of it."""

    def __init__(
        self, data_dir: Path, topology: str, *options: str, program: Callable[..., list[str]] | None = None
    ) -> None:
        """`program` turns the arguments of `geodyne` into a command line, for runs that are wrapped in something."""
        self.data_dir = data_dir
        self.state = data_dir.parent / f"{data_dir.name}-state"
        self._directory = ClusterDirectory(data_dir)
        self._topology = data_dir.parent / f"{data_dir.name}.toml"
        self._topology.write_text(topology, encoding="utf-8")
        self._options = options
        self._program = program or command_line
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._output = data_dir.parent / f"{data_dir.name}-output.txt"
        self._paused: set[int] = set()

    # --- life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it is ready."""
        arguments = ("up", "--topology", str(self._topology), "--data-dir", str(self.data_dir), *self._options)
        with self._output.open("ab") as output:
            self._supervisor = subprocess.Popen(
                self._program(*arguments),
                env=environment(self.state),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until("the cluster is ready", self._is_ready, START_S_MAX, 0.1)

    def _is_ready(self) -> bool:
        assert self._supervisor is not None
        assert self._supervisor.poll() is None, f"`geodyne up` ended: {self._output.read_text()[-2_000:]}"
        run = self._directory.read_run() or {}
        # A supervisor that was killed has left a file of its own behind.
        return run.get("pid") == self._supervisor.pid and run.get("phase") == "ready"

    def close(self) -> None:
        """Stop everything, in order if it can be, and leave no process behind."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        for pid in list(self._paused):
            self._resume(pid)
        try:
            supervisor.terminate()
            supervisor.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
        finally:
            end_orphans(self._directory.read_run() or {})

    @property
    def supervisor_pid(self) -> int:
        assert self._supervisor is not None
        return self._supervisor.pid

    # --- what it tells ----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What `geodyne status --json` prints, asked for without the cost of a new process."""
        return call((self._directory.read_run() or {})["control"], {"command": "status"}, COMMAND_S_MAX)

    def processes(self, region: str | None = None, role: str | None = None) -> list[Process]:
        """All processes, or those of a region or role; `global` is the region of the global endpoint."""
        status = self.status()
        shown = {name: entry["processes"] for name, entry in status["regions"].items()}
        shown["global"] = status["global_processes"]
        found = [
            Process(**{field: entry[field] for field in Process._fields})
            for name, entries in shown.items()
            for entry in entries
            if region in (None, name)
        ]
        return [process for process in found if role in (None, process.role)]

    def process(self, process_id: str) -> Process:
        return next(process for process in self.processes() if process.id == process_id)

    def leader(self, region: str, table: str, partition: int) -> str:
        """The id of the process that leads the partition; "" while none does."""
        for entry in self.status()["partitions"]:
            if (entry["region"], entry["table"], entry["id"]) == (region, table, partition):
                return str(entry["leader"])
        return ""

    def partitions(self, region: str, table: str) -> list[int]:
        """The partitions of a table whose leaders are known."""
        entries = self.status()["partitions"]
        return [p["id"] for p in entries if (p["region"], p["table"]) == (region, table) and p["leader"]]

    def await_running(self) -> None:
        """Until every process is up and says that it is healthy."""

        def broken() -> list[str] | None:
            return [f"{p.id} {p.state}" for p in self.processes() if p.state != "running"] or None

        until("all processes are running", lambda: broken() is None, poll_s=0.2)

    @property
    def keys(self) -> Keys:
        return read_keys(self.data_dir / "credentials")  # where `status` says they are, at no cost to the processes

    @property
    def admin_token(self) -> str:
        """What administration of the processes asks for."""
        return (self.data_dir / "admin-token").read_text().strip()

    def endpoint(self, region: str) -> str:
        status = self.status()
        return str(status["global_endpoint"] if region == "global" else status["regions"][region]["endpoint"])

    def log_tails(self) -> str:
        """The last lines of every log, for a failed test's report."""
        files = [self._output, *sorted((self.data_dir / "logs").rglob("*.log"))]
        return "\n".join(
            f"--- {file.name if file is self._output else file.relative_to(self.data_dir)}\n{tail(file)}"
            for file in files
        )

    # --- clients ----------------------------------------------------------------------------------------

    def client(self, region: str, *, zone: str | None = None, **config: Any) -> Any:
        """A boto3 client of a region; with `zone` of its router in that zone, which reads from that zone's replica."""
        endpoint = self.endpoint(region)
        if zone is not None:
            router = next(p for p in self.processes(region, "router") if p.zone == zone)
            endpoint = f"http://{router.address}"
        return dynamodb(endpoint, region, self.keys, **config)

    def global_client(self, **config: Any) -> Any:
        return dynamodb(self.endpoint("global"), "us-east-1", self.keys, **config)

    # --- commands and injuries --------------------------------------------------------------------------

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of `geodyne` on this cluster."""
        return geodyne(*arguments, "--data-dir", str(self.data_dir), state=self.state)

    def stop_processes(self, ids: Sequence[str]) -> None:
        self._on_each("stop", ids)

    def start_processes(self, ids: Sequence[str]) -> None:
        self._on_each("start", ids)

    def _on_each(self, command: str, ids: Sequence[str]) -> None:
        with ThreadPoolExecutor(len(ids)) as pool:
            for done in pool.map(lambda process_id: self.run(command, process_id), ids):
                assert done.returncode == 0, done.stderr

    def kill(self, process_id: str) -> int:
        """SIGKILL; returns the pid that is no more."""
        return self.signal(self.process(process_id), signal.SIGKILL)

    def signal(self, process: Process, number: signal.Signals) -> int:
        assert process.pid is not None, f"{process.id} is not running"
        os.kill(process.pid, number)
        return process.pid

    @contextmanager
    def paused(self, process_id: str) -> Iterator[None]:
        """SIGSTOP; continues at the end of the block."""
        pid = self.process(process_id).pid
        assert pid is not None, f"{process_id} is not running"
        self._paused.add(pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            self._resume(pid)

    def _resume(self, pid: int) -> None:
        self._paused.discard(pid)
        os.kill(pid, signal.SIGCONT)


def tail(file: Path) -> str:
    if not file.exists():
        return "(none)"
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - LOG_TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])


def canonical(item: Mapping[str, Any]) -> str:
    """An item as text that is equal exactly when all attributes are."""
    return json.dumps(item, sort_keys=True, default=repr)
