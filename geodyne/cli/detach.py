"""`geodyne up --detach`: the supervisor runs in a session of its own, this process only waits until it is ready."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from geodyne.cli.child import LOG_BYTES_MAX
from geodyne.cli.datadir import ClusterDirectory
from geodyne.cli.errors import EXIT_OK, CommandError
from geodyne.cli.launch import child_environment
from geodyne.cli.supervisor import READY_SECONDS_MAX

SUPERVISOR = (sys.executable, "-P", "-m", "geodyne.cli")
POLL_SECONDS = 0.1
GRACE_SECONDS = 30.0  # beyond READY_SECONDS_MAX: the supervisor itself reports that the time is over


def start_detached(arguments: argparse.Namespace) -> int:
    """Start the supervisor and return when its cluster is ready. Raises CommandError with its reason when it fails."""
    directory = ClusterDirectory(Path(arguments.data_dir))
    directory.check_kind()
    log_file = directory.supervisor_log
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        if log_file.exists() and log_file.stat().st_size > LOG_BYTES_MAX:
            log_file.replace(log_file.with_name(log_file.name + ".1"))
        with open(log_file, "ab") as log:
            offset = log.tell()
            supervisor = subprocess.Popen(
                [*SUPERVISOR, *_arguments(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
                env=child_environment(),
            )
    except OSError as error:
        raise CommandError(f"cannot write below {directory.path}: {error.strerror}") from None
    try:
        _wait_until_ready(supervisor, directory, log_file, offset)
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait()
        raise
    sys.stdout.write(_since(log_file, offset))
    # It goes on without us: nothing is to be said about a child that has not been waited for.
    supervisor.returncode = 0
    return EXIT_OK


_SECONDS = ("rebuild_after", "ttl_interval", "ttl_change_interval", "shard_life", "feed_mb", "clock_offset")


def _arguments(arguments: argparse.Namespace) -> list[str]:
    passed = ["up", "--detached", "--data-dir", arguments.data_dir]
    for name in ("auth", "capacity", "log_level", "topology", "credentials", "kinesis_endpoint", *_SECONDS):
        value = getattr(arguments, name)
        if value is not None:
            passed += [f"--{name.replace('_', '-')}", str(value)]
    return passed


def _wait_until_ready(
    supervisor: subprocess.Popen[bytes], directory: ClusterDirectory, log_file: Path, offset: int
) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX + GRACE_SECONDS
    while time.monotonic() < deadline:
        if supervisor.poll() is not None:
            lines = [line for line in _since(log_file, offset).splitlines() if line.strip()]
            reason = lines[-1] if lines else f"the supervisor ended with exit code {supervisor.returncode}"
            raise CommandError(reason.removeprefix("geodyne: "))
        run = directory.read_run()
        if run is not None and run.get("pid") == supervisor.pid and run.get("phase") == "ready":
            return
        time.sleep(POLL_SECONDS)
    supervisor.terminate()
    raise CommandError(f"the cluster did not become ready; see {log_file}")


def _since(log_file: Path, offset: int) -> str:
    with open(log_file, "rb") as log:
        log.seek(offset)
        return log.read().decode(errors="replace")
