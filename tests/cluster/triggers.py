"""Functions and mappings as the cluster tests need them: what is registered, what was called, what was given up."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geodyne.settings import ADMIN_TOKEN_HEADER
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import until

STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}


def create_streamed_table(client: Any, name: str) -> str:
    """A table with the text key "pk" and a stream of both images; returns the stream's ARN."""
    made = client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification=STREAM,
    )
    client.get_waiter("table_exists").wait(TableName=name)
    arn: str = made["TableDescription"]["LatestStreamArn"]
    return arn


class PythonFunction:
    """`code`, which defines `handle`, as a function of a region's triggers, in a directory of its own."""

    def __init__(self, cluster: Cluster, directory: Path, name: str, code: str, *options: str) -> None:
        self.directory = directory
        self.name = name
        directory.mkdir()
        (directory / "handlers.py").write_text(code)
        where = ("--handler", "handlers:handle", "--path", str(directory))
        added = cluster.run("trigger", "function", "add", name, *where, *options)
        assert added.returncode == 0, added.stderr

    def lines(self, name: str) -> list[str]:
        """What the function has appended to that file; a line that is being written is left out."""
        file = self.directory / name
        return file.read_text().split("\n")[:-1] if file.exists() else []


class Triggers:
    """The event source mappings of a region."""

    def __init__(self, cluster: Cluster, region: str) -> None:
        self._cluster = cluster
        self._region = region

    def create(self, **members: Any) -> str:
        """A mapping that is Enabled; returns its UUID. As an operator: a directory may be its destination."""
        uuid: str = self._administer("CreateEventSourceMapping", members)["UUID"]
        until("the mapping is enabled", lambda: self.get(uuid)["State"] == "Enabled")
        return uuid

    def get(self, uuid: str) -> dict[str, Any]:
        return self._administer("GetEventSourceMapping", {"UUID": uuid})

    def update(self, uuid: str, **members: Any) -> None:
        self._administer("UpdateEventSourceMapping", {"UUID": uuid, **members})

    def delete(self, uuid: str) -> None:
        self._administer("DeleteEventSourceMapping", {"UUID": uuid})

    def _administer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        router = self._cluster.processes(self._region, "router")[0]
        call = {"operation": operation, "body": body}
        answer = json.loads(_exchange(router.metrics, "/admin/triggers", call, self._cluster.admin_token))
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    # --- the process that calls

    @property
    def process(self) -> str:
        """The id of the process that calls functions."""
        return f"{self._region}/delivery-1"

    def metrics(self) -> str:
        return _exchange(self._cluster.process(self.process).metrics, "/metrics")

    def status(self, uuid: str) -> dict[str, Any] | None:
        """What the process tells of a mapping; None while it does not run there, or the process is away."""
        try:
            report = json.loads(_exchange(self._cluster.process(self.process).metrics, "/status"))
        except (OSError, http.client.HTTPException):
            return None
        found: dict[str, Any] | None = report["mappings"].get(uuid)
        return found


def given_up(directory: Path) -> Iterator[dict[str, Any]]:
    """The records of all documents in a destination."""
    for file in directory.rglob("*"):
        if file.is_file() and not file.name.endswith(".new"):
            yield from json.loads(json.loads(file.read_text())["payload"])["Records"]


def _exchange(address: str, path: str, body: dict[str, Any] | None = None, token: str = "") -> str:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            headers = {"Content-Type": "application/json", ADMIN_TOKEN_HEADER: token}
            connection.request("POST", path, json.dumps(body), headers)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
