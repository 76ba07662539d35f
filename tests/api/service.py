"""The service under test as its clients see it: a raw connection without a client library's own validation, and boto3.

`GEODYNE_API_ENDPOINT` names another endpoint than a fresh `geodyne dev`; region and credentials then come from the
usual AWS variables. The suite makes its own tables and removes them.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

ENDPOINT_VARIABLE = "GEODYNE_API_ENDPOINT"
REQUEST_S_MAX = 30.0
IDLE_S_MAX = 20
TABLE_READY_S_MAX = 60.0
STOP_S_MAX = 10.0
TARGET = "DynamoDB_20120810."
STREAMS_TARGET = "DynamoDBStreams_20120810."
STREAM_OPERATIONS = frozenset({"ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"})
AMZ_JSON = "application/x-amz-json-1.0"

Item = dict[str, Any]


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """The error's name, without the prefix of its `__type`."""
        return str(self.body["__type"]).rpartition("#")[2]

    @property
    def message(self) -> str | None:
        text = self.body.get("message", self.body.get("Message"))
        return None if text is None else str(text)


class RefusedError(Exception):
    """An error answer where none was expected."""

    def __init__(self, operation: str, answer: Answer) -> None:
        super().__init__(f"{operation}: {answer.status} {answer.body}")
        self.answer = answer


class Service:
    """One keep-alive connection. `key_prefix` makes keys that no other run of the suite uses."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        self._credentials = Credentials(
            os.environ.get("AWS_ACCESS_KEY_ID", "api-suite"),
            os.environ.get("AWS_SECRET_ACCESS_KEY", "api-suite-secret"),
        )
        parts = urlsplit(endpoint)
        factory = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = factory(parts.hostname or "", parts.port, timeout=REQUEST_S_MAX)
        self._used_s = time.monotonic()
        self._run = secrets.token_hex(4)
        self._keys = 0

    def close(self) -> None:
        self._connection.close()

    def unique(self, stem: str = "k") -> str:
        """A text that is used nowhere else: for keys and names of tables."""
        self._keys += 1
        return f"{stem}-{self._run}-{self._keys}"

    def boto3_client(self, service: str = "dynamodb") -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self._credentials.access_key,
            aws_secret_access_key=self._credentials.secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def send(self, payload: bytes, headers: dict[str, str], method: str = "POST") -> Answer:
        """One request as it is; the body of the answer is parsed when it is JSON."""
        signed = AWSRequest(method=method, url=self.endpoint + "/", data=payload, headers=headers)
        SigV4Auth(self._credentials, "dynamodb", self.region).add_auth(signed)
        if time.monotonic() - self._used_s > IDLE_S_MAX:  # a server closes what was idle for long
            self._connection.close()
        self._used_s = time.monotonic()
        self._connection.request(method, "/", body=payload, headers=dict(signed.headers.items()))
        response = self._connection.getresponse()
        raw = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        body = json.loads(raw) if raw[:1] == b"{" else raw
        return Answer(response.status, body, found)

    def call(self, operation: str, body: Any) -> Answer:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        prefix = STREAMS_TARGET if operation in STREAM_OPERATIONS else TARGET
        return self.send(payload, {"X-Amz-Target": prefix + operation, "Content-Type": AMZ_JSON})

    def do(self, operation: str, **body: Any) -> dict[str, Any]:
        """The answer of an operation that must succeed."""
        answer = self.call(operation, body)
        if answer.status != 200:
            raise RefusedError(operation, answer)
        result: dict[str, Any] = answer.body
        return result

    def refused(self, operation: str, body: Any) -> tuple[str, str | None]:
        """Name and text of the error of an operation that must fail with HTTP 400."""
        answer = self.call(operation, body)
        assert answer.status == 400, (answer.status, answer.body)
        return answer.code, answer.message

    def invalid(self, operation: str, **body: Any) -> str:
        """The text of the ValidationException that an operation must end in."""
        code, message = self.refused(operation, body)
        assert code == "ValidationException", (code, message)
        return message or ""

    def get(self, table: str, key: Item) -> Item | None:
        found: Item | None = self.do("GetItem", TableName=table, Key=key, ConsistentRead=True).get("Item")
        return found

    def wait_active(self, table: str) -> dict[str, Any]:
        """DescribeTable until the table is ACTIVE; asks as fast as answers come, because they take their time."""
        end = time.monotonic() + TABLE_READY_S_MAX
        while time.monotonic() < end:
            description: dict[str, Any] = self.do("DescribeTable", TableName=table)["Table"]
            if description["TableStatus"] == "ACTIVE":
                return description
        raise AssertionError(f"{table} did not become ACTIVE")

    def wait_gone(self, table: str) -> None:
        end = time.monotonic() + TABLE_READY_S_MAX
        while time.monotonic() < end:
            if self.call("DescribeTable", {"TableName": table}).status == 400:
                return
        raise AssertionError(f"{table} was not deleted")

    def create(self, name: str, hash_type: str = "S", range_type: str | None = None, **more: Any) -> str:
        """A table with keys "pk" and, with a range type, "sk", ready for use."""
        keys, types = schema(hash_type, range_type)
        billing = {} if "BillingMode" in more or "ProvisionedThroughput" in more else {"BillingMode": "PAY_PER_REQUEST"}
        self.do("CreateTable", TableName=name, KeySchema=keys, AttributeDefinitions=types, **billing, **more)
        self.wait_active(name)
        return name


def schema(hash_type: str = "S", range_type: str | None = None) -> tuple[list[Item], list[Item]]:
    """KeySchema and AttributeDefinitions of keys "pk" and "sk"."""
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}]
    types = [{"AttributeName": "pk", "AttributeType": hash_type}]
    if range_type is not None:
        keys.append({"AttributeName": "sk", "KeyType": "RANGE"})
        types.append({"AttributeName": "sk", "AttributeType": range_type})
    return keys, types


@contextmanager
def endpoint(directory: Path) -> Iterator[str]:
    """The endpoint asked for by the environment, or that of a `geodyne dev` of our own."""
    named = os.environ.get(ENDPOINT_VARIABLE)
    if named:
        yield named.rstrip("/")
        return
    program = [sys.executable, "-m", "geodyne.cli", "dev", "--port", "0", "--log-level", "warning"]
    program += ["--data-dir", str(directory / "data"), "--ttl-interval", "0.2"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " ready at " in line, line
        yield line.partition(" ready at ")[2].split()[0]
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)
        if process.stdout is not None:
            process.stdout.close()
