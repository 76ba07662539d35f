"""`geodyne verify`: what the supervisor makes of it, exit codes and text."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli import probe, verifying
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.cli.probe import Answer
from geodyne.cli.verify import EXIT_DIFFERENT, EXIT_EQUAL, EXIT_UNKNOWN, as_text, exit_code
from geodyne.topology import parse

EAST, WEST = "us-east-1", "eu-west-1"
_SHAPE = parse(f"[regions.{EAST}]\n[regions.{WEST}]\n")
_ADDRESSES = {process.id: f"{process.id}:1" for process in _SHAPE.processes()}
TOPOLOGY = _SHAPE.resolved(_ADDRESSES, _ADDRESSES)


def comparison(verdict: str, **known: Any) -> dict[str, Any]:
    return {
        "regions": [EAST, WEST],
        "verdict": verdict,
        "rows": 7,
        "differing": 0,
        "repaired": 0,
        "repair": False,
        "first": None,
        "reason": "",
        **known,
    }


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["equal"], EXIT_EQUAL),
        (["equal", "equal"], EXIT_EQUAL),
        (["equal", "unknown"], EXIT_UNKNOWN),
        (["unknown", "different"], EXIT_DIFFERENT),
        ([], EXIT_UNKNOWN),
    ],
)
def test_only_when_all_are_equal_is_the_exit_code_0(verdicts: list[str], code: int) -> None:
    assert exit_code({"comparisons": [comparison(verdict) for verdict in verdicts]}) == code


def test_the_first_item_is_named_with_both_versions() -> None:
    first = {
        "key": {"pk": {"S": "a"}},
        "versions": [{"time_us": 1_500_000, "region": EAST, "deleted": True, "digest": ""}, None],
    }
    text = as_text({"region": EAST, "comparisons": [comparison("different", differing=2, first=first)]})
    assert text.splitlines() == [
        "us-east-1 and eu-west-1: 2 items differ, 7 items here",
        "  first: {'pk': {'S': 'a'}}",
        "    us-east-1: written in us-east-1 at 1.500000, deleted",
        "    eu-west-1: not there",
    ]


def test_what_was_repaired_and_what_is_not_known_is_said() -> None:
    repaired = comparison("equal", differing=2, repaired=2, repair=True)
    unknown = comparison("unknown", reason="eu-west-1 is not connected")
    assert as_text({"region": EAST, "comparisons": [repaired, unknown]}).splitlines() == [
        "us-east-1 and eu-west-1: equal, 7 items here, 2 of 2 repaired",
        "us-east-1 and eu-west-1: unknown: eu-west-1 is not connected",
    ]


def _ask(monkeypatch: pytest.MonkeyPatch, answers: dict[str, dict[str, Any]], **request: Any) -> dict[str, Any]:
    """`answers` by region; those that are missing do not answer, and all processes are ready."""

    async def administer(address: str, call: str, body: dict[str, Any], *_: object) -> Answer | None:
        assert (call, body["table"]) == ("verify", "orders")
        answer = answers.get(address.partition("/")[0])
        return None if answer is None else Answer(200, json.dumps(answer).encode())

    async def main() -> dict[str, Any]:
        monkeypatch.setattr(probe, "administer", administer)
        children = {process.id: Child(process, (), Path("/")) for process in TOPOLOGY.processes()}
        for child in children.values():
            child.ready.set()
        return await verifying.administer(
            TOPOLOGY, children, {"operation": "start", "table": "orders", **request}, "t" * 32
        )

    return asyncio.run(main())


def test_the_first_region_that_has_the_table_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, dict[str, Any]] = {EAST: {"error": "no such table"}, WEST: {"result": {"region": WEST}}}
    assert _ask(monkeypatch, answers) == {"region": WEST}


def test_a_region_that_is_named_is_the_only_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {EAST: {"result": {"region": EAST}}}
    with pytest.raises(CommandError, match=f"{WEST}/replicator-1 does not answer"):
        _ask(monkeypatch, answers, region=WEST)
    with pytest.raises(CommandError, match="there is no region elsewhere"):
        _ask(monkeypatch, answers, region="elsewhere")
