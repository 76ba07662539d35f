"""One supervised process: start it, notice its end, decide how long to wait before the next start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from geodyne.cli.run import Run
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
    """A process that should run while `wanted` is set. `pid`, `ended`, `ready` and the exit code are those of its
    current run; runs that were relieved of their work end beside it."""

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
        self.leaving = asyncio.Event()  # the current run ends in order, unasked by the supervisor
        self.exit_code: int | None = None
        self.starts = 0
        self.starts_in_vain = 0  # in a row: ended before it was ready
        self.backoff = Backoff()
        self.successor: Run | None = None
        self._run: Run | None = None
        self._leaving: list[Run] = []
        self._ran_s = 0.0

    @property
    def pid(self) -> int | None:
        return self._run.pid if self._run is not None else None

    @property
    def run(self) -> Run | None:
        return self._run

    def runs(self) -> list[Run]:
        """Everything that is alive: the current run, its successor, and those that are leaving."""
        return [run for run in (self._run, self.successor, *self._leaving) if run is not None]

    def pids(self) -> tuple[int, ...]:
        return tuple(run.pid for run in self.runs())

    def want(self) -> None:
        self.stop_asked.clear()
        self.wanted.set()

    def unwant(self) -> None:
        self.wanted.clear()
        self.stop_asked.set()

    def spawn(self, environment: Mapping[str, str], listener: socket.socket | None = None) -> None:
        """Start the process. Raises OSError."""
        self._run = self._start(environment, listener, succeeds=False)
        self.exit_code = None
        self.state = State.STARTING
        self.ended.clear()
        self.ready.clear()
        self.leaving.clear()

    def spawn_successor(self, environment: Mapping[str, str], listener: socket.socket) -> Run:
        """Start the process a second time, beside its current run. Raises OSError."""
        assert self.successor is None
        self.successor = self._start(environment, listener, succeeds=True)
        return self.successor

    def _start(self, environment: Mapping[str, str], listener: socket.socket | None, *, succeeds: bool) -> Run:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        _put_aside(self.log_file)
        run = Run(self.command, environment, self.log_file, listener, succeeds=succeeds, on_leaving=self._on_leaving)
        self.starts += 1
        return run

    def promote(self) -> Run | None:
        """The successor is the current run from now on; returns the one before, which ends beside it if it has not."""
        before, self._run, self.successor = self._run, self.successor, None
        assert self._run is not None
        self.leaving.clear()
        if before is None:
            self.state = State.STARTING
            self.exit_code = None
            self.ended.clear()
        else:
            self._leaving.append(before)
        return before

    def give_up_successor(self) -> None:
        """It is of no use: kill it."""
        run, self.successor = self.successor, None
        if run is not None:
            run.signal(signal.SIGKILL)
            self._leaving.append(run)

    def _on_leaving(self, run: Run) -> None:
        """A run was told to end, and goes on until it is told once more. When nobody here has asked for it, that is
        once another one serves in its place."""
        if run is not self._run or not self.wanted.is_set():
            run.signal(signal.SIGTERM)
        elif self.successor is None:
            self.leaving.set()

    def reap(self) -> None:
        """Take note of what has ended; called on SIGCHLD."""
        self._leaving = [run for run in self._leaving if not run.poll()]
        if self.successor is not None and self.successor.poll():
            self.successor = None
        if self._run is not None and self._run.poll():
            self.exit_code = self._run.exit_code
            self._has_ended(self._run)

    def _has_ended(self, run: Run) -> None:
        self._run = None
        self._ran_s = run.ran_seconds()
        self.starts_in_vain = 0 if self.ready.is_set() else self.starts_in_vain + 1
        self.ready.clear()
        self.ended.set()

    def ran_seconds(self) -> float:
        """How long the last run took."""
        return self._ran_s

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to everything that is alive."""
        for run in self.runs():
            run.signal(number)

    async def wait_gone(self) -> None:
        """Until nothing of it is alive."""
        for run in self.runs():
            await run.ended.wait()

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
