"""Listening on a port, with an error that a person can act on."""

from __future__ import annotations

import errno


class ListenError(Exception):
    """A port could not be opened. The text is one line and names address and cause."""


def listen_error(host: str, port: int, error: OSError) -> ListenError:
    """What to tell the user about a failed bind; asyncio's own text repeats itself and shows a tuple."""
    if error.errno == errno.EADDRINUSE:
        return ListenError(f"port {port} on {host} is already in use; stop the program that has it or choose another")
    if error.errno == errno.EACCES:
        return ListenError(f"port {port} on {host} may not be opened by this user; choose one above 1023")
    return ListenError(f"cannot listen on {host} port {port}: {error.strerror or error}")
