"""`geodyne dev`: one process, one region, one zone, durable; for developing against."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geodyne.cli.options import add_feed_options, add_kinesis_option, add_service_options, add_ttl_options
from geodyne.settings import CAPACITY_ACCOUNT
from geodyne.topology import PORT_MAX, REGION_NAME_FORM, is_region_name

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

DEFAULT_PORT = 8000
DEFAULT_REGION = "us-east-1"
DEFAULT_DEV_DATA_DIR = ".geodyne-dev"


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "dev",
        help="one durable process for development",
        description="Serve one region from one process, as a stand-in for DynamoDB on a developer's machine. "
        "Signatures are not checked and nothing is throttled unless asked for.",
        epilog="Ctrl-C ends it in order, with exit code 0.",
    )
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help=f"0: a free one (default: {DEFAULT_PORT})")
    parser.add_argument("--region", type=_region, default=DEFAULT_REGION, help=f"its name (default: {DEFAULT_REGION})")
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        default=DEFAULT_DEV_DATA_DIR,
        help=f"where the data lies; made when it does not exist (default: {DEFAULT_DEV_DATA_DIR})",
    )
    add_service_options(parser, auth=False, capacity=CAPACITY_ACCOUNT, log_level="warning")
    add_ttl_options(parser, change_interval_s=0.0)
    add_feed_options(parser)
    add_kinesis_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from geodyne.cli.datadir import check_dev_directory

    data_dir = Path(arguments.data_dir).absolute()
    check_dev_directory(data_dir, arguments.region)

    from geodyne.cli.devserver import serve_dev
    from geodyne.settings import DevConfig

    config = DevConfig(
        port=arguments.port,
        region=arguments.region,
        data_dir=data_dir,
        auth=arguments.auth == "on",
        credentials=Path(arguments.credentials).absolute() if arguments.credentials else None,
        capacity=arguments.capacity,
        log_level=arguments.log_level,
        ttl_interval_s=arguments.ttl_interval,
        ttl_change_interval_s=arguments.ttl_change_interval,
        shard_life_s=arguments.shard_life,
        feed_mb=arguments.feed_mb,
        kinesis_endpoint=arguments.kinesis_endpoint or "",
    )
    return serve_dev(config)


def _region(text: str) -> str:
    if not is_region_name(text):
        raise argparse.ArgumentTypeError(f"a region's name is {REGION_NAME_FORM}; {text!r} is none")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= PORT_MAX:
        raise argparse.ArgumentTypeError(f"a port from 0 to {PORT_MAX} is expected, not {text!r}")
    return int(text)
