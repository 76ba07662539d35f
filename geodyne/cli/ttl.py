"""`geodyne ttl archive`: keep what Time to Live deletes.

A function of kind archive and a mapping of the table's stream to it, made in one go; `geodyne trigger` shows and
changes both.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import CommandError
from geodyne.cli.trigger import Ask, changed, part

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

# What a record of a deletion by Time to Live has, and no other.
EXPIRED = '{"userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]}}'
BATCH_SIZE = 1_000
BATCHING_WINDOW_S = 10  # so that a trickle of deletions makes few objects


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "ttl", help="keep what Time to Live deletes", description="Time to Live beyond what DynamoDB's API has."
    )
    parts = parser.add_subparsers(metavar="COMMAND", required=True)
    archive = part(parts, "archive", "keep deleted items in a directory or an S3-style store", _archive, waits=True)
    archive.add_argument("table", metavar="TABLE", help="with a stream that has old images")
    archive.add_argument(
        "--to",
        metavar="URL",
        required=True,
        help="a directory (file:///...), or s3://BUCKET/PREFIX, perhaps with ?endpoint=URL",
    )
    archive.add_argument("--all", action="store_true", help="all changes, not only deletions by Time to Live")
    archive.add_argument("--function", metavar="NAME", help="of the function that is made (default: archive-TABLE)")


def _archive(arguments: argparse.Namespace, ask: Ask) -> int:
    url = _absolute(arguments.to)
    name = arguments.function or f"archive-{arguments.table.replace('.', '_')}"
    known = {one["name"]: one for one in ask("ListFunctions", {})["functions"]}
    if name in known and (known[name]["kind"], known[name]["url"]) != ("archive", url):
        raise CommandError(f"there is a function {name} already, which is another; --function takes a name")
    ask("PutFunction", {"name": name, "kind": "archive", "url": url})
    try:
        mapping = ask("CreateEventSourceMapping", _mapping(arguments, name))
    except CommandError:
        if name not in known:
            ask("DeleteFunction", {"name": name})
        raise
    return changed(arguments, ask, mapping)


def _mapping(arguments: argparse.Namespace, function: str) -> dict[str, Any]:
    return {
        "TableName": arguments.table,
        "FunctionName": function,
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": BATCH_SIZE,
        "MaximumBatchingWindowInSeconds": BATCHING_WINDOW_S,
        **({} if arguments.all else {"FilterCriteria": {"Filters": [{"Pattern": EXPIRED}]}}),
    }


def _absolute(url: str) -> str:
    """A path is meant as a directory."""
    return url if "://" in url else Path(url).absolute().as_uri()
