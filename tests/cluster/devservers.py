"""`geodyne dev` as a process: started on a free port, killed, started again."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.clusters import Keys, command_line, dynamodb, environment, read_keys
from tests.cluster.waiting import until

READY = re.compile(r"is ready at (http://127\.0\.0\.1:\d+)")
STOP_S_MAX = 20.0
ANY_KEYS = Keys("anybody", "anything")  # for servers that check no signatures


class DevServer:
    """A run of `geodyne dev` on a data directory; a context manager that leaves no process behind."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}-dev.log"
        self.endpoint = ""
        self.ready_s = 0.0
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        began = time.monotonic()
        with self.log.open("ab") as log:
            offset = log.tell()
            self._process = subprocess.Popen(
                command_line("dev", "--port", "0", "--data-dir", str(self.data_dir), *self._options),
                env=environment(self.data_dir.parent / "state"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self.endpoint = until("`geodyne dev` is ready", lambda: self._announced(offset), poll_s=0.01)
        except BaseException:
            self.stop()
            raise
        self.ready_s = time.monotonic() - began

    def _announced(self, offset: int) -> str:
        assert self._process is not None
        said = self.log.read_bytes()[offset:].decode(errors="replace")
        assert self._process.poll() is None, f"`geodyne dev` ended: {said}"
        found = READY.search(said)
        return found[1] if found else ""

    def kill(self) -> None:
        """SIGKILL, as when the machine is reset: nothing is written that was not written before."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGINT, as Ctrl-C; returns the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def keys(self) -> Keys:
        credentials = self.data_dir / "credentials"
        return read_keys(credentials) if credentials.exists() else ANY_KEYS

    def client(self, **config: Any) -> Any:
        return dynamodb(self.endpoint, "us-east-1", self.keys, **config)

    def said(self) -> str:
        """Everything that it wrote for people and to its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")
