"""`geodyne status`: the processes and partitions of the running cluster, as a table or as one JSON object."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK
from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

STATUS_SECONDS_MAX = 15.0
PARTITIONS_NAMED_MAX = 10  # in one line; `--json` names all


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
    from geodyne.cli.datadir import running_control

    control = running_control(arguments.data_dir)
    status = call(control, {"command": "status"}, STATUS_SECONDS_MAX)
    print(json.dumps(status, indent=2) if arguments.json else as_text(status))
    return EXIT_OK


def as_text(status: dict[str, Any]) -> str:
    """The same facts as tables."""
    groups = [(name, region["endpoint"], region["processes"], region) for name, region in status["regions"].items()]
    groups.append(("global", status["global_endpoint"], status["global_processes"], {}))
    lines: list[str] = []
    for name, endpoint, processes, region in groups:
        lines += [f"{name}  {endpoint}"]
        lines += table(
            ("process", "zone", "pid", "address", "metrics", "state"),
            ((p["id"], p["zone"], p["pid"] or "", p["address"], p["metrics"], p["state"]) for p in processes),
        )
        lines += remarks(region)
        lines += leaderless(p for p in status["partitions"] if p["region"] == name)
        lines.append("")
    if status["partitions"]:
        lines += table(
            ("region", "table", "index", "partition", "leader", "replicas"),
            (
                (p["region"], p["table"], p["index"], p["id"], p["leader"] or "none", " ".join(p["replicas"]))
                for p in status["partitions"]
            ),
        )
        lines.append("")
    if arrived := status.get("watermarks"):
        lines += table(
            ("table", "from", "to", "everything there up to", "behind"),
            ((w["table"], w["source"], w["destination"], _moment(w["watermark_us"]), _behind(w)) for w in arrived),
        )
        lines.append("")
    lines.append(f"credentials  {status['credentials']}")
    lines.append(f"data         {status['data_dir']}")
    return "\n".join(lines)


def remarks(region: dict[str, Any]) -> list[str]:
    """What is not as it should stay: nodes that hold nothing, replicas on their way, groups with too few of them."""
    lines = [
        f"  {member['node']} is {state_of(member)}, {member['replicas']} replicas left"
        for member in region.get("members", [])
        if member["state"] not in ("ACTIVE", "LEFT")
    ]
    for move in region.get("moves", []):
        waits_for = f", waits for {move['waits_for']}" if move.get("waits_for") else ""
        towards = " ".join(move.get("target") or move.get("voters", []))
        lines.append(f"  partition {move['partition']} moves to {towards}{waits_for}")
    if short := region.get("short"):
        lines.append(f"  {len(short)} groups run with a replica less: partitions {_first(short)}")
    if newcomers := region.get("newcomers"):
        lines.append(f"  {newcomers} replicas are being rebuilt and do not vote yet")
    lines += [
        f"  the clock of {clock['node']} is wrong by {clock['offset_s']:+.1f} s: it leads nothing that another node can"
        for clock in region.get("clocks", [])
        if clock["wrong"]
    ]
    for link in region.get("replication", []):
        lines += [f"  replication to {link['destination']}: {what}" for what in _held_up(link)]
    return lines


def _held_up(link: dict[str, Any]) -> Iterator[str]:
    """What keeps changes from a region, for people; nothing while they go there."""
    behind = f"; {link['lag_s']:.1f} s behind" if link["lag_s"] else ""
    if not link["connected"]:
        yield f"not connected: {link['reason']}{behind}"
        return
    if link["held_changes"]:
        yield f"{link['held_changes']} changes lie in its future, a clock is wrong{behind}"
        return
    reasons: dict[str, list[str]] = {}  # partitions of a table share what holds them up
    for where, reason in link["troubles"].items():
        reasons.setdefault(reason, []).append(where)
    for reason, places in sorted(reasons.items()):
        yield f"{reason} ({_first(sorted(places))}){behind}"


def state_of(member: dict[str, Any]) -> str:
    """For people: a node that is being drained and has nothing left is drained."""
    state = str(member.get("state", "unknown"))
    return "DRAINED" if state == "DRAINING" and not member["replicas"] and not member["joining"] else state


def leaderless(partitions: Iterable[dict[str, Any]]) -> list[str]:
    """What nobody leads: for a moment after a node died, and for as long as a majority of the replicas is away."""
    unled = [partition["id"] for partition in partitions if not partition["leader"]]
    return [f"  {len(unled)} groups have no leader: partitions {_first(unled)}"] if unled else []


def _moment(us: int | None) -> str:
    if us is None:
        return "not known"
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _behind(watermark: Mapping[str, Any]) -> str:
    return "" if watermark["behind_s"] is None else f"{watermark['behind_s']:.1f} s"


def _first(partitions: Sequence[object]) -> str:
    named = [str(partition) for partition in partitions[:PARTITIONS_NAMED_MAX]]
    return ", ".join([*named, "..."] if len(partitions) > PARTITIONS_NAMED_MAX else named)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines with the columns under each other."""
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
