"""Spoilt requests against a real process: a short run with every change, a long one at times; the rules tested too."""

from __future__ import annotations

import secrets
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.auth.sigv4 import Credential
from tests.fuzz import fuzzing, oracle
from tests.fuzz.oracle import Usage, Violation
from tests.fuzz.wire import Ending, Exchange, Signer

SEED = 2026
CASES = 1500  # some three seconds on a quiet machine
LONG_S = 300.0
SEVERAL_ANSWERS = 5  # of a run that reached the operations and did not only bounce off the gates


def test_no_spoilt_request_gets_more_than_a_proper_answer(tmp_path: Path) -> None:
    with fuzzing.service(tmp_path) as service:
        outcome = fuzzing.run(service, SEED, cases=CASES)
    assert outcome.failure is None, outcome.failure
    assert outcome.cases == CASES
    assert len(outcome.answers) > SEVERAL_ANSWERS
    assert outcome.answers["200"] > CASES // 20


@pytest.mark.long
def test_five_minutes_of_spoilt_requests_from_a_new_seed(tmp_path: Path) -> None:
    with fuzzing.service(tmp_path) as service:
        outcome = fuzzing.run(service, secrets.randbelow(1_000_000), seconds=LONG_S)
    assert outcome.failure is None, outcome.failure


def test_a_case_follows_from_its_seed_and_number() -> None:
    signer = Signer(Credential("AKIAFUZZ", "secret"), "us-east-1")
    for number in range(200):
        one, other = (fuzzing.case(SEED, number, signer) for _ in range(2))
        assert one[0] == other[0]
        assert one[1].ending is other[1].ending
        assert one[1].size == other[1].size  # dates and signatures differ from second to second, lengths do not


def head(status: str, body: bytes, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(body) if crc is None else crc
    return f"HTTP/1.1 {status}\r\nx-amz-crc32: {checksum}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


BAD_REQUEST = b'{"__type":"com.amazon.coral.validate#ValidationException","message":"x"}'
INTERNAL = b'{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError"}'


@pytest.fixture
def answering() -> Iterator[list[bytes]]:
    """What a server that reads one request will answer; the list's first element is its port, in text."""
    script: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(script[1])

        script.append(str(listener.getsockname()[1]).encode())
        thread = threading.Thread(target=serve)
        thread.start()
        yield script
        thread.join()


def told(answering: list[bytes], answer: bytes, answers: int = 1) -> list[oracle.Reply]:
    answering.append(answer)
    return oracle.perform(("127.0.0.1", int(answering[0])), Exchange([b"x"], Ending.READ, answers))


def test_proper_answers_are_let_pass(answering: list[bytes]) -> None:
    replies = told(answering, head("200 OK", b"{}") + head("400 Bad Request", BAD_REQUEST), 2)
    assert [reply.status for reply in replies] == [200, 400]


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (b"", "0 answers to 1"),
        (head("500 Internal Server Error", INTERNAL), "status 500"),
        (head("503 Service Unavailable", b""), "status 503"),
        (head("200 OK", BAD_REQUEST), "status 200"),
        (head("400 Bad Request", b"{}"), "status 400"),
        (head("400 Bad Request", b'{"__type":"x#Nonsense"}'), "status 400"),
        (head("400 Bad Request", INTERNAL), "status 400"),
        (head("200 OK", b'{"Item":'), "not JSON"),
        (head("200 OK", b"{}", crc=1), "checksum"),
    ],
)
def test_improper_answers_are_seen(answering: list[bytes], answer: bytes, part: str) -> None:
    with pytest.raises(Violation, match=part):
        told(answering, answer)


def test_time_and_memory_out_of_proportion_are_seen() -> None:
    before = Usage(10.0, 100)
    oracle.check_usage(before, Usage(10.9, 100), 0)
    oracle.check_usage(before, Usage(12.0, 100), oracle.MEGABYTE)
    oracle.check_usage(None, None, 0)
    with pytest.raises(Violation, match="CPU time"):
        oracle.check_usage(before, Usage(12.0, 100), 1000)
    with pytest.raises(Violation, match="resident"):
        oracle.check_usage(before, Usage(10.0, oracle.RESIDENT_MEGABYTES_MAX + 1), 0)
