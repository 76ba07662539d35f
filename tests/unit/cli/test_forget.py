"""`geodyne forget`: all regions that are left are asked before any forgets the lost one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli import forget, forgetting, probe
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.cli.probe import Answer
from tests.unit.cli.test_verify import EAST, TOPOLOGY, WEST

LEFT = [name for name in TOPOLOGY.regions if name != WEST]
Answers = dict[tuple[str, str], dict[str, Any]]


def has(*replicas: str, connected: bool = False) -> dict[str, Any]:
    return {"result": {"replicas": dict.fromkeys(replicas, "ACTIVE"), "connected": connected}}


def ask(
    monkeypatch: pytest.MonkeyPatch, answers: Answers, lost: str = WEST
) -> tuple[dict[str, Any] | str, list[tuple[str, str]]]:
    """The answer or the error, and who was asked what. `answers` by region and operation."""
    asked: list[tuple[str, str]] = []

    async def administer(address: str, call: str, body: dict[str, Any], *_: object) -> Answer | None:
        assert (call, body["table"], body["lost"]) == ("forget", "orders", lost)
        asked.append((address.partition("/")[0], body["operation"]))
        answer = answers.get(asked[-1])
        return None if answer is None else Answer(200, json.dumps(answer).encode())

    async def main() -> dict[str, Any] | str:
        monkeypatch.setattr(probe, "administer", administer)
        children = {process.id: Child(process, (), Path("/")) for process in TOPOLOGY.processes()}
        for child in children.values():
            child.ready.set()
        try:
            return await forgetting.administer(TOPOLOGY, children, {"table": "orders", "lost": lost}, "t" * 32)
        except CommandError as error:
            return str(error)

    return asyncio.run(main()), asked


def test_the_regions_that_have_such_a_replica_forget_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Answers = {(name, "check"): has() for name in LEFT}
    answers |= {(EAST, "check"): has(EAST, WEST), (EAST, "forget"): has(EAST)}
    answer, asked = ask(monkeypatch, answers)
    assert answer == {"regions": [EAST], "parted": False}
    assert asked == [*((name, "check") for name in LEFT), (EAST, "forget")]


def test_nothing_is_changed_when_one_of_them_reaches_it_or_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: Answers = {(name, "check"): has(name, WEST, connected=True) for name in LEFT}
    for given in (reached, {}):
        answer, asked = ask(monkeypatch, given)
        assert "nothing is changed" in str(answer)
        assert {operation for _, operation in asked} == {"check"}


def test_a_region_or_replica_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no region nowhere" in str(ask(monkeypatch, {}, "nowhere")[0])
    answers: Answers = {(name, "check"): has(name) for name in LEFT}
    assert "no region that is left has a table orders" in str(ask(monkeypatch, answers)[0])


def test_what_is_done_half_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Answers = {(name, "check"): has(name, WEST) for name in LEFT}
    assert "repeat the command" in str(ask(monkeypatch, answers)[0])


def test_a_region_that_is_back_and_that_all_have_forgotten_gets_a_table_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: Answers = {(name, "check"): has(*LEFT, connected=True) for name in LEFT} | {(WEST, "part"): has()}
    answer, asked = ask(monkeypatch, answers)
    assert answer == {"regions": [WEST], "parted": True}
    assert asked == [*((name, "check") for name in LEFT), (WEST, "part")]
    assert "of its own" in forget.as_text("orders", WEST, {"regions": [WEST], "parted": True})


def test_it_is_not_told_so_while_some_region_has_its_replica_or_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed: Answers = {(name, "check"): has(*LEFT, connected=True) for name in LEFT}
    listed |= {(WEST, "part"): has(), (LEFT[-1], "check"): has(WEST, connected=True)}
    silent: Answers = {key: value for key, value in listed.items() if key[0] != LEFT[-1]}
    for given in (listed, silent):
        assert (WEST, "part") not in ask(monkeypatch, given)[1]
