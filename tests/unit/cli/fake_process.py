"""A stand-in for a node, router or replicator: reads its launch file, serves /healthz and /status, ends on SIGTERM.
It reports to a supervisor that gave it a listener, and waits for the address of its predecessor.

Behaviour by files beside the launch file: NAME.fail makes it end at once with a message, NAME.deaf ignore SIGTERM,
NAME.patient end only at a second one.
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
data_dir = launch_file.parent.parent.parent
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

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/admin/reload":
            with open(data_dir / "reloads.txt", "a") as reloads:
                reloads.write(config["process_id"] + "\n")
            config["topology"] = json.loads(launch_file.read_text())["topology"]
            answer: dict[str, object] = {"nodes": {}}
        else:
            answer = administer(request["operation"], request["body"])
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def administer(operation: str, body: dict[str, object]) -> dict[str, object]:
    """A catalog of nodes that forgets nothing: their states are a file. A drained node has nothing left at once."""
    file = data_dir / "states.json"
    states = json.loads(file.read_text()) if file.exists() else {}
    for process in config["topology"]["regions"][0]["processes"]:
        if process["role"] == "node":
            states.setdefault(process["id"], "ACTIVE")
    node = str(body.get("node", ""))
    if operation == "node_remove" and states[node] == "ACTIVE" and not body["force"]:
        return {"error": f"Node {node} is active; drain it first"}
    if operation != "node_list":
        states[node] = {"node_drain": "DRAINING", "node_activate": "ACTIVE", "node_remove": "LEFT"}[operation]
    file.write_text(json.dumps(states))
    members = [
        {"node": id_, "zone": "a", "state": state, "replicas": int(state == "ACTIVE"), "joining": 0}
        for id_, state in states.items()
    ]
    if operation == "node_list":
        return {"result": {"members": members, "moves": 0}}
    return {"result": next(member for member in members if member["node"] == node)}


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
    with open(data_dir / "order.txt", "a") as order:
        order.write(config["process_id"] + "\n")
    patient = launch_file.with_suffix(".patient").exists() and "GEODYNE_LISTENER_FD" in os.environ
    # A patient one goes on until it is told once more. That may follow at once, to a word that it says here.
    signal.signal(signal.SIGTERM, (lambda *_: sys.exit(0)) if patient else signal.SIG_IGN)
    say(b"leaving\n")
    if not patient:
        sys.exit(0)


if launch_file.with_suffix(".fail").exists():
    sys.exit("the disk is on fire")
signal.signal(signal.SIGTERM, signal.SIG_IGN if launch_file.with_suffix(".deaf").exists() else leave)
say(b"serving\n")
serve()
