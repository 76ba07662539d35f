"""Processes that outlived a supervisor which was killed: find them by what it had written down, and end them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ORPHAN_SECONDS_MAX = 8.0
_POLL_SECONDS = 0.05


def end_orphans(run: Mapping[str, Any]) -> int:
    """End what still runs of an earlier run (the content of run.json); returns how many there were.

    A pid may belong to someone else by now, so a process counts only while its command line names the launch file.
    """
    alive = [pid for pid, launch_file in _processes(run) if runs(pid, launch_file)]
    ended = len(alive)
    deadline = time.monotonic() + ORPHAN_SECONDS_MAX
    for pid in alive:
        _signal(pid, signal.SIGTERM)
    while alive and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        alive = [pid for pid, launch_file in _processes(run) if pid in alive and runs(pid, launch_file)]
    for pid in alive:
        _signal(pid, signal.SIGKILL)
    return ended


def _processes(run: Mapping[str, Any]) -> list[tuple[int, str]]:
    entries = run.get("processes", [])
    return [(e["pid"], e["launch_file"]) for e in entries if isinstance(e.get("pid"), int) and e.get("launch_file")]


def runs(pid: int, launch_file: str) -> bool:
    """Whether that process is alive (not a zombie) and was started with that launch file."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        if Path("/proc/self").exists():
            return False
        shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
        command = shown.stdout.decode(errors="replace")
    return launch_file in command


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
