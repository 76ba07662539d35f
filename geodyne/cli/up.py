"""`geodyne up`: start the local cluster and keep it running until Ctrl-C or `geodyne down`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geodyne.cli.options import (
    add_clock_option,
    add_data_dir,
    add_feed_options,
    add_kinesis_option,
    add_rebuild_option,
    add_service_options,
    add_ttl_options,
)
from geodyne.settings import CAPACITY_ENFORCE, TTL_CHANGE_INTERVAL_S

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "up",
        help="start the local cluster of processes",
        description="Start a cluster of processes on this machine under one supervisor that restarts what dies. "
        "Without --topology: three regions of three zones, on ports 8000, 8001, 8002 and 8100 (global).",
    )
    parser.add_argument("--topology", metavar="FILE", help="TOML file of regions, zones, nodes, ports and delays")
    parser.add_argument("--detach", action="store_true", help="return once the cluster is ready and let it run")
    add_data_dir(parser)
    add_service_options(parser, auth=True, capacity=CAPACITY_ENFORCE)
    add_rebuild_option(parser)
    add_clock_option(parser)
    add_ttl_options(parser, change_interval_s=TTL_CHANGE_INTERVAL_S)
    add_feed_options(parser)
    add_kinesis_option(parser)
    # How the parent of --detach starts the real supervisor; of no use to people.
    parser.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.detach:
        from geodyne.cli.detach import start_detached

        return start_detached(arguments)
    from geodyne.cli.cluster import run_cluster

    return run_cluster(arguments)
