"""`geodyne sim --global`: the same discipline as for one region."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli.__main__ import main
from geodyne.sim import globalrun
from geodyne.sim.faults import text_of
from geodyne.sim.globalfaults import KINDS, draw, plan_of, shape
from geodyne.sim.globalrun import run_seed
from geodyne.sim.report import Tally
from geodyne.sim.run import Outcome
from tests.sim.test_sim_command import geodyne, outcome


def test_a_seed_gives_the_same_run_in_any_process(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    progress = ("--resume", str(tmp_path / "progress"))
    one = geodyne("--global", "--seeds", "2..3", *progress, cwd=tmp_path, PYTHONHASHSEED="1", TZ="UTC")
    two = geodyne(
        *("--global", "--seeds", "2..3", "--jobs", "2", *progress),
        cwd=tmp_path / "elsewhere",
        PYTHONHASHSEED="77",
        TZ="Asia/Tokyo",
        TMPDIR=str(tmp_path),
    )
    assert (one.returncode, one.stderr.count("Traceback")) == (0, 0), one.stderr
    assert one.stdout == two.stdout
    assert one.stdout.startswith("seed 2: passed")


def test_seeds_have_the_size_of_a_real_run() -> None:
    tally = Tally()
    for seed in (2, 7, 13):
        tally.add(run_seed(seed))
    assert (tally.failed, tally.not_counted) == ([], [])
    medians = tally.medians()
    assert medians["virtual seconds"] >= 15
    assert medians["operations"] >= 100
    assert medians["faults"] >= 5
    assert medians["kinds of faults"] >= 3


def test_all_kinds_of_faults_and_shapes_are_drawn_and_a_plan_is_read_as_it_is_printed() -> None:
    plans = [draw(seed) for seed in range(100)]
    assert {fault.kind for plan in plans for fault in plan} == set(KINDS)
    assert all(plan_of(text_of(plan)) == plan for plan in plans)
    shapes = [shape(seed) for seed in range(100)]
    assert {len(one.nodes) for one in shapes} == {2, 3}
    assert any(3 in one.nodes for one in shapes)


def test_a_violation_ends_with_the_line_that_replays_it(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    needed = draw(7)[1]
    monkeypatch.setattr(globalrun, "run_seed", _fails_at_seven(needed))
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert main(["sim", "--global", "--seeds", "6..9", "--resume", str(tmp_path / "p")]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"replay: geodyne sim --seeds 7..7 --global --plan '{needed}'"
    assert main(["sim", "--global", "--seeds", "7", "--plan", str(needed)]) == 1
    assert main(["sim", "--global", "--seeds", "7", "--plan", "none"]) == 0
    with pytest.raises(SystemExit, match="2"):
        main(["sim", "--global", "--seeds", "7", "--plan", "1:disk:us-east-1:0:1"])
    assert "between regions there is no fault 'disk'" in capsys.readouterr().err


def _fails_at_seven(needed: Any) -> Any:
    def fake(seed: int, plan: Any = None) -> Outcome:
        faults = draw(seed) if plan is None else plan
        return outcome(seed, "Violation: regions differ" if seed == 7 and needed in faults else "")

    return fake


def test_an_interrupted_campaign_goes_on_and_one_of_a_single_region_is_another(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    ran: list[int] = []

    def fake(seed: int, plan: Any = None) -> Outcome:
        ran.append(seed)
        if ran == [1, 2]:
            raise KeyboardInterrupt
        return outcome(seed)

    monkeypatch.setattr(globalrun, "run_seed", fake)
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    command = ["sim", "--global", "--seeds", "1..3", "--resume", str(tmp_path / "p")]
    assert main(command) == 130
    assert main(command) == 0
    assert ran == [1, 2, 2, 3]
    lines = capsys.readouterr().out.splitlines()[-7:-4]
    assert [line.split(":")[0] for line in lines] == ["seed 1", "seed 2", "seed 3"]


def test_a_run_that_never_ends_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(globalrun, "_equal", never)
    found = run_seed(8, ())
    assert found.problem.startswith("Violation: it is not over after 300 s: wait (locks.py")
    assert found.virtual_ms >= globalrun.RUN_S_MAX * 1000
