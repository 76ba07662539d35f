"""The data directory: one user at a time, one topology for ever, found again by the other commands."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from geodyne import topology
from geodyne.cli.datadir import ClusterDirectory, check_dev_directory, find_running, running_control
from geodyne.cli.errors import CommandError
from node.storage.directory import open_directory


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_the_cluster_id_stays_the_same_over_restarts(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "d")
    first = directory.open(topology.default())
    directory.close()
    assert directory.open(topology.default()) == first
    directory.close()


def test_the_admin_token_is_made_once_for_its_user_alone_and_kept_over_restarts(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "d")
    directory.open(topology.default())  # as one of an earlier version: without a token
    token = directory.admin_token()
    directory.close()
    assert stat.S_IMODE((tmp_path / "d" / "admin-token").stat().st_mode) == 0o600
    directory.open(topology.default())
    assert directory.admin_token() == token
    directory.close()
    other = ClusterDirectory(tmp_path / "e")
    other.open(topology.default())
    assert other.admin_token() != token
    other.close()


@pytest.mark.parametrize("damaged", [b"", b"guessed", b"\xff" * 64, b"a b" * 20])
def test_a_damaged_admin_token_is_not_taken_for_one(tmp_path: Path, damaged: bytes) -> None:
    directory = ClusterDirectory(tmp_path / "d")
    directory.open(topology.default())
    (tmp_path / "d" / "admin-token").write_bytes(damaged)
    with pytest.raises(CommandError, match="admin-token is damaged"):
        directory.admin_token()
    directory.close()


def test_a_second_supervisor_is_refused_and_told_the_pid_of_the_first(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "d")
    directory.open(topology.default())
    with pytest.raises(CommandError, match=f"in use by the cluster of pid {os.getpid()}"):
        ClusterDirectory(tmp_path / "d").open(topology.default())
    assert directory.is_in_use()
    directory.close()
    assert not directory.is_in_use()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[regions.us-east-1]\n[regions.eu-west-1]", "region ap-northeast-2 is missing"),
        ('[regions.us-east-1]\nzones = ["a"]\n[regions.eu-west-1]\n[regions.ap-northeast-2]', "node-b is missing"),
        (
            "[regions.us-east-1]\n[regions.eu-west-1]\n[regions.ap-northeast-2]\nzones = {a=1,b=1,c=2}",
            "ap-northeast-2/node-c-2 is new",
        ),
        (
            "[regions.us-east-1]\n[regions.eu-west-1]\n[regions.ap-northeast-2]\n[regions.mars-1]",
            "region mars-1 is new",
        ),
    ],
)
def test_other_nodes_on_the_same_data_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    directory = ClusterDirectory(tmp_path / "d")
    directory.open(topology.default())
    directory.close()
    with pytest.raises(CommandError, match=expected):
        ClusterDirectory(tmp_path / "d").open(topology.parse(text))


def test_other_ports_and_delays_on_the_same_data_are_fine(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "d")
    first = directory.open(topology.default())
    directory.close()
    text = "round_trip_ms = 0\n[regions.us-east-1]\nrouters = 2\n[regions.eu-west-1]\n[regions.ap-northeast-2]"
    assert directory.open(topology.parse(text)) == first
    directory.close()


def test_nodes_that_came_and_went_are_kept_over_restarts_whichever_of_the_two_shapes_the_file_has(
    tmp_path: Path,
) -> None:
    began = topology.parse("[regions.r]")
    directory = ClusterDirectory(tmp_path / "d")
    directory.open(began)
    assert directory.settled(began) == began
    directory.write_members("r", {"r/node-a": "a", "r/node-b": "b", "r/node-c": "c", "r/node-a-2": "a"})
    now = {"r/node-b": "b", "r/node-c": "c", "r/node-a-2": "a"}
    directory.write_members("r", now)
    directory.close()
    for shape in (began, directory.settled(began)):
        directory = ClusterDirectory(tmp_path / "d")
        directory.open(shape)
        settled = directory.settled(shape)
        assert settled.regions["r"].members() == now
        assert settled.regions["r"].founded() == began.regions["r"].members()
        assert directory.former_nodes() == ["r/node-a"]
        directory.close()
    with pytest.raises(CommandError, match=r"r/node-a is new; .* `geodyne node` adds"):
        ClusterDirectory(tmp_path / "d").open(topology.parse("[regions.r]\nzones = {a=3,b=1,c=1}"))


def test_a_data_directory_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps({"format": 99, "cluster_id": "x"}))
    with pytest.raises(CommandError, match="has format 99; this version of geodyne reads format 1"):
        ClusterDirectory(tmp_path).open(topology.default())


def test_a_damaged_or_missing_identity_is_never_replaced_by_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(CommandError, match="is damaged"):
        ClusterDirectory(tmp_path).open(topology.default())
    (tmp_path / "cluster.json").unlink()
    (tmp_path / "nodes").mkdir()
    with pytest.raises(CommandError, match="holds nodes but no"):
        ClusterDirectory(tmp_path).open(topology.default())


def test_a_data_directory_that_is_a_file_is_one_readable_line(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("")
    with pytest.raises(CommandError, match="cannot be used: it is not a directory"):
        ClusterDirectory(tmp_path / "d").open(topology.default())
    with pytest.raises(CommandError, match="cannot be used: it is not a directory"):
        check_dev_directory(tmp_path / "d", "us-east-1")


def test_geodyne_dev_and_a_cluster_keep_off_each_others_data(tmp_path: Path) -> None:
    open_directory(tmp_path / "dev" / "us-east-1", "dev", "us-east-1/node-a").close()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CommandError, match=r"belongs to `geodyne dev` \(region us-east-1\); --data-dir"):
        ClusterDirectory(tmp_path / "dev").open(topology.default())
    check_dev_directory(tmp_path / "dev", "us-east-1")
    with pytest.raises(CommandError, match="the data of region us-east-1, not of eu-west-1; --region us-east-1"):
        check_dev_directory(tmp_path / "dev", "eu-west-1")
    assert sorted(tmp_path.rglob("*")) == before
    check_dev_directory(tmp_path / "none", "eu-west-1")
    cluster = ClusterDirectory(tmp_path / "cluster")
    cluster.open(topology.default())
    with pytest.raises(CommandError, match="belongs to a cluster of `geodyne up`; --data-dir"):
        check_dev_directory(tmp_path / "cluster", "us-east-1")
    cluster.close()


def test_a_cluster_that_was_not_named_is_told_of_except_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = ClusterDirectory(tmp_path / "d")
    directory.open(topology.default())
    directory.write_run({"pid": os.getpid(), "control": "/socket"})
    assert running_control(None) == "/socket"
    assert capsys.readouterr().err == f"geodyne: the running cluster is that of {tmp_path / 'd'}\n"
    assert running_control(str(tmp_path / "d")) == "/socket"
    monkeypatch.chdir(tmp_path)
    assert running_control(None) == "/socket"
    assert capsys.readouterr().err == ""
    directory.forget_run()
    directory.close()


def test_the_one_running_cluster_is_found_and_two_must_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no cluster is running"):
        find_running(None)
    one, two = ClusterDirectory(tmp_path / "one"), ClusterDirectory(tmp_path / "two")
    one.open(topology.default())
    one.write_run({"pid": os.getpid()})
    assert find_running(None).path == one.path
    two.open(topology.default())
    two.write_run({"pid": os.getpid()})
    with pytest.raises(CommandError, match="2 clusters are running; choose with --data-dir"):
        find_running(None)
    assert find_running(str(tmp_path / "two")).path == two.path
    one.forget_run()
    assert find_running(None).path == two.path
    two.forget_run()
    with pytest.raises(CommandError, match="no cluster is running on"):
        find_running(str(tmp_path / "two"))
    one.close()
    two.close()


def test_what_names_secrets_or_sockets_is_readable_by_the_owner_only(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path)
    directory.write_run({"pid": 1})
    assert (tmp_path / "run.json").stat().st_mode & 0o077 == 0
    directory.forget_run()
