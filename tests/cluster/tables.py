"""Tables as the tests need them: made through the SDK, waited for, compared over regions."""

from __future__ import annotations

import difflib
import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from tests.cluster.clusters import Cluster, canonical
from tests.cluster.waiting import until, until_none

REGIONS = ("us-east-1", "eu-west-1", "ap-northeast-2")


def create_table(client: Any, name: str, sort_key: str | None = None, hash_key: str = "pk") -> None:
    """A table with text keys, ready for use."""
    keys = [(hash_key, "HASH")] + ([(sort_key, "RANGE")] if sort_key else [])
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    until(f"{name} is ACTIVE", lambda: client.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")


def make_global(cluster: Cluster, home: str, name: str, regions: Sequence[str] = REGIONS) -> None:
    """Add replicas in all other regions, as UpdateTable does it: one at a time; ready when every region says so."""
    client = cluster.client(home)
    for region in regions:
        if region != home:
            client.update_table(TableName=name, ReplicaUpdates=[{"Create": {"RegionName": region}}])
            until(f"{home} is ready for the next replica", lambda: _settled(client, name))
    client.close()
    for region in regions:
        other = cluster.client(region)
        until(f"{name} is settled in {region}", partial(_settled, other, name, len(regions)))
        other.close()


def _settled(client: Any, name: str, replicas: int = 0) -> bool:
    try:
        table = client.describe_table(TableName=name)["Table"]
    except client.exceptions.ResourceNotFoundException:
        return False
    members = table.get("Replicas", [])
    active = all(member["ReplicaStatus"] == "ACTIVE" for member in members)
    # A region lists the other replicas, as DynamoDB does, or all of them.
    return table["TableStatus"] == "ACTIVE" and active and len(members) >= replicas - 1


class Partition(NamedTuple):
    id: int
    leader: str
    replicas: tuple[str, ...]


def partition_with_items(cluster: Cluster, region: str, table: str) -> Partition | None:
    """The first partition of the table that holds anything, by what the nodes tell of those that they lead."""
    for node in cluster.processes(region, "node"):
        for partition in process_status(node.metrics)["partitions"]:
            if partition["table"] == table and partition["items"] and partition["leader"]:
                return Partition(partition["id"], partition["leader"], tuple(partition["replicas"]))
    return None


def partition_terms(cluster: Cluster, region: str, table: str) -> dict[int, int]:
    """The newest term that any node of the region knows of, by partition of the table."""
    terms: dict[int, int] = {}
    for node in cluster.processes(region, "node"):
        for partition in process_status(node.metrics)["partitions"]:
            if partition["table"] == table:
                terms[partition["id"]] = max(terms.get(partition["id"], 0), partition["term"])
    return terms


def process_status(metrics: str) -> dict[str, Any]:
    """What a process tells on its metrics page, host:port; nobody else is asked."""
    connection = http.client.HTTPConnection(metrics, timeout=10)
    try:
        connection.request("GET", "/status")
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def contents(client: Any, name: str, keys: Sequence[str] = ("pk",)) -> dict[tuple[str, ...], str]:
    """All items by key, as canonical text, strongly read."""
    found: dict[tuple[str, ...], str] = {}
    for page in client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True):
        for item in page["Items"]:
            key = tuple(canonical(item[part]) for part in keys)
            assert key not in found, f"Scan returned {key} twice"
            found[key] = canonical(item)
    return found


def await_same_everywhere(
    clients: Mapping[str, Any], name: str, keys: Sequence[str] = ("pk",), seconds_max: float = 90.0
) -> dict[tuple[str, ...], str]:
    """Until a strong scan of every region gives the same items, byte for byte; returns them."""
    last: dict[str, dict[tuple[str, ...], str]] = {}

    def difference() -> str | None:
        last.update({region: contents(client, name, keys) for region, client in clients.items()})
        (first, reference), *others = last.items()
        for region, items in others:
            if items != reference:
                return f"{region} differs from {first}: {_first_lines(reference, items)}"
        return None

    until_none(f"all regions hold the same items of {name}", difference, seconds_max)
    return next(iter(last.values()))


def _first_lines(one: Mapping[tuple[str, ...], str], other: Mapping[tuple[str, ...], str]) -> str:
    lines = difflib.unified_diff(sorted(one.values()), sorted(other.values()), lineterm="", n=0)
    return "; ".join(line for _, line in zip(range(8), lines, strict=False))


def with_clients(cluster: Cluster, act: Callable[[dict[str, Any]], None], regions: Sequence[str] = REGIONS) -> None:
    """Call `act` with a client of each region, closed afterwards."""
    clients = {region: cluster.client(region) for region in regions}
    try:
        act(clients)
    finally:
        for client in clients.values():
            client.close()
