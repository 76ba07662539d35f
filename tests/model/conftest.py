"""The regions that the sequences are performed on: one process, and three zones of real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.service import endpoint
from tests.cluster.clusters import Cluster
from tests.model.outcomes import Region

TOPOLOGY = """
[global]
location = "us-east-1"

[regions.us-east-1]
"""


@pytest.fixture(scope="package")
def single_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """Router and node in one process."""
    with endpoint(tmp_path_factory.mktemp("model")) as url:
        region = Region(url)
        yield region
        region.close()


@pytest.fixture(scope="package")
def three_zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """A router and three nodes, each a process."""
    cluster = Cluster(tmp_path_factory.mktemp("model-zones") / "data", TOPOLOGY, "--auth", "off")
    try:
        cluster.start()
        cluster.await_running()
        region = Region(cluster.endpoint("us-east-1"))
        yield region
        region.close()
    finally:
        cluster.close()
