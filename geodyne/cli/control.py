"""How the other commands talk to the running supervisor: a Unix socket, a JSON line each way, a connection a request.

Who may connect is decided by the socket's directory, which only its owner can enter.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from geodyne.cli.errors import CommandError

REQUEST_BYTES_MAX = 64 * 1024
REPLY_BYTES_MAX = 64 * 1024 * 1024
REQUEST_SECONDS_MAX = 5.0  # between connecting and the end of the request
SOCKET_PATH_BYTES_MAX = 100  # macOS allows 103, Linux 107

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ControlServer:
    """Serves `handler`. A CommandError of the handler becomes the reply's `error`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._folder: str | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> Path:
        """Start listening; returns the socket's path."""
        folder = tempfile.mkdtemp(prefix="geodyne-")
        if len(os.fsencode(folder)) + len("/control") > SOCKET_PATH_BYTES_MAX:
            os.rmdir(folder)
            folder = tempfile.mkdtemp(prefix="geodyne-", dir="/tmp")
        self._folder = folder
        path = os.path.join(folder, "control")
        self._server = await asyncio.start_unix_server(self._serve, path, limit=REQUEST_BYTES_MAX)
        return Path(path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                request = json.loads(await reader.readline())
            try:
                reply = await self._handler(request)
            except CommandError as error:
                reply = {"error": str(error)}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # the other end is gone or no command of ours: nobody is left to be told
        finally:
            writer.close()


def call(path: str, request: dict[str, Any], seconds_max: float) -> dict[str, Any]:
    """Send one request and return its reply. Raises CommandError, also for an `error` in the reply."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds_max)
        try:
            connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(_read_line(connection))
        except TimeoutError:
            raise CommandError(f"the supervisor gave no answer within {seconds_max:.0f} s") from None
        except (OSError, ValueError):
            raise CommandError("the supervisor of the cluster does not answer; `geodyne down` cleans up") from None
    if "error" in reply:
        raise CommandError(str(reply["error"]))
    return dict(reply)


def _read_line(connection: socket.socket) -> bytes:
    parts = bytearray()
    while not parts.endswith(b"\n"):
        part = connection.recv(1 << 16)
        if not part or len(parts) > REPLY_BYTES_MAX:
            raise ValueError("no whole reply")
        parts += part
    return bytes(parts)
