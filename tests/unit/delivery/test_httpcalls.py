"""HTTP functions: what is sent, and what each kind of answer means."""

from __future__ import annotations

import pytest

from delivery import httpcalls
from delivery.httpcalls import HttpFunction
from delivery.verdict import NotReached, Raised, Reply, Returned
from geodyne.triggers.functions import FunctionSpec
from tests.unit.delivery.http_peer import Peer, Request, response, with_peer


def called(*answers: bytes | None, timeout_s: float = 5.0) -> tuple[Reply, list[Request]]:
    replies: list[Reply] = []
    requests: list[Request] = []

    async def use(peer: Peer) -> None:
        function = HttpFunction(FunctionSpec("f", "http", url=peer.url, timeout_s=timeout_s), arn="arn:f")
        replies.append(await function.call(b'{"Records":[]}', "request-1"))
        requests.extend(peer.requests)

    with_peer(use, *answers)
    return replies[0], requests


def test_the_event_is_posted_and_the_body_is_the_response() -> None:
    reply, [request] = called(response(200, b'{"batchItemFailures": []}'))
    assert reply == Returned({"batchItemFailures": []})
    assert request.line == "POST /call?x=1 HTTP/1.1"
    assert request.body == b'{"Records":[]}'
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-amzn-requestid"] == "request-1"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response(200), None),
        (response(202, b" \n"), None),
        (response(200, b"fine"), "fine"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n", [1]),
        (b"HTTP/1.1 200 OK\r\nServer: old\r\n\r\n[1]", [1]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + response(200, b"[1]"), [1]),
    ],
)
def test_bodies_of_every_form_are_read(answer: bytes, expected: object) -> None:
    assert called(answer)[0] == Returned(expected)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (response(500, b"oh"), "Unhandled"),
        (response(404), "Unhandled"),
        (response(302, b"", "Location: http://elsewhere/"), "Unhandled"),
        (response(200, b'{"errorMessage":"x"}', "X-Amz-Function-Error: Handled"), "Handled"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "Unhandled"),
        (b"not HTTP at all\r\n\r\n", "Unhandled"),
        (b"", "Unhandled"),
        (b"HTTP/1.1 200 OK\r\nServer: cut off\r\n", "Unhandled"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", "Unhandled"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nServer: cut off\r\n", "Unhandled"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * httpcalls.HEADER_BYTES_MAX + b"\r\n\r\n", "Unhandled"),
    ],
)
def test_other_answers_are_failures_of_the_function(answer: bytes, error: str) -> None:
    reply = called(answer)[0]
    assert isinstance(reply, Raised)
    assert reply.error == error


def test_an_answer_that_is_too_large_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpcalls, "RESPONSE_BYTES_MAX", 10)
    assert isinstance(called(response(200, b"x" * 10))[0], Returned)
    assert isinstance(called(response(200, b"x" * 11))[0], Raised)


def test_silence_beyond_the_time_limit_is_a_failure() -> None:
    reply = called(None, timeout_s=0.1)[0]
    assert isinstance(reply, Raised)
    assert "0.1 s" in reply.detail


def test_a_throttled_call_did_not_reach_the_function() -> None:
    assert isinstance(called(response(429))[0], NotReached)


def test_a_call_that_finds_nobody_did_not_reach_the_function() -> None:
    async def use(peer: Peer) -> None:
        url = peer.url
        await peer.__aexit__()
        for wrong in (url, "http://127.0.0.1:99999/", "http:///nowhere", "http://a..b/"):
            function = HttpFunction(FunctionSpec("f", "http", url=wrong), arn="arn:f")
            assert isinstance(await function.call(b"{}", "r"), NotReached)

    with_peer(use, b"")
