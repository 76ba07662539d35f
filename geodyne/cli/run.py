"""One start of a supervised process: its pid, its end, and what it says of itself on a pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from geodyne.listen import LEAVING, LISTENER_VARIABLE, REPORT_VARIABLE, SERVING, SUCCEEDS_VARIABLE

REPORT_BYTES_MAX = 256  # of one read; a report is one short line


class Run:
    """A running process. Belongs to the loop on which it was started; `poll` must be called on SIGCHLD."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        listener: socket.socket | None = None,
        *,
        succeeds: bool = False,
        on_leaving: Callable[[Run], None] | None = None,
    ) -> None:
        """Start it. With `listener` it takes connections there and reports; `succeeds` says that another one does
        so too until this one serves. Raises OSError."""
        self.ended = asyncio.Event()
        self.serving = asyncio.Event()
        self.exit_code: int | None = None
        self._on_leaving = on_leaving
        self._started_s = time.monotonic()
        self._report_fd = -1
        self._process = self._start(command, dict(environment), log_file, listener, succeeds)

    def _start(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        log_file: Path,
        listener: socket.socket | None,
        succeeds: bool,
    ) -> subprocess.Popen[bytes]:
        inherited: tuple[int, ...] = ()
        if listener is not None:
            self._report_fd, write_fd = os.pipe()
            inherited = (listener.fileno(), write_fd)
            environment[LISTENER_VARIABLE], environment[REPORT_VARIABLE] = map(str, inherited)
            environment[SUCCEEDS_VARIABLE] = "1" if succeeds else "0"
        try:
            with open(log_file, "ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    pass_fds=inherited,
                    # Ctrl-C goes to the terminal's whole group; the order of stopping is the supervisor's.
                    start_new_session=True,
                )
        except OSError:
            if self._report_fd >= 0:
                os.close(self._report_fd)
            raise
        finally:
            for fd in inherited[1:]:
                os.close(fd)
        if self._report_fd >= 0:
            os.set_blocking(self._report_fd, False)
            asyncio.get_running_loop().add_reader(self._report_fd, self._on_report)
        return process

    @property
    def pid(self) -> int:
        return self._process.pid

    def ran_seconds(self) -> float:
        return time.monotonic() - self._started_s

    def signal(self, number: signal.Signals) -> None:
        """Send a signal while it runs; Popen never signals a pid that it has already reaped."""
        self._process.send_signal(number)

    def poll(self) -> bool:
        """True when it has ended, which is then remembered."""
        if not self.ended.is_set() and (code := self._process.poll()) is not None:
            self.exit_code = code
            self._close_report()
            self.ended.set()
        return self.ended.is_set()

    def _on_report(self) -> None:
        try:
            said = os.read(self._report_fd, REPORT_BYTES_MAX)
        except BlockingIOError:
            return
        if not said:
            self._close_report()
            return
        if SERVING in said:
            self.serving.set()
        if LEAVING in said and self._on_leaving is not None:
            self._on_leaving(self)

    def _close_report(self) -> None:
        if self._report_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._report_fd)
            os.close(self._report_fd)
            self._report_fd = -1
