"""Global indexes of a running cluster: killed nodes lose them nothing, and a replica of a table has its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.clusters import Cluster, canonical
from tests.cluster.tables import REGIONS, make_global, with_clients
from tests.cluster.traffic import Traffic
from tests.cluster.waiting import until, until_none

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
INDEX = "by-group"
ITEMS = 60
GROUPS = 7
STEPS_BETWEEN_KILLS = 60


def create(client: Any, name: str, indexed: bool = True) -> None:
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}, *(DEFINITIONS if indexed else [])],
        BillingMode="PAY_PER_REQUEST",
        **({"GlobalSecondaryIndexes": [DEFINITION]} if indexed else {}),
    )
    until(f"{name} is ACTIVE", lambda: client.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")


DEFINITIONS = [{"AttributeName": "group", "AttributeType": "S"}, {"AttributeName": "n", "AttributeType": "N"}]
DEFINITION = {
    "IndexName": INDEX,
    "KeySchema": [{"AttributeName": "group", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}],
    "Projection": {"ProjectionType": "ALL"},
}


class Writer:
    """Items come, move between groups, leave the index and go."""

    def __init__(self, client: Any, table: str) -> None:
        self.client = client
        self.table = table

    def step(self, number: int) -> None:
        key = {"pk": {"S": f"item {number % ITEMS}"}}
        if number % 11 == 10:
            self.client.delete_item(TableName=self.table, Key=key)
            return
        item = {**key, "n": {"N": str(number)}}
        if number % 5:
            item["group"] = {"S": f"group {number % GROUPS}"}
        self.client.put_item(TableName=self.table, Item=item)


def entries(client: Any, table: str) -> list[str]:
    pages = client.get_paginator("scan").paginate(TableName=table, IndexName=INDEX)
    return sorted(canonical(item) for page in pages for item in page["Items"])


def indexed_items(client: Any, table: str) -> list[str]:
    pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return sorted(canonical(item) for page in pages for item in page["Items"] if "group" in item)


def await_index(client: Any, table: str) -> None:
    def difference() -> str | None:
        wanted, held = set(indexed_items(client, table)), set(entries(client, table))
        return None if wanted == held else f"lacks {sorted(wanted - held)[:3]}, still has {sorted(held - wanted)[:3]}"

    until_none(f"the index of {table} holds what its items say", difference)


def status_of(client: Any, table: str) -> str:
    indexes = client.describe_table(TableName=table)["Table"].get("GlobalSecondaryIndexes", [])
    return str(indexes[0]["IndexStatus"]) if indexes else ""


def test_an_index_follows_its_table_while_nodes_are_killed(world: Cluster) -> None:
    client = world.client(REGION)
    create(client, "indexed")
    with Traffic("writer", Writer(client, "indexed").step) as traffic:
        for node in [process.id for process in world.processes(REGION, "node")]:
            enough = traffic.steps + STEPS_BETWEEN_KILLS
            until("items are written", lambda enough=enough: traffic.check() and traffic.steps >= enough)
            world.kill(node)
            world.await_running()
    await_index(client, "indexed")
    client.close()


def test_an_index_is_filled_while_a_node_is_killed(world: Cluster) -> None:
    client = world.client(REGION)
    create(client, "filled", indexed=False)
    writer = Writer(client, "filled")
    for number in range(ITEMS):
        writer.step(number)
    client.update_table(
        TableName="filled", AttributeDefinitions=DEFINITIONS, GlobalSecondaryIndexUpdates=[{"Create": DEFINITION}]
    )
    world.kill(next(process.id for process in world.processes(REGION, "node")))
    until("the index is ACTIVE", lambda: status_of(client, "filled") == "ACTIVE")
    world.await_running()
    await_index(client, "filled")
    client.close()


def test_each_region_of_a_global_table_keeps_the_index_by_itself(world: Cluster) -> None:
    client = world.client(REGION)
    create(client, "everywhere")
    writer = Writer(client, "everywhere")
    for number in range(ITEMS):
        writer.step(number)
    make_global(world, REGION, "everywhere")

    def compare(clients: dict[str, Any]) -> None:
        Writer(clients[REGIONS[1]], "everywhere").step(1)
        for other in clients.values():
            await_index(other, "everywhere")
        until("all regions hold the same", lambda: len({str(entries(c, "everywhere")) for c in clients.values()}) == 1)

    with_clients(world, compare)
    client.close()


def test_an_index_that_is_added_in_one_region_comes_and_goes_in_all(world: Cluster) -> None:
    client = world.client(REGION)
    create(client, "later", indexed=False)
    writer = Writer(client, "later")
    for number in range(ITEMS):
        writer.step(number)
    make_global(world, REGION, "later")
    client.update_table(
        TableName="later", AttributeDefinitions=DEFINITIONS, GlobalSecondaryIndexUpdates=[{"Create": DEFINITION}]
    )

    def compare(clients: dict[str, Any]) -> None:
        for region, other in clients.items():
            until(f"the index is ACTIVE in {region}", lambda other=other: status_of(other, "later") == "ACTIVE")
            await_index(other, "later")
        removal = [{"Delete": {"IndexName": INDEX}}]
        clients[REGIONS[2]].update_table(TableName="later", GlobalSecondaryIndexUpdates=removal)
        for region, other in clients.items():
            until(f"the index is gone in {region}", lambda other=other: status_of(other, "later") == "")

    with_clients(world, compare)
    client.close()
