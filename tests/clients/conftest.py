"""One cluster of one region and three zones, signatures on, for all clients; and what it leaves behind on failure."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from tests.clients.tables import definition
from tests.cluster.clusters import NO_PROFILE, Cluster, settings_of_the_sdk

REGION = "us-east-1"
TOPOLOGY = f"""
[global]
location = "{REGION}"

[regions.{REGION}]
"""
_started: list[Cluster] = []


@pytest.fixture(scope="session", autouse=True)
def _settings_of_the_clients_are_their_own() -> Iterator[None]:
    with settings_of_the_sdk():
        yield


@pytest.fixture(scope="package")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running region of three zones."""
    cluster = Cluster(tmp_path_factory.mktemp("clients") / "data", TOPOLOGY)
    _started.append(cluster)
    try:
        cluster.start()
        cluster.await_running()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="package")
def endpoint(region: Cluster) -> str:
    return region.endpoint(REGION)


@pytest.fixture(scope="package")
def client(region: Cluster) -> Iterator[Any]:
    """boto3's client with its own settings."""
    client = region.client(REGION)
    yield client
    client.close()


@pytest.fixture(scope="package")
def environment(region: Cluster, endpoint: str) -> dict[str, str]:
    """The variables by which every AWS client finds endpoint, region and keys."""
    keys = region.keys
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        "AWS_CONFIG_FILE": NO_PROFILE,
        "AWS_SHARED_CREDENTIALS_FILE": NO_PROFILE,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def make_table(client: Any) -> Iterator[Callable[..., str]]:
    """Makes tables (tests.clients.tables.definition) and deletes them at the end of the module."""
    made: list[str] = []

    def make(*arguments: Any, **options: Any) -> str:
        name = f"clients-{secrets.token_hex(4)}"
        client.create_table(TableName=name, **definition(*arguments, **options))
        made.append(name)
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        return name

    yield make
    for name in made:
        client.delete_table(TableName=name)


@pytest.fixture(scope="module")
def table(make_table: Callable[..., str]) -> str:
    """Keys "pk" and "sk", strings."""
    return make_table()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "region" in getattr(item, "fixturenames", ()):
        report.sections += [("logs of the cluster", cluster.log_tails()) for cluster in _started]
    return report
