"""Keeping some space free: before a disk is full, the node stops to lead what it can give away and refuses new writes.

A full disk ends the process (node.failing). What is kept free until then lets followers go on, checkpoints complete
and the log be cut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from node.metrics import NodeMetrics
from node.storage.port import Disk, Space

logger = logging.getLogger("geodyne.node.storage")

LOW_BYTES = 64 << 20
LOW_PART = 10  # of a small file system: a tenth of it, if that is less
AGAIN = 2  # writes are taken again when this many times as much is free
START_BYTES = 8 << 20  # with less, a node does not even start
GIVE_AWAY_STEPS = 30  # between two attempts to give leadership away: the others may be as short of space


def low_bytes(space: Space) -> int:
    """The free space below which a node refuses writes that it would lead."""
    return min(LOW_BYTES, space.total_bytes // LOW_PART)


def start_bytes(space: Space) -> int:
    """The free space below which a node does not start."""
    return min(START_BYTES, space.total_bytes // LOW_PART // 2)


class SpaceGuard:
    """Looks at one node's disk. `low`: new writes are to be refused."""

    def __init__(self, disk: Disk, path: Path, metrics: NodeMetrics, give_away: Callable[[], object]) -> None:
        """`give_away` offers all that this node leads to others."""
        self._disk = disk
        self._path = path
        self._metrics = metrics
        self._give_away = give_away
        self._steps = 0
        self.low = False
        self.space = Space(0, 0)

    def step(self) -> None:
        """Every second. Raises OSError."""
        self.space = space = self._disk.space(self._path)
        self._metrics.disk_free_bytes.set(space.free_bytes)
        bound = low_bytes(space)
        if not self.low and space.free_bytes < bound:
            self.low = True
            self._steps = 0
            logger.critical(
                "disk nearly full: this node gives away what it leads and refuses writes",
                extra={
                    "path": str(self._path),
                    "free_bytes": space.free_bytes,
                    "hint": f"free more than {AGAIN * bound} bytes",
                },
            )
        elif self.low and space.free_bytes >= AGAIN * bound:
            self.low = False
            logger.warning("disk has space again", extra={"path": str(self._path), "free_bytes": space.free_bytes})
        self._metrics.disk_full.set(self.low)
        if self.low and self._steps % GIVE_AWAY_STEPS == 0:
            self._give_away()
        self._steps += 1
