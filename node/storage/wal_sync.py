"""Waiting for the disk without stopping the loop: by the kernel's own completion, or by a thread.

A thread that has waited must take the interpreter lock to say so.  A busy loop drops that lock in every system call and
takes it back before the thread has woken up, each time restarting the thread's 5 ms timer, so the thread starves:
measured at 80 ms median, 480 ms at the 99th percentile beside a saturated uvloop, against 0.25 ms of fsync.  Linux's
asynchronous I/O (io_submit(2), IOCB_CMD_FDSYNC, Linux 4.18) reports through an eventfd, which the loop polls anyway:
no thread, no lock.  Where it is missing, the thread is used.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, Protocol

from node.storage.port import Disk, DiskFile


class SyncJob(NamedTuple):
    """A file to make durable, and its directory too when that has a new entry."""

    file: DiskFile
    directory: Path | None


class Syncer(Protocol):
    """Takes one job at a time; tells the outcome on the loop that submitted it."""

    def submit(self, job: SyncJob) -> None: ...

    def stop(self) -> OSError | None:
        """Wait for the job in hand, if any, and return its outcome instead of telling it."""


Landed = Callable[[OSError | None], None]


def make_durable(disk: Disk, job: SyncJob) -> OSError | None:
    """Fsync here and now."""
    try:
        job.file.sync()
        if job.directory is not None:
            disk.sync_directory(job.directory)
    except OSError as error:
        return error
    return None


class ThreadSyncer:
    """A thread that fsyncs; a daemon, so that it cannot keep a dying process alive."""

    def __init__(self, disk: Disk, landed: Landed) -> None:
        self._disk = disk
        self._landed = landed
        self._jobs: SimpleQueue[tuple[SyncJob, asyncio.AbstractEventLoop] | None] = SimpleQueue()  # bound: one job
        self._error: OSError | None = None
        self._thread = Thread(target=self._run, name="wal-sync", daemon=True)
        self._thread.start()

    def submit(self, job: SyncJob) -> None:
        self._jobs.put((job, asyncio.get_running_loop()))

    def stop(self) -> OSError | None:
        self._jobs.put(None)
        self._thread.join()
        return self._error

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            job, loop = work
            self._error = make_durable(self._disk, job)
            try:
                loop.call_soon_threadsafe(self._landed, self._error)
            except RuntimeError:  # the loop was closed before the log: nobody is left to be told
                return


# --- Linux asynchronous I/O: include/uapi/linux/aio_abi.h -------------------------------------------------------

_SYSTEM_CALLS = {  # io_setup, io_destroy, io_getevents, io_submit
    "x86_64": (206, 207, 208, 209),
    "aarch64": (0, 1, 4, 2),
}
_IOCB_CMD_FDSYNC = 3
_IOCB_FLAG_RESFD = 1
_EVENT = struct.Struct("=QQqq")  # data, obj, res, res2


class _ControlBlock(ctypes.Structure):
    """struct iocb of a little-endian machine."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("event_descriptor", ctypes.c_uint32),
    )


class KernelSyncer:
    """Lets the kernel fsync and hears of it through the loop's own poll."""

    def __init__(self, disk: Disk, landed: Landed, calls: tuple[int, int, int, int]) -> None:
        self._disk = disk
        self._landed = landed
        self._setup, self._destroy, self._get_events, self._submit = map(ctypes.c_long, calls)
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._call.restype = ctypes.c_long
        self._context = ctypes.c_ulong(0)
        if self._call(self._setup, ctypes.c_long(1), ctypes.byref(self._context)) != 0:
            raise OSError(ctypes.get_errno(), "io_setup failed")
        self._event_descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._block = _ControlBlock(
            opcode=_IOCB_CMD_FDSYNC, flags=_IOCB_FLAG_RESFD, event_descriptor=self._event_descriptor
        )
        self._blocks = (ctypes.POINTER(_ControlBlock) * 1)(ctypes.pointer(self._block))
        self._event = (ctypes.c_char * _EVENT.size)()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._job: SyncJob | None = None
        self._untold: OSError | None = None  # of a job done the slow way

    @classmethod
    def start(cls, disk: Disk, landed: Landed) -> KernelSyncer | None:
        """None where the kernel, the machine or a sandbox does not offer it."""
        calls = _SYSTEM_CALLS.get(platform.machine())
        if sys.platform != "linux" or calls is None:
            return None
        try:
            return cls(disk, landed, calls)
        except OSError:
            return None

    def submit(self, job: SyncJob) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            loop.add_reader(self._event_descriptor, self._ready)
        self._untold = None
        descriptor = job.file.descriptor
        if descriptor is not None:
            self._block.descriptor = descriptor
            if self._call(self._submit, self._context, ctypes.c_long(1), self._blocks) == 1:
                self._job = job
                return
        # Not a real file, or a file system without it: the slow way is as good, only slower.
        self._untold = make_durable(self._disk, job)
        loop.call_soon(self._landed, self._untold)

    def stop(self) -> OSError | None:
        error = self._collect() if self._job is not None else self._untold
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._event_descriptor)
        os.close(self._event_descriptor)
        self._call(self._destroy, self._context)
        return error

    def _ready(self) -> None:
        os.eventfd_read(self._event_descriptor)
        if self._job is not None:
            self._landed(self._collect())

    def _collect(self) -> OSError | None:
        """Wait for the job in hand, which _ready knows to be over already."""
        job, self._job = self._job, None
        assert job is not None
        one = ctypes.c_long(1)
        while self._call(self._get_events, self._context, one, one, self._event, None) != 1:
            if ctypes.get_errno() != errno.EINTR:
                return OSError(ctypes.get_errno(), "io_getevents failed")
        result = _EVENT.unpack(self._event.raw)[2]
        if result != 0:
            return OSError(-result, os.strerror(-result))
        if job.directory is None:
            return None
        try:
            self._disk.sync_directory(job.directory)  # once a segment
        except OSError as error:
            return error
        return None
