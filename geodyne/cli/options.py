"""Arguments that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from geodyne.cli.datadir import DEFAULT_DATA_DIR
from geodyne.settings import (
    CAPACITIES,
    CLOCK_OFFSET_MS_LEAST,
    CLOCK_OFFSET_MS_MAX,
    CLOCK_OFFSET_MS_MOST,
    FEED_MB,
    FEED_MB_MAX,
    FEED_MB_MIN,
    LOG_LEVELS,
    REBUILD_AFTER_S,
    REBUILD_AFTER_S_MAX,
    REBUILD_AFTER_S_MIN,
    SHARD_LIFE_S,
    SHARD_LIFE_S_MAX,
    SHARD_LIFE_S_MIN,
    TTL_CHANGE_INTERVAL_S_MAX,
    TTL_INTERVAL_S,
    TTL_INTERVAL_S_MAX,
    TTL_INTERVAL_S_MIN,
)


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
        type=_seconds(REBUILD_AFTER_S_MIN, REBUILD_AFTER_S_MAX),
        default=REBUILD_AFTER_S,
        help="rebuild the replicas of a node on others of its zone once it has been silent for so long "
        f"(default: {REBUILD_AFTER_S:.0f})",
    )


def add_clock_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clock-offset",
        metavar="SECONDS",
        type=_seconds(CLOCK_OFFSET_MS_LEAST / 1_000, CLOCK_OFFSET_MS_MOST / 1_000),
        default=CLOCK_OFFSET_MS_MAX / 1_000,
        help=f"a node whose clock is further off its region's does not lead (default: {CLOCK_OFFSET_MS_MAX / 1_000:g})",
    )


def add_ttl_options(parser: argparse.ArgumentParser, *, change_interval_s: float) -> None:
    """--ttl-interval and --ttl-change-interval, the latter with a command's own default."""
    parser.add_argument(
        "--ttl-interval",
        metavar="SECONDS",
        type=_seconds(TTL_INTERVAL_S_MIN, TTL_INTERVAL_S_MAX),
        default=TTL_INTERVAL_S,
        help=f"look for items whose Time to Live is over so often (default: {TTL_INTERVAL_S:g})",
    )
    parser.add_argument(
        "--ttl-change-interval",
        metavar="SECONDS",
        type=_seconds(0.0, TTL_CHANGE_INTERVAL_S_MAX),
        default=change_interval_s,
        help="refuse a change of a table's Time to Live that comes sooner after the one before "
        f"(default: {change_interval_s:g})",
    )


def add_feed_options(parser: argparse.ArgumentParser) -> None:
    """--shard-life and --feed-mb."""
    parser.add_argument(
        "--shard-life",
        metavar="SECONDS",
        type=_seconds(SHARD_LIFE_S_MIN, SHARD_LIFE_S_MAX),
        default=SHARD_LIFE_S,
        help=f"begin new shards of a stream so often (default: {SHARD_LIFE_S:.0f})",
    )
    parser.add_argument(
        "--feed-mb",
        metavar="MIB",
        type=_seconds(FEED_MB_MIN, FEED_MB_MAX, "MiB"),
        default=FEED_MB,
        help="keep so much of a partition's changes for streams, indexes and other regions that have not read them "
        f"(default: {FEED_MB:.0f})",
    )


def add_kinesis_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kinesis-endpoint",
        metavar="URL",
        type=_url,
        help="where Kinesis streaming destinations are; credentials are those of the AWS environment variables "
        "(default: no destination can be enabled)",
    )


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"a URL with http or https is expected, not {text!r}")
    return text


def _seconds(least: float, most: float, unit: str = "seconds") -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{unit} from {least:g} to {most:.0f} are expected, not {text!r}")
        return number

    return parse


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
