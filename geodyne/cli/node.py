"""`geodyne node add|drain|activate|remove|list`: the nodes of the running cluster."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_INTERRUPTED, EXIT_OK, CommandError
from geodyne.cli.options import add_cluster_option
from geodyne.cli.status import state_of, table

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

ANSWER_SECONDS_MAX = 60.0  # of one request: more than the supervisor needs to stop a process and tell the others
POLL_SECONDS = 0.5
SETTLED_POLLS = 4  # in a row without a replica on its way: then a new node has its share
STALLED_SECONDS_MAX = 120.0  # without any progress; the command ends then, what it began goes on

Ask = Callable[[dict[str, Any]], dict[str, Any]]


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "node",
        help="add, drain, remove and list nodes of the running cluster",
        description="Change the nodes of the running cluster while it serves. Replicas move by themselves: to a new "
        "node its share, from a drained one all it has. Two replicas are never put in one zone.",
    )
    parts = parser.add_subparsers(metavar="COMMAND", required=True)
    add = _part(parts, "add", "start one more node; replicas move to it until it has its share", _add, waits=True)
    add.add_argument("--zone", metavar="ZONE", required=True, help="one of the zones of the region")
    add.add_argument("--region", metavar="REGION", help="which region, when there is more than one")
    add.add_argument("--name", metavar="NAME", help="its id is REGION/NAME (default: node-ZONE, with a number)")
    drain = _part(parts, "drain", "move all replicas off a node, so that it can be removed", _drain, waits=True)
    _on_a_node(drain, "though it is the last of its zone: groups then run on two replicas")
    activate = _part(parts, "activate", "have a drained node hold replicas again", _activate, waits=False)
    activate.add_argument("node", metavar="NODE", help="its id, such as us-east-1/node-a")
    remove = _part(parts, "remove", "stop a drained node for good; its data directory stays", _remove, waits=False)
    _on_a_node(remove, "though it is not drained: what is on it is rebuilt from the other replicas")
    list_ = _part(parts, "list", "show the nodes, what each is for, and what is on its way", _list, waits=False)
    list_.add_argument("--region", metavar="REGION", help="only this region")


def _part(
    parts: Subparsers, name: str, text: str, run: Callable[[argparse.Namespace, Ask], int], *, waits: bool
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end; progress to standard error")
    if waits:
        parser.add_argument(
            "--no-wait", action="store_true", help="return at once; `geodyne node list` shows how far it is"
        )
    add_cluster_option(parser)
    parser.set_defaults(run=lambda arguments: run(arguments, _asking(arguments)))
    return parser


def _on_a_node(parser: argparse.ArgumentParser, forced: str) -> None:
    parser.add_argument("node", metavar="NODE", help="its id, such as us-east-1/node-a")
    parser.add_argument("--force", action="store_true", help=forced)


def _asking(arguments: argparse.Namespace) -> Ask:
    from geodyne.cli.control import call
    from geodyne.cli.datadir import running_control

    control = running_control(arguments.data_dir)
    return lambda request: call(control, request, ANSWER_SECONDS_MAX)


# --- the commands -----------------------------------------------------------------------------------------------------


def _add(arguments: argparse.Namespace, ask: Ask) -> int:
    request = {"command": "node_add", "region": arguments.region, "zone": arguments.zone, "name": arguments.name}
    added = ask(request)
    node = added["node"]
    _progress(arguments, f"{node} is starting in zone {added['zone']}; its data goes to {added['data_dir']}")
    if not arguments.no_wait and not _goes_on(arguments, f"adding {node}", lambda: _joined(arguments, ask, node)):
        return EXIT_INTERRUPTED
    state = "being added" if arguments.no_wait else "added"
    _result(arguments, {**added, **_member(ask({"command": "node_list"}), node)}, f"{node} is {state}")
    return EXIT_OK


def _drain(arguments: argparse.Namespace, ask: Ask) -> int:
    node = arguments.node
    drained = ask({"command": "node_drain", "node": node, "force": arguments.force})
    if not arguments.no_wait:
        if not _goes_on(arguments, f"draining {node}", lambda: _emptied(arguments, ask, node)):
            return EXIT_INTERRUPTED
        drained = _member(ask({"command": "node_list"}), node)
    left = drained.get("replicas", 0)
    _result(arguments, drained, f"{node} is being drained" if left else f"{node} is drained")
    return EXIT_OK


def _activate(arguments: argparse.Namespace, ask: Ask) -> int:
    member = ask({"command": "node_activate", "node": arguments.node, "force": False})
    _result(arguments, member, f"{arguments.node} is active")
    return EXIT_OK


def _remove(arguments: argparse.Namespace, ask: Ask) -> int:
    removed = ask({"command": "node_remove", "node": arguments.node, "force": arguments.force})
    text = f"{arguments.node} is removed; its data directory stays: {removed['data_dir']}"
    _result(arguments, removed, text)
    return EXIT_OK


def _list(arguments: argparse.Namespace, ask: Ask) -> int:
    listed = ask({"command": "node_list"})
    if arguments.region is not None:
        if arguments.region not in listed["regions"]:
            names = ", ".join(listed["regions"])
            raise CommandError(f"there is no region {arguments.region}; there are {names}")
        listed["regions"] = {arguments.region: listed["regions"][arguments.region]}
    _result(arguments, listed, as_text(listed))
    return EXIT_OK


# --- waiting ----------------------------------------------------------------------------------------------------------


def _goes_on(arguments: argparse.Namespace, what: str, wait: Callable[[], None]) -> bool:
    """Wait; False when the user would not. What was begun goes on without anyone who waits."""
    try:
        wait()
    except KeyboardInterrupt:
        print(f"geodyne: {what} goes on; `geodyne node list` shows how far it is", file=sys.stderr)
        return False
    return True


def _joined(arguments: argparse.Namespace, ask: Ask, node: str) -> None:
    """Until the node runs, the catalog names it, and nothing has been on its way for a while."""
    watch = _Watch(arguments, f"adding {node}")
    settled = 0
    while settled < SETTLED_POLLS:
        listed = ask({"command": "node_list"})
        process = listed["processes"].get(node)
        if process is None:
            raise CommandError(f"{node} was removed meanwhile")
        member, moves = _member(listed, node), _moves(listed, node)
        if process["state"] != "running":
            watch.saw(f"{node} is {process['state']}")
        elif not member:
            watch.saw(f"{node} runs and is yet to be known to its region")
        else:
            watch.saw(f"{node} has {_replicas(member['replicas'])}, {moves} on their way")
        ready = process["state"] == "running" and bool(member) and not moves and not member["joining"]
        settled = settled + 1 if ready else 0
        watch.pause()


def _emptied(arguments: argparse.Namespace, ask: Ask, node: str) -> None:
    """Until nothing is on the node."""
    watch = _Watch(arguments, f"draining {node}")
    while True:
        member = _member(ask({"command": "node_list"}), node)
        if member:
            if member["state"] == "ACTIVE":
                raise CommandError(f"{node} was made active again meanwhile")
            if not member["replicas"] and not member["joining"]:
                return
            watch.saw(f"{node}: {_replicas(member['replicas'] + member['joining'])} left")
        watch.pause()


class _Watch:
    """Says what has changed, and gives up when nothing does."""

    def __init__(self, arguments: argparse.Namespace, what: str) -> None:
        self._arguments = arguments
        self._what = what
        self._last = ""
        self._changed_s = time.monotonic()

    def saw(self, text: str) -> None:
        if text != self._last:
            self._last = text
            self._changed_s = time.monotonic()
            _progress(self._arguments, text)

    def pause(self) -> None:
        """Raises CommandError when nothing has changed for STALLED_SECONDS_MAX."""
        if time.monotonic() - self._changed_s >= STALLED_SECONDS_MAX:
            raise CommandError(
                f"{self._last or 'the region does not answer'}, and nothing has changed for "
                f"{STALLED_SECONDS_MAX:.0f} s; {self._what} goes on, `geodyne status` shows what is waited for"
            )
        time.sleep(POLL_SECONDS)


# --- what is shown ----------------------------------------------------------------------------------------------------


def as_text(listed: dict[str, Any]) -> str:
    """The answer of `node list` as tables."""
    lines: list[str] = []
    for region, answer in listed["regions"].items():
        moves = answer.get("moves", 0)
        lines.append(region + (f"  {_replicas(moves)} on their way" if moves else ""))
        members = {member["node"]: member for member in answer["members"]}
        processes = {id_: process for id_, process in listed["processes"].items() if process["region"] == region}
        rows = [
            _row(id_, members.get(id_, {}), processes.get(id_, {}))
            for id_ in [*processes, *(id_ for id_ in members if id_ not in processes)]
            if id_ in processes or members[id_]["state"] != "LEFT"
        ]
        lines += table(("node", "zone", "state", "replicas", "joining", "process"), rows)
        if "error" in answer:
            lines.append(f"  the region does not say more: {answer['error']}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _row(id_: str, member: dict[str, Any], process: dict[str, Any]) -> tuple[Any, ...]:
    return (
        id_,
        member.get("zone") or process.get("zone", ""),
        state_of(member),
        member.get("replicas", ""),
        member.get("joining", ""),
        process.get("state", "none"),
    )


def _replicas(count: int) -> str:
    return f"{count} replica" + ("" if count == 1 else "s")


def _member(listed: dict[str, Any], node: str) -> dict[str, Any]:
    """What the catalog says of the node; empty when it does not know it, or does not answer."""
    found = (m for region in listed["regions"].values() for m in region["members"] if m["node"] == node)
    return next(found, {})


def _moves(listed: dict[str, Any], node: str) -> int:
    region = listed["processes"].get(node, {}).get("region", "")
    return int(listed["regions"].get(region, {}).get("moves", 0))


def _progress(arguments: argparse.Namespace, text: str) -> None:
    print(text, file=sys.stderr if arguments.json else sys.stdout, flush=True)


def _result(arguments: argparse.Namespace, answer: dict[str, Any], text: str) -> None:
    import json

    print(json.dumps(answer, indent=2) if arguments.json else text, flush=True)
