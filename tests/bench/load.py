"""Pre-signed load from wrk, and the CPU that the servers spent on it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

PRESIGNED = 2_000  # distinct requests, sent in turn
KEYS = 500  # so that a put always replaces a different image: one that changes nothing would not be logged
ITEM_BYTES = 1024

_SCRIPT = """
local requests = {{}}
local file = io.open("{path}", "rb")
while true do
  local line = file:read("*l")
  if not line then break end
  local size = tonumber(line)
  requests[#requests + 1] = file:read(size)
  file:read(1)
end
file:close()
local number = 0
function request()
  number = number + 1
  if number > #requests then number = 1 end
  return requests[number]
end
"""


@dataclass(frozen=True, slots=True)
class Server:
    """Something that answers DynamoDB requests. `pids`: all processes whose CPU counts, `nodes`: those of them that are
    nodes alone; `metrics`: host:port of the metrics page of each node."""

    name: str
    host: str
    port: int
    region: str
    access_key: str
    secret_key: str
    pids: tuple[int, ...]
    metrics: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of all server processes, per request


def signed(server: Server, operation: str, body: dict[str, Any], service: str = "DynamoDB_20120810") -> bytes:
    """One HTTP/1.1 request as bytes."""
    payload = orjson.dumps(body)
    host = f"{server.host}:{server.port}"
    headers = {
        "Host": host,
        "X-Amz-Target": f"{service}.{operation}",
        "Content-Type": "application/x-amz-json-1.0",
    }
    request = AWSRequest("POST", f"http://{host}/", data=payload, headers=headers)
    SigV4Auth(Credentials(server.access_key, server.secret_key), "dynamodb", server.region).add_auth(request)
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join(["POST / HTTP/1.1", *lines, f"Content-Length: {len(payload)}", "", ""])
    return head.encode() + payload


def item(number: int) -> dict[str, Any]:
    """An item of 1 KB in the size of DynamoDB; consecutive numbers of one key have different contents."""
    text = "x" * (ITEM_BYTES - 60)
    return {
        "pk": {"S": f"key-{number % KEYS:06d}"},
        "text": {"S": text},
        "n": {"N": str(number)},
        "flag": {"BOOL": True},
    }


def puts(table: str) -> list[tuple[str, dict[str, Any]]]:
    return [("PutItem", {"TableName": table, "Item": item(number)}) for number in range(PRESIGNED)]


def gets(table: str, strong: bool) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("GetItem", {"TableName": table, "Key": {"pk": {"S": f"key-{number % KEYS:06d}"}}, "ConsistentRead": strong})
        for number in range(PRESIGNED)
    ]


def run(server: Server, requests: Sequence[tuple[str, dict[str, Any]]], connections: int, seconds: int) -> Figures:
    """Drive a server with wrk. Raises AssertionError when any answer was not a success."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory, "requests")
        with data.open("wb") as file:
            for operation, body in requests:
                raw = signed(server, operation, body)
                file.write(b"%d\n%s\n" % (len(raw), raw))
        script = Path(directory, "load.lua")
        script.write_text(_SCRIPT.format(path=data))
        before = cpu_seconds(server.pids)
        output = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds}s",
                "--latency",
                "-s",
                str(script),
                f"http://{server.host}:{server.port}/",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        cpu = cpu_seconds(server.pids) - before
    for trouble in ("Non-2xx", "Socket errors"):
        assert trouble not in output, f"{server.name}: {output}"
    count = int(_find(r"(\d+) requests in", output))
    return Figures(
        per_second=float(_find(r"Requests/sec:\s+([\d.]+)", output)),
        p50_ms=_milliseconds(_find(r"50%\s+([\d.]+\w+)", output)),
        p99_ms=_milliseconds(_find(r"99%\s+([\d.]+\w+)", output)),
        cpu_us=cpu * 1e6 / max(1, count),
    )


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of the processes so far."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, f"wrk said: {text}"
    return match.group(1)


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]
