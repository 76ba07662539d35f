"""Small stand-ins for Kinesis Data Streams and S3, in the test's own process: they keep what they get, and fail when
the test says so."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, Self

THROTTLED = "ProvisionedThroughputExceededException"
INTERNAL = "InternalFailure"
RECORD_BYTES_MAX = 1 << 20
REQUEST_BYTES_MAX = 5 << 20


class _QuietServer(ThreadingHTTPServer):
    """Clients that are killed are part of the tests."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Server:
    """A context manager around an HTTP server on a free port of the loopback interface."""

    def __init__(self) -> None:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: Any) -> None:
                """Requests are of no interest."""

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with stub.lock:
                    status, answer = stub.answer(self.command, self.path, dict(self.headers.items()), body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_PUT = _serve

        self.lock = threading.Lock()
        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        raise NotImplementedError


class KinesisStub(_Server):
    """DescribeStream and PutRecords. `streams` has what each data stream got, in the order of arrival.

    `faults`: error codes of the next requests, one each, "" for none; `entry_faults`: how many of ten records are
    put off, by chance; `poison`: a request with a record that contains this is refused as a whole."""

    def __init__(self, *names: str, seed: int = 1) -> None:
        super().__init__()
        self.streams: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        self.keys: dict[str, set[str]] = {}
        self.faults: deque[str] = deque()
        self.entry_faults = 0
        self.poison = b""
        self.requests = 0
        self.put_off = 0
        self._random = Random(seed)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        operation = headers["X-Amz-Target"].partition(".")[2]
        asked = json.loads(body)
        records = self.streams.get(asked["StreamName"])
        if records is None:
            return _error("ResourceNotFoundException", f"Stream {asked['StreamName']} not found.")
        if operation == "DescribeStream":
            return 200, _json({"StreamDescription": {"StreamName": asked["StreamName"], "StreamStatus": "ACTIVE"}})
        assert operation == "PutRecords", operation
        self.requests += 1
        fault = self.faults.popleft() if self.faults else ""
        if fault:
            return _error(fault, "by order of the test", 500 if fault == INTERNAL else 400)
        return self._put(records, [(base64.b64decode(one["Data"]), one["PartitionKey"]) for one in asked["Records"]])

    def _put(self, records: list[dict[str, Any]], entries: list[tuple[bytes, str]]) -> tuple[int, bytes]:
        assert 0 < len(entries) <= 500
        assert sum(len(data) + len(key) for data, key in entries) <= REQUEST_BYTES_MAX
        if any(len(data) > RECORD_BYTES_MAX or (self.poison and self.poison in data) for data, _ in entries):
            return _error("ValidationException", "1 validation error detected")
        outcomes: list[dict[str, Any]] = []
        for data, key in entries:
            if self._random.randrange(10) < self.entry_faults:
                self.put_off += 1
                outcomes.append({"ErrorCode": self._random.choice((THROTTLED, INTERNAL)), "ErrorMessage": "later"})
                continue
            record = json.loads(data)
            records.append(record)
            self.keys.setdefault(json.dumps(record["dynamodb"]["Keys"]), set()).add(key)
            outcomes.append({"SequenceNumber": str(len(records)), "ShardId": "shardId-000000000000"})
        failed = sum("ErrorCode" in outcome for outcome in outcomes)
        return 200, _json({"FailedRecordCount": failed, "Records": outcomes})


class S3Stub(_Server):
    """PutObject with the bucket in the path. `objects` by bucket and key; the next `faults` requests fail."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.faults = 0

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        assert method == "PUT", method
        if self.faults:
            self.faults -= 1
            return 503, b"<Error><Code>SlowDown</Code><Message>later</Message></Error>"
        self.objects[path.lstrip("/").partition("?")[0]] = body
        return 200, b""


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _error(code: str, message: str, status: int = 400) -> tuple[int, bytes]:
    return status, _json({"__type": code, "message": message})
