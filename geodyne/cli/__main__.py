"""The command line: `geodyne COMMAND`. One module a command; what a command needs is imported when it runs.

Exit codes: 0 done; 1 failed, with one line that says why; 2 wrong usage; 130 ended by Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from geodyne.cli import (
    conflicts,
    dev,
    down,
    forget,
    network,
    node,
    render,
    restart,
    routes,
    sim,
    start,
    status,
    stop,
    trigger,
    ttl,
    up,
    verify,
    writes,
)
from geodyne.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, CommandError

COMMANDS = (
    *(dev, up, status, down, stop, start, restart, node),
    *(network, verify, conflicts, writes, forget, routes),
    *(trigger, ttl, render, sim),
)


class _PrintVersion(argparse.Action):
    """importlib.metadata costs more than all the rest of start-up, so it is imported only when asked."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"geodyne {version('geodyne')}")
        except PackageNotFoundError:
            print("geodyne (not installed: running from a source tree)")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geodyne",
        description="A DynamoDB-compatible database: one process for development, or a cluster of regions.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C",
    )
    parser.add_argument("--version", action=_PrintVersion)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except CommandError as error:
        print(f"geodyne: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`geodyne status | head`): nothing is left to tell anyone.
        sys.stderr.close()
        return EXIT_FAILED


if __name__ == "__main__":
    raise SystemExit(main())
