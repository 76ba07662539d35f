"""A node whose disk takes no writes does not start, and does not die either: it waits, and says what for.

Meanwhile its metrics page answers, as unhealthy. Each attempt opens the data directory as a start does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Gauge

from geodyne.observe.server import ObserveServer
from geodyne.settings import Endpoint
from node.failing import hint, unusable
from node.space import start_bytes
from node.storage.disk import PosixDisk
from node.storage.port import Disk, DiskUnusable, StorageError

logger = logging.getLogger("geodyne.node.storage")

FIRST_PAUSE_S = 0.25
PAUSE_S_MAX = 5.0  # between two attempts
PAGE_PATIENCE_S = 2.0

Opened = TypeVar("Opened")


def require_space(path: Path, disk: Disk | None = None) -> None:
    """Raises DiskUnusable where so little is free that a node would soon fail again."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    space = (disk or PosixDisk()).space(existing)
    if space.free_bytes < start_bytes(space):
        raise DiskUnusable(f"{path}: No space left on device: {space.free_bytes} of {space.total_bytes} bytes are free")


async def opened_when_usable(
    data_dir: Path, page: Endpoint, open_once: Callable[[], Opened], stop: asyncio.Event, disk: Disk | None = None
) -> Opened | None:
    """The node, as soon as its disk lets it be opened; None when `stop` came first. `open_once` must be able to be
    called again after it has failed. Raises StorageError for anything that time does not mend."""
    waiting: _Waiting | None = None
    pause_s = FIRST_PAUSE_S
    try:
        while not stop.is_set():
            try:
                require_space(data_dir, disk)
                return open_once()
            except StorageError as error:
                if not unusable(error):
                    raise
                reason = str(error)
                if waiting is None:
                    logger.critical(
                        "the disk takes no writes; this node waits for it",
                        extra={"path": str(data_dir), "reason": reason, "hint": hint(error)},
                    )
                    waiting = await _Waiting.begin(page)
                waiting.reason = reason
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
        return None
    finally:
        if waiting is not None:
            await waiting.end()


class _Waiting:
    """The page of a node that waits."""

    def __init__(self, page: Endpoint) -> None:
        registry = CollectorRegistry()
        Gauge("geodyne_disk_full", "1 while the node waits for space", registry=registry).set(1)
        self.reason = ""
        self._server = ObserveServer(page.host, page.port, registry, health=self._health, status=self._status, admin={})

    @classmethod
    async def begin(cls, page: Endpoint) -> _Waiting:
        waiting = cls(page)
        await waiting._server.start(PAGE_PATIENCE_S)
        return waiting

    async def end(self) -> None:
        await self._server.stop()

    def _health(self) -> dict[str, Any]:
        storage = "disk full" if "No space" in self.reason else "disk unusable"
        return {"healthy": False, "storage": storage, "reason": self.reason}

    def _status(self) -> dict[str, Any]:
        return {"reason": self.reason}
