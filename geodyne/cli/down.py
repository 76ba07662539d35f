"""`geodyne down`: stop the running cluster and wait until it is gone."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK, CommandError
from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    from geodyne.cli.datadir import ClusterDirectory

    Subparsers = argparse._SubParsersAction[Any]

DOWN_SECONDS_MAX = 45.0  # more than the supervisor allows its two groups of processes
POLL_SECONDS = 0.05


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("down", help="stop the running cluster", description="Stop the running cluster.")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from geodyne.cli.datadir import find_running

    directory = find_running(arguments.data_dir)
    if directory.is_in_use():
        _ask_and_wait(directory)
        print(f"stopped {directory.path}")
    else:
        # Its supervisor was killed; the processes may still be there.
        from geodyne.cli.orphans import end_orphans

        count = end_orphans(directory.read_run() or {})
        directory.forget_run()
        print(f"the supervisor of {directory.path} was gone; ended {count} processes that it had left behind")
    return EXIT_OK


def _ask_and_wait(directory: ClusterDirectory) -> None:
    from geodyne.cli.control import call

    control = (directory.read_run() or {}).get("control", "")
    call(control, {"command": "shutdown"}, DOWN_SECONDS_MAX)
    deadline = time.monotonic() + DOWN_SECONDS_MAX
    while directory.is_in_use():
        if time.monotonic() > deadline:
            raise CommandError(f"the cluster on {directory.path} did not stop within {DOWN_SECONDS_MAX:.0f} s")
        time.sleep(POLL_SECONDS)
