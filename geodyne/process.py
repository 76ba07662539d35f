"""What the processes of a cluster have in common: launch file, logs, event loop, signals, exit codes."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from geodyne.listen import ListenError
from geodyne.observe.log import configure
from geodyne.settings import ProcessConfig, SettingsError, load

# gRPC reads this once, when it is first imported; its notices about forks and polling engines would otherwise stand
# between the log's JSON lines. Entry points import this module before anything that imports gRPC.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# A forked child of ours runs another program at once; gRPC would complain of each that it cannot prepare for it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

COLLECTOR_THRESHOLDS = (50_000, 20, 100)  # new containers before a young, young before a middle, middle before a full

Serve = Callable[[ProcessConfig, asyncio.Event], Awaitable[None]]


def main(
    name: str, choose: Callable[[ProcessConfig], Serve], refusals: tuple[type[Exception], ...], argv: Sequence[str]
) -> int:
    """Run the process that `--config FILE` describes until SIGTERM or SIGINT.

    `refusals` are the errors of a start that cannot succeed: one line for the operator, no stack trace.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=f"One Geodyne {name} process.")
    parser.add_argument("--config", required=True, type=Path, help="the launch file that the supervisor wrote")
    try:
        config = load(parser.parse_args(argv).config)
    except SettingsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    configure(config.process_id, config.log_level)
    expected: tuple[type[Exception], ...] = (ListenError, OSError, *refusals)
    try:
        run(lambda stop: choose(config)(config, stop))
    except expected as error:
        logging.getLogger("geodyne").critical("cannot start", extra={"reason": str(error)})
        return EXIT_FAILED
    return EXIT_OK


def _calm_collector() -> None:
    """Requests make many short-lived objects and no cycles; the log in memory makes many long-lived ones. With the
    default thresholds the cycle collector walks the latter again and again, in stalls of several milliseconds.
    What modules made is left out altogether: it lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def run(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `serve(stop)` on the fastest event loop there is; `stop` is set by SIGTERM and SIGINT."""

    async def supervised() -> None:
        _calm_collector()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(stop)

    try:
        import uvloop
    except ImportError:
        asyncio.run(supervised())
    else:
        uvloop.run(supervised())
