"""`geodyne up` whose nodes and replicators have wall clocks that a test sets:
`python -m tests.cluster.clockup FOLDER up ...`.

Each adds the seconds that it finds in FOLDER/<its id, / as ->; there is nothing to add while there is no such file.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from geodyne.cli import launch
from geodyne.cli.__main__ import build_parser
from geodyne.cli.cluster import run_cluster
from geodyne.clock import SystemClock
from geodyne.topology import ROLE_NODE, ROLE_REPLICATOR, ProcessSpec

ROLES = (ROLE_NODE, ROLE_REPLICATOR)  # those that compare times with other machines


def offset_file(folder: Path, process: str) -> Path:
    return folder / process.replace("/", "-")


def set_clock(folder: Path, process: str, offset_s: float) -> None:
    """From now on, and also when it starts anew."""
    file = offset_file(folder, process)
    fresh = file.with_suffix(".new")
    fresh.write_text(str(offset_s), encoding="utf-8")
    os.replace(fresh, file)


def main(argv: Sequence[str]) -> int:
    folder, *command = argv

    def command_line(spec: ProcessSpec, launch_file: Path) -> Sequence[str]:
        usual = launch.command_line(spec, launch_file)
        if spec.role not in ROLES:
            return usual
        file = str(offset_file(Path(folder), spec.id))
        return [*usual[: usual.index("-m") + 1], __spec__.name, spec.role, file, "--config", str(launch_file)]

    return run_cluster(build_parser().parse_args(command), command_line)


def run_process(role: str, file: Path) -> None:
    """The arguments that are left are those of the process."""
    true_us = SystemClock.wall_us

    def wall_us(clock: SystemClock) -> int:
        try:
            seconds = float(file.read_text(encoding="utf-8") or 0)
        except FileNotFoundError:
            seconds = 0.0
        return true_us(clock) + round(seconds * 1e6)

    with patch.object(SystemClock, "wall_us", wall_us):
        runpy.run_module(launch.MODULES[role], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] in ROLES:
        role, file = sys.argv[1], Path(sys.argv[2])
        del sys.argv[1:3]
        run_process(role, file)
    else:
        sys.exit(main(sys.argv[1:]))
