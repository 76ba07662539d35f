"""`geodyne forget`: the regions that are left go on without the replica of one that is lost for good."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK
from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

ANSWER_SECONDS_MAX = 60.0  # more than the supervisor waits for the replicators, twice, and for the lost region


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "forget",
        help="go on with a global table without a region that is lost",
        description="Take the replica of a region that is lost for good off a global table, in all other regions.",
        epilog="A region that answers is not forgotten: UpdateTable or DeleteTable remove its replica. Should it come "
        "back, the same command makes its table one of its own, with its rows; DeleteTable there deletes it.",
    )
    parser.add_argument("table", metavar="TABLE", help="a global table")
    parser.add_argument("lost", metavar="REGION", help="the region that is lost")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json

    from geodyne.cli.control import call
    from geodyne.cli.datadir import running_control

    control = running_control(arguments.data_dir)
    request = {"command": "forget", "table": arguments.table, "lost": arguments.lost}
    done = call(control, request, ANSWER_SECONDS_MAX)
    print(json.dumps(done, indent=2) if arguments.json else as_text(arguments.table, arguments.lost, done))
    return EXIT_OK


def as_text(table: str, lost: str, done: dict[str, Any]) -> str:
    if done["parted"]:
        return f"{lost}: {table} is a table of its own there, with its rows; the other regions had forgotten it"
    return f"{', '.join(done['regions'])}: {table} has no replica in {lost} any more"
