"""The data directory: one owner, one format, one process at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.storage.directory import open_directory
from node.storage.port import DirectoryInUse, WrongCluster, WrongFormat


def test_a_directory_is_fresh_once_and_each_start_has_a_larger_incarnation(tmp_path: Path) -> None:
    first = open_directory(tmp_path / "a" / "b", "cluster", "node-a")
    assert first.fresh
    first.close()
    second = open_directory(tmp_path / "a" / "b", "cluster", "node-a")
    assert not second.fresh
    assert 0 < first.incarnation < second.incarnation < 1 << 63
    second.close()


def test_an_incarnation_is_never_below_what_the_caller_asks_for_and_never_goes_back(tmp_path: Path) -> None:
    first = open_directory(tmp_path, "cluster", "node-a", incarnation_min=1_000)
    first.close()
    assert first.incarnation == 1_000
    second = open_directory(tmp_path, "cluster", "node-a", incarnation_min=900)  # the clock was set back
    second.close()
    assert second.incarnation == 1_001


def test_a_directory_that_outgrows_an_earlier_one_gives_the_next_start_a_larger_incarnation(tmp_path: Path) -> None:
    first = open_directory(tmp_path, "cluster", "node-a", incarnation_min=1_000)
    first.outgrow(5_000)
    first.outgrow(10)  # nothing follows from one that is not larger
    first.close()
    second = open_directory(tmp_path, "cluster", "node-a", incarnation_min=900)
    second.close()
    assert first.incarnation == 1_000
    assert second.incarnation == 5_001


def test_an_unreadable_incarnation_is_refused(tmp_path: Path) -> None:
    open_directory(tmp_path, "cluster", "node-a").close()
    (tmp_path / "INCARNATION").write_bytes(b"x")
    with pytest.raises(WrongFormat, match="does not hold a number"):
        open_directory(tmp_path, "cluster", "node-a")


def test_a_directory_in_use_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    holder = open_directory(tmp_path, "cluster", "node-a")
    with pytest.raises(DirectoryInUse, match=r"in use by process \d+\. .*--data-dir"):
        open_directory(tmp_path, "cluster", "node-a")
    holder.close()
    open_directory(tmp_path, "cluster", "node-a").close()


@pytest.mark.parametrize(("cluster", "process"), [("other", "node-a"), ("cluster", "node-b")])
def test_data_of_another_cluster_or_process_is_refused(tmp_path: Path, cluster: str, process: str) -> None:
    open_directory(tmp_path, "cluster", "node-a").close()
    with pytest.raises(WrongCluster, match="belongs to node-a of cluster cluster"):
        open_directory(tmp_path, cluster, process)
    open_directory(tmp_path, "cluster", "node-a").close()  # a refusal leaves no lock behind


def test_another_format_is_refused(tmp_path: Path) -> None:
    open_directory(tmp_path, "cluster", "node-a").close()
    with pytest.raises(WrongFormat, match="data format 1; this version reads formats 2 to 4"):
        open_directory(tmp_path, "cluster", "node-a", format=2)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"format": "x"}', b"\xff\xfe"])
def test_an_unreadable_format_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "FORMAT").write_bytes(content)
    with pytest.raises(WrongFormat, match="not readable"):
        open_directory(tmp_path, "cluster", "node-a")


def test_data_without_a_format_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"x")
    with pytest.raises(WrongFormat, match=r"holds state.db but no FORMAT"):
        open_directory(tmp_path, "cluster", "node-a")


def test_a_crash_before_the_format_file_was_in_place_leaves_a_fresh_directory(tmp_path: Path) -> None:
    (tmp_path / "FORMAT.new").write_bytes(b"{")
    directory = open_directory(tmp_path, "cluster", "node-a")
    assert directory.fresh
    assert json.loads((tmp_path / "FORMAT").read_bytes()) == {
        "format": 1,
        "cluster_id": "cluster",
        "process_id": "node-a",
    }
    directory.close()


def test_a_directory_that_holds_what_they_would_misread_says_so_to_older_versions(tmp_path: Path) -> None:
    directory = open_directory(tmp_path, "cluster", "node-a")
    for format in (3, 3, 4, 3):
        directory.grow(format)
        assert json.loads((tmp_path / "FORMAT").read_bytes())["format"] == directory.format
    directory.close()
    again = open_directory(tmp_path, "cluster", "node-a")
    assert again.format == 4
    again.close()


def test_a_format_that_is_not_known_yet_is_refused_with_both_named(tmp_path: Path) -> None:
    (tmp_path / "FORMAT").write_bytes(b'{"format": 5, "cluster_id": "cluster", "process_id": "node-a"}')
    with pytest.raises(WrongFormat, match="data format 5; this version reads formats 1 to 4"):
        open_directory(tmp_path, "cluster", "node-a")
