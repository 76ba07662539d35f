"""`geodyne stop PROCESS`: stop one process of the cluster without restarting it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "stop",
        help="stop one process of the cluster without restarting it",
        description="Stop one process; it stays down until `geodyne start`.",
    )
    parser.add_argument("process", metavar="PROCESS", help="its id, such as us-east-1/node-a")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from geodyne.cli.oneprocess import ask

    return ask("stop", arguments)
