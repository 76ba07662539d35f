"""Asking a process on its loopback metrics address how it is, or to do something: a GET or POST with a time limit."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

from geodyne.settings import ADMIN_TOKEN_HEADER

PROBE_SECONDS_MAX = 2.0
ANSWER_BYTES_MAX = 8 * 1024 * 1024


class Answer(NamedTuple):
    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object; empty when it is anything else."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


async def get(address: str, path: str) -> Answer | None:
    """GET http://ADDRESS/PATH; None when there is no whole answer within PROBE_SECONDS_MAX."""
    return await _answer(address, f"GET {path} HTTP/1.1\r\n", b"", PROBE_SECONDS_MAX)


async def administer(
    address: str, call: str, body: dict[str, Any], token: str, seconds_max: float = PROBE_SECONDS_MAX
) -> Answer | None:
    """POST a JSON object to /admin/CALL with the cluster's token for it; None when there is no whole answer in time: it
    may have had an effect."""
    encoded = json.dumps(body).encode()
    head = (
        f"POST /admin/{call} HTTP/1.1\r\n{ADMIN_TOKEN_HEADER}: {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(encoded)}\r\n"
    )
    return await _answer(address, head, encoded, seconds_max)


async def _answer(address: str, head: str, body: bytes, seconds_max: float) -> Answer | None:
    try:
        async with asyncio.timeout(seconds_max):
            return await _exchange(address, head, body)
    except (OSError, TimeoutError, ValueError, IndexError, EOFError, asyncio.LimitOverrunError):
        return None


async def _exchange(address: str, request: str, sent: bytes) -> Answer:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=64 * 1024)
    try:
        writer.write(f"{request}Host: {address}\r\nConnection: close\r\n\r\n".encode() + sent)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if "content-length" in headers:
            length = int(headers["content-length"])
            if length > ANSWER_BYTES_MAX:
                raise ValueError(f"an answer of {length} bytes is too long")
            body = await reader.readexactly(length)
        else:
            body = await _read_to_end(reader)
        return Answer(int(head[0].split(" ")[1]), body)
    finally:
        writer.close()


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := await reader.read(64 * 1024):
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise ValueError("the answer is too long")
    return b"".join(parts)
