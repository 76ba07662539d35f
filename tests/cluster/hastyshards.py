"""`geodyne up` whose nodes give streams new shards every few seconds instead of every few hours:
`python -m tests.cluster.hastyshards up ...`. It runs its nodes as `python -m tests.cluster.hastyshards --config FILE`."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

from geodyne.cli import launch
from geodyne.cli.__main__ import build_parser
from geodyne.cli.cluster import run_cluster
from geodyne.topology import ROLE_NODE, ProcessSpec
from node.feed.retention import FeedSettings

SHARD_LIFE_S = 4.0
LOOK_MS = 1_000


def command_line(spec: ProcessSpec, launch_file: Path) -> Sequence[str]:
    usual = launch.command_line(spec, launch_file)
    if spec.role != ROLE_NODE:
        return usual
    return [*usual[: usual.index("-m") + 1], "tests.cluster.hastyshards", "--config", str(launch_file)]


if __name__ == "__main__":
    if sys.argv[1] == "up":
        sys.exit(run_cluster(build_parser().parse_args(sys.argv[1:]), command_line))
    hasty = partial(FeedSettings, shard_life_s=SHARD_LIFE_S)
    with patch("node.compose.FeedSettings", hasty), patch("node.feed.duty.LOOK_MS", LOOK_MS):
        runpy.run_module("node", run_name="__main__")
