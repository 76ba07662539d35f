"""A stand-in for a node, router or replicator: reads its launch file, serves /healthz and /status, ends on SIGTERM.

Behaviour by files beside the launch file: NAME.fail makes it end at once with a message, NAME.deaf ignore SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
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


def leave(number: int, frame: FrameType | None) -> None:
    with open(launch_file.parent.parent.parent / "order.txt", "a") as order:
        order.write(config["process_id"] + "\n")
    sys.exit(0)


if launch_file.with_suffix(".fail").exists():
    sys.exit("the disk is on fire")
signal.signal(signal.SIGTERM, signal.SIG_IGN if launch_file.with_suffix(".deaf").exists() else leave)
HTTPServer(("127.0.0.1", config["metrics"]["port"]), Handler).serve_forever(poll_interval=0.05)
