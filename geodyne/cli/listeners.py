"""The listening sockets of processes that take requests, kept open by the supervisor while such a process is replaced.

What connects while no process accepts waits in the queue of the socket instead of being refused.
"""

from __future__ import annotations

import socket

from geodyne.cli.errors import CommandError
from geodyne.listen import ListenError, open_listener
from geodyne.topology import ROLE_GLOBAL, ROLE_ROUTER, ProcessSpec

ROLES = (ROLE_ROUTER, ROLE_GLOBAL)


class Listeners:
    """By process id. A process that is not wanted has none: whoever dials it is to be refused."""

    def __init__(self) -> None:
        self._open: dict[str, socket.socket] = {}

    def open(self, spec: ProcessSpec) -> socket.socket | None:
        """The listener of that process, opened now unless it is; None for a role that has none. Raises CommandError."""
        if spec.role not in ROLES:
            return None
        listener = self._open.get(spec.id)
        if listener is None:
            host, _, port = spec.address.rpartition(":")
            try:
                listener = self._open[spec.id] = open_listener(host, int(port))
            except ListenError as error:
                raise CommandError(f"{spec.id}: {error}") from None
        return listener

    def close(self, process_id: str) -> None:
        """Close the supervisor's own handle: the port is closed once the process has closed its own too."""
        listener = self._open.pop(process_id, None)
        if listener is not None:
            listener.close()

    def close_all(self) -> None:
        for process_id in list(self._open):
            self.close(process_id)
