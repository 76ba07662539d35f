"""`geodyne` with stand-ins for the processes: takes the same arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from geodyne.cli import cluster
from geodyne.cli.__main__ import build_parser
from geodyne.cli.errors import CommandError
from geodyne.topology import ProcessSpec

FAKE_PROCESS = Path(__file__).with_name("fake_process.py")


def command_line(spec: ProcessSpec, launch_file: Path) -> Sequence[str]:
    return [sys.executable, "-S", "-E", str(FAKE_PROCESS), str(launch_file)]


if __name__ == "__main__":
    try:
        sys.exit(cluster.run_cluster(build_parser().parse_args(), command_line))
    except CommandError as error:
        sys.exit(f"geodyne: {error}")
