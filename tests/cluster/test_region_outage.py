"""A whole region dies under load and comes back: nothing is lost, and the global endpoint serves throughout."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import Any

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.tables import REGIONS, await_same_everywhere, create_table, make_global, with_clients
from tests.cluster.traffic import Attempts, RegionWriter, Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TABLE = "region-outage"
LOST = "us-east-1"  # the region nearest to the global endpoint
STEPS_AROUND = 50  # of each writer, before, during and after the outage


class GlobalUser:
    """Writes and reads through the global endpoint and notes which region answered."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.written: list[str] = []
        self.regions: Counter[str] = Counter()
        self.reasons: set[tuple[str, str]] = set()
        self.last_region = ""

    def step(self, number: int) -> None:
        name = f"global-{number}"
        put = self.client.put_item(TableName=TABLE, Item={"pk": {"S": name}, "n": {"N": str(number)}})
        self._note(put)
        self.written.append(name)
        self._note(self.client.get_item(TableName=TABLE, Key={"pk": {"S": name}}))

    def _note(self, answer: dict[str, Any]) -> None:
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        self.last_region = headers["x-geodyne-region"]
        self.reasons.add((self.last_region, headers["x-geodyne-reason"]))
        self.regions[self.last_region] += 1


def lose_the_region(cluster: Cluster) -> list[str]:
    """SIGKILL all its processes, and keep the supervisor from starting them again; returns their ids."""
    processes = cluster.processes(LOST)
    for process in processes:
        cluster.signal(process, signal.SIGKILL)
    ids = [process.id for process in processes]
    cluster.stop_processes(ids)
    return ids


def test_a_lost_region_comes_back_with_what_the_others_have_and_the_global_endpoint_serves_throughout(
    world: Cluster,
) -> None:
    home = world.client(LOST)
    create_table(home, TABLE)
    make_global(world, LOST, TABLE)
    home.close()
    clients = [world.client("eu-west-1"), world.client("ap-northeast-2")]
    ireland = RegionWriter(clients[0], TABLE, "eu-west-1", seed=1)
    seoul = RegionWriter(clients[1], TABLE, "ap-northeast-2", seed=2)
    user = GlobalUser(world.global_client())
    attempts = Attempts(user.client)
    with (
        Traffic("eu-west-1", ireland.step) as in_ireland,
        Traffic("ap-northeast-2", seoul.step) as in_seoul,
        Traffic("global", user.step) as everywhere,
    ):

        def all_go_on(what: str, region: str | None = None) -> None:
            goals = [(traffic, traffic.steps + STEPS_AROUND) for traffic in (in_ireland, in_seoul)]
            until(what, lambda: everywhere.check() and all(t.check() and t.steps >= goal for t, goal in goals))
            if region is not None:
                until(f"{region} answers", lambda: everywhere.check() and user.last_region == region)

        all_go_on("all write", LOST)
        lost = lose_the_region(world)
        all_go_on("the other regions write on", "eu-west-1")
        during = dict(user.regions)
        world.start_processes(lost)
        all_go_on("all write again", LOST)
    print(
        f"answered by {dict(user.regions)} (at the end of the outage {during}); attempts {dict(attempts.seen)}; "
        f"longest gap of the global endpoint {everywhere.gap_s_max:.2f} s; "
        f"rows {len(ireland.own)} {len(seoul.own)} {len(user.written)}"
    )
    assert user.reasons == {(LOST, "nearest"), ("eu-west-1", f"fail-over from {LOST}")}
    world.await_running()

    def compare(everyone: dict[str, Any]) -> None:
        began = time.monotonic()
        items = await_same_everywhere(everyone, TABLE)
        print(f"the same {len(items)} items everywhere {time.monotonic() - began:.1f} s after the last write")
        held = {key for (key,) in items}
        missing = [name for name in (*ireland.own, *seoul.own, *user.written) if f'{{"S": "{name}"}}' not in held]
        assert missing == []

    with_clients(world, compare, REGIONS)
    for client in (*clients, user.client):
        client.close()
