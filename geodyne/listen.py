"""Listening on a port, with an error that a person can act on; and a listener that was opened by a supervisor.

A supervisor that opens a process's port itself keeps it open while the process is replaced: what connects meanwhile
waits in the listener's queue, and two processes may take from it at the same time. The process finds descriptors in
its environment: the listener, and a pipe on which it says in lines how far it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

BACKLOG: Final = 1024  # connections that wait to be accepted; the system may allow fewer

LISTENER_VARIABLE: Final = "GEODYNE_LISTENER_FD"
REPORT_VARIABLE: Final = "GEODYNE_REPORT_FD"
SUCCEEDS_VARIABLE: Final = "GEODYNE_SUCCEEDS"  # "1": takes over from a process that still runs

SERVING: Final = b"serving\n"  # it answers requests from now on
LEAVING: Final = b"leaving\n"  # it was told to end; it goes on until a successor serves and it is told once more

RELIEF_S: Final = 20.0  # how long a process that leaves goes on for a successor
PREDECESSOR_S: Final = 10.0  # how long a supervised process waits for an address that its predecessor still has


class ListenError(Exception):
    """A port could not be opened. The text is one line and names address and cause."""


def listen_error(host: str, port: int, error: OSError) -> ListenError:
    """What to tell the user about a failed bind; asyncio's own text repeats itself and shows a tuple."""
    if error.errno == errno.EADDRINUSE:
        return ListenError(f"port {port} on {host} is already in use; stop the program that has it or choose another")
    if error.errno == errno.EACCES:
        return ListenError(f"port {port} on {host} may not be opened by this user; choose one above 1023")
    return ListenError(f"cannot listen on {host} port {port}: {error.strerror or error}")


def open_listener(host: str, port: int) -> socket.socket:
    """A listener to be handed to processes. Raises ListenError."""
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise listen_error(host, port, error) from error


@dataclass(frozen=True, slots=True)
class Supervision:
    """What a process has from its supervisor; nothing of it when it was started by anything else."""

    listener: socket.socket | None = None
    report_fd: int | None = None
    succeeds: bool = False  # another process serves the same listener until this one says that it does

    @property
    def patience_s(self) -> float:
        """How long to try for an address of its own (the metrics page's), which a predecessor may still have."""
        return PREDECESSOR_S if self.listener is not None else 0.0

    def say(self, line: bytes) -> bool:
        """Tell the supervisor; False when there is none that listens."""
        if self.report_fd is None:
            return False
        try:
            os.write(self.report_fd, line)
        except OSError:
            return False  # the supervisor has gone; whoever started this process may still want it
        return True

    async def relieved(self, stop: asyncio.Event) -> None:
        """To be called once `stop` is set, whoever asked for it: returns when this process may go. A supervisor has
        `stop` set again at once if the process is to end or was replaced, else as soon as another one serves in its
        place. One that says nothing is waited for no longer than RELIEF_S."""
        stop.clear()
        if self.say(LEAVING):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RELIEF_S):
                    await stop.wait()


def supervision(environment: MutableMapping[str, str], port: int) -> Supervision:
    """Take the descriptors out of the environment, so that no process started from here finds them there.

    Raises ListenError when what was handed over is not a listener on `port` (the launch file's).
    """
    listener_fd = environment.pop(LISTENER_VARIABLE, "")
    report_fd = environment.pop(REPORT_VARIABLE, "")
    succeeds = environment.pop(SUCCEEDS_VARIABLE, "") == "1"
    if not listener_fd:
        return Supervision()
    try:
        listener = socket.socket(fileno=int(listener_fd))
        bound = listener.getsockname()[1]
    except (OSError, ValueError, IndexError, TypeError):
        raise ListenError(f"{LISTENER_VARIABLE}={listener_fd} is not a listening socket") from None
    if bound != port:
        listener.close()
        raise ListenError(f"{LISTENER_VARIABLE}={listener_fd} listens on port {bound}, the launch file says {port}")
    return Supervision(listener, int(report_fd) if report_fd.isdigit() else None, succeeds)
