"""`geodyne conflicts`: which writes of a global table lost to writes of other regions, to what, and when."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK, CommandError
from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

ANSWER_SECONDS_MAX = 60.0  # more than the supervisor waits for nodes and replicators
LIMIT = 100
LIMIT_MAX = 1_000
IMAGE_WIDTH = 100  # characters of an image in the text; --json has what is kept of it
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "conflicts",
        help="which writes of a global table lost to another region's",
        description="Show the writes that lost to writes of other regions which had not seen them, and what they lost "
        "to. A table keeps conflicts only while that is switched on; it is off by default.",
    )
    parser.add_argument("table", metavar="TABLE", help="a global table")
    switch = parser.add_mutually_exclusive_group()
    switch.add_argument("--on", action="store_true", help="keep conflicts from now on, in all regions")
    switch.add_argument("--off", action="store_true", help="keep no more of them")
    parser.add_argument("--purge", action="store_true", help="with --off: remove what was kept")
    parser.add_argument(
        "--since", metavar="TIME", type=since_us, help="seen since then: 90s, 15m, 2h or 1d ago, or an ISO 8601 time"
    )
    parser.add_argument("--region", metavar="REGION", help="only writes of this region that lost")
    parser.add_argument(
        "--limit", metavar="N", type=_limit, default=LIMIT, help=f"the newest N (default: {LIMIT}, at most {LIMIT_MAX})"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json

    if arguments.purge and not arguments.off:
        raise CommandError("--purge goes with --off: a log that is kept fills again")
    if arguments.on or arguments.off:
        done = _ask(arguments, {"operation": "set", "on": arguments.on, "region": None})
        if arguments.purge:
            done["purged"] = _ask(arguments, {"operation": "purge", "region": None})
        print(json.dumps(done, indent=2) if arguments.json else _switched(arguments, done))
        return EXIT_OK
    shown = {"operation": "show", "region": arguments.region, "since_us": arguments.since, "limit": arguments.limit}
    found = _ask(arguments, shown)
    print(json.dumps(found, indent=2) if arguments.json else as_text(found, arguments.table))
    for process, reason in found["untold"].items():
        print(f"geodyne: {process} told nothing: {reason}", file=sys.stderr)
    return EXIT_OK


def since_us(text: str) -> int:
    """Microseconds of a time, or of so long ago. Raises argparse.ArgumentTypeError."""
    if text[-1:] in _UNITS_S and text[:-1].isdecimal():
        return max(time.time_ns() // 1_000 - int(text[:-1]) * _UNITS_S[text[-1]] * 1_000_000, 0)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a time: {text!r}") from None
    return max(round((at if at.tzinfo is not None else at.astimezone()).timestamp() * 1e6), 0)


def as_text(found: dict[str, Any], table: str = "TABLE") -> str:
    """Three lines a conflict, the newest last."""
    lines = []
    for record in found["records"]:
        perhaps = " (its maker may have seen it, by way of a third region)" if record["perhaps"] else ""
        lines.append(f"{_time(record['seen_us'])}  {_key(record['key'])}{perhaps}")
        lines += [f"    lost  {_side(record['lost'])}", f"    to    {_side(record['won'])}"]
    if not lines:
        lines.append("no conflicts are kept")
    elif found["more"]:
        lines.insert(0, "There are older ones; --limit shows more.")
    off = sorted(region for region, on in found["on"].items() if not on)
    if off:
        lines.append(f"off in {', '.join(off)}: `geodyne conflicts {table} --on` keeps conflicts from then on")
    if found["damaged"]:
        lines.append(f"{found['damaged']} records could not be read")
    return "\n".join(lines)


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"a number from 1 to {LIMIT_MAX} is expected, not {text!r}")
    return int(text)


def _ask(arguments: argparse.Namespace, request: dict[str, Any]) -> dict[str, Any]:
    """Raises CommandError."""
    from geodyne.cli.control import call
    from geodyne.cli.datadir import running_control

    control = running_control(arguments.data_dir)
    return call(control, {"command": "conflicts", "table": arguments.table, **request}, ANSWER_SECONDS_MAX)


def _switched(arguments: argparse.Namespace, done: dict[str, Any]) -> str:
    state = "on" if done["on"] else "off"
    lines = [
        f"conflicts of {arguments.table}: {state} in {done['region']}, and in the other regions once they hear of it"
    ]
    if "purged" in done:
        lines.append(f"removed on {', '.join(done['purged']['purged']) or 'no node'}")
        lines += [f"not on {process}: {reason}" for process, reason in done["purged"]["untold"].items()]
    return "\n".join(lines)


def _key(key: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={next(iter(value.values())) if isinstance(value, dict) else value}" for name, value in key.items()
    )


def _side(side: dict[str, Any]) -> str:
    what = "deleted" if side["deleted"] else str(side["image"])
    if len(what) > IMAGE_WIDTH:
        what = what[:IMAGE_WIDTH] + "..."
    return f"{side['region']} {_time(side['time_us'])}  {what}"


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
