"""One supervised process: start it, notice its end, decide how long to wait before the next start."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from geodyne.topology import ProcessSpec

RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 5.0
STEADY_SECONDS = 30.0  # a process that ran so long is taken to have been healthy
LOG_BYTES_MAX = 16 * 1024 * 1024  # a longer log is put aside when its process starts
LOG_TAIL_BYTES = 4096
LOG_LINE_CHARACTERS_MAX = 800


class State(StrEnum):
    STARTING = "starting"  # runs, has not yet said that it is ready
    RUNNING = "running"
    RESTARTING = "restarting"  # ended by itself; waits for its next start
    STOPPED = "stopped"  # on request


class Backoff:
    """How long to wait before starting a process again: doubling from MIN to MAX, afresh after a steady run."""

    def __init__(self) -> None:
        self._next_seconds = RESTART_SECONDS_MIN

    def after_run(self, ran_seconds: float) -> float:
        """Seconds to wait after a run of that length."""
        if ran_seconds >= STEADY_SECONDS:
            self._next_seconds = RESTART_SECONDS_MIN
        wait = self._next_seconds
        self._next_seconds = min(2 * wait, RESTART_SECONDS_MAX)
        return wait


class Child:
    """A process that should run while `wanted` is set."""

    def __init__(self, spec: ProcessSpec, command: Sequence[str], log_file: Path) -> None:
        self.spec = spec
        self.command = tuple(command)
        self.log_file = log_file
        self.state = State.STOPPED
        self.wanted = asyncio.Event()
        self.stop_asked = asyncio.Event()
        self.ended = asyncio.Event()
        self.ended.set()
        self.ready = asyncio.Event()
        self.exit_code: int | None = None
        self.starts = 0
        self.backoff = Backoff()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def want(self) -> None:
        self.stop_asked.clear()
        self.wanted.set()

    def unwant(self) -> None:
        self.wanted.clear()
        self.stop_asked.set()

    def spawn(self, environment: dict[str, str]) -> None:
        """Start the process. Raises OSError."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        _put_aside(self.log_file)
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                # Ctrl-C goes to the terminal's whole group; the order of stopping is the supervisor's.
                start_new_session=True,
            )
        self._started_s = time.monotonic()
        self.starts += 1
        self.exit_code = None
        self.state = State.STARTING
        self.ended.clear()
        self.ready.clear()

    def reap(self) -> None:
        """Take note of the end of the process if it has ended; called on SIGCHLD."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            self.exit_code = code
            self.ready.clear()
            self.ended.set()

    def ran_seconds(self) -> float:
        return time.monotonic() - self._started_s

    def signal(self, number: signal.Signals) -> None:
        """Send a signal while the process runs; Popen never signals a pid that it has already reaped."""
        if self._process is not None:
            self._process.send_signal(number)

    def end_in_words(self) -> str:
        if self.exit_code is not None and self.exit_code < 0:
            try:
                return f"was ended by {signal.Signals(-self.exit_code).name}"
            except ValueError:
                return f"was ended by signal {-self.exit_code}"
        return f"ended with exit code {self.exit_code}"

    def last_log_line(self) -> str:
        """The last line of its log, for messages; empty when there is none."""
        try:
            with open(self.log_file, "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip()[:LOG_LINE_CHARACTERS_MAX] for line in reversed(lines) if line.strip()), "")


def _put_aside(log_file: Path) -> None:
    try:
        if log_file.stat().st_size > LOG_BYTES_MAX:
            os.replace(log_file, log_file.with_name(log_file.name + ".1"))
    except FileNotFoundError:
        return
