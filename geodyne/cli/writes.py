"""`geodyne writes`: which region of a global table takes writes, and passing that on from one to another."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_INTERRUPTED, EXIT_OK, CommandError
from geodyne.cli.options import add_cluster_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

ANSWER_SECONDS_MAX = 20.0  # more than the supervisor waits for the replicators
LOOK_AGAIN_S = 0.25
MOVE_S_MAX = 150.0  # after two minutes the region that stopped goes on by itself
SPREAD_S_MAX = 30.0
Ask = Callable[[Mapping[str, Any]], dict[str, Any]]


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "writes",
        help="show or change which region of a global table takes writes",
        description="Show which region of a global table takes writes, or change it: any region, one active region, or "
        "each item the region that its attribute names. Without options it only shows.",
        epilog="A change of the active region stops writes there, waits until all of them are in the other region, and "
        "goes on there. Until then `--active` with the present region gives it up; it gives itself up after two "
        "minutes.",
    )
    parser.add_argument("table", metavar="TABLE", help="a global table")
    parser.add_argument("--mode", choices=("any", "one", "home"), help="who takes writes")
    parser.add_argument(
        "--active",
        metavar="REGION",
        help="the region that takes writes; with --mode home, the one that writes items whose attribute names none",
    )
    parser.add_argument("--home", metavar="ATTRIBUTE", help="the attribute that names the region an item is written in")
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --active, when the active region is lost: wait for nothing, and say what may be missing",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_cluster_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json

    from geodyne.cli.control import call
    from geodyne.cli.datadir import running_control

    control = running_control(arguments.data_dir)
    request = {"command": "writes", "table": arguments.table}

    def ask(more: Mapping[str, Any]) -> dict[str, Any]:
        return dict(call(control, {**request, **more}, ANSWER_SECONDS_MAX)["regions"])

    if any((arguments.mode, arguments.active, arguments.home, arguments.force)):
        try:
            change(arguments, ask)
        except KeyboardInterrupt:
            print(
                f"what was asked goes on; `geodyne writes {arguments.table}` shows it, and --active with the region "
                "that stops gives it up",
                file=sys.stderr,
            )
            return EXIT_INTERRUPTED
    regions = ask({"operation": "show"})
    newest(regions)
    print(json.dumps(regions, indent=2) if arguments.json else as_text(regions))
    return EXIT_OK


def change(arguments: argparse.Namespace, ask: Ask) -> None:
    """Ask for it where it is decided, and follow it. Raises CommandError."""
    before = ask({"operation": "show"})
    present = newest(before)
    options = {name: getattr(arguments, name) for name in ("mode", "active", "home", "force")}
    if arguments.force:
        if arguments.active is None:
            raise CommandError("--force needs --active REGION")
        options["mode"] = "one"
        for line in missing(before, present["mode"], arguments.active):
            _say(line)
    at = _decides(before, present["mode"], arguments)
    answer = ask({"operation": "set", "at": at, **options})[at]
    if "error" in answer:
        lost = " (if it is lost for good: --force)" if at != arguments.active and "error" in before.get(at, {}) else ""
        raise CommandError(answer["error"] + lost)
    mode = answer["mode"]
    if mode["to"] and not arguments.force:
        _follow_move(ask, mode, arguments.table)
    _follow_spreading(ask, arguments.table)


def newest(regions: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of the region whose record holds everywhere in the end. Raises CommandError when none answers."""
    answers = [answer for answer in regions.values() if "mode" in answer]
    if not answers:
        reasons = [answer["error"] for answer in regions.values()]
        if len(set(reasons)) == 1:
            raise CommandError(reasons[0])
        raise CommandError("; ".join(f"{name}: {answer['error']}" for name, answer in regions.items()))
    return max(answers, key=lambda answer: rank(answer["mode"]))


def rank(mode: Mapping[str, Any]) -> tuple[int, int, str]:
    """As geodyne.writemodes.WriteMode.rank."""
    return mode["number"], mode["changed_ms"], f"{mode['mode']} {mode['active']} {mode['home']}"


def missing(regions: Mapping[str, Any], mode: Mapping[str, Any], to: str) -> list[str]:
    """What is known of writes that a forced change leaves behind: of each other region, up to when all is there."""
    answer = regions.get(to, {})
    if "mode" not in answer:
        raise CommandError(f"{to}: {answer.get('error', 'no such region')}")
    if mode["mode"] == "one" and mode["active"] == to:
        return []
    lost = [mode["active"]] if mode["mode"] == "one" else sorted(answer["watermarks"])
    lines = []
    for source in lost:
        us = answer["watermarks"].get(source, 0)
        if us:
            behind_s = max(0.0, (answer["now_us"] - us) / 1e6)
            lines.append(
                f"{to} has all that {source} took up to {behind_s:.1f} s ago; writes after that may be missing"
            )
        else:
            lines.append(f"how far {to} has what {source} took is not known")
    return lines


def as_text(regions: Mapping[str, Any]) -> str:
    """The mode, then a line a region."""
    decided = newest(regions)
    mode = decided["mode"]
    lines = [_in_words(mode)]
    for name, answer in regions.items():
        if "error" in answer:
            lines.append(f"  {name}: {answer['error']}")
        elif decided["replicas"] and name not in decided["replicas"]:
            lines.append(f"  {name}: forgotten by the others, obeys: {_in_words(answer['mode'])}")
        elif rank(answer["mode"]) != rank(mode):
            lines.append(f"  {name}: not told yet, obeys: {_in_words(answer['mode'])}")
        else:
            lines.append(f"  {name}: {_of_region(answer['mode'], name)}")
    return "\n".join(lines)


def _in_words(mode: Mapping[str, Any]) -> str:
    match mode["mode"]:
        case "one":
            moving = f", moving to {mode['to']}" if mode["to"] else ""
            return f"one region takes writes: {mode['active']}{moving}"
        case "home":
            return f"an item is written where its attribute {mode['home']} says; without one, in {mode['active']}"
    return "any region takes writes"


def _of_region(mode: Mapping[str, Any], name: str) -> str:
    if mode["stage"] == "applying":
        return "its partitions are being told"
    if mode["stage"] == "stopping":
        return "it takes no more writes; not all of its partitions, or transactions, are through"
    if mode["stage"] == "stopped":
        return f"it takes no writes; {mode['to']} is being sent the last of them"
    takes = mode["mode"] != "one" or mode["active"] == name
    return "takes writes" if takes else "takes no writes"


def _decides(regions: Mapping[str, Any], mode: Mapping[str, Any], arguments: argparse.Namespace) -> str:
    if arguments.force:
        return str(arguments.active)
    if mode["mode"] == "one":
        return str(mode["active"])
    if "mode" in regions.get(arguments.active or "", {}):
        return str(arguments.active)
    return next(name for name, answer in regions.items() if "mode" in answer)


def _follow_move(ask: Ask, mode: Mapping[str, Any], table: str) -> None:
    source, target, attempt = mode["active"], mode["to"], mode["attempt"]
    started = time.monotonic()
    shown = ""
    while time.monotonic() - started < MOVE_S_MAX:
        regions = ask({"operation": "show"})
        here, there = (regions[name].get("mode") for name in (source, target))
        if there is not None and there["active"] == target and there["stage"] != "applying":
            _say(f"{target} takes writes, {time.monotonic() - started:.1f} s after it was asked for")
            return
        if here is not None and here["active"] == source and here["attempt"] != attempt:
            raise CommandError(
                f"{source} goes on taking writes: {target} did not have all of them in time, or it was given up"
            )
        text = f"{source}: {_of_region(here, source)}" if here is not None else f"{source} does not answer"
        if text != shown:
            _say(text)
            shown = text
        time.sleep(LOOK_AGAIN_S)
    raise CommandError(f"it is not over; `geodyne writes {table}` shows it")


def _follow_spreading(ask: Ask, table: str) -> None:
    """Until every region is known to obey."""
    started = time.monotonic()
    while time.monotonic() - started < SPREAD_S_MAX:
        regions = ask({"operation": "show"})
        if newest(regions)["mode"]["stage"] == "everywhere":
            return
        time.sleep(LOOK_AGAIN_S)
    _say(f"not every region is known to obey it yet; they will be told. `geodyne writes {table}` shows it")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
