"""`geodyne verify`: whether the replicas of a global table are the same.

Exit codes of its own: 0 all are equal, 1 items differ, 2 it cannot be told.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import CommandError
from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

EXIT_EQUAL = 0
EXIT_DIFFERENT = 1
EXIT_UNKNOWN = 2
ANSWER_SECONDS_MAX = 20.0  # more than the supervisor waits for the replicators of a few regions
LOOK_AGAIN_S = 0.5
PROGRESS_AFTER_LOOKS = 4  # short work needs none


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "verify",
        help="compare the replicas of a global table",
        description="Compare a region's replica of a table with all others, while they are written to; changes on "
        "their way are no differences.",
        epilog="exit codes: 0 all are equal, 1 items differ, 2 it cannot be told (a region is silent or behind)",
    )
    parser.add_argument("table", metavar="TABLE", help="a global table")
    parser.add_argument(
        "--repair", action="store_true", help="make equal what differs: the newer version is written anew where it is"
    )
    parser.add_argument("--region", metavar="REGION", help="compare from here; otherwise the first that has the table")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json

    try:
        found = _verified(arguments)
    except CommandError as error:
        print(f"geodyne: {error}", file=sys.stderr)
        return EXIT_UNKNOWN
    print(json.dumps(found, indent=2) if arguments.json else as_text(found))
    code = exit_code(found)
    if code == EXIT_UNKNOWN and found["comparisons"]:
        print("ask again once all regions answer and have caught up (geodyne status)", file=sys.stderr)
    return code


def _verified(arguments: argparse.Namespace) -> dict[str, Any]:
    """The replicator's answer once it has finished. Raises CommandError."""
    from geodyne.cli.control import call
    from geodyne.cli.datadir import running_control

    control = running_control(arguments.data_dir)
    request = {"command": "verify", "operation": "start", "table": arguments.table, "repair": arguments.repair}
    found = call(control, {**request, "region": arguments.region}, ANSWER_SECONDS_MAX)
    looks = 0
    while found["running"]:
        time.sleep(LOOK_AGAIN_S)
        found = call(control, {**request, "operation": "show", "region": found["region"]}, ANSWER_SECONDS_MAX)
        looks += 1
        if looks % PROGRESS_AFTER_LOOKS == 0:
            print(_progress(found), file=sys.stderr)
    return found


def exit_code(found: dict[str, Any]) -> int:
    verdicts = {comparison["verdict"] for comparison in found["comparisons"]}
    if "different" in verdicts:
        return EXIT_DIFFERENT
    return EXIT_EQUAL if verdicts == {"equal"} else EXIT_UNKNOWN


def as_text(found: dict[str, Any]) -> str:
    """A line a comparison, and the first item that differs."""
    lines = []
    for comparison in found["comparisons"]:
        own, other = comparison["regions"]
        lines.append(f"{own} and {other}: {_in_words(comparison)}")
        if comparison["first"] is not None:
            versions = [
                f"    {region}: {_version(version)}"
                for region, version in zip((own, other), comparison["first"]["versions"], strict=True)
            ]
            lines += [f"  first: {comparison['first']['key']}", *versions]
    return "\n".join(lines) or f"{found['region']} has the only replica: there is nothing to compare"


def _in_words(comparison: dict[str, Any]) -> str:
    rows = f"{comparison['rows']} items here"
    repaired = (
        f", {comparison['repaired']} of {comparison['differing']} repaired"
        if comparison["repair"] and comparison["differing"]
        else ""
    )
    match comparison["verdict"]:
        case "equal":
            return f"equal, {rows}{repaired}"
        case "different":
            return f"{comparison['differing']} items differ, {rows}{repaired}"
    return f"unknown: {comparison['reason']}"


def _version(version: dict[str, Any] | None) -> str:
    if version is None:
        return "not there"
    deleted = ", deleted" if version["deleted"] else ""
    return f"written in {version['region']} at {version['time_us'] / 1e6:.6f}{deleted}"


def _progress(found: dict[str, Any]) -> str:
    parts = [f"{each['regions'][1]} {each['part']:.0%} ({each['rows']} items)" for each in found["comparisons"]]
    return f"comparing {found['region']} with {', '.join(parts)}"
