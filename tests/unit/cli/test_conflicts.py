"""`geodyne conflicts`: what the supervisor makes of the nodes' answers, and how they read."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from geodyne.cli import conflicting, probe
from geodyne.cli.__main__ import main
from geodyne.cli.child import Child
from geodyne.cli.conflicts import as_text, since_us
from geodyne.cli.errors import CommandError
from geodyne.cli.probe import Answer
from geodyne.topology import parse

EAST, WEST = "us-east-1", "eu-west-1"
_SHAPE = parse(f'[regions.{EAST}]\nzones = ["a", "b", "c"]\n[regions.{WEST}]\nzones = ["a"]\n')
_ADDRESSES = {process.id: process.id for process in _SHAPE.processes()}
TOPOLOGY = _SHAPE.resolved(_ADDRESSES, _ADDRESSES)
PAGE = 3


class FakeChild:
    def __init__(self, ready: bool = True) -> None:
        self.ready = asyncio.Event()
        if ready:
            self.ready.set()


def record(number: int, region: str = EAST, perhaps: bool = False) -> dict[str, Any]:
    side = {"region": region, "time_us": number, "deleted": False, "image": f'{{"n":{number}}}', "image_bytes": 9}
    return {
        "at": [number, f"{number:02x}", "00", "01"],
        "key": {"pk": {"S": f"p{number}"}},
        "seen_us": number,
        "perhaps": perhaps,
        "lost": side,
        "won": {**side, "region": WEST, "deleted": True, "image": None},
    }


class Processes:
    """What each process has, and what it was asked."""

    def __init__(
        self, kept: Mapping[str, list[int]], silent: tuple[str, ...] = (), without: tuple[str, ...] = ()
    ) -> None:
        """`silent` processes do not answer; regions `without` the table have it nowhere."""
        self.kept = kept
        self.silent = silent
        self.without = without
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def administer(self, address: str, call: str, body: dict[str, Any], token: str, _: float) -> Answer | None:
        assert (call, token, body["table"]) == ("conflicts", "secret", "T")
        self.asked.append((address, body))
        if address in self.silent:
            return None
        if address.partition("/")[0] in self.without:
            return Answer(200, b'{"error": "there is no such table"}')
        if "replicator" in address:
            result: dict[str, Any] = {"region": address.partition("/")[0], "on": body.get("on", True)}
        elif body["operation"] == "purge":
            result = {"node": address}
        else:
            result = self._page(address, body)
        return Answer(200, json.dumps({"result": result}).encode())

    def _page(self, address: str, body: dict[str, Any]) -> dict[str, Any]:
        before = body["before"][0] if body["before"] else 1 << 60
        found = [number for number in sorted(self.kept.get(address, ()), reverse=True) if number < before]
        page = found[: min(body["limit"], PAGE)]
        records = [record(number) for number in page]
        return {
            "node": address,
            "records": records,
            "next": records[-1]["at"] if len(found) > len(page) else None,
            "damaged": 0,
        }


def asked(processes: Processes, monkeypatch: pytest.MonkeyPatch, **request: Any) -> dict[str, Any]:
    monkeypatch.setattr(probe, "administer", processes.administer)

    async def run() -> dict[str, Any]:
        children: dict[str, Any] = {process.id: FakeChild() for process in TOPOLOGY.processes()}
        typed: dict[str, Child] = children
        return await conflicting.administer(TOPOLOGY, typed, {"operation": "show", "table": "T", **request}, "secret")

    return asyncio.run(run())


def numbers(found: dict[str, Any]) -> list[int]:
    return [one["seen_us"] for one in found["records"]]


def test_what_several_nodes_kept_is_told_once_and_in_the_order_in_which_it_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {f"{EAST}/node-a": [1, 2, 5, 7, 8], f"{EAST}/node-b": [2, 5, 6], f"{WEST}/node-a": [3]}
    found = asked(Processes(kept), monkeypatch)
    assert numbers(found) == [1, 2, 3, 5, 6, 7, 8]
    assert (found["more"], found["on"], found["untold"]) == (False, {EAST: True, WEST: True}, {})
    assert "at" not in found["records"][0]


def test_the_newest_are_told_when_there_are_more_than_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {f"{EAST}/node-a": list(range(0, 20, 2)), f"{EAST}/node-b": list(range(1, 20, 2))}
    found = asked(Processes(kept), monkeypatch, limit=5)
    assert numbers(found) == [15, 16, 17, 18, 19]
    assert found["more"]


def test_a_region_alone_is_asked_and_one_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes({f"{EAST}/node-a": [1], f"{WEST}/node-a": [3]})
    assert numbers(asked(processes, monkeypatch, region=WEST)) == [3]
    assert {address.partition("/")[0] for address, _ in processes.asked} == {WEST}
    with pytest.raises(CommandError, match="there is no region nowhere"):
        asked(processes, monkeypatch, region="nowhere")


def test_a_node_that_does_not_answer_is_named_and_hides_nothing_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    node = f"{EAST}/node-b"
    found = asked(Processes({f"{EAST}/node-a": [1]}, silent=(node,)), monkeypatch)
    assert numbers(found) == [1]
    assert found["untold"] == {node: f"{node} does not answer"}
    everyone = tuple(process.id for process in TOPOLOGY.processes())
    with pytest.raises(CommandError, match="does not answer"):
        asked(Processes({}, silent=everyone), monkeypatch)


def test_a_region_without_a_replica_has_nothing_to_tell_and_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(Processes({f"{EAST}/node-a": [1]}, without=(WEST,)), monkeypatch)
    assert (numbers(found), found["untold"]) == ([1], {})
    with pytest.raises(CommandError, match="no such table"):
        asked(Processes({}, without=(EAST, WEST)), monkeypatch)


def test_the_first_region_that_can_switches_it_for_all_and_every_node_purges(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = f"{EAST}/replicator-1"
    processes = Processes({}, silent=(silent,))
    assert asked(processes, monkeypatch, operation="set", on=True) == {"region": WEST, "on": True}
    purged = asked(processes, monkeypatch, operation="purge")
    assert sorted(purged["purged"]) == [f"{WEST}/node-a", *(f"{EAST}/node-{zone}" for zone in "abc")]


def test_a_conflict_reads_as_what_lost_to_what_and_where() -> None:
    found = {"records": [record(1_500_000, perhaps=True)], "more": True, "on": {EAST: True, WEST: False}, "damaged": 2}
    assert as_text(found).splitlines() == [
        "There are older ones; --limit shows more.",
        "1970-01-01T00:00:01.500000Z  pk=p1500000 (its maker may have seen it, by way of a third region)",
        '    lost  us-east-1 1970-01-01T00:00:01.500000Z  {"n":1500000}',
        "    to    eu-west-1 1970-01-01T00:00:01.500000Z  deleted",
        "off in eu-west-1: `geodyne conflicts TABLE --on` keeps conflicts from then on",
        "2 records could not be read",
    ]
    nothing = {"records": [], "more": False, "on": {EAST: True}, "damaged": 0}
    assert as_text(nothing) == "no conflicts are kept"


def test_times_are_told_as_ages_or_as_iso_8601() -> None:
    now_us = time.time_ns() // 1_000
    assert abs(now_us - 900_000_000 - since_us("15m")) < 60_000_000
    assert since_us("1970-01-01T00:00:02+00:00") == 2_000_000
    for text in ("", "m", "yesterday", "-5m"):
        with pytest.raises(argparse.ArgumentTypeError):
            since_us(text)


def test_what_is_kept_cannot_be_purged_while_it_fills(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conflicts", "T", "--purge"]) == 1
    assert "--purge goes with --off" in capsys.readouterr().err
