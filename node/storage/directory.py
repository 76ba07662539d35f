"""A process's data directory: whose it is, in which format, and that one process at a time has it.

FORMAT       {"format": 1, "cluster_id": "...", "process_id": "..."}; 3 or 4 once it holds what
             readers of format 1 would misread
INCARNATION  the number of the process that has the directory; larger at each start
LOCK         held with flock while the process lives; the kernel lets go of it at any death
ROSTER       which directories the region's nodes are known by (node.storage.roster)
log/         node.storage.wal; log.damaged/: one that was put aside, for whoever wants to look at it
state.db     node.storage.sqlite
conflicts/   node.conflictlog
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.storage.condemned import ASIDE
from node.storage.disk import DIRECTORY_MODE, FILE_MODE, PosixDisk
from node.storage.port import DirectoryInUse, Disk, WrongCluster, WrongFormat
from node.storage.roster import Roster

FORMAT = 1  # of a new directory
# Of one that holds, in its log or its state, what readers of earlier formats would misread.
MEMBERS_FORMAT = 3  # changes of members; one release marked them with 2
STREAMS_FORMAT = 3
WATERMARKS_FORMAT = 4  # promises, marks of other regions and collected tombstones (decision 0021)
NEWEST_FORMAT = 4
FORMAT_FILE = "FORMAT"
LOCK_FILE = "LOCK"
LOG_DIRECTORY = "log"
STATE_FILE = "state.db"
ROSTER_FILE = "ROSTER"
INCARNATION_FILE = "INCARNATION"
INCARNATION_MAX = (1 << 63) - 1


class DataDirectory:
    """An open, locked data directory. `fresh`: it was made by this start, so nothing can be recovered from it.

    `incarnation` is larger at each start: peers tell by it that everything volatile here was lost, and which of two
    processes is the older one.
    """

    def __init__(
        self,
        path: Path,
        marker: dict[str, Any],
        fresh: bool,
        incarnation: int,
        roster: Roster,
        lock: int,
        disk: Disk,
    ) -> None:
        self.path = path
        self._marker = marker
        self._disk = disk
        self._process_id = str(marker["process_id"])
        self.fresh = fresh
        self.incarnation = incarnation
        self._outgrown = incarnation  # the next start's is larger
        self.roster = roster
        self.log_path = path / LOG_DIRECTORY
        self.state_path = path / STATE_FILE
        self._lock: int | None = lock

    def put_log_aside(self) -> Path:
        """Move a damaged log that nobody has open out of the way, and be another directory from here on: what was
        promised in the log counts no more. Where to. Raises OSError.

        A crash in between is followed by a start without a log, which makes a new roster as well."""
        aside = self.log_path.with_name(self.log_path.name + ASIDE)
        if aside.exists():
            shutil.rmtree(aside)
        self._disk.rename(self.log_path, aside)
        self._disk.sync_directory(self.path)
        self.roster = _new_roster(self._disk, self.path, self._process_id, self.incarnation, has_log=False)
        return aside

    @property
    def format(self) -> int:
        return int(self._marker["format"])

    def grow(self, format: int) -> None:
        """From here on only versions that know this format may open the directory; durable when this returns. To be
        called before anything is written that others would misread. Raises OSError."""
        if self.format < format:
            marker = {**self._marker, "format": format}
            _write_format(self._disk, self.path, marker)
            self._disk.sync_directory(self.path)
            self._marker = marker

    def outgrow(self, incarnation: int) -> None:
        """Have the next start get a larger incarnation than this one, which an earlier directory of the node had;
        durable when this returns. Raises OSError."""
        self._outgrown = max(self._outgrown, incarnation)
        _write_incarnation(self._disk, self.path, self._outgrown)

    def close(self) -> None:
        """Let another process have it; every file inside must be closed by now."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def open_directory(
    path: str | os.PathLike[str],
    cluster_id: str,
    process_id: str,
    format: int = FORMAT,
    disk: Disk | None = None,
    incarnation_min: int = 1,
) -> DataDirectory:
    """Lock the directory, or make it. Raises DirectoryInUse, WrongCluster, WrongFormat or OSError.

    The incarnation follows the last one that was used here, and is `incarnation_min` at least: with the wall clock
    there (microseconds), a node whose directory was emptied still starts with a larger number than its peers know,
    unless that clock was set back; then they tell it (`DataDirectory.outgrow`).
    """
    disk = disk or PosixDisk()
    directory = Path(path).absolute()
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    lock = _lock(directory)
    try:
        fresh = not (directory / FORMAT_FILE).exists()
        if fresh:
            _refuse_unmarked_data(directory)
            marker = {"format": format, "cluster_id": cluster_id, "process_id": process_id}
            _write_format(disk, directory, marker)
            disk.sync_directory(directory.parent)
        else:
            marker = _read_format(disk, directory)
            _check(directory, marker, cluster_id, process_id, format)
        # A crash may have hit between an earlier start's rename and its sync of the directory.
        disk.sync_directory(directory)
        incarnation = _next_incarnation(disk, directory, incarnation_min)
        roster = _roster(disk, directory, process_id, incarnation)
    except BaseException:
        os.close(lock)
        raise
    return DataDirectory(directory, marker, fresh, incarnation, roster, lock, disk)


def _roster(disk: Disk, directory: Path, process_id: str, incarnation: int) -> Roster:
    """The directory's roster; a new one where there is no log, because with a log all that was promised is gone. It is
    durable before the log is made, so a log without a roster is of the time before rosters: it is trusted."""
    path = directory / ROSTER_FILE
    log = directory / LOG_DIRECTORY
    has_log = log.exists() and any(log.iterdir())
    if has_log and path.exists():
        try:
            return Roster.read(process_id, disk.read(path), _saving(disk, directory))
        except ValueError as error:
            raise WrongFormat(
                f"{path} is not readable ({error}). Restore it from a backup, "
                "or choose another directory with --data-dir."
            ) from error
    return _new_roster(disk, directory, process_id, incarnation, has_log)


def _new_roster(disk: Disk, directory: Path, process_id: str, number: int, has_log: bool) -> Roster:
    roster = Roster(process_id, number, _saving(disk, directory), since=0 if has_log else None)
    roster.save()
    return roster


def _saving(disk: Disk, directory: Path) -> Callable[[bytes], None]:
    def save(data: bytes) -> None:
        _replace(disk, directory / ROSTER_FILE, data)
        disk.sync_directory(directory)

    return save


def _next_incarnation(disk: Disk, directory: Path, least: int) -> int:
    """Durable before it is used: a number must not be used twice."""
    path = directory / INCARNATION_FILE
    last = 0
    if path.exists():
        text = disk.read(path).decode("ascii", "replace").strip()
        if not text.isdigit():
            raise WrongFormat(
                f"{path} does not hold a number. Remove it if this machine's clock is right: "
                "the next start makes it anew."
            )
        last = int(text)
    incarnation = max(last + 1, least)
    if incarnation > INCARNATION_MAX:
        raise WrongFormat(f"{path} holds {last}, which is beyond every incarnation")
    _write_incarnation(disk, directory, incarnation)
    return incarnation


def _write_incarnation(disk: Disk, directory: Path, incarnation: int) -> None:
    _replace(disk, directory / INCARNATION_FILE, b"%d\n" % incarnation)
    disk.sync_directory(directory)


def _lock(directory: Path) -> int:
    lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode("ascii", "replace").strip()
        os.close(lock)
        who = f"process {holder}" if holder else "another process"
        raise DirectoryInUse(
            f"{directory} is in use by {who}. Stop it first, or choose another directory with --data-dir."
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, b"%d\n" % os.getpid())
    return lock


def _refuse_unmarked_data(directory: Path) -> None:
    for name in (LOG_DIRECTORY, STATE_FILE):
        if (directory / name).exists():
            raise WrongFormat(
                f"{directory} holds {name} but no {FORMAT_FILE} file, so its owner and format are unknown. "
                f"Restore {FORMAT_FILE} from a backup, or choose an empty directory with --data-dir."
            )


def _write_format(disk: Disk, directory: Path, marker: dict[str, Any]) -> None:
    _replace(disk, directory / FORMAT_FILE, json.dumps(marker, sort_keys=True).encode() + b"\n")


def _replace(disk: Disk, path: Path, data: bytes) -> None:
    """The file with new contents, or as it was; durable once its directory is."""
    temporary = path.with_name(path.name + ".new")
    if temporary.exists():
        disk.remove(temporary)
    file = disk.create(temporary)
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
    disk.rename(temporary, path)


def _read_format(disk: Disk, directory: Path) -> dict[str, Any]:
    path = directory / FORMAT_FILE
    try:
        marker = json.loads(disk.read(path))
    except ValueError:
        marker = None
    if not isinstance(marker, dict) or not isinstance(marker.get("format"), int):
        raise WrongFormat(
            f"{path} is not readable as a Geodyne format file. Choose another directory with --data-dir, "
            "or restore this one from a backup."
        )
    return marker


def _check(directory: Path, marker: dict[str, Any], cluster_id: str, process_id: str, format: int) -> None:
    newest = max(format, NEWEST_FORMAT)
    if not format <= marker["format"] <= newest:
        known = f"format {format}" if format == newest else f"formats {format} to {newest}"
        raise WrongFormat(
            f"{directory} has data format {marker['format']}; this version reads {known}. "
            "Use the Geodyne version that wrote it, or choose another directory with --data-dir."
        )
    owner = (marker.get("cluster_id"), marker.get("process_id"))
    if owner != (cluster_id, process_id):
        raise WrongCluster(
            f"{directory} belongs to {owner[1]} of cluster {owner[0]}, not to {process_id} of cluster {cluster_id}. "
            "Choose another directory with --data-dir."
        )
