"""`python -m replication --config FILE`: the replicator process. Exit codes: 0 stopped, 1 could not start."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from geodyne import settings
from geodyne.listen import ListenError
from geodyne.observe import log as observe_log
from geodyne.topology import ROLE_REPLICATOR
from replication.compose import serve


async def _run(config: settings.ProcessConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(config, stop)


def main() -> int:
    """The process's entry."""
    parser = argparse.ArgumentParser(prog="python -m replication", description="The replicator of a region.")
    parser.add_argument("--config", required=True, type=Path, help="launch file of this process")
    arguments = parser.parse_args()
    try:
        config = settings.load(arguments.config)
        if config.role != ROLE_REPLICATOR:
            raise settings.SettingsError(f"{arguments.config}: role is {config.role!r}, not {ROLE_REPLICATOR!r}")
        observe_log.configure(config.process_id, config.log_level)
        asyncio.run(_run(config))
    except (settings.SettingsError, ListenError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
