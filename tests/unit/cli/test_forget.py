"""`geodyne forget`: all regions that are left are asked before any forgets the lost one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli import forgetting, probe
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.cli.probe import Answer
from tests.unit.cli.test_verify import EAST, TOPOLOGY, WEST

LEFT = [name for name in TOPOLOGY.regions if name != WEST]
Answers = dict[tuple[str, str], dict[str, Any]]


def has(*replicas: str) -> dict[str, Any]:
    return {"result": {"replicas": dict.fromkeys(replicas, "ACTIVE")}}


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
    answers: Answers = {(name, "check"): {"error": f"{name} has no table orders"} for name in LEFT}
    answers |= {(EAST, "check"): has(EAST, WEST), (EAST, "forget"): has(EAST)}
    answer, asked = ask(monkeypatch, answers)
    assert answer == {"regions": [EAST]}
    assert asked == [*((name, "check") for name in LEFT), (EAST, "forget")]


def test_nothing_is_changed_when_one_of_them_reaches_it_or_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Answers = {(EAST, "check"): {"error": f"{WEST} answers {EAST}"}}
    for given in (answers, {}):
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
