"""A replica leaves a global table under writes: its rows stay, the others have all it had, and are alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table, make_global
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TOPOLOGY = """
[regions.us-east-1]
zones = ["a"]

[regions.eu-west-1]
zones = ["a"]

[regions.ap-northeast-2]
zones = ["a"]
"""
HOME, LEAVES, STAYS = REGIONS = ("us-east-1", "eu-west-1", "ap-northeast-2")
TABLE = "leaving"
LEAVE_S_MAX = 60.0  # it waits for versions 11 s ahead, twice


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("leaving") / "data", TOPOLOGY)
    try:
        cluster.start()
        home = cluster.client(HOME)
        create_table(home, TABLE)
        make_global(cluster, HOME, TABLE, REGIONS)
        home.close()
        yield cluster
    finally:
        cluster.close()


def items(client: Any) -> dict[str, str]:
    pages = client.get_paginator("scan").paginate(TableName=TABLE)
    return {item["pk"]["S"]: item["v"]["S"] for page in pages for item in page["Items"]}


def described(client: Any) -> tuple[str, list[str]]:
    table = client.describe_table(TableName=TABLE)["Table"]
    return table["TableStatus"], [replica["RegionName"] for replica in table.get("Replicas", [])]


def test_a_replica_leaves_under_writes_and_the_others_have_all_it_had(regions: Cluster) -> None:
    home, leaves, stays = (regions.client(region) for region in REGIONS)
    written = 0
    asked = threading.Event()
    stop = threading.Event()

    def write() -> None:
        nonlocal written
        number = 0
        while not stop.is_set():
            item = {"pk": {"S": f"{number % 500}"}, "v": {"S": f"{number}"}}
            leaves.put_item(TableName=TABLE, Item=item)
            number += 1
            if not asked.is_set():
                written = number

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until("there is something to leave with", lambda: written > 200)
        leaves.update_table(TableName=TABLE, DisassociationProtectionEnabled=False)
        leaves.get_waiter("table_exists").wait(TableName=TABLE)
        leave = {"Disassociate": {"RegionName": LEAVES, "DisassociationMode": "WAIT_FOR_REPLICATION"}}
        answer = leaves.update_table(TableName=TABLE, ReplicaUpdates=[leave])
        asked.set()
        before = written
        assert answer["TableDescription"]["TableStatus"] == "UPDATING"
        with pytest.raises(leaves.exceptions.ResourceInUseException):
            leaves.delete_table(TableName=TABLE)
        until("it has left", lambda: described(leaves) == ("ACTIVE", []), LEAVE_S_MAX)
    finally:
        stop.set()
        writer.join()
    for client, other in ((home, STAYS), (stays, HOME)):
        until("the others are a global table of two", partial(_is_of_two, client, other))
    until("the others are alike", lambda: items(home) == items(stays))
    there, here = items(home), items(leaves)
    assert set(there) == set(here)
    newest = max(int(value) for value in there.values())
    assert newest >= before - 1, "what was written before it was asked to leave is there"
    assert newest < max(int(value) for value in here.values()), "what it wrote as a table of its own is not"
    home.put_item(TableName=TABLE, Item={"pk": {"S": "after"}, "v": {"S": "0"}})
    until("the others replicate", lambda: "after" in items(stays))
    assert "after" not in items(leaves)
    for client in (home, leaves, stays):
        client.close()


def _is_of_two(client: Any, other: str) -> bool:
    return described(client) == ("ACTIVE", [other])
