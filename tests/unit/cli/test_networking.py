"""`geodyne network`: what it asks for, what the supervisor makes of it, keeps and tells, and what is shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli import __main__ as cli
from geodyne.cli import control, datadir, probe
from geodyne.cli.child import Child
from geodyne.cli.errors import EXIT_OK, CommandError
from geodyne.cli.networking import Networking
from geodyne.cli.probe import Answer
from geodyne.network import Cut, LinkQuality, NetworkState, Pause, state_from
from geodyne.topology import GLOBAL, parse

EAST, WEST, SEOUL = REGIONS = ("us-east-1", "eu-west-1", "ap-northeast-2")
TOPOLOGY = parse("round_trip_ms = 80\n" + "".join(f"[regions.{name}]\n" for name in REGIONS))


class Told:
    """Stands for the processes: who was told what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[str, NetworkState] = {}
        self.silent: set[str] = set()
        monkeypatch.setattr(probe, "administer", self.administer)

    async def administer(self, address: str, call: str, body: dict[str, Any], *_: object) -> Answer | None:
        if call == "writes":
            return Answer(200, json.dumps({"error": f"there is no table {body['table']}"}).encode())
        assert call == "network"
        if address in self.silent:
            return None
        self.states[address] = state_from(body)
        return Answer(200, json.dumps({"result": body}).encode())


class Cluster:
    """The supervisor's part, with children that were never started."""

    def __init__(self, told: Told, file: Path) -> None:
        self.told = told
        self.file = file
        addresses = {process.id: f"{process.id}:1" for process in TOPOLOGY.processes()}
        self.topology = TOPOLOGY.resolved(addresses, addresses)
        self.networking = Networking(self.topology, file)

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        async def main() -> dict[str, Any]:
            children = {p.id: Child(p, (), self.file) for p in self.topology.processes()}
            return await self.networking.administer(children, {"operation": operation, **request})

        return asyncio.run(main())

    @property
    def state(self) -> NetworkState:
        return self.networking.state


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(Told(monkeypatch), tmp_path / "network.json")


def test_replicators_and_the_global_endpoint_are_told_and_no_others(cluster: Cluster) -> None:
    answer = cluster.ask("cut", one=EAST, other=WEST)
    assert answer["untold"] == []
    assert set(cluster.told.states) == {*(f"{name}/replicator-1:1" for name in REGIONS), f"{GLOBAL}/router-1:1"}
    assert all(state == cluster.state for state in cluster.told.states.values())


def test_what_is_asked_is_kept_for_processes_that_start_later_and_forgotten_by_a_new_start(cluster: Cluster) -> None:
    cluster.told.silent.add(f"{WEST}/replicator-1:1")
    assert cluster.ask("cut", one=EAST, other=WEST)["untold"] == [f"{WEST}/replicator-1"]
    assert state_from(json.loads(cluster.file.read_text())) == cluster.state
    Networking(TOPOLOGY, cluster.file).forget()
    assert not cluster.file.exists()


def test_a_change_that_cannot_be_kept_is_not_made(cluster: Cluster) -> None:
    no_folder = cluster.file.with_name("run")
    no_folder.write_text("")
    cluster.file = no_folder / "network.json"
    cluster.networking = Networking(TOPOLOGY, cluster.file)
    with pytest.raises(CommandError, match="nothing has changed"):
        cluster.ask("cut", one=EAST, other=WEST)
    assert cluster.state == NetworkState()
    assert not cluster.told.states


@pytest.mark.parametrize(
    ("request_", "cuts"),
    [
        ({"one": EAST, "other": WEST}, {(EAST, WEST), (WEST, EAST)}),
        ({"one": EAST, "other": WEST, "one_way": True}, {(EAST, WEST)}),
        ({"one": EAST, "other": GLOBAL}, {(EAST, GLOBAL), (GLOBAL, EAST)}),
        ({"one": EAST, "one_way": True}, {(EAST, WEST), (EAST, SEOUL), (EAST, GLOBAL)}),
    ],
)
def test_partitions_of_any_shape_are_cuts(cluster: Cluster, request_: dict[str, Any], cuts: set[Any]) -> None:
    shown = cluster.ask("cut", **request_)["cuts"]
    assert {(cut["from"], cut["to"]) for cut in shown} == cuts
    assert all(cut["seconds_left"] is None for cut in shown)
    assert cluster.ask("heal")["cuts"] == []


def test_cuts_and_pauses_say_how_long_they_will_last(cluster: Cluster) -> None:
    assert cluster.ask("cut", one=EAST, other=WEST, one_way=True, seconds=60)["cuts"][0]["seconds_left"] == 60
    [pause] = cluster.ask("pause", table="t", seconds=3_600)["pauses"]
    assert pause == {"table": "t", "region": None, "seconds_left": 3_600}
    assert cluster.ask("pause", table="t", region=WEST, seconds=5)["pauses"][1]["region"] == WEST
    assert [one["region"] for one in cluster.ask("resume", table="t", region=WEST)["pauses"]] == [None]
    assert cluster.ask("resume", table="t")["pauses"] == []


def test_a_pause_of_a_table_that_no_region_has_is_refused(cluster: Cluster) -> None:
    async def main() -> None:
        children = {process.id: Child(process, (), cluster.file) for process in cluster.topology.processes()}
        for child in children.values():
            child.ready.set()
        with pytest.raises(CommandError, match="no region has a table misspelt"):
            await cluster.networking.administer(children, {"operation": "pause", "table": "misspelt", "seconds": 5})

    asyncio.run(main())
    assert cluster.state == NetworkState()


def test_only_what_is_named_of_a_path_changes(cluster: Cluster) -> None:
    cluster.ask("set", one=EAST, other=WEST, quality={"loss": 0.1})
    assert cluster.state.qualities == {frozenset((EAST, WEST)): LinkQuality(80, loss=0.1)}
    paths = cluster.ask("set", one=WEST, other=EAST, quality={"jitter_ms": 3})["paths"]
    assert [(path["jitter_ms"], path["loss"], path["changed"]) for path in paths] == [
        (3, 0.1, True),
        (0, 0, False),
        (0, 0, False),
    ]


def test_what_is_over_is_shown_no_more(cluster: Cluster) -> None:
    cluster.networking.state = NetworkState(cuts=(Cut(EAST, WEST, 1),), pauses=(Pause("t", "", 1),))
    answer = cluster.ask("show")
    assert (answer["cuts"], answer["pauses"]) == ([], [])
    assert not cluster.told.states


@pytest.mark.parametrize(
    ("operation", "request_", "text"),
    [
        ("cut", {"one": "mars", "other": EAST}, "'mars' is not one of"),
        ("cut", {"one": EAST, "other": EAST}, "no path from a region to itself"),
        ("cut", {"one": EAST, "seconds": 0}, "a duration is more than 0"),
        ("cut", {"one": EAST, "seconds": float("nan")}, "a duration is more than 0"),
        ("set", {"one": EAST, "other": GLOBAL, "quality": {"loss": 0.1}}, "'global' is not one of"),
        ("set", {"one": EAST, "other": WEST, "quality": {"loss": 2}}, "loss must be a number"),
        ("pause", {"table": "t"}, "a duration is"),
        ("pause", {"table": "t", "seconds": 12 * 3_600 + 1}, "at most 43200 seconds"),
        ("pause", {"table": "", "seconds": 5}, "a table's name"),
        ("pause", {"table": "t", "region": GLOBAL, "seconds": 5}, "'global' is not one of"),
        ("sink", {}, "the operation must be"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(
    cluster: Cluster, operation: str, request_: dict[str, Any], text: str
) -> None:
    with pytest.raises(CommandError, match=text):
        cluster.ask(operation, **request_)
    assert cluster.state == NetworkState()
    assert not cluster.file.exists()


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def asked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command asks, answered by the supervisor's part."""
    requests: list[dict[str, Any]] = []

    def call(_control: str, request: dict[str, Any], _seconds: float) -> dict[str, Any]:
        requests.append(request)
        return cluster.ask(**{name: value for name, value in request.items() if name != "command"})

    monkeypatch.setattr(control, "call", call)
    monkeypatch.setattr(datadir, "running_control", lambda _directory: "here")
    return requests


def test_faults_are_shown_in_words_and_as_json(asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["cut", EAST, WEST, "--one-way", "--for", "60"],
        ["pause-replication", "orders", "--region", SEOUL, "--for", "90"],
        ["set", EAST, WEST, "--round-trip-ms", "150", "--bandwidth-mbit", "20"],
    ):
        assert cli.main(["network", *words]) == EXIT_OK
    shown = capsys.readouterr().out.rpartition("between")[2]
    for text in (
        "150 ms",
        "20 Mbit/s",
        "changed",
        f"cut: {EAST} to {WEST}, 60 s left",
        f"paused: replication of orders to and from {SEOUL}, 90 s left",
    ):
        assert text in shown
    assert cli.main(["network", "show", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["cuts"][0]["from"] == EAST
    assert asked[0] == {
        "command": "network",
        "operation": "cut",
        "one": EAST,
        "other": WEST,
        "one_way": True,
        "seconds": 60.0,
    }


def test_a_change_of_nothing_and_a_pause_without_end_are_refused(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["network", "set", EAST, WEST]) != EXIT_OK
    assert "nothing to set" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["network", "pause-replication", "orders"])
    assert "--for" in capsys.readouterr().err
    assert asked == []
