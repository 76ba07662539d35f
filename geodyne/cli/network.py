"""`geodyne network`: what the network between regions is like, and faults of it while the cluster runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK, CommandError
from geodyne.cli.options import add_cluster_option
from geodyne.cli.status import table

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

ANSWER_SECONDS_MAX = 10.0
QUALITIES = (
    ("round_trip_ms", "MS", "both ways together"),
    ("jitter_ms", "MS", "each way takes up to so much longer, by chance"),
    ("loss", "PART", "of packets that are lost, from 0 to 0.5; what follows waits until they were sent again"),
    ("bandwidth_mbit", "MBIT", "Mbit/s of a process and direction; 0: without bound"),
)


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "network",
        help="show and change the network between regions",
        description="Distances, losses and partitions between the regions of the running cluster. All of it is "
        "forgotten when the cluster is started anew.",
    )
    parts = parser.add_subparsers(metavar="COMMAND", required=True)
    _part(parts, "show", "what the network is like now")

    put = _part(parts, "set", "change a path between two regions; what is not named stays")
    put.add_argument("one", metavar="REGION")
    put.add_argument("other", metavar="REGION")
    for name, unit, text in QUALITIES:
        put.add_argument(f"--{name.replace('_', '-')}", type=float, metavar=unit, help=text)

    cut = _part(parts, "cut", "let nothing through between two regions, or one and all others, the global endpoint too")
    cut.add_argument("one", metavar="REGION", help='a region, or "global": the global endpoint')
    cut.add_argument("other", metavar="REGION", nargs="?", help="without it: all others")
    cut.add_argument("--one-way", action="store_true", help="only from the first to the second")
    cut.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="it ends by itself after so long")

    heal = _part(parts, "heal", "end cuts: between two regions, all of one, or all")
    heal.add_argument("one", metavar="REGION", nargs="?")
    heal.add_argument("other", metavar="REGION", nargs="?")

    pause = _part(parts, "pause-replication", "rest the replication of a global table")
    pause.add_argument("table", metavar="TABLE", help="a global table")
    pause.add_argument("--region", metavar="REGION", help="only to and from this region")
    pause.add_argument(
        "--for", dest="seconds", type=float, metavar="SECONDS", required=True, help="it goes on by itself after so long"
    )

    resume = _part(parts, "resume-replication", "let it go on before its time")
    resume.add_argument("table", metavar="TABLE", help="a global table")
    resume.add_argument("--region", metavar="REGION", help="only the pause of this region")


def _part(parts: Subparsers, name: str, text: str) -> argparse.ArgumentParser:
    part: argparse.ArgumentParser = parts.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    part.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_cluster_option(part)
    part.set_defaults(run=run, operation=name.removesuffix("-replication"))
    return part


def run(arguments: argparse.Namespace) -> int:
    import json

    from geodyne.cli.control import call
    from geodyne.cli.datadir import running_control

    request = asked(arguments)
    control = running_control(arguments.data_dir)
    answer = call(control, request, ANSWER_SECONDS_MAX)
    print(json.dumps(answer, indent=2) if arguments.json else as_text(answer))
    return EXIT_OK


def asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """The request to the supervisor. Raises CommandError."""
    request = {"command": "network", "operation": arguments.operation}
    for name in ("one", "other", "one_way", "seconds", "table", "region"):
        value = getattr(arguments, name, None)
        if value is not None:
            request[name] = value
    if arguments.operation == "set":
        request["quality"] = {
            name: value for name, _, _ in QUALITIES if (value := getattr(arguments, name)) is not None
        }
        if not request["quality"]:
            raise CommandError("nothing to set: name a round trip, jitter, loss or bandwidth")
    return request


def as_text(answer: dict[str, Any]) -> str:
    lines = table(
        ("between", "", "round trip", "jitter", "loss", "bandwidth", ""),
        (
            (
                *path["between"],
                f"{path['round_trip_ms']:g} ms",
                f"{path['jitter_ms']:g} ms",
                f"{path['loss']:.2%}",
                f"{path['bandwidth_mbit']:g} Mbit/s" if path["bandwidth_mbit"] else "no bound",
                "changed" if path["changed"] else "",
            )
            for path in answer["paths"]
        ),
    )
    lines += [f"  cut: {cut['from']} to {cut['to']}{_left(cut)}" for cut in answer["cuts"]]
    for pause in answer["pauses"]:
        where = f" to and from {pause['region']}" if pause["region"] else ""
        lines.append(f"  paused: replication of {pause['table']}{where}{_left(pause)}")
    if answer["untold"]:
        lines.append(f"  not told, because they do not answer: {', '.join(answer['untold'])}")
    return "\n".join(lines)


def _left(fault: dict[str, Any]) -> str:
    return ", until it is healed" if fault["seconds_left"] is None else f", {fault['seconds_left']:.0f} s left"
