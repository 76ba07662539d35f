"""A region of three zones whose processes reach each other through wires, and what is done with it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.cluster.clusters import Cluster
from tests.cluster.wires import Wires

REGION = "us-east-1"
TOPOLOGY = f"[regions.{REGION}]\nrouters = 3\n"


class Wired(NamedTuple):
    cluster: Cluster
    wires: Wires


@contextmanager
def wired_cluster(folder: Path, left_out: str = "none") -> Iterator[Wired]:
    """Started on the way in, gone on the way out. `left_out` is a rule of tests/cluster/sabotagednode.py that its nodes
    do not keep."""
    # Apart from `folder`: the path of a socket may have a hundred characters, and temporary folders are deep.
    sockets = Path(tempfile.mkdtemp(prefix="geodyne-wires-"))
    try:
        with Wires(sockets / "wires") as wires:

            def program(*arguments: str) -> list[str]:
                return [sys.executable, "-P", "-m", "tests.cluster.wiredup", str(wires.path), left_out, *arguments]

            cluster = Cluster(folder / "data", TOPOLOGY, program=program)
            try:
                cluster.start()
                yield Wired(cluster, wires)
            finally:
                cluster.close()
    finally:
        shutil.rmtree(sockets)
