"""A node whose disk takes no writes waits for it, visibly, and begins by itself."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from geodyne.settings import Endpoint
from node import waiting
from node.failing import hint, unusable
from node.space import low_bytes, start_bytes
from node.storage.disk import PosixDisk
from node.storage.port import DiskUnusable, Space, StateFailed, StorageError, WalCorrupt
from node.waiting import opened_when_usable, require_space

MB = 1 << 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Disk(PosixDisk):
    def __init__(self, free: int) -> None:
        self.free = free

    def space(self, path: Path) -> Space:
        assert path.exists()
        return Space(self.free, 1 << 40)


def test_a_node_waits_for_space_says_so_and_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE_S", 0.01)
    disk = Disk(0)
    page = Endpoint("127.0.0.1", free_port())
    tried: list[int] = []

    def open_once() -> str:
        tried.append(1)
        if len(tried) == 1:
            raise DiskUnusable("data directory cannot be used: No space left on device")
        return "node"

    def asked() -> tuple[int, dict[str, object], str]:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{page.port}/healthz")
        except urllib.error.HTTPError as error:
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{page.port}/metrics").read().decode()
            return error.code, json.loads(error.read()), metrics
        raise AssertionError("it is healthy")

    async def run() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(opened_when_usable(tmp_path / "not yet there", page, open_once, stop, disk))
        async with asyncio.timeout(5):
            while True:
                try:
                    status, health, metrics = await asyncio.to_thread(asked)
                    break
                except OSError:
                    await asyncio.sleep(0.01)
        assert status == 503
        assert health["storage"] == "disk full"
        assert "0 of" in str(health["reason"])
        assert "geodyne_disk_full 1.0" in metrics
        assert not tried
        disk.free = 1 << 30
        assert await task == "node"
        assert len(tried) == 2

    asyncio.run(run())


def test_a_stop_ends_the_wait(tmp_path: Path) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        page = Endpoint("127.0.0.1", free_port())
        task = asyncio.create_task(opened_when_usable(tmp_path, page, lambda: "node", stop, Disk(0)))
        await asyncio.sleep(0)
        stop.set()
        assert await asyncio.wait_for(task, 5) is None

    asyncio.run(run())


def test_what_time_does_not_mend_is_raised_at_once(tmp_path: Path) -> None:
    def open_once() -> str:
        raise WalCorrupt("segment 7")

    with pytest.raises(WalCorrupt):
        asyncio.run(opened_when_usable(tmp_path, Endpoint("127.0.0.1", 1), open_once, asyncio.Event(), Disk(1 << 30)))


def test_errors_that_a_disk_with_space_or_a_writable_one_would_not_raise() -> None:
    wrapped = StorageError("data directory")
    wrapped.__cause__ = OSError(errno.EROFS, "Read-only file system")
    assert unusable(OSError(errno.ENOSPC, "full"))
    assert unusable(StateFailed("database or disk is full"))
    assert unusable(wrapped)
    assert not unusable(OSError(errno.EACCES, "denied"))
    assert not unusable(WalCorrupt("x"))
    assert "make the file system writable" in hint(wrapped)
    assert "free space" in hint(OSError(errno.ENOSPC, "full"))
    assert "replace the disk" in hint(StateFailed("disk I/O error"))


@pytest.mark.parametrize(
    ("total", "low", "start"),
    [(1 << 40, 64 * MB, 8 * MB), (100 * MB, 10 * MB, 5 * MB), (30 * MB, 3 * MB, 3 * MB // 2)],
)
def test_the_bounds_of_free_space_suit_small_file_systems_too(total: int, low: int, start: int) -> None:
    assert low_bytes(Space(0, total)) == low
    assert start_bytes(Space(0, total)) == start


def test_with_too_little_space_a_node_does_not_start(tmp_path: Path) -> None:
    require_space(tmp_path, Disk(8 * MB))
    with pytest.raises(DiskUnusable, match="No space left on device"):
        require_space(tmp_path, Disk(8 * MB - 1))
