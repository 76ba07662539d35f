"""`geodyne conflicts` on real processes: two regions that were apart name exactly the writes that lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table, make_global
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

EAST, WEST = REGIONS = ("us-east-1", "eu-west-1")
TOPOLOGY = "round_trip_ms = 0\n" + "".join(f'[regions.{name}]\nzones = ["a", "b", "c"]\n' for name in REGIONS)
TABLE = "disputed"
KEYS = 12


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "data", TOPOLOGY)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def command(cluster: Cluster, *words: str) -> dict[str, Any]:
    done = cluster.run(*words, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def losses(cluster: Cluster, *words: str) -> list[tuple[str, str, str]]:
    """(key, region, what it wrote) of each write that lost."""
    found = command(cluster, "conflicts", TABLE, *words)
    assert not found["untold"]
    assert not found["damaged"]
    return sorted((record["key"]["pk"]["S"], *_side(record["lost"])) for record in found["records"])


def _side(side: dict[str, Any]) -> tuple[str, str]:
    return side["region"], "deleted" if side["deleted"] else json.loads(side["image"])["by"]["S"]


def put(client: Any, key: str, by: str) -> None:
    client.put_item(TableName=TABLE, Item={"pk": {"S": key}, "by": {"S": by}})


def sees(client: Any, key: str, by: str) -> None:
    """Returns once the region has that write; "" stands for a deletion."""

    def seen() -> bool:
        item = client.get_item(TableName=TABLE, Key={"pk": {"S": key}}, ConsistentRead=True).get("Item")
        return item is None if not by else item is not None and item["by"]["S"] == by

    until(f"{key} by {by or 'nobody'} is there", seen)


def test_regions_that_were_apart_name_exactly_the_writes_that_lost(pair: Cluster) -> None:
    east, west = pair.client(EAST), pair.client(WEST)
    create_table(east, TABLE)
    make_global(pair, EAST, TABLE, REGIONS)
    put(east, "before the log", "east")
    assert command(pair, "conflicts", TABLE)["on"] == {EAST: False, WEST: False}
    command(pair, "conflicts", TABLE, "--on")
    until("both regions keep conflicts", lambda: command(pair, "conflicts", TABLE)["on"] == {EAST: True, WEST: True})
    # One after the other, each having seen the last: no conflict, whatever it is.
    put(east, "causal", "east")
    sees(west, "causal", "east")
    put(west, "causal", "west")
    sees(east, "causal", "west")
    put(west, "causal", "west again")
    sees(east, "causal", "west again")
    east.delete_item(TableName=TABLE, Key={"pk": {"S": "causal"}})
    sees(west, "causal", "")
    put(west, "causal", "west anew")
    put(west, "to be deleted", "west")
    sees(east, "to be deleted", "west")

    command(pair, "network", "cut", EAST, WEST)
    expected = []
    for number in range(KEYS):
        first, second = ((east, "east"), (west, "west"))[:: 1 if number % 2 else -1]
        key = f"key {number}"
        put(first[0], key, "overwritten at home")
        put(first[0], key, first[1])
        put(second[0], key, second[1])
        put(second[0], key, f"{second[1]} at last")
        expected.append((key, EAST if first[1] == "east" else WEST, first[1]))
        put(first[0], f"only {first[1]} {number}", first[1])
    east.delete_item(TableName=TABLE, Key={"pk": {"S": "to be deleted"}})
    put(west, "to be deleted", "west again")
    expected.append(("to be deleted", EAST, "deleted"))
    assert losses(pair) == []
    command(pair, "network", "heal")

    until("all losses are named", lambda: len(losses(pair)) >= len(expected), 30.0)
    put(east, "last", "east")
    put(west, "last of west", "west")
    sees(west, "last", "east")
    sees(east, "last of west", "west")
    assert losses(pair) == sorted(expected)
    assert losses(pair, "--region", EAST) == sorted(one for one in expected if one[1] == EAST)
    for node in (f"{EAST}/node-a", f"{WEST}/node-b"):
        pair.kill(node)
    pair.await_running()
    until("all nodes tell", lambda: not command(pair, "conflicts", TABLE)["untold"])
    assert losses(pair) == sorted(expected)
    command(pair, "conflicts", TABLE, "--off", "--purge")
    assert losses(pair) == []
