"""The yardstick of the benchmarks: what Python needs for HTTP and a signature, and nothing else.

A minimal server (httptools, uvloop, the signature check alone) that answers a small JSON object to every POST. What
Geodyne adds is judged against its throughput, measured in the same run on the same machine.

    python tests/bench/yardstick.py --port 8099 --credentials FILE [--region us-east-1]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import NamedTuple, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import httptools
import uvloop

from router.auth.credentials import load
from router.auth.sigv4 import SignatureVerifier

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 2\r\n\r\n{}"
REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


class Request(NamedTuple):
    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes


class Yardstick(asyncio.Protocol):
    def __init__(self, verifier: SignatureVerifier) -> None:
        self.verifier = verifier
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        assert self.transport is not None
        try:
            self.verifier.verify(Request(b"POST", self.url, b"", self.headers, self.body), time.time())
        except Exception:
            self.transport.write(REFUSAL)
        else:
            self.transport.write(ANSWER)


async def serve(port: int, credentials: Path, region: str) -> None:
    verifier = SignatureVerifier([region], load(credentials).get)
    server = await asyncio.get_running_loop().create_server(lambda: Yardstick(verifier), "127.0.0.1", port)
    print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--credentials", type=Path, required=True)
    parser.add_argument("--region", default="us-east-1")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):  # how the benchmark ends it
        uvloop.run(serve(arguments.port, arguments.credentials, arguments.region))


if __name__ == "__main__":
    main()
