"""A node's clock is five minutes off under clients that never stop: it leads nothing until it is right."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster.clockup import set_clock
from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table
from tests.cluster.traffic import Attempts, Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "clocks"
OFF_S = 300.0
STEPS_MEANWHILE = 200


class Place(NamedTuple):
    cluster: Cluster
    folder: Path

    def set_clock(self, node: str, offset_s: float) -> None:
        set_clock(self.folder, node, offset_s)

    def led_by(self, node: str) -> int:
        return sum(entry["leader"] == node for entry in self.cluster.status()["partitions"])

    def clock(self, node: str) -> dict[str, Any]:
        clocks = self.cluster.status()["regions"][REGION]["clocks"]
        return dict(next((clock for clock in clocks if clock["node"] == node), {}))

    def metric(self, node: str, name: str) -> float:
        connection = http.client.HTTPConnection(self.cluster.process(node).metrics, timeout=10)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("clocks")

    def program(*arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "tests.cluster.clockup", str(folder), *arguments]

    cluster = Cluster(folder / "data", f"[regions.{REGION}]\n", program=program)
    try:
        cluster.start()
        client = cluster.client(REGION)
        create_table(client, TABLE)
        client.close()
        yield Place(cluster, folder)
    finally:
        cluster.close()


@pytest.fixture(autouse=True)
def _shows_the_logs(place: Place, keep_log: list[Path]) -> None:
    keep_log += sorted((place.cluster.data_dir / "logs").rglob("*.log"))


@pytest.mark.parametrize("off_s", [OFF_S, -OFF_S], ids=["ahead", "behind"])
def test_a_node_whose_clock_is_wrong_gives_away_what_it_leads_and_takes_it_back_when_it_is_right(
    place: Place, off_s: float
) -> None:
    client = place.cluster.client(REGION)
    attempts = Attempts(client)

    def step(number: int) -> None:
        client.put_item(TableName=TABLE, Item={"pk": {"S": f"item-{number % 40}"}, "n": {"N": str(number)}})

    partitions = place.cluster.status()["partitions"]
    wrong = next(entry["leader"] for entry in partitions if entry["table"] == TABLE)
    with Traffic("w", step) as writes:
        place.set_clock(wrong, off_s)
        until("it says so", lambda: writes.check() and place.clock(wrong).get("wrong"))
        assert place.clock(wrong)["offset_s"] == pytest.approx(off_s, abs=1)
        assert place.metric(wrong, "geodyne_clock_wrong") == 1
        assert place.metric(wrong, "geodyne_clock_offset_seconds") == pytest.approx(off_s, abs=1)
        until("it leads nothing", lambda: writes.check() and place.led_by(wrong) == 0)
        assert f"the clock of {wrong} is wrong" in place.cluster.run("status").stdout
        goal = writes.steps + STEPS_MEANWHILE
        until("writes go on", lambda: writes.check() and writes.steps >= goal)
        assert place.led_by(wrong) == 0
        place.set_clock(wrong, 0)
        until("it is right again", lambda: writes.check() and not place.clock(wrong)["wrong"])
        assert place.metric(wrong, "geodyne_clock_wrong") == 0
        until("it leads again", lambda: writes.check() and place.led_by(wrong) > 0)
    print(f"longest gap {writes.gap_s_max:.2f} s, attempts {dict(attempts.seen)}")
    client.close()
