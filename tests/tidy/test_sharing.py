"""How tests are shared out: what bounds times runs alone of its kind, and no file is named that is gone."""

from __future__ import annotations

import re
from pathlib import Path

from tests.sharing import CLIENTS, TIMED, UNTIMED, in_order, piece_of

REPOSITORY = Path(__file__).parents[2]
SHARED_CLUSTERS = re.compile(r"\b(world|started_world|wired): ")
BOUND_ON_A_GAP = re.compile(r"assert .*gap_s_max|took_s_max .*<")


def test_the_files_that_run_beside_others_exist_bound_no_gaps_and_share_no_cluster() -> None:
    for name in UNTIMED:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        assert not SHARED_CLUSTERS.search(text), f"{name} uses a cluster of tests/cluster/conftest.py"
        assert not BOUND_ON_A_GAP.search(text), f"{name} bounds how long clients wait"


def test_a_cluster_shared_by_files_is_started_by_one_worker_only() -> None:
    assert {piece_of(f"tests/clients/{name}.py::test_a[x::y]") for name in ("test_boto3", "test_aws_cli")} == {CLIENTS}
    for file in sorted((REPOSITORY / "tests/cluster").glob("test_*.py")):
        if SHARED_CLUSTERS.search(file.read_text(encoding="utf-8")):
            assert piece_of(f"tests/cluster/{file.name}::test_a") == TIMED


def test_what_bounds_times_begins_first_and_the_other_real_processes_come_last() -> None:
    files = ["tests/unit/b.py", UNTIMED[1], TIMED, "tests/api/a.py", CLIENTS, UNTIMED[0]]
    assert in_order(files) == [TIMED, "tests/unit/b.py", "tests/api/a.py", UNTIMED[0], UNTIMED[1], CLIENTS]
