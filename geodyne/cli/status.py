"""`geodyne status`: the processes and partitions of the running cluster, as a table or as one JSON object."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK
from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

STATUS_SECONDS_MAX = 15.0


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "status",
        help="show the running cluster",
        description="Show processes, partitions and endpoints of the running cluster.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json

    from geodyne.cli.control import call
    from geodyne.cli.datadir import find_running

    control = (find_running(arguments.data_dir).read_run() or {}).get("control", "")
    status = call(control, {"command": "status"}, STATUS_SECONDS_MAX)
    print(json.dumps(status, indent=2) if arguments.json else as_text(status))
    return EXIT_OK


def as_text(status: dict[str, Any]) -> str:
    """The same facts as tables."""
    groups = [(name, region["endpoint"], region["processes"]) for name, region in status["regions"].items()]
    groups.append(("global", status["global_endpoint"], status["global_processes"]))
    lines: list[str] = []
    for name, endpoint, processes in groups:
        lines += [f"{name}  {endpoint}"]
        lines += _table(
            ("process", "zone", "pid", "address", "metrics", "state"),
            ((p["id"], p["zone"], p["pid"] or "", p["address"], p["metrics"], p["state"]) for p in processes),
        )
        lines.append("")
    if status["partitions"]:
        lines += _table(
            ("region", "table", "index", "partition", "leader", "replicas"),
            (
                (p["region"], p["table"], p["index"], p["id"], p["leader"] or "none", " ".join(p["replicas"]))
                for p in status["partitions"]
            ),
        )
        lines.append("")
    lines.append(f"credentials  {status['credentials']}")
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
