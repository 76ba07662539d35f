"""`geodyne forget`: the regions that are left go on without the replica of one that is lost for good."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK
from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

ANSWER_SECONDS_MAX = 30.0  # more than the supervisor waits for the replicators, twice


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "forget",
        help="go on with a global table without a region that is lost",
        description="Take the replica of a region that is lost for good off a global table, in all other regions.",
        epilog="A region that answers is not forgotten: UpdateTable or DeleteTable remove its replica. Should it come "
        "back, its table takes part in nothing; DeleteTable there deletes it, Disassociate keeps its rows.",
    )
    parser.add_argument("table", metavar="TABLE")
    parser.add_argument("lost", metavar="REGION", help="the region that is lost")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from geodyne.cli.control import call
    from geodyne.cli.datadir import find_running

    control = (find_running(arguments.data_dir).read_run() or {}).get("control", "")
    request = {"command": "forget", "table": arguments.table, "lost": arguments.lost}
    regions = call(control, request, ANSWER_SECONDS_MAX)["regions"]
    print(f"{', '.join(regions)}: {arguments.table} has no replica in {arguments.lost} any more")
    return EXIT_OK
