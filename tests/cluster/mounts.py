"""A cluster in a mount namespace of its own, where a node can be given a disk that fills up or cannot be written.

Linux only; needs either root or user namespaces that anyone may make.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.clusters import command_line

COMMAND_S_MAX = 20.0


def _as_root() -> bool:
    return os.geteuid() == 0


def _unshare() -> list[str]:
    return ["unshare", "--mount"] if _as_root() else ["unshare", "--mount", "--user", "--map-root-user"]


def in_own_namespace(*arguments: str) -> list[str]:
    """The command line of `geodyne` in a new mount namespace. unshare becomes that process: the pid is the same."""
    return [*_unshare(), *command_line(*arguments)]


def require_namespaces(folder: Path) -> None:
    """Skip the test, and say why, where this system allows none of it."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("a disk of its own for a node needs unshare and nsenter (util-linux)")
    probe = [*_unshare(), "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    tried = subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this system lets us mount nothing: {tried.stderr.strip()}")


class Disk:
    """A small file system at a folder, within the mount namespace of a process. It goes with that namespace."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._folder = folder
        self._filler = folder / "filler"

    def mount(self, size_mb: int) -> None:
        """What is in the folder is copied there. Nobody may use the folder meanwhile."""
        beside = self._folder.with_name(self._folder.name + ".copy")
        shutil.copytree(self._folder, beside)
        self._run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(self._folder))
        self._run("cp", "-a", f"{beside}/.", str(self._folder))

    def fill(self) -> None:
        """To the last byte."""
        done = self._try("dd", "if=/dev/zero", f"of={self._filler}", "bs=4096")
        assert "No space left" in done.stderr, done.stderr

    def free(self) -> None:
        self._run("rm", str(self._filler))

    def make_read_only(self) -> None:
        """Raises AssertionError while a process has files open there for writing: the system refuses it then."""
        self._run("mount", "-o", "remount,ro", str(self._folder))

    def make_writable(self) -> None:
        self._run("mount", "-o", "remount,rw", str(self._folder))

    def _run(self, *command: str) -> str:
        done = self._try(*command)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def _try(self, *command: str) -> subprocess.CompletedProcess[str]:
        spaces = ["--mount"] if _as_root() else ["--user", "--preserve-credentials", "--mount"]
        return subprocess.run(
            ["nsenter", "--target", str(self._pid), *spaces, *command],
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
