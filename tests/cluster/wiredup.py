"""`geodyne up` on the wires of a test: `python -m tests.cluster.wiredup SOCKET RULE up ...`; RULE is what its nodes
leave out (tests/cluster/sabotagednode.py), or "none".

Everything is the real thing but for the addresses: in the launch file of each process the others have those of
forwarders that lead to them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geodyne.cli import launch
from geodyne.cli.__main__ import build_parser
from geodyne.cli.cluster import run_cluster
from geodyne.settings import load, save
from geodyne.topology import ROLE_NODE, ProcessSpec
from tests.cluster.wires import ask


def main(argv: Sequence[str]) -> int:
    wires, left_out, *command = argv

    def command_line(spec: ProcessSpec, launch_file: Path) -> Sequence[str]:
        _send_through(Path(wires), spec, launch_file)
        usual = launch.command_line(spec, launch_file)
        if spec.role != ROLE_NODE or left_out == "none":
            return usual
        return [*usual[: usual.index("-m") + 1], "tests.cluster.sabotagednode", left_out, "--config", str(launch_file)]

    return run_cluster(build_parser().parse_args(command), command_line)


def _send_through(wires: Path, spec: ProcessSpec, launch_file: Path) -> None:
    config = load(launch_file)

    def through(other: ProcessSpec) -> ProcessSpec:
        if other.id == spec.id or other.role != ROLE_NODE:
            return other
        command = {"do": "via", "dialer": spec.id, "target": other.id, "address": other.address}
        return replace(other, address=str(ask(wires, command)))

    regions = {
        name: replace(region, nodes=tuple(through(node) for node in region.nodes))
        for name, region in config.topology.regions.items()
    }
    save(replace(config, topology=replace(config.topology, regions=regions)), launch_file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
