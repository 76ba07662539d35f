"""`geodyne writes`: where a change is asked for, how it is followed, and its text."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli import probe, writes, writing
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.cli.probe import Answer
from geodyne.topology import parse
from geodyne.writemodes import Mode, Stage, WriteMode

EAST, WEST = "us-east-1", "eu-west-1"
_SHAPE = parse(f"[regions.{EAST}]\n[regions.{WEST}]\n")
_ADDRESSES = {process.id: f"{process.id}:1" for process in _SHAPE.processes()}
TOPOLOGY = _SHAPE.resolved(_ADDRESSES, _ADDRESSES)
ONE = WriteMode(Mode.ONE, EAST, "", 2, 10, Stage.SPREAD)
MOVING = WriteMode(Mode.ONE, EAST, "", 2, 10, Stage.STOPPED, WEST, 5, 6, 1_000)
MOVED = WriteMode(Mode.ONE, WEST, "", 3, 11, Stage.SPREAD)


def answer(region: str, mode: WriteMode, us: int = 0) -> dict[str, Any]:
    other = WEST if region == EAST else EAST
    return {
        "region": region,
        "mode": mode.to_json(),
        "replicas": {EAST: "ACTIVE", WEST: "ACTIVE"},
        "watermarks": {other: us},
        "now_us": 10_000_000,
    }


def both(east: WriteMode, west: WriteMode) -> dict[str, Any]:
    return {EAST: answer(EAST, east), WEST: answer(WEST, west)}


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"table": "T", "mode": None, "active": None, "home": None, "force": False, **given})


class Cluster:
    """Shows states one after the other, the last one again and again; notes what is set."""

    def __init__(self, *shown: dict[str, Any], after: WriteMode = MOVING) -> None:
        self._shown = list(shown)
        self._after = after
        self.set: list[Mapping[str, Any]] = []

    def ask(self, more: Mapping[str, Any]) -> dict[str, Any]:
        if more["operation"] == "set":
            self.set.append(more)
            return {more["at"]: answer(more["at"], self._after)}
        return self._shown.pop(0) if len(self._shown) > 1 else self._shown[0]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "LOOK_AGAIN_S", 0.0)


def test_a_switch_is_asked_for_in_the_active_region_and_followed(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(both(ONE, ONE), both(MOVING, ONE), both(MOVED, ONE), both(MOVED, MOVED))
    writes.change(options(active=WEST), cluster.ask)
    assert [(one["at"], one["active"]) for one in cluster.set] == [(EAST, WEST)]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{EAST}: it takes no writes; {WEST} is being sent the last of them"
    assert said[-1].startswith(f"{WEST} takes writes, ")


def test_a_switch_that_was_given_up_is_told() -> None:
    cluster = Cluster(both(ONE, ONE), both(MOVING, ONE), both(ONE, ONE))
    with pytest.raises(CommandError, match=f"{EAST} goes on taking writes"):
        writes.change(options(active=WEST), cluster.ask)


def test_a_forced_one_is_asked_for_in_the_new_region_and_says_what_may_be_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    regions = {EAST: {"error": "it does not answer"}, WEST: answer(WEST, ONE, us=7_500_000)}
    cluster = Cluster(regions, {EAST: {"error": "-"}, WEST: answer(WEST, MOVED)}, after=MOVED)
    writes.change(options(active=WEST, force=True), cluster.ask)
    assert [(one["at"], one["mode"], one["force"]) for one in cluster.set] == [(WEST, "one", True)]
    assert f"{WEST} has all that {EAST} took up to 2.5 s ago" in capsys.readouterr().err


def test_without_a_watermark_what_is_missing_is_not_known() -> None:
    assert writes.missing(both(ONE, ONE), ONE.to_json(), WEST) == [f"how far {WEST} has what {EAST} took is not known"]


def test_nothing_is_missing_where_the_region_is_the_active_one_already() -> None:
    assert writes.missing(both(ONE, ONE), ONE.to_json(), EAST) == []


def test_a_switch_whose_active_region_does_not_answer_names_the_way_out() -> None:
    def ask(more: Mapping[str, Any]) -> dict[str, Any]:
        return {EAST: {"error": "it is not ready"}, WEST: answer(WEST, ONE)}

    with pytest.raises(CommandError, match=r"it is not ready .*--force"):
        writes.change(options(active=WEST), ask)


def test_a_region_that_the_others_have_forgotten_is_shown_as_such() -> None:
    regions = {EAST: answer(EAST, ONE), WEST: {**answer(WEST, MOVED), "replicas": {WEST: "ACTIVE"}}}
    assert writes.as_text(regions).splitlines()[1].startswith(f"  {EAST}: forgotten by the others")


def test_force_needs_a_region() -> None:
    with pytest.raises(CommandError, match="--force needs"):
        writes.change(options(force=True), Cluster(both(ONE, ONE)).ask)


def test_a_refusal_ends_the_command() -> None:
    def ask(more: Mapping[str, Any]) -> dict[str, Any]:
        return {EAST: {"error": "not so"}} if more["operation"] == "set" else both(ONE, ONE)

    with pytest.raises(CommandError, match="not so"):
        writes.change(options(mode="any"), ask)


def test_the_text_has_a_line_a_region() -> None:
    assert writes.as_text(both(MOVED, ONE)).splitlines() == [
        f"one region takes writes: {WEST}",
        f"  {EAST}: takes no writes",
        f"  {WEST}: not told yet, obeys: one region takes writes: {EAST}",
    ]
    home = WriteMode(Mode.HOME, EAST, "h", 4, 10, Stage.APPLYING)
    assert writes.as_text({EAST: answer(EAST, home), WEST: {"error": "away"}}).splitlines() == [
        f"an item is written where its attribute h says; without one, in {EAST}",
        f"  {EAST}: its partitions are being told",
        f"  {WEST}: away",
    ]
    assert writes.as_text(both(WriteMode(), WriteMode())).splitlines()[0] == "any region takes writes"


def test_that_no_region_answers_is_an_error() -> None:
    with pytest.raises(CommandError, match="no table T"):
        writes.as_text({EAST: {"error": "us-east-1 has no table T"}})


def test_records_are_ranked_as_the_regions_do() -> None:
    for mode in (ONE, MOVED, WriteMode(Mode.HOME, EAST, "h", 4, 10)):
        assert writes.rank(mode.to_json()) == mode.rank
        assert WriteMode.from_json(mode.to_json()) == mode


def test_the_supervisor_asks_each_region_or_the_one_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, Any]] = []

    async def administer(address: str, call: str, body: Any, token: str, seconds_max: float) -> Answer | None:
        asked.append((address, body["table"]))
        assert (call, token) == ("writes", "token")
        return Answer(200, b'{"result": {"region": "x"}}') if EAST in address else None

    async def main() -> None:
        monkeypatch.setattr(probe, "administer", administer)
        children = {process.id: Child(process, [], tmp_path / "log") for process in TOPOLOGY.processes()}
        for child in children.values():
            child.ready.set()
        request = {"operation": "show", "table": "T"}
        regions = (await writing.administer(TOPOLOGY, children, request, "token"))["regions"]
        assert regions[EAST] == {"region": "x"}
        assert "does not answer" in regions[WEST]["error"]
        asked.clear()
        await writing.administer(TOPOLOGY, children, {**request, "at": WEST}, "token")
        assert len(asked) == 1
        with pytest.raises(CommandError, match="there is no region mars-1"):
            await writing.administer(TOPOLOGY, children, {**request, "at": "mars-1"}, "token")

    asyncio.run(main())
