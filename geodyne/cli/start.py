"""`geodyne start PROCESS`: start a process that was stopped."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "start",
        help="start a process that was stopped",
        description="Start a process that was stopped, and wait until it is ready.",
    )
    parser.add_argument("process", metavar="PROCESS", help="its id, such as us-east-1/node-a")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from geodyne.cli.oneprocess import ask

    return ask("start", arguments)
