"""What `geodyne stop` and `geodyne start` have in common: one request to the supervisor about one process."""

from __future__ import annotations

import argparse

from geodyne.cli.control import call
from geodyne.cli.datadir import running_control
from geodyne.cli.errors import EXIT_OK

ANSWER_SECONDS_MAX = 75.0  # more than the supervisor waits for a process to become ready or to go


def ask(command: str, arguments: argparse.Namespace) -> int:
    reply = call(
        running_control(arguments.data_dir), {"command": command, "process": arguments.process}, ANSWER_SECONDS_MAX
    )
    print(
        f"{arguments.process} is stopped" if reply["pid"] is None else f"{arguments.process} runs, pid {reply['pid']}"
    )
    return EXIT_OK
