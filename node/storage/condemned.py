"""A state database that is damaged as a whole: put aside, so that the node begins with an empty one, and heals.

A marker says that it is to go; only with it are the files moved, and it goes last. So a crash at any point is
followed either by the old database with the marker or by none.
"""

from __future__ import annotations

from pathlib import Path

from node.storage.disk import PosixDisk
from node.storage.port import Disk

MARKER = ".condemned"
ASIDE = ".damaged"  # replaces what was put aside before: one copy, for whoever wants to look at it
_PARTS = ("", "-wal", "-shm")  # SQLite's files


def condemn(path: Path, disk: Disk | None = None) -> None:
    """The database at `path` must not be opened again; durable when this returns. Raises OSError."""
    disk = disk or PosixDisk()
    marker = _with(path, MARKER)
    if not marker.exists():
        disk.create(marker).close()
    disk.sync_directory(path.parent)


def condemned(path: Path) -> bool:
    return _with(path, MARKER).exists()


def put_aside(path: Path, disk: Disk | None = None) -> Path:
    """Move a database that nobody has open out of the way; where to. Raises OSError."""
    disk = disk or PosixDisk()
    condemn(path, disk)
    for part in _PARTS:
        if _with(path, part).exists():
            disk.rename(_with(path, part), _with(path, ASIDE + part))
    disk.sync_directory(path.parent)
    disk.remove(_with(path, MARKER))
    disk.sync_directory(path.parent)
    return _with(path, ASIDE)


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
