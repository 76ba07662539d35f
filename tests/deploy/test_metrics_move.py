"""The figures of the dashboard are kept, not only declared: a write moves each of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry

from geodyne.clock import SystemClock
from geodyne.rpc.local import LocalConnector
from geodyne.rpc.region import NodeAddress
from node import maintenance
from node.compose import NoPeers, open_node, single_node_place
from router.frontend import Frontend, FrontendSettings

BOUND_S = 20.0
ATTEMPTS_MAX = 10_000
TABLE = {
    "TableName": "items",
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}


def post(port: int, operation: str, body: Mapping[str, object]) -> None:
    headers = {"X-Amz-Target": f"DynamoDB_20120810.{operation}", "Content-Type": "application/x-amz-json-1.0"}
    with urlopen(Request(f"http://127.0.0.1:{port}/", json.dumps(body).encode(), headers), timeout=BOUND_S) as answer:
        assert answer.status == 200


def write(port: int) -> None:
    """Waits for the table by writing to it until that succeeds."""
    post(port, "CreateTable", TABLE)
    for attempt in range(ATTEMPTS_MAX):
        try:
            return post(port, "PutItem", {"TableName": "items", "Item": {"pk": {"S": "a"}}})
        except HTTPError:  # ResourceNotFoundException while the table is being made
            if attempt == ATTEMPTS_MAX - 1:
                raise


async def figures_after_a_write(directory: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    place = single_node_place("test", "here", directory)
    node = open_node(place, clock=SystemClock(), random=Random(1), registry=registry, fatal=pytest.fail)
    frontend = Frontend(
        FrontendSettings("here", "a", ("here",), None),
        [NodeAddress(place.node_id, "a", "")],
        LocalConnector({place.node_id: node.service}),
        clock=SystemClock(),
        incarnation=1,
        registry=registry,
    )
    node.start(NoPeers())
    try:
        port = await frontend.start("127.0.0.1", 0)
        await frontend.region.wait_ready()
        await asyncio.to_thread(write, port)
        while not registry.get_sample_value("geodyne_log_bytes"):  # noqa: ASYNC110 - a gauge tells nobody
            await asyncio.sleep(maintenance.INTERVAL_S / 2)
    finally:
        await frontend.stop()
        await node.stop()
    return registry


def test_a_write_moves_every_figure_that_a_node_and_a_router_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "INTERVAL_S", 0.02)
    registry = asyncio.run(asyncio.wait_for(figures_after_a_write(tmp_path), BOUND_S))
    for series in (
        "geodyne_leader_partitions",
        "geodyne_partitions",
        "geodyne_raft_term_changes_total",
        "geodyne_fsync_seconds_count",
        "geodyne_fsync_seconds_sum",
        "geodyne_applied_effects_total",
        "geodyne_log_bytes",
    ):
        assert registry.get_sample_value(series), series
    put = {"operation": "PutItem"}
    assert registry.get_sample_value("geodyne_requests_total", put | {"code": "OK"})
    assert registry.get_sample_value("geodyne_request_seconds_count", put)
