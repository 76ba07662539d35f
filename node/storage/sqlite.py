"""The state of all groups of a node in one SQLite database; the only module that knows SQLite.

Reads and the turn's one apply transaction run on the loop's thread (a thread hop costs more than they do); only
checkpoints, exports and the integrity check run in aiosqlite threads, each inside one long SQLite step.

Durability: WAL journal, synchronous=NORMAL. A commit is atomic at once and durable when a checkpoint that began after
it has completed; a crash loses a suffix of the commits, never a part of one. See node.storage.port for what that asks
of the log.

Rules that are easy to break:
- all writes come from one connection on one thread. SQLite before 3.51.3 can corrupt a database when a checkpoint
  starts while everything is checkpointed already and another connection's commit resets the WAL at that moment
  (sqlite.org/wal.html, "The WAL-Reset Bug"). So the background connection starts a checkpoint only when something
  has been committed since the last one ended; otherwise the checkpoint runs on the writing thread;
- a cursor that is read to its end holds no read mark; one that is not pins the WAL, so each is closed;
- nothing else in the process opens and closes the database file: that would drop SQLite's POSIX locks.

Tables have a rowid and a unique index: with 1 KB values WITHOUT ROWID costs 4 to 6 times as much per insert at random
keys (full rows in interior pages, overflow pages above 1,002 bytes); pages of 8 or 16 KB write two to four times the
WAL per overwrite and gain nothing.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiosqlite

from geodyne.wire.log_v1_pb2 import GroupState
from node.storage.disk import PosixDisk
from node.storage.port import (
    GroupAbsent,
    GroupUpdate,
    Row,
    SnapshotDamaged,
    StateDamaged,
    StateFailed,
    StorageError,
    StoredGroup,
    WrongFormat,
)
from node.storage.snapshots import (
    ChunkWriter,
    EndPart,
    FeedPart,
    RowPart,
    StatePart,
    WindowPart,
    read_chunk,
)
