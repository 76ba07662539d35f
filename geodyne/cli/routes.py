"""`geodyne routes`: where the global endpoint sends requests, and by which policies; changing them while it runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK, CommandError
from geodyne.cli.options import add_cluster_option
from geodyne.cli.status import table
from geodyne.routing import Affinity, PolicyKind

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

ANSWER_SECONDS_MAX = 20.0  # more than the supervisor waits for the global endpoint


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "routes",
        help="show and change where the global endpoint sends requests",
        description="Show regions, their health and the routing policies; with --table or a place, where such requests "
        "go now.",
    )
    _add_common(parser)
    parser.add_argument("--table", metavar="TABLE", help="where requests about this table go")
    parser.add_argument("--from", dest="place", metavar="PLACE", help="of a client there: a region or configured place")
    parser.add_argument("--address", metavar="IP", help="of a client with this address")
    parser.set_defaults(run=_show)
    parts = parser.add_subparsers(metavar="COMMAND", required=False)
    set_ = parts.add_parser("set", help="change a policy", description="Change the policy of a table or the endpoint.")
    _add_common(set_)
    set_.add_argument("--table", metavar="TABLE", help="of this table (default: of the endpoint)")
    set_.add_argument("--affinity", choices=[one.value for one in Affinity], help="of weighted (default: client)")
    set_.add_argument("policy", choices=[kind.value for kind in PolicyKind], metavar="POLICY", help=_policies())
    set_.add_argument("regions", nargs="*", metavar="REGION", help="in order, or REGION=WEIGHT with weighted")
    set_.set_defaults(run=_set)
    reset = parts.add_parser("reset", help="back to the topology file", description="Undo what `set` has changed.")
    _add_common(reset)
    reset.add_argument("--table", metavar="TABLE", help="of this table (default: of the endpoint)")
    reset.set_defaults(run=_reset)


def _policies() -> str:
    return ", ".join(kind.value for kind in PolicyKind)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    add_cluster_option(parser)


def _show(arguments: argparse.Namespace) -> int:
    if arguments.table is None and arguments.place is None and arguments.address is None:
        return _print(arguments, ask(arguments, {"operation": "show"}), as_text)
    find = {"operation": "find", "table": arguments.table, "from": arguments.place, "address": arguments.address}
    return _print(arguments, ask(arguments, find), route_as_text)


def _set(arguments: argparse.Namespace) -> int:
    policy = policy_of(arguments.policy, arguments.regions, arguments.affinity)
    return _print(arguments, ask(arguments, {"operation": "set", "table": arguments.table, "policy": policy}), as_text)


def _reset(arguments: argparse.Namespace) -> int:
    return _print(arguments, ask(arguments, {"operation": "reset", "table": arguments.table}), as_text)


def policy_of(kind: str, regions: list[str], affinity: str | None) -> dict[str, Any]:
    """A policy as the endpoint takes it. Raises CommandError for words that make none."""
    extra = {} if affinity is None else {"affinity": affinity}
    match kind:
        case PolicyKind.FAILOVER:
            return {"policy": kind, "order": regions, **extra}
        case PolicyKind.WEIGHTED:
            return {"policy": kind, "weights": dict(_weight(word) for word in regions), **extra}
        case PolicyKind.PINNED if len(regions) == 1:
            return {"policy": kind, "region": regions[0], **extra}
        case PolicyKind.NEAREST if not regions:
            return {"policy": kind, **extra}
    raise CommandError(f"policy {kind} takes {'one region' if kind == PolicyKind.PINNED else 'no regions'}")


def _weight(word: str) -> tuple[str, int]:
    region, _, weight = word.partition("=")
    if not weight.isdecimal():
        raise CommandError(f"weighted takes regions with their weights, such as us-east-1=3, not {word!r}")
    return region, int(weight)


def ask(arguments: argparse.Namespace, request: dict[str, Any]) -> dict[str, Any]:
    """The result of a call of the global endpoint of the cluster meant. Raises CommandError."""
    from geodyne.cli.control import call
    from geodyne.cli.datadir import running_control

    control = running_control(arguments.data_dir)
    reply = call(control, {"command": "routes", **request}, ANSWER_SECONDS_MAX)
    if "refused" in reply:
        raise CommandError(str(reply["refused"]))
    return dict(reply["result"])


def _print(arguments: argparse.Namespace, result: dict[str, Any], text: Any) -> int:
    import json

    print(json.dumps(result, indent=2) if arguments.json else text(result))
    return EXIT_OK


def as_text(routes: dict[str, Any]) -> str:
    """Regions, then policies, then what places clients."""
    lines = table(
        ("region", "state", "for", "tables", "last good check", "reason"),
        (
            (
                region,
                "up" if known["healthy"] else "down",
                f"{known['for_ms'] / 1000:.0f} s",
                known["tables"],
                _check(known["check"]),
                known["reason"],
            )
            for region, known in routes["regions"].items()
        ),
    )
    lines += ["", f"default policy: {in_words(routes['policy'])} (from {routes['policy']['source']})"]
    if routes["tables"]:
        policies = ((name, in_words(policy), policy["source"]) for name, policy in routes["tables"].items())
        lines += table(("table", "policy", "from"), policies)
    placed = [("place", name, region) for name, region in routes["places"].items()]
    placed += [("network", name, region) for name, region in routes["networks"].items()]
    placed += [("key", name, region) for name, region in routes["keys"].items()]
    placed.append(("default", "", routes["location"]))
    lines += ["", *table(("clients by", "name", "are near"), placed)]
    if not routes["changes_survive_restarts"]:
        lines += ["", "changes last as long as the process of the global endpoint: it has no file to keep them in"]
    return "\n".join(lines)


def route_as_text(route: dict[str, Any]) -> str:
    """One decision."""
    first = route["routes"][0] if route["routes"] else None
    nowhere = route["table"] is not None and not any(known["has_table"] for known in route["regions"])
    lines = [f"no region has a table {route['table']}"] if nowhere else []
    lines += [
        f"client: near {route['origin']} ({route['origin_reason']})",
        f"policy: {in_words(route['policy'])}",
        f"goes to: {first['region']} ({first['reason']})" if first else "goes to: nowhere, no region can serve it",
    ]
    status = {replica["region"]: replica["status"] for replica in route.get("replicas", [])}
    head = ("region", "round trip", "state", "replica")
    lines += table(
        head,
        (
            (
                known["region"],
                f"{known['round_trip_ms']:g} ms",
                "up" if known["healthy"] else "down",
                status.get(known["region"], "" if known["has_table"] else "none"),
            )
            for known in route["regions"]
        ),
    )
    return "\n".join(lines)


def in_words(policy: dict[str, Any]) -> str:
    """A policy as `set` takes it."""
    match policy["policy"]:
        case "failover":
            return " ".join(("failover", *policy["order"]))
        case "pinned":
            return f"pinned {policy['region']}"
        case "weighted":
            weights = (f"{region}={weight}" for region, weight in policy["weights"].items())
            affinity = "" if policy["affinity"] == Affinity.CLIENT else f" --affinity {policy['affinity']}"
            return " ".join(("weighted", *weights)) + affinity
    return str(policy["policy"])


def _check(check: dict[str, Any]) -> str:
    if check.get("age_ms") is None:
        return "never"
    return f"{check['age_ms'] / 1000:.1f} s ago: write {check['write_ms']:g} ms, read {check['read_ms']:g} ms"
