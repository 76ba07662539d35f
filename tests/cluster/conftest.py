"""One cluster of the default shape for all tests of this folder, and what they leave behind when they fail."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.clusters import Cluster, settings_of_the_sdk, tail
from tests.cluster.wiredclusters import Wired, wired_cluster

# The default topology with free ports. A router in each zone of the first region, because a router reads from its own
# zone: so the tests can ask every replica there.
TOPOLOGY = """
[global]
location = "us-east-1"

[regions.us-east-1]
routers = 3

[regions.eu-west-1]

[regions.ap-northeast-2]
"""
_started: list[Cluster] = []
_logs: list[Path] = []


@pytest.fixture(scope="session", autouse=True)
def _settings_of_the_sdk_are_its_own() -> Iterator[None]:
    with settings_of_the_sdk():
        yield


@pytest.fixture(scope="session")
def started_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("world") / "data", TOPOLOGY)
    _started.append(cluster)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def world(started_world: Cluster) -> Cluster:
    """Three regions of three zones, signatures on, default delays; all processes running at the start of the test."""
    stopped = [process.id for process in started_world.processes() if process.state == "stopped"]
    if stopped:
        started_world.start_processes(stopped)
    started_world.await_running()
    return started_world


@pytest.fixture(scope="session")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    """One region whose network a test can cut."""
    with wired_cluster(tmp_path_factory.mktemp("wired")) as wired:
        yield wired


@pytest.fixture
def keep_log() -> list[Path]:
    """Logs to show should the test fail."""
    _logs.clear()
    return _logs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        if "started_world" in getattr(item, "fixturenames", ()):
            report.sections += [("logs of the cluster", cluster.log_tails()) for cluster in _started]
        report.sections += [(f"log {file}", tail(file)) for file in _logs]
    return report
