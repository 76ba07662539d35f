"""What must hold whatever is sent: a proper answer, or none that is missed, and time and memory in proportion."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from geodyne.errors import CATALOGUE
from tests.fuzz.wire import Ending, Exchange

# On the wall: generous, because machines that run tests are busy; the bound that counts is CPU time.
ANSWER_S_MAX = 30.0
CPU_S_BASE = 1.0  # a collection of garbage, a compaction or the making of a table may fall to any request
CPU_S_PER_MEGABYTE = 1.5
# A body of 16 MB makes Python values of some 25 times its size, for as long as it is looked at.
RESIDENT_MEGABYTES_MAX = 1500
PROPER_STATUSES = {200, 400, 404, 408, 413, 431, 501, 505}
MEGABYTE = 1024 * 1024


class Violation(AssertionError):
    """The service broke one of the rules. The text says which."""


class Reply(NamedTuple):
    status: int
    body: bytes
    closes: bool


class Usage(NamedTuple):
    cpu_s: float
    peak_megabytes: int  # the most memory that was ever resident


def usage(pid: int | None) -> Usage | None:
    """CPU time and memory of a process, where the system tells (Linux); else None, and only the wall counts."""
    if pid is None:
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        peak = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()
    except FileNotFoundError:
        return None
    return Usage((int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"), int(peak[0]) // 1024)


def perform(address: tuple[str, int], exchange: Exchange) -> list[Reply]:
    """Send, and read all answers that there are. Raises Violation for an improper or missing one."""
    with socket.create_connection(address, ANSWER_S_MAX) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies: list[Reply] = []
        with connection.makefile("rb") as reader:
            try:
                for piece in exchange.pieces:
                    connection.sendall(piece)
                if exchange.ending is Ending.ABANDON:
                    return replies
                if exchange.ending is Ending.HALF_CLOSE:
                    connection.shutdown(socket.SHUT_WR)
            except OSError as error:
                # Refused before all was sent; the answer may still be there to read.
                if isinstance(error, TimeoutError) or exchange.answers is not None:
                    raise Violation(f"sending ended in {error!r}") from error
            while exchange.answers is None or len(replies) < exchange.answers:
                reply = read_reply(reader, owed=exchange.answers is not None, to_head=exchange.to_head)
                if reply is None:
                    break
                replies.append(reply)
                if exchange.answers is None and exchange.ending is Ending.READ:
                    break
        if exchange.answers is not None and len(replies) != exchange.answers:
            raise Violation(f"{len(replies)} answers to {exchange.answers} requests")
        return replies


def read_reply(reader: BinaryIO, *, owed: bool = True, to_head: bool = False) -> Reply | None:
    """The next final answer, checked; None at the end of the connection. Raises Violation for an improper one, and
    for a connection that was reset while an answer was owed."""
    try:
        line = reader.readline()
        while line.startswith(b"HTTP/1.1 100 "):
            reader.readline()
            line = reader.readline()
        if not line:
            return None
        status = int(line.split()[1])
        headers = http.client.parse_headers(reader)
        body = b"" if to_head else reader.read(int(headers["content-length"]))
    except TimeoutError:
        raise Violation(f"no answer within {ANSWER_S_MAX} s") from None
    except ConnectionError:
        if owed:
            raise Violation("the connection was reset before the answer") from None
        return None
    if not to_head and int(headers["x-amz-crc32"]) != zlib.crc32(body):
        raise Violation("the checksum is not that of the body")
    if headers["content-encoding"] == "gzip":
        body = gzip.decompress(body)
    check_answer(status, body)
    return Reply(status, body, headers["connection"] == "close")


def check_answer(status: int, body: bytes) -> None:
    """Raises Violation for an answer that no request deserves."""
    if status not in PROPER_STATUSES:
        raise Violation(f"status {status}: {body[:500]!r}")
    if not body.startswith(b"{"):
        return
    try:
        parsed = json.loads(body)
    except ValueError as error:
        raise Violation(f"an answer that is not JSON: {error}: {body[:500]!r}") from error
    name = parsed.get("__type")
    if (status == 200) != (name is None):
        raise Violation(f"status {status} with {body[:500]!r}")
    if name is None:
        return
    kind = CATALOGUE.get(name.rpartition("#")[2])
    if kind is None or kind.status != status or kind.status >= 500:
        raise Violation(f"status {status} with {body[:500]!r}")


def check_usage(before: Usage | None, after: Usage | None, size: int) -> None:
    """Raises Violation when an exchange of `size` bytes, both ways, took more than its share."""
    if before is None or after is None:
        return
    allowed_s = CPU_S_BASE + CPU_S_PER_MEGABYTE * size / MEGABYTE
    taken_s = after.cpu_s - before.cpu_s
    if taken_s > allowed_s:
        raise Violation(f"{taken_s:.2f} s of CPU time for {size} bytes: {allowed_s:.2f} s are allowed")
    if after.peak_megabytes > RESIDENT_MEGABYTES_MAX:
        raise Violation(f"{after.peak_megabytes} MB resident: {RESIDENT_MEGABYTES_MAX} MB are allowed")
