"""`geodyne sim`: the same seeds print the same, whatever the process; it goes on where it was ended, and a violation
ends with the line that replays it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli.__main__ import main
from geodyne.sim import campaign, run
from geodyne.sim.campaign import Progress, outcomes
from geodyne.sim.faults import draw, plan_of
from geodyne.sim.report import Tally
from geodyne.sim.run import Outcome, run_seed

COMMAND_S = 240


def geodyne(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "geodyne.cli", "sim", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )


def outcome(seed: int, problem: str = "", **more: Any) -> Outcome:
    values: dict[str, Any] = {
        "virtual_ms": 61_000,
        "operations": 500 + seed,
        "unknown": 1,
        "leader_changes": 4,
        "steps": 9,
        "faults": {"kill": 2},
        "digest": "00",
    }
    return Outcome(seed, problem, **{**values, **more})


def test_a_seed_gives_the_same_run_in_any_process(tmp_path: Path) -> None:
    """With another hash seed, directory, time zone and place for temporary files; one process or two."""
    (tmp_path / "elsewhere").mkdir()
    progress = ("--resume", str(tmp_path / "progress"))
    one = geodyne("--seeds", "4..5", *progress, cwd=tmp_path, PYTHONHASHSEED="1", TZ="UTC")
    two = geodyne(
        *("--seeds", "4..5", "--jobs", "2", *progress),
        cwd=tmp_path / "elsewhere",
        PYTHONHASHSEED="77",
        TZ="Asia/Tokyo",
        TMPDIR=str(tmp_path),
    )
    assert (one.returncode, one.stderr.count("Traceback")) == (0, 0), one.stderr
    assert one.stdout == two.stdout
    assert run_seed(4).digest in one.stdout


def test_seeds_have_the_size_of_a_real_run() -> None:
    tally = Tally()
    for seed in range(3):
        tally.add(run_seed(seed))
    assert (tally.failed, tally.not_counted) == ([], [])
    medians = tally.medians()
    assert medians["virtual seconds"] >= 60
    assert medians["operations"] >= 500
    assert medians["faults"] >= 10
    assert medians["kinds of faults"] >= 4
    assert medians["leader changes"] >= 3


def test_an_interrupted_campaign_goes_on_where_it_was_and_prints_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    ran: list[int] = []

    def fake(seed: int) -> Outcome:
        ran.append(seed)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return outcome(seed)

    monkeypatch.setattr(campaign, "run_seed", fake)
    progress = Progress(tmp_path / "p", "sources 1..5")
    with pytest.raises(KeyboardInterrupt):
        list(outcomes(range(1, 6), 1, progress, lambda seed: None))
    progress.close(keep=True)
    with (tmp_path / "p").open("a") as file:
        file.write('[3, "", 61')  # the process died while it wrote
    again = Progress(tmp_path / "p", "sources 1..5")
    assert list(again.done) == [1, 2]
    assert list(outcomes(range(1, 6), 1, again, lambda seed: None)) == [outcome(seed) for seed in range(1, 6)]
    assert ran == [1, 2, 3, 3, 4, 5]
    again.close(keep=False)
    assert not (tmp_path / "p").exists()


def test_progress_of_other_sources_or_seeds_does_not_count(tmp_path: Path) -> None:
    first = Progress(tmp_path / "p", "sources 1..5")
    first.note(outcome(1))
    first.close(keep=True)
    other = Progress(tmp_path / "p", "sources 1..6")
    other.close(keep=False)
    assert other.done == {}


def test_seeds_whose_faults_had_no_effect_do_not_count() -> None:
    tally = Tally()
    tally.add(outcome(1))
    tally.add(outcome(2, faults={}))
    tally.add(outcome(3, "Violation: x"))
    assert (tally.passed, tally.not_counted, tally.failed) == (1, [2], [3])
    assert "not counted, for no fault had an effect: 1 2" in "\n".join(tally.lines())


def test_a_violation_shrinks_its_faults_and_ends_with_the_line_that_replays_it(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    needed = draw(7)[5]

    def fake(seed: int, plan: Any = None) -> Outcome:
        faults = draw(seed) if plan is None else plan
        return outcome(seed, "Violation: two leaders" if seed == 7 and needed in faults else "")

    monkeypatch.setattr(campaign, "run_seed", fake)
    monkeypatch.setattr(run, "run_seed", fake)
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert main(["sim", "--seeds", "6..9", "--resume", str(tmp_path / "p")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["seed 6", "seed 7"]
    assert lines[-2] == "seed 7: Violation: two leaders"
    assert lines[-1] == f"replay: geodyne sim --seeds 7..7 --plan '{needed}'"
    assert plan_of(lines[-1].split("'")[1]) == (needed,)
    assert main(["sim", "--seeds", "7", "--plan", str(needed)]) == 1
    assert main(["sim", "--seeds", "7", "--plan", "none"]) == 0
    assert main(["sim", "--seeds", "6..9", "--keep-going", "--json", "--resume", str(tmp_path / "p")]) == 1
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()[-6:-1]]
    assert [one["seed"] for one in objects[:3]] == [7, 8, 9]
    assert objects[3]["failed"] == [7]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--seeds", "9..1"],
        ["--seeds", "x"],
        ["--seeds", "1..99999999999"],
        ["--seeds", "1", "--jobs", "0"],
        ["--seeds", "1", "--plan", "1:fire:a:0:1"],
        ["--seeds", "1", "--plan", "fire"],
        ["--seeds", "1", "--plan", "x:kill:a:0:1"],
    ],
)
def test_wrong_usage_is_told(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sim", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "geodyne sim: error" in said
    assert "unpack" not in said
    assert "could not convert" not in said


def test_a_plan_goes_with_one_seed(capsys: Any) -> None:
    assert main(["sim", "--seeds", "1..2", "--plan", "none"]) == 2
    assert "one seed" in capsys.readouterr().err
