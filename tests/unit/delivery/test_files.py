"""Documents as files: whole, durable with their folders, whoever writes at the same time."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from delivery.files import keep

NAME = "a/b/c.json"


def test_all_folders_down_to_the_file_are_synced_after_it_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    done: list[bool] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            synced.append(found.st_ino)
            done.append((tmp_path / NAME).exists())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    for _ in range(2):  # folders that are there already may not be durable yet
        synced.clear()
        keep(tmp_path, NAME, b"x")
        assert synced == [folder.stat().st_ino for folder in (tmp_path / "a/b", tmp_path / "a", tmp_path)]
    assert all(done)


def test_threads_that_keep_one_name_at_once_leave_one_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [bytes([65 + number]) * 1_000 for number in range(4)]
    written = Barrier(len(bodies), timeout=30)
    replace = os.replace

    def together(source: Path, target: Path) -> None:
        written.wait()
        replace(source, target)

    monkeypatch.setattr(os, "replace", together)
    with ThreadPoolExecutor(len(bodies)) as threads:
        list(threads.map(lambda body: keep(tmp_path, NAME, body), bodies))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [tmp_path / NAME]
    assert files[0].read_bytes() in bodies


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, NAME, b"old")

    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="Input/output"):
        keep(tmp_path, NAME, b"new")
    assert (tmp_path / NAME).read_bytes() == b"old"
