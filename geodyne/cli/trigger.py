"""`geodyne trigger ...`: functions, and the event source mappings that call them with a table's stream.

The requests and answers are those of the Lambda API, over a way that only the owner of the cluster has: functions run
on its hosts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from geodyne.cli.dev import DEFAULT_DEV_DATA_DIR
from geodyne.cli.errors import EXIT_FAILED, EXIT_OK, CommandError
from geodyne.cli.status import table

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

ANSWER_SECONDS_MAX = 45.0  # more than a supervisor waits for a router
SETTLED_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1
PAGES_MAX = 100  # of a list; each has up to 100 mappings, and a region has fewer
SETTLED = ("Enabled", "Disabled")
NOT_FOUND = "ResourceNotFoundException"


class Ask(Protocol):
    """An operation of the Lambda API, or on functions. Raises CommandError."""

    def __call__(self, operation: str, body: dict[str, Any], *, region: str | None = None) -> dict[str, Any]:
        """`region`: another than that of the command line."""


Run = Callable[[argparse.Namespace, Ask], int]


class _Refused(CommandError):
    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "trigger",
        help="functions, and what calls them with the changes of a table",
        description="Register functions, and map a table's stream to one: an event source mapping, with the semantics "
        "of AWS Lambda's. Mappings can as well be managed through the Lambda API at the region's endpoint.",
    )
    parts = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_functions(parts)
    create = part(parts, "create", "map a table's stream to a function", _create, waits=True)
    source = create.add_mutually_exclusive_group(required=True)
    source.add_argument("--table", metavar="NAME", help="the table, whose newest stream is meant")
    source.add_argument("--stream-arn", metavar="ARN", help="the stream")
    create.add_argument("--function", metavar="NAME", required=True, help="the function")
    create.add_argument(
        "--starting-position",
        choices=("LATEST", "TRIM_HORIZON"),
        default="LATEST",
        help="with what is written from now on, or the oldest there is (default: LATEST)",
    )
    create.add_argument("--disabled", action="store_true", help="do not begin yet")
    _add_settings(create, defaults=True)
    list_ = part(parts, "list", "show the mappings", _list, lists=True)
    list_.add_argument("--function", metavar="NAME", help="only those of this function")
    list_.add_argument("--stream-arn", metavar="ARN", help="only those of this stream")
    _on_a_mapping(part(parts, "show", "show all of one mapping", _show))
    update = part(parts, "update", "change a mapping", _update, waits=True)
    _on_a_mapping(update)
    update.add_argument("--function", metavar="NAME", help="another function")
    _add_settings(update, defaults=False)
    _on_a_mapping(part(parts, "enable", "begin again, where the mapping stopped", _enable, waits=True))
    _on_a_mapping(part(parts, "disable", "stop; the mapping keeps its place", _disable, waits=True))
    _on_a_mapping(part(parts, "delete", "forget a mapping and its place", _delete, waits=True))


def _add_functions(parts: Subparsers) -> None:
    parser = parts.add_parser("function", help="add, list and remove functions", description="Functions of a region.")
    functions = parser.add_subparsers(metavar="COMMAND", required=True)
    add = part(functions, "add", "make a function known, or change it", _function_add)
    add.add_argument("name", metavar="NAME", help="letters, digits, hyphens and underscores")
    kind = add.add_mutually_exclusive_group(required=True)
    kind.add_argument("--handler", metavar="MODULE:FUNCTION", help="a Python callable, run in processes of its own")
    kind.add_argument("--url", metavar="URL", help="an HTTP endpoint, which gets each event by POST")
    kind.add_argument("--archive", metavar="URL", help="objects in a directory (file:///...) or store (s3://...)")
    add.add_argument("--path", metavar="DIR", help="where the module lies; the same on the host of each region")
    add.add_argument("--timeout-s", metavar="SECONDS", type=float, help="time limit of a call (default: 3)")
    add.add_argument("--memory-mb", metavar="MB", type=int, help="memory limit of a Python function (default: 128)")
    add.add_argument(
        "--env", metavar="NAME=VALUE", action="append", default=[], help="a variable of a Python function; repeatable"
    )
    part(functions, "list", "show the functions", _function_list, lists=True)
    remove = part(functions, "remove", "forget a function", _function_remove)
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--force", action="store_true", help="though mappings name it: they wait until it is back")


def part(
    parts: Subparsers, name: str, text: str, run: Run, *, waits: bool = False, lists: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--json", action="store_true", help="one JSON object, as the Lambda API has it")
    if waits:
        parser.add_argument("--no-wait", action="store_true", help="return before the change has taken effect")
    which = "only this region" if lists else "which region, when there is more than one"
    parser.add_argument("--region", metavar="REGION", help=which)
    parser.add_argument("--data-dir", metavar="DIR", help="which cluster or `geodyne dev`, when more than one runs")
    parser.set_defaults(run=lambda arguments: run(arguments, _asking(arguments)))
    return parser


def _on_a_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uuid", metavar="UUID", help="of the mapping, as `geodyne trigger list` shows it")


def _add_settings(parser: argparse.ArgumentParser, *, defaults: bool) -> None:
    """What a mapping may be told; a default is the Lambda API's, and what is not said in an update stays."""

    def add(*names: str, help: str, default: str = "", **kind: Any) -> None:
        parser.add_argument(*names, help=help + (f" (default: {default})" if default and defaults else ""), **kind)

    add("--batch-size", metavar="N", type=int, help="records of a call at most", default="100")
    add("--batching-window-s", metavar="SECONDS", type=int, help="wait so long for a full batch", default="0")
    add("--parallelization-factor", metavar="N", type=int, help="calls of a shard at once", default="1")
    add("--max-record-age-s", metavar="SECONDS", type=int, help="give up older records", default="-1, never")
    add("--max-retries", metavar="N", type=int, help="give up after so many retries", default="-1, never")
    add("--tumbling-window-s", metavar="SECONDS", type=int, help="pass a state on within windows", default="0, none")
    add("--bisect", action=argparse.BooleanOptionalAction, help="split a batch that fails")
    add("--report-failures", action=argparse.BooleanOptionalAction, help="the answer may name records that failed")
    add("--filter", metavar="PATTERN", action="append", help="only records that match; repeatable: any of them")
    add("--no-filters", action="store_true", help="all records")
    add("--on-failure", metavar="URL", help='where given-up batches are told: file:///DIR, http(s)://...; "" nowhere')


def _asking(arguments: argparse.Namespace) -> Ask:
    from geodyne.cli.control import call
    from geodyne.cli.devcontrol import TRIGGER_COMMAND

    control = _control(arguments.data_dir)

    def ask(operation: str, body: dict[str, Any], *, region: str | None = None) -> dict[str, Any]:
        where = region or arguments.region
        request = {"command": TRIGGER_COMMAND, "region": where, "operation": operation, "body": body}
        reply = call(control, request, ANSWER_SECONDS_MAX)
        if "refused" in reply:
            raise _Refused(reply["refused"], reply.get("code", ""))
        return dict(reply["result"])

    return ask


def _control(data_dir: str | None) -> str:
    """The socket of the cluster or `geodyne dev` meant. Raises CommandError."""
    from geodyne.cli.datadir import running_control
    from geodyne.cli.devcontrol import control_of

    named = control_of(Path(data_dir)) if data_dir is not None else None
    if named is not None:
        return named
    try:
        return running_control(data_dir)
    except CommandError:
        found = control_of(Path(DEFAULT_DEV_DATA_DIR)) if data_dir is None else None
        if found is None:
            raise
        return found


def _from_each_region(
    arguments: argparse.Namespace, ask: Ask, read: Callable[[str], list[dict[str, Any]]]
) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """What `read` finds in the region meant, or in all, each with its region; and the exit code. A region that does not
    answer is told on standard error and does not hide the others."""
    from geodyne.cli.devcontrol import LIST_REGIONS

    regions = [arguments.region] if arguments.region else ask(LIST_REGIONS, {})["regions"]
    found: list[tuple[str, dict[str, Any]]] = []
    code = EXIT_OK
    for region in regions:
        try:
            found += [(region, one) for one in read(region)]
        except CommandError as error:
            if len(regions) == 1:
                raise
            print(f"geodyne: {region}: {error}", file=sys.stderr)
            code = EXIT_FAILED
    return found, code


# --- functions --------------------------------------------------------------------------------------------------------


def _function_add(arguments: argparse.Namespace, ask: Ask) -> int:
    body: dict[str, Any] = {"name": arguments.name}
    if arguments.handler is not None:
        if arguments.path is None:
            raise CommandError("--handler needs --path: the directory in which the module lies")
        directory = Path(arguments.path).absolute()
        if not directory.is_dir():
            raise CommandError(f"{directory} is not a directory")
        body |= {"kind": "python", "handler": arguments.handler, "directory": str(directory)}
        body["environment"] = dict(_variable(text) for text in arguments.env)
    elif arguments.path is not None or arguments.env or arguments.memory_mb is not None:
        raise CommandError("--path, --memory-mb and --env go with --handler only")
    elif arguments.url is not None:
        body |= {"kind": "http", "url": arguments.url}
    else:
        body |= {"kind": "archive", "url": arguments.archive}
    for name in ("timeout_s", "memory_mb"):
        if getattr(arguments, name) is not None:
            body[name] = getattr(arguments, name)
    function = ask("PutFunction", body)["function"]
    if arguments.handler is not None and not has_module(arguments.handler, body["directory"]):
        module = arguments.handler.partition(":")[0]
        print(f"geodyne: no module {module} is found in {body['directory']}: until it is, calls fail", file=sys.stderr)
    return _print(arguments, function, f"function {function['name']} is registered")


def has_module(handler: str, directory: str) -> bool:
    """Whether the module of MODULE:FUNCTION is there, in the directory or beside Python's own. No code of it is run."""
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    name, *parts = handler.partition(":")[0].split(".")
    try:
        spec = PathFinder.find_spec(name, [directory]) or find_spec(name)
        for part in parts:
            if spec is None or spec.submodule_search_locations is None:
                return False
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    except (ImportError, ValueError):
        return False
    return spec is not None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise CommandError(f"--env takes NAME=VALUE, not {text!r}")
    return name, value


def _function_list(arguments: argparse.Namespace, ask: Ask) -> int:
    found, code = _from_each_region(arguments, ask, lambda region: _functions(ask, region))
    rows = [
        (region, one["name"], one["kind"], one["handler"] or one["url"], one["directory"], f"{one['timeout_s']:g} s")
        for region, one in found
    ]
    listed = {"functions": [{"region": region, **one} for region, one in found]}
    _print(arguments, listed, "\n".join(table(("region", "function", "kind", "calls", "in", "limit"), rows)))
    return code


def _functions(ask: Ask, region: str) -> list[dict[str, Any]]:
    return list(ask("ListFunctions", {}, region=region)["functions"])


def _function_remove(arguments: argparse.Namespace, ask: Ask) -> int:
    removed = ask("DeleteFunction", {"name": arguments.name, "force": arguments.force})["function"]
    return _print(arguments, removed, f"function {arguments.name} is removed")


# --- mappings ---------------------------------------------------------------------------------------------------------


def _create(arguments: argparse.Namespace, ask: Ask) -> int:
    source = {"TableName": arguments.table} if arguments.table else {"EventSourceArn": arguments.stream_arn}
    said = {"FunctionName": arguments.function, "StartingPosition": arguments.starting_position}
    mapping = ask("CreateEventSourceMapping", {**source, **said, "Enabled": not arguments.disabled, **_said(arguments)})
    return changed(arguments, ask, mapping)


def _update(arguments: argparse.Namespace, ask: Ask) -> int:
    said = _said(arguments)
    if arguments.function is not None:
        said["FunctionName"] = arguments.function
    if not said:
        raise CommandError("nothing is to be changed: give at least one setting")
    return changed(arguments, ask, ask("UpdateEventSourceMapping", {"UUID": arguments.uuid, **said}))


def _enable(arguments: argparse.Namespace, ask: Ask) -> int:
    return changed(arguments, ask, ask("UpdateEventSourceMapping", {"UUID": arguments.uuid, "Enabled": True}))


def _disable(arguments: argparse.Namespace, ask: Ask) -> int:
    return changed(arguments, ask, ask("UpdateEventSourceMapping", {"UUID": arguments.uuid, "Enabled": False}))


def _delete(arguments: argparse.Namespace, ask: Ask) -> int:
    return changed(arguments, ask, ask("DeleteEventSourceMapping", {"UUID": arguments.uuid}))


def _show(arguments: argparse.Namespace, ask: Ask) -> int:
    import json

    mapping = ask("GetEventSourceMapping", {"UUID": arguments.uuid})
    width = max(map(len, mapping))
    said = {name: value if isinstance(value, str) else json.dumps(value) for name, value in mapping.items()}
    return _print(arguments, mapping, "\n".join(f"{name.ljust(width)}  {value}" for name, value in said.items()))


def _list(arguments: argparse.Namespace, ask: Ask) -> int:
    query: dict[str, Any] = {}
    if arguments.function is not None:
        query["FunctionName"] = arguments.function
    if arguments.stream_arn is not None:
        query["EventSourceArn"] = arguments.stream_arn
    found, code = _from_each_region(arguments, ask, lambda region: _mappings(ask, query, region))
    rows = [
        (
            region,
            one["UUID"],
            one["EventSourceArn"].split(":", 5)[-1],
            one["FunctionArn"].rpartition(":")[2],
            one["State"],
            one["LastProcessingResult"],
        )
        for region, one in found
    ]
    text = "\n".join(table(("region", "mapping", "stream", "function", "state", "last result"), rows))
    _print(arguments, {"EventSourceMappings": [one for _, one in found]}, text)
    return code


def _mappings(ask: Ask, query: dict[str, Any], region: str) -> list[dict[str, Any]]:
    """All pages."""
    found: list[dict[str, Any]] = []
    query = dict(query)
    for _ in range(PAGES_MAX):
        page = ask("ListEventSourceMappings", query, region=region)
        found += page["EventSourceMappings"]
        if "NextMarker" not in page:
            break
        query["Marker"] = page["NextMarker"]
    return found


def _said(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, as the Lambda API names them."""
    named = {
        "BatchSize": arguments.batch_size,
        "MaximumBatchingWindowInSeconds": arguments.batching_window_s,
        "ParallelizationFactor": arguments.parallelization_factor,
        "MaximumRecordAgeInSeconds": arguments.max_record_age_s,
        "MaximumRetryAttempts": arguments.max_retries,
        "TumblingWindowInSeconds": arguments.tumbling_window_s,
        "BisectBatchOnFunctionError": arguments.bisect,
    }
    said: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if arguments.report_failures is not None:
        said["FunctionResponseTypes"] = ["ReportBatchItemFailures"] if arguments.report_failures else []
    if arguments.filter and arguments.no_filters:
        raise CommandError("--filter and --no-filters exclude each other")
    if arguments.filter or arguments.no_filters:
        said["FilterCriteria"] = {"Filters": [{"Pattern": pattern} for pattern in arguments.filter or ()]}
    if arguments.on_failure is not None:
        said["DestinationConfig"] = {"OnFailure": {"Destination": arguments.on_failure}}
    return said


def changed(arguments: argparse.Namespace, ask: Ask, mapping: dict[str, Any]) -> int:
    """Wait for the change of a mapping to take effect, unless told not to, and show what it is then."""
    uuid, deadline_s = mapping["UUID"], time.monotonic() + SETTLED_SECONDS_MAX
    while not arguments.no_wait and mapping["State"] not in SETTLED:
        if time.monotonic() > deadline_s:
            raise CommandError(f"mapping {uuid} is still {mapping['State']}; `geodyne trigger show {uuid}` shows it")
        time.sleep(POLL_SECONDS)
        try:
            mapping = ask("GetEventSourceMapping", {"UUID": uuid})
        except _Refused as error:
            if error.code != NOT_FOUND:
                raise
            return _print(arguments, {**mapping, "State": "Deleted"}, f"mapping {uuid} is deleted")
    return _print(arguments, mapping, f"mapping {uuid} is {mapping['State']}")


def _print(arguments: argparse.Namespace, answer: dict[str, Any], text: str) -> int:
    import json

    print(json.dumps(answer, indent=2) if arguments.json else text, flush=True)
    return EXIT_OK
