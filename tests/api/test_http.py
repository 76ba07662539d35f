"""HTTP under the protocol, over sockets of the tests' own: framing, compression, browsers, and what is no request."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.api.service import AMZ_JSON, REQUEST_S_MAX, TARGET, Item, Service

CORAL = "com.amazon.coral.service#"


class Raw(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connection that sends what it is told, byte for byte, and reads answers one by one."""

    def __init__(self, service: Service) -> None:
        parts = urlsplit(service.endpoint)
        self.host = parts.netloc
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), REQUEST_S_MAX)
        self._reader = self._socket.makefile("rb")

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def line(self) -> bytes:
        return self._reader.readline()

    def at_end(self) -> bool:
        return self._reader.read(1) == b""

    def answer(self, *, to_head: bool = False) -> Raw:
        status = int(self.line().split()[1])
        headers = {name.lower(): value for name, value in http.client.parse_headers(self._reader).items()}
        body = b"" if to_head else self._reader.read(int(headers["content-length"]))
        assert to_head or int(headers["x-amz-crc32"]) == zlib.crc32(body)
        assert len(headers["x-amzn-requestid"]) == 52
        return Raw(status, headers, body)


@pytest.fixture
def wire(service: Service) -> Iterator[Wire]:
    wire = Wire(service)
    yield wire
    wire.close()


def signed(wire: Wire, service: Service, operation: str, body: bytes, **more: str) -> dict[str, str]:
    """The headers of a signed request, without those that frame its body."""
    headers = {"Host": wire.host, "X-Amz-Target": TARGET + operation, "Content-Type": AMZ_JSON, **more}
    request = AWSRequest("POST", f"http://{wire.host}/", data=body, headers=headers)
    credentials: Credentials = service._credentials
    SigV4Auth(credentials, "dynamodb", service.region).add_auth(request)
    return {**dict(request.headers.items()), **more}


def head(headers: dict[str, str], framing: bytes, start: bytes = b"POST / HTTP/1.1") -> bytes:
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    return start + b"\r\n" + lines + framing + b"\r\n\r\n"


def whole(wire: Wire, service: Service, operation: str, body: bytes, **more: str) -> bytes:
    return head(signed(wire, service, operation, body, **more), b"Content-Length: %d" % len(body)) + body


def described(table: str) -> bytes:
    return json.dumps({"TableName": table}).encode()


def test_a_chunked_body_is_read(wire: Wire, service: Service, table: str) -> None:
    body = described(table)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:3], body[3:4], body[4:]))
    wire.send(head(signed(wire, service, "DescribeTable", body), b"Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")
    assert wire.answer().json["Table"]["TableName"] == table


def test_a_client_that_expects_to_be_told_to_go_on_is_told(wire: Wire, service: Service) -> None:
    headers = signed(wire, service, "ListTables", b"{}")
    wire.send(head(headers, b"Expect: 100-continue\r\nContent-Length: 2"))
    assert wire.line() == b"HTTP/1.1 100 Continue\r\n"
    assert wire.line() == b"\r\n"
    wire.send(b"{}")
    assert wire.answer().status == 200


def test_pipelined_requests_are_answered_in_order(wire: Wire, service: Service, table: str) -> None:
    names = [table, "missing-one", table, "missing-two", "missing-three"]
    wire.send(b"".join(whole(wire, service, "DescribeTable", described(name)) for name in names))
    answers = [wire.answer() for _ in names]
    assert [answer.status for answer in answers] == [200, 400, 200, 400, 400]
    assert [name in answer.body.decode() for name, answer in zip(names, answers, strict=True)] == [True] * 5


def test_a_connection_stays_until_someone_wants_it_closed(wire: Wire, service: Service) -> None:
    for _ in range(3):
        wire.send(whole(wire, service, "ListTables", b"{}"))
        assert wire.answer().headers["connection"] == "keep-alive"
    wire.send(whole(wire, service, "ListTables", b"{}", Connection="close"))
    assert wire.answer().headers["connection"] == "close"
    assert wire.at_end()


def test_http_1_0_is_served_and_closed(wire: Wire, service: Service) -> None:
    headers = signed(wire, service, "ListTables", b"{}")
    wire.send(head(headers, b"Content-Length: 2", b"POST / HTTP/1.0") + b"{}")
    assert wire.answer().status == 200
    assert wire.at_end()


def test_a_client_that_closed_its_side_still_gets_its_answer(wire: Wire, service: Service) -> None:
    wire.send(whole(wire, service, "ListTables", b"{}"))
    wire.half_close()
    assert wire.answer().status == 200
    assert wire.at_end()


def test_a_gzip_body_is_read(wire: Wire, service: Service, table: str, key: Item) -> None:
    item = {**key, "text": {"S": "many words " * 1000}}
    body = gzip.compress(json.dumps({"TableName": table, "Item": item}).encode())
    wire.send(whole(wire, service, "PutItem", body, **{"Content-Encoding": "gzip"}))
    assert wire.answer()[::2] == (200, b"{}")
    assert service.get(table, key) == item


@pytest.mark.parametrize("body", [b"{}", b"\x1f\x8b\x08", gzip.compress(b"{", mtime=0), gzip.compress(b"[]", mtime=0)])
def test_a_broken_gzip_body_is_a_serialization_error(wire: Wire, service: Service, body: bytes) -> None:
    wire.send(whole(wire, service, "ListTables", body, **{"Content-Encoding": "gzip"}))
    answer = wire.answer()
    assert (answer.status, answer.json) == (400, {"__type": CORAL + "SerializationException"})


def test_a_small_body_that_inflates_beyond_the_limit_is_too_large(wire: Wire, service: Service) -> None:
    body = gzip.compress(b" " * (40 * 1024 * 1024))
    wire.send(whole(wire, service, "ListTables", body, **{"Content-Encoding": "gzip"}))
    answer = wire.answer()
    assert (answer.status, answer.json["__type"]) == (413, CORAL + "RequestEntityTooLargeException")


def test_a_large_answer_is_compressed_for_who_asks(wire: Wire, service: Service, table: str, key: Item) -> None:
    item = {**key, "text": {"S": "many words " * 1000}}
    service.do("PutItem", TableName=table, Item=item)
    read = json.dumps({"TableName": table, "Key": key, "ConsistentRead": True}).encode()
    wire.send(whole(wire, service, "GetItem", read, **{"Accept-Encoding": "gzip, deflate"}))
    answer = wire.answer()
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.body) < 1000
    assert json.loads(gzip.decompress(answer.body)) == {"Item": item}
    wire.send(whole(wire, service, "GetItem", read, **{"Accept-Encoding": "identity"}))
    plain = wire.answer()
    assert "content-encoding" not in plain.headers
    assert plain.json == {"Item": item}


def test_a_browser_is_allowed_to_ask_and_to_read(wire: Wire, service: Service) -> None:
    asked = {
        "Host": wire.host,
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-amz-target",
    }
    wire.send(head(asked, b"Content-Length: 0", b"OPTIONS / HTTP/1.1"))
    preflight = wire.answer()
    assert (preflight.status, preflight.body) == (200, b"")
    assert "content-type" not in preflight.headers
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-methods"] == "POST"
    assert preflight.headers["access-control-allow-headers"] == "content-type,x-amz-target"
    assert preflight.headers["access-control-max-age"] == "172800"
    for body in (b"{}", b"{"):
        wire.send(whole(wire, service, "ListTables", body, Origin="https://app.example"))
        answer = wire.answer()
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "x-amzn-RequestId" in answer.headers["access-control-expose-headers"]


def test_an_answer_to_no_other_origin_says_nothing_of_origins(wire: Wire, service: Service) -> None:
    wire.send(whole(wire, service, "ListTables", b"{}"))
    assert not [name for name in wire.answer().headers if name.startswith("access-control")]


def test_the_health_answer_names_the_region(wire: Wire, service: Service) -> None:
    wire.send(head({"Host": wire.host}, b"Accept: */*", b"GET / HTTP/1.1"))
    assert wire.answer()[::2] == (200, f"healthy: dynamodb.{service.region}.amazonaws.com ".encode())


@pytest.mark.parametrize("start", [b"GET /other", b"PUT /", b"DELETE /", b"PATCH /x", b"OPTIONS /"])
def test_what_is_no_post_is_no_operation(wire: Wire, start: bytes) -> None:
    wire.send(head({"Host": wire.host, "Content-Type": AMZ_JSON}, b"Content-Length: 0", start + b" HTTP/1.1"))
    answer = wire.answer()
    assert (answer.status, answer.body) == (404, b"<UnknownOperationException/>\n")


def test_head_is_answered_without_a_body(wire: Wire, service: Service) -> None:
    wire.send(head({"Host": wire.host}, b"Accept: */*", b"HEAD / HTTP/1.1") + whole(wire, service, "ListTables", b"{}"))
    assert wire.answer(to_head=True).status == 404
    assert wire.answer().status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-amz-json-1.1", "application/xml", ""])
def test_another_content_type_is_no_operation(wire: Wire, service: Service, content_type: str) -> None:
    wire.send(whole(wire, service, "ListTables", b"{}", **{"Content-Type": content_type}))
    assert wire.answer()[::2] == (404, b"<UnknownOperationException/>\n")


@pytest.mark.parametrize("host", ["123456789012.ddb.us-east-1.amazonaws.com", "dynamodb.us-east-1.api.aws", "any"])
def test_any_host_is_served(wire: Wire, service: Service, host: str) -> None:
    wire.host = host  # the signature is over this name, as a client with such an endpoint makes it
    wire.send(whole(wire, service, "ListTables", b"{}"))
    assert wire.answer().status == 200


@pytest.mark.parametrize("mode", ["preferred", "disabled", "required"])
def test_boto3_serves_itself_in_every_account_id_endpoint_mode(service: Service, mode: str) -> None:
    session = boto3.Session()
    session._session.set_credentials("api-suite", "api-suite-secret", account_id="123456789012")
    client = session.client(
        "dynamodb",
        endpoint_url=service.endpoint,
        region_name=service.region,
        config=Config(account_id_endpoint_mode=mode, retries={"total_max_attempts": 1}),
    )
    try:
        assert "TableNames" in client.list_tables()
    finally:
        client.close()


@pytest.mark.parametrize(("size", "status"), [(16 * 1024 * 1024 - 1024, 400), (17 * 1024 * 1024, 413)])
def test_a_body_of_more_than_16_megabytes_is_too_large(wire: Wire, service: Service, size: int, status: int) -> None:
    body = b'{"TableName":"' + b"x" * size + b'"}'
    wire.send(whole(wire, service, "DescribeTable", body))
    answer = wire.answer()
    assert answer.status == status
    assert answer.json["__type"].startswith("com.amazon.coral.")
