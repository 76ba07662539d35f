"""Choosing and checking TCP ports on the loopback address before any process is started."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping

from geodyne.cli.errors import CommandError

LOOPBACK = "127.0.0.1"

# Below the ranges from which Linux (32768 up) and macOS (49152 up) take the local ports of outgoing connections: a
# port from there can be taken by any connection while its process restarts.
INTERNAL_PORTS = range(20_000, 32_000)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a listener could bind the port now. Raises OSError when the port may not be used at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without it, connections of an earlier run that linger in TIME_WAIT would count as users of the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def check_public(ports: Mapping[str, int]) -> None:
    """Make sure that every asked-for port (by what it is for; 0 is skipped) is free. Raises CommandError."""
    for purpose, port in ports.items():
        try:
            free = port == 0 or is_free(port)
        except OSError as error:
            raise CommandError(f"port {port} of {purpose} cannot be used: {error.strerror}") from None
        if not free:
            raise CommandError(
                f"port {port} of {purpose} is in use on {LOOPBACK}; stop what uses it, "
                "or give other ports in a topology file (0 takes a free one)"
            )


def allocate(purposes: Iterable[str], earlier: Mapping[str, int], taken: Iterable[int], start: int) -> dict[str, int]:
    """A free port for each purpose: the earlier one while it is still free, else the next free one.

    `start` (any number) says where in INTERNAL_PORTS the search begins; clusters that start at the same time
    should not begin at the same place. Raises CommandError when the range is exhausted.
    """
    used = set(taken)
    chosen: dict[str, int] = {}
    for purpose in purposes:
        port = earlier.get(purpose, 0)
        if port in INTERNAL_PORTS and port not in used and is_free(port):
            used.add(port)
            chosen[purpose] = port
        else:
            chosen[purpose] = 0
    candidates = (INTERNAL_PORTS[(start + step) % len(INTERNAL_PORTS)] for step in range(len(INTERNAL_PORTS)))
    for purpose, port in chosen.items():
        if not port:
            port = next((p for p in candidates if p not in used and is_free(p)), 0)
            if not port:
                raise CommandError(f"no free port is left from {INTERNAL_PORTS[0]} to {INTERNAL_PORTS[-1]}")
            used.add(port)
            chosen[purpose] = port
    return chosen
