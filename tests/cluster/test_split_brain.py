"""Two regions take writes to the same items while nothing flows between them; then they find each other again."""

from __future__ import annotations

import random
import time
from typing import Any, NamedTuple

import pytest

from tests.cluster.clusters import Cluster, canonical
from tests.cluster.tables import REGIONS, await_same_everywhere, contents, create_table, make_global, with_clients
from tests.cluster.traffic import Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TABLE = "split-brain"
KEYS = 80
STEPS = 400
REPLICATORS = [f"{region}/replicator-1" for region in REGIONS]


class Done(NamedTuple):
    """A write that was acknowledged: it took its time from the clock between `began_ns` and `ended_ns`."""

    began_ns: int
    ended_ns: int
    image: str | None  # canonical item; None for a delete


class Writer:
    """Puts, updates and deletes the same keys as its counterpart elsewhere; knows the last that it did to each."""

    def __init__(self, client: Any, region: str, seed: int) -> None:
        self.client = client
        self.region = region
        self.last: dict[str, Done] = {}
        self._random = random.Random(seed)

    def step(self, number: int) -> None:
        name = f"item-{self._random.randrange(KEYS)}"
        key = {"pk": {"S": name}}
        chance = self._random.random()
        began_ns = time.time_ns()
        image: str | None = None
        if chance < 0.3:
            deleted = self.client.delete_item(TableName=TABLE, Key=key, ReturnValues="ALL_OLD")
            if "Attributes" not in deleted:
                return  # a delete that finds nothing changes nothing, and there is nothing to replicate
        elif chance < 0.6:
            updated = self.client.update_item(
                TableName=TABLE,
                Key=key,
                UpdateExpression="SET updated_by = :region ADD n :n",
                ExpressionAttributeValues={":region": {"S": self.region}, ":n": {"N": str(number)}},
                ReturnValues="ALL_NEW",
            )
            image = canonical(updated["Attributes"])
        else:
            item = {**key, "put_by": {"S": self.region}, "n": {"N": str(number)}, "list": {"L": [{"BOOL": True}]}}
            self.client.put_item(TableName=TABLE, Item=item)
            image = canonical(item)
        self.last[name] = Done(began_ns, time.time_ns(), image)


def later(one: Done | None, other: Done | None) -> Done | None:
    """Which of two regions' last writes of an item must win; None where they overlap and either may."""
    if one is None or other is None:
        return one or other
    if one.ended_ns < other.began_ns:
        return other
    return one if other.ended_ns < one.began_ns else None


def test_regions_that_wrote_apart_converge_to_the_later_writes(world: Cluster) -> None:
    home = world.client("us-east-1")
    create_table(home, TABLE)
    for number in range(0, KEYS, 2):
        home.put_item(TableName=TABLE, Item={"pk": {"S": f"item-{number}"}, "n": {"N": "0"}})
    make_global(world, "us-east-1", TABLE)
    with_clients(world, _assert_backfilled)

    world.stop_processes(REPLICATORS)
    ireland = world.client("eu-west-1")
    writers = [Writer(home, "us-east-1", seed=3), Writer(ireland, "eu-west-1", seed=4)]
    with Traffic("us-east-1", writers[0].step) as one, Traffic("eu-west-1", writers[1].step) as other:
        until("both have written", lambda: one.check() and other.check() and min(one.steps, other.steps) >= STEPS)
    apart = contents(home, TABLE) != contents(ireland, TABLE)
    world.start_processes(REPLICATORS)

    def compare(clients: dict[str, Any]) -> None:
        items = await_same_everywhere(clients, TABLE)
        assert_later_writes_won(writers[0].last, writers[1].last, items)

    with_clients(world, compare)
    assert apart, "the regions never differed: replication was not stopped"
    for client in (home, ireland):
        client.close()


def _assert_backfilled(clients: dict[str, Any]) -> None:
    assert len(await_same_everywhere(clients, TABLE)) == KEYS // 2


def assert_later_writes_won(one: dict[str, Done], other: dict[str, Done], items: dict[tuple[str, ...], str]) -> None:
    decided = wins = deletes = 0
    for name in sorted({*one, *other}):
        expected = later(one.get(name), other.get(name))
        if expected is None:
            continue
        decided += 1
        wins += expected is one.get(name)
        deletes += expected.image is None
        assert items.get((canonical({"S": name}),)) == expected.image, name
    print(f"{decided} of {KEYS} items decided by time: {wins} for the one region; {deletes} of them deletes")
    assert decided > KEYS // 2
    assert 0 < wins < decided
    assert deletes > 0
