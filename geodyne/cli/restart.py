"""`geodyne restart [WHAT]`: replace processes one after the other while the cluster serves."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK, CommandError
from geodyne.cli.options import add_cluster_option
from geodyne.topology import GLOBAL, ROLE_DELIVERY, ROLE_GLOBAL, ROLE_NODE, ROLE_REPLICATOR, ROLE_ROUTER

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

# In a region: those that take requests last.
ORDER = (ROLE_NODE, ROLE_REPLICATOR, ROLE_DELIVERY, ROLE_ROUTER, ROLE_GLOBAL)
STATUS_SECONDS_MAX = 15.0
RESTART_SECONDS_MAX = 120.0  # more than the supervisor allows for one process, one step after the other


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "restart",
        help="replace processes one after the other while the cluster serves",
        description="Replace the processes of the running cluster one after the other, each once the one before is "
        "ready again: a node gives away what it leads first, a router goes once its successor answers on the same "
        "port. Stops at the first one that cannot be replaced.",
    )
    parser.add_argument(
        "what",
        metavar="WHAT",
        nargs="?",
        help="a process (us-east-1/node-a), a region, or global; everything when it is left out",
    )
    parser.add_argument(
        "--role",
        choices=(ROLE_NODE, ROLE_REPLICATOR, ROLE_DELIVERY, ROLE_ROUTER),
        help="only the processes of that role",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object at the end instead of a line a process")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json

    from geodyne.cli.control import call
    from geodyne.cli.datadir import running_control

    control = running_control(arguments.data_dir)
    status = call(control, {"command": "status"}, STATUS_SECONDS_MAX)
    restarted: list[dict[str, Any]] = []
    for process in chosen(status, arguments.what, arguments.role):
        began = time.monotonic()
        reply = call(control, {"command": "restart", "process": process["id"]}, RESTART_SECONDS_MAX)
        seconds = round(time.monotonic() - began, 1)
        restarted.append({"id": process["id"], "pid_before": process["pid"], "pid": reply["pid"], "seconds": seconds})
        if not arguments.json:
            print(
                f"{process['id']} restarted in {seconds:.1f} s, pid {process['pid']} is now {reply['pid']}", flush=True
            )
    if arguments.json:
        print(json.dumps({"restarted": restarted}, indent=2))
    return EXIT_OK


def chosen(status: dict[str, Any], what: str | None, role: str | None) -> list[dict[str, Any]]:
    """The processes meant, in the order in which they are to be replaced. Raises CommandError when there are none."""
    groups = [(name, region["processes"]) for name, region in status["regions"].items()]
    groups.append((GLOBAL, status["global_processes"]))
    found = [
        process
        for name, processes in groups
        for process in sorted(processes, key=lambda process: ORDER.index(process["role"]))
        if what in (None, name, process["id"]) and role in (None, process["role"])
    ]
    if not found:
        names = ", ".join(_names(groups))
        raise CommandError(f"there is no {role or 'process or region'} {what or ''}".rstrip() + f"; there are {names}")
    return found


def _names(groups: list[tuple[str, list[dict[str, Any]]]]) -> Iterator[str]:
    for name, processes in groups:
        yield name
        yield from (process["id"] for process in processes)
