"""Arguments that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import argparse

from geodyne.cli.datadir import DEFAULT_DATA_DIR
from geodyne.settings import CAPACITIES, LOG_LEVELS, REBUILD_AFTER_S, REBUILD_AFTER_S_MAX, REBUILD_AFTER_S_MIN


def add_service_options(parser: argparse.ArgumentParser, *, auth: bool, capacity: str, log_level: str = "info") -> None:
    """--auth, --credentials, --capacity and --log-level with a command's own defaults."""
    default = "on" if auth else "off"
    parser.add_argument(
        "--auth", choices=("on", "off"), default=default, help=f"verify request signatures (default: {default})"
    )
    parser.add_argument("--credentials", metavar="FILE", help="key pairs in the form of AWS's credentials file")
    parser.add_argument(
        "--capacity",
        choices=CAPACITIES,
        default=capacity,
        help=f"only report consumed capacity, or also throttle by it; so far both only report (default: {capacity})",
    )
    parser.add_argument(
        "--log-level", choices=LOG_LEVELS, default=log_level, help=f"how much is logged (default: {log_level})"
    )


def add_rebuild_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rebuild-after",
        metavar="SECONDS",
        type=_rebuild_after_s,
        default=REBUILD_AFTER_S,
        help="rebuild the replicas of a node on others of its zone once it has been silent for so long "
        f"(default: {REBUILD_AFTER_S:.0f})",
    )


def _rebuild_after_s(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not REBUILD_AFTER_S_MIN <= seconds <= REBUILD_AFTER_S_MAX:
        raise argparse.ArgumentTypeError(
            f"seconds from {REBUILD_AFTER_S_MIN:.0f} to {REBUILD_AFTER_S_MAX:.0f} are expected, not {text!r}"
        )
    return seconds


def add_cluster_option(parser: argparse.ArgumentParser) -> None:
    """--data-dir of the commands that address a running cluster."""
    parser.add_argument("--data-dir", metavar="DIR", help="which cluster, when more than one is running")


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        default=DEFAULT_DATA_DIR,
        help=f"where the data lies; made when it does not exist (default: {DEFAULT_DATA_DIR})",
    )
