"""The gates in front of every operation: their order, their answers, what they count."""

from __future__ import annotations

import asyncio
import gzip
import logging
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from geodyne.errors import ApiError
from router.auth.sigv4 import Credential, Principal, SignatureVerifier, sign
from router.http.dynamodb import Call, DynamoDb, execute_locally, health_answer
from router.http.values import HttpRequest, HttpResponse

NOW_S = 1_795_000_000.0
ANA = Credential("AKIAANA", "secret", None, "ana")
JSON = b"application/x-amz-json-1.0"


class Echo(NamedTuple):
    name: str

    async def handler(self, body: dict[str, Any], context: tuple[str, Principal]) -> bytes:
        if "fail" in body:
            raise RuntimeError("secret detail")
        if "refuse" in body:
            raise ApiError("ConditionalCheckFailedException", "The conditional request failed", Item={"pk": {"S": "a"}})
        return orjson.dumps({"by": context[1].profile, "id": context[0]})


def front(*, checked: bool = True) -> DynamoDb:
    return DynamoDb(
        {"DynamoDB_20120810": {"GetItem": Echo("GetItem")}},
        execute_locally(lambda request_id, principal: (request_id, principal)),
        verifier=SignatureVerifier(["us-east-1"], {"AKIAANA": ANA}.get) if checked else None,
        wall_s=lambda: NOW_S,
        monotonic_s=lambda: 0.0,
    )


def request(
    body: bytes = b"{}",
    target: bytes = b"DynamoDB_20120810.GetItem",
    content_type: bytes = JSON,
    method: bytes = b"POST",
) -> HttpRequest:
    headers = {b"host": b"h", b"content-type": content_type, b"x-amz-target": target}
    headers.update(sign(ANA, "us-east-1", headers, body, NOW_S))
    return HttpRequest(method, b"/", b"", headers, body, "ID")


def answer(request: HttpRequest, *, checked: bool = True) -> HttpResponse:
    return asyncio.run(front(checked=checked).handle(request))


def kind(response: HttpResponse) -> str:
    return str(orjson.loads(response.body)["__type"])


def test_a_good_request_reaches_its_operation_with_its_principal() -> None:
    response = answer(request())
    assert response.status == 200
    assert orjson.loads(response.body) == {"by": "ana", "id": "ID"}


def test_without_signature_checks_anybody_may_come() -> None:
    unsigned = HttpRequest(
        b"POST", b"/", b"", {b"content-type": JSON, b"x-amz-target": b"DynamoDB_20120810.GetItem"}, b"{}", "ID"
    )
    assert answer(unsigned, checked=False).status == 200
    assert kind(answer(unsigned)) == "com.amazon.coral.service#MissingAuthenticationTokenException"


@pytest.mark.parametrize("changes", [{"method": b"PUT"}, {"method": b"GET"}, {"content_type": b"text/plain"}])
def test_what_is_not_a_request_of_the_protocol_is_answered_404_in_xml(changes: dict[str, bytes]) -> None:
    response = answer(request(**changes))
    assert (response.status, response.content_type) == (404, b"application/xml")
    assert b"<UnknownOperationException/>" in response.body


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"application/x-amz-json-1.0", b"application/x-amz-json-1.0"),
        (b"application/json", b"application/json"),
        (b"application/JSON; charset=utf-8", b"application/json"),
        (b"application/x-amz-json-1.0;charset=utf-8", b"application/x-amz-json-1.0"),
    ],
)
def test_the_answer_has_the_content_type_of_the_request(sent: bytes, answered: bytes) -> None:
    assert answer(request(content_type=sent)).content_type == answered
    assert answer(request(b"{", content_type=sent)).content_type == answered


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"a"', b'{"a":"\xff"}', b"[" * 100_000, b'{"a":NaN}', b'{"a":' * 5000]
)
def test_bad_json_is_a_serialization_exception_without_a_message(body: bytes) -> None:
    response = answer(request(body))
    assert response.status == 400
    assert orjson.loads(response.body) == {"__type": "com.amazon.coral.service#SerializationException"}


def test_json_is_checked_before_the_target_and_the_target_before_the_signature() -> None:
    bad = request(b"{", target=b"DynamoDB_20120810.Nothing")
    del bad.headers[b"authorization"]
    assert kind(answer(bad)) == "com.amazon.coral.service#SerializationException"
    bad = request(target=b"DynamoDB_20120810.Nothing")
    del bad.headers[b"authorization"]
    response = answer(bad)
    assert orjson.loads(response.body) == {"__type": "com.amazon.coral.service#UnknownOperationException"}


def packed(body: bytes, **more: bytes) -> HttpRequest:
    """A request with a gzip body, signed over the compressed bytes."""
    compressed = gzip.compress(body)
    headers = {b"host": b"h", b"content-type": JSON, b"x-amz-target": b"DynamoDB_20120810.GetItem"}
    headers |= {b"content-encoding": b"gzip", **{name.encode(): value for name, value in more.items()}}
    headers.update(sign(ANA, "us-east-1", headers, compressed, NOW_S))
    return HttpRequest(b"POST", b"/", b"", headers, compressed, "ID")


def test_a_gzip_body_is_read_and_its_signature_is_over_the_bytes_as_sent() -> None:
    assert orjson.loads(answer(packed(b'{"a":1}')).body)["by"] == "ana"
    assert kind(answer(packed(b"{"))) == "com.amazon.coral.service#SerializationException"
    assert kind(answer(packed(b"{}")._replace(body=b"{}"))) == "com.amazon.coral.service#InvalidSignatureException"


def test_nothing_is_inflated_for_who_has_no_key() -> None:
    bomb = packed(bytes(17 * 1024 * 1024))
    large = answer(bomb)
    assert (large.status, kind(large)) == (413, "com.amazon.coral.service#RequestEntityTooLargeException")
    del bomb.headers[b"authorization"]
    assert kind(answer(bomb)) == "com.amazon.coral.service#MissingAuthenticationTokenException"


def test_a_large_answer_is_compressed_when_asked_also_an_error() -> None:
    body = orjson.dumps({"refuse": 1})
    for text, compressed in ((b"gzip", True), (b"identity", False)):
        asking = request(body)
        asking.headers[b"accept-encoding"] = text
        response = answer(asking)
        assert response.headers == ()  # too small to gain by it
        gates = front()
        gates._execute = big
        response = asyncio.run(gates.handle(request_with(b"accept-encoding", text)))
        assert response.headers == (((b"content-encoding", b"gzip"),) if compressed else ())
        assert (gzip.decompress(response.body) if compressed else response.body) == b"a" * 4000


async def big(call: Call) -> HttpResponse:
    return HttpResponse(200, b"a" * 4000, call.content_type)


def request_with(name: bytes, value: bytes) -> HttpRequest:
    asking = request()
    asking.headers[name] = value
    return asking


def test_a_preflight_is_allowed_what_it_asks_for() -> None:
    headers = {
        b"origin": b"https://app.example",
        b"access-control-request-method": b"POST",
        b"access-control-request-headers": b"authorization,x-amz-target",
    }
    response = answer(HttpRequest(b"OPTIONS", b"/", b"", headers, b"", "ID"))
    assert (response.status, response.body) == (200, b"")
    assert dict(response.headers) == {
        b"access-control-allow-origin": b"*",
        b"access-control-allow-headers": b"authorization,x-amz-target",
        b"access-control-allow-methods": b"POST",
        b"access-control-max-age": b"172800",
    }
    assert answer(HttpRequest(b"OPTIONS", b"/", b"", {}, b"", "ID")).status == 404


@pytest.mark.parametrize("body", [b"{}", b"{", b'{"refuse":1}'])
def test_an_answer_to_another_origin_may_be_read_there(body: bytes) -> None:
    asking = request(body)
    asking.headers[b"origin"] = b"https://app.example"
    headers = dict(answer(asking).headers)
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"x-amzn-RequestId" in headers[b"access-control-expose-headers"]
    assert answer(request(body)).headers == ()


def test_an_error_of_an_operation_carries_its_prefix_and_details() -> None:
    assert orjson.loads(answer(request(b'{"refuse":1}')).body) == {
        "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        "message": "The conditional request failed",
        "Item": {"pk": {"S": "a"}},
    }


def test_an_unexpected_failure_is_logged_with_the_request_id_and_answered_without_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        response = answer(request(b'{"fail":1}'))
    assert response.status == 500
    assert kind(response) == "com.amazonaws.dynamodb.v20120810#InternalServerError"
    assert b"secret" not in response.body
    assert caplog.records[0].__dict__["request_id"] == "ID"


def test_requests_are_counted_by_operation_and_code_and_unknown_names_make_no_series() -> None:
    gates = front()

    async def run() -> None:
        for one in (
            request(),
            request(),
            request(b'{"refuse":1}'),
            request(target=b"x.Evil1"),
            request(target=b"x.Evil2"),
        ):
            await gates.handle(one)

    asyncio.run(run())
    registry = CollectorRegistry()
    registry.register(gates.metrics)
    text = generate_latest(registry).decode()
    assert 'geodyne_requests_total{code="OK",operation="GetItem"} 2.0' in text
    assert 'geodyne_requests_total{code="ConditionalCheckFailedException",operation="GetItem"} 1.0' in text
    assert 'geodyne_requests_total{code="UnknownOperationException",operation="Unknown"} 2.0' in text
    assert 'geodyne_request_seconds_bucket{le="+Inf",operation="GetItem"} 3.0' in text
    assert 'geodyne_request_seconds_count{operation="GetItem"} 3.0' in text
    assert "geodyne_requests_in_flight 0.0" in text
    assert "Evil" not in text


def test_the_health_answer_names_the_region() -> None:
    assert health_answer("eu-west-1")(request()).body == b"healthy: dynamodb.eu-west-1.amazonaws.com "


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=40), st.dictionaries(st.sampled_from([b"content-type", b"x-amz-target"]), st.binary(max_size=30))
)
def test_no_request_is_answered_500(body: bytes, headers: dict[bytes, bytes]) -> None:
    assert answer(request(body)._replace(headers={**request(body).headers, **headers})).status in (200, 400, 404)
