"""A stand-in for a node, router or replicator: reads its launch file, serves /healthz and /status, ends on SIGTERM.
It reports to a supervisor that gave it a listener, and waits for the address of its predecessor.

Behaviour by files beside the launch file: NAME.fail makes it end at once with a message, NAME.deaf ignore SIGTERM.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType

launch_file = Path(sys.argv[-1])
config = json.loads(launch_file.read_text())
partition = {"table": "t", "id": 1, "leader": "", "replicas": ["r/node-a"]}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if config["process_id"].endswith("node-a"):
            partition["leader"] = config["process_id"]
        body = json.dumps({"partitions": [partition]} if self.path == "/status" else {"status": "ok"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def say(line: bytes) -> None:
    if "GEODYNE_REPORT_FD" in os.environ:
        os.write(int(os.environ["GEODYNE_REPORT_FD"]), line)


def serve() -> None:
    while True:
        try:
            server = HTTPServer(("127.0.0.1", config["metrics"]["port"]), Handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or "GEODYNE_LISTENER_FD" not in os.environ:
                raise
            time.sleep(0.02)
        else:
            server.serve_forever(poll_interval=0.05)


def leave(number: int, frame: FrameType | None) -> None:
    with open(launch_file.parent.parent.parent / "order.txt", "a") as order:
        order.write(config["process_id"] + "\n")
    say(b"leaving\n")
    sys.exit(0)


if launch_file.with_suffix(".fail").exists():
    sys.exit("the disk is on fire")
signal.signal(signal.SIGTERM, signal.SIG_IGN if launch_file.with_suffix(".deaf").exists() else leave)
say(b"serving\n")
serve()
