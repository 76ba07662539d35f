"""A load whose rate does not depend on the answers: each request is due at its own time, from which its latency runs.

So a stall is seen as long as it was, by every request that was due in it. Requests are signed before they are due.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.load import Server

ANSWER_S_MAX: Final = 20.0  # of one attempt; longer hangs
PAUSE_S: Final = 0.05  # before the next attempt
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")
_REGION = re.compile(rb"(?i)x-geodyne-region: (\S+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """Times are seconds of the event loop's clock. `attempts` counts those that failed before as well."""

    number: int
    due_s: float
    answered_s: float
    attempts: int
    region: str  # who answered, as the global endpoint tells it; "" from any other
    body: bytes


class Caller:
    """One connection, opened when it is needed."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body. Raises OSError, EOFError or TimeoutError; the next request opens a new connection."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._server.host, self._server.port)
                reader, writer = self._streams
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                assert length is not None, head
                body = await reader.readexactly(int(length.group(1)))
        except BaseException:
            self.close()
            raise
        return int(head.split(b" ", 2)[1]), head, body

    async def insist(self, request: bytes) -> tuple[int, bytes, bytes]:
        """As an SDK does: attempts until it is answered 200. How many attempts it took, head and body. Raises
        AssertionError for what no attempt mends."""
        attempts = 0
        while True:
            attempts += 1
            try:
                status, head, body = await self.ask(request)
            except (OSError, EOFError, TimeoutError):
                status = 500
            if status == 200:
                return attempts, head, body
            assert status >= 500, (status, body)
            await asyncio.sleep(PAUSE_S)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def drive(
    server: Server,
    requests: Sequence[bytes],
    per_second: float,
    connections: int,
    on_answer: Callable[[Answer], None],
) -> None:
    """Send all requests, each when it is due, over so many connections."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    numbers = iter(range(len(requests)))

    async def one_connection() -> None:
        caller = Caller(server)
        for number in numbers:
            due = began + number / per_second
            await asyncio.sleep(max(0.0, due - loop.time()))
            attempts, head, body = await caller.insist(requests[number])
            region = _REGION.search(head)
            found = region.group(1).decode() if region is not None else ""
            on_answer(Answer(number, due, loop.time(), attempts, found, body))
        caller.close()

    await asyncio.gather(*(one_connection() for _ in range(connections)))


def part(values: Sequence[float], share: float) -> float:
    """What this share of the values stay below; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def shares(values: Sequence[float], *which: float) -> Iterator[float]:
    for share in which:
        yield part(values, share)
