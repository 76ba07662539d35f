"""Cases by number: each follows from the seed and its own number alone, so that any of them can be sent again."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from router.api.registry import OPERATIONS
from router.auth.credentials import first, generate, load
from tests.fuzz import corpus, mutations, oracle, wire
from tests.fuzz.wire import Exchange, Signer

REGION = "us-east-1"
SLOW_SENDERS = 4
LARGE_SHARE = 0.004  # of all cases
TABLES_S_MAX = 30.0
STOP_S_MAX = 10.0
LOG_CHARACTERS_MAX = 4000
POINT_OPERATIONS = ("GetItem", "PutItem", "UpdateItem", "Query", "BatchWriteItem")


@dataclass(frozen=True, slots=True)
class Service:
    """What is fuzzed, with signatures on. Its process is watched where `pid` names one, which no one else may use."""

    address: tuple[str, int]
    signer: Signer
    pid: int | None = None
    log: Path | None = None


@dataclass(slots=True)
class Outcome:
    """What a run did. `failure` is None, or the broken rule with the lines that repeat it."""

    cases: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    cpu_s_most: tuple[float, int] = (0.0, 0)  # and the number of the case
    peak_megabytes: int = 0
    failure: str | None = None


@contextmanager
def service(directory: Path) -> Iterator[Service]:
    """A `geodyne dev` of our own in an empty directory, with the tables of the corpus."""
    credential = generate(directory / "credentials")
    log = directory / "log"
    program = [sys.executable, "-m", "geodyne.cli", "dev", "--port", "0", "--region", REGION, "--auth", "on"]
    program += ["--data-dir", str(directory / "data"), "--credentials", str(directory / "credentials")]
    with log.open("wb") as errors:
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " ready at " in line, (line, log.read_text())
        address = _address(line.partition(" ready at ")[2].split()[0])
        found = Service(address, Signer(credential, REGION), process.pid, log)
        _make_tables(found)
        yield found
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def running_service(endpoint: str, credentials: Path, region: str) -> Iterator[Service]:
    """Another one that runs already, such as a cluster. The tables stay in it."""
    found = Service(_address(endpoint), Signer(first(load(credentials).values()), region))
    _make_tables(found)
    yield found


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint)
    return parts.hostname or "", parts.port or 80


def _make_tables(service: Service) -> None:
    for table in corpus.TABLES:
        _call(service, "CreateTable", table)
    end_s = time.monotonic() + TABLES_S_MAX
    for table in corpus.TABLES:
        while b'"ACTIVE"' not in _call(service, "DescribeTable", {"TableName": table["TableName"]}):
            assert time.monotonic() < end_s, "the tables did not become ACTIVE"


def _call(service: Service, operation: str, body: corpus.Body) -> bytes:
    (reply,) = oracle.perform(service.address, wire.good_exchange(operation, json.dumps(body).encode(), service.signer))
    return reply.body


def case(seed: int, number: int, signer: Signer) -> tuple[str, Exchange]:
    """The operation and the bytes of one case."""
    chooser = random.Random(f"{seed}/{number}")
    operation = chooser.choice(sorted(OPERATIONS) if chooser.random() < 0.5 else POINT_OPERATIONS)
    if chooser.random() < LARGE_SHARE:
        if chooser.random() < 0.3:
            return operation, wire.bomb(operation.encode(), b"", signer, chooser)
        return "PutItem", wire.good_exchange("PutItem", mutations.large_body(chooser, corpus.HASH_TABLE), signer)
    body = mutations.spoil(corpus.good_request(operation, chooser), chooser)
    text = mutations.encode(body, chooser)
    if chooser.random() < 0.5:
        return operation, wire.good_exchange(operation, text, signer)
    return operation, wire.exchange(operation, text, signer, chooser)


def run(
    service: Service, seed: int, *, start: int = 0, cases: int | None = None, seconds: float | None = None
) -> Outcome:
    """Send cases one after the other until one of the bounds is reached or a rule is broken."""
    assert cases is not None or seconds is not None
    end_s = None if seconds is None else time.monotonic() + seconds
    outcome = Outcome()
    number = start
    slow = [SlowSender(service) for _ in range(SLOW_SENDERS)]
    while (cases is None or outcome.cases < cases) and (end_s is None or time.monotonic() < end_s):
        operation, exchange = case(seed, number, service.signer)
        try:
            for sender in slow:
                sender.step()
            _send(service, number, exchange, outcome)
        except (oracle.Violation, OSError) as error:
            outcome.failure = _explained(service, seed, start, number, operation, exchange, error)
            break
        outcome.cases += 1
        number += 1
    for sender in slow:
        sender.close()
    return outcome


class SlowSender:
    """A client that sends a byte of a good request with each case, and is owed an answer like everyone else."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._begin()

    def _begin(self) -> None:
        exchange = wire.good_exchange("ListTables", b"{}", self._service.signer)
        self._rest = iter(b"".join(exchange.pieces))
        self._connection = socket.create_connection(self._service.address, oracle.ANSWER_S_MAX)

    def step(self) -> None:
        """Raises Violation when the request is complete and its answer is not what it should be."""
        byte = next(self._rest, None)
        if byte is not None:
            try:
                self._connection.sendall(bytes([byte]))
            except ConnectionError:
                self._again()  # it took longer than the service waits for a request
            return
        with self._connection.makefile("rb") as reader:
            reply = oracle.read_reply(reader)
        if reply is None or reply.status not in (200, 408):
            raise oracle.Violation(f"a slow sender was answered {reply}")
        self._again()

    def _again(self) -> None:
        self.close()
        self._begin()

    def close(self) -> None:
        self._connection.close()


def _send(service: Service, number: int, exchange: Exchange, outcome: Outcome) -> None:
    before = oracle.usage(service.pid)
    replies = oracle.perform(service.address, exchange)
    after = oracle.usage(service.pid)
    received = sum(len(reply.body) for reply in replies)
    oracle.check_usage(before, after, exchange.size + received)
    for reply in replies:
        outcome.answers[_name(reply)] += 1
    if before is not None and after is not None:
        outcome.cpu_s_most = max(outcome.cpu_s_most, (after.cpu_s - before.cpu_s, number))
        outcome.peak_megabytes = after.peak_megabytes


def _name(reply: oracle.Reply) -> str:
    if reply.status != 400 or not reply.body.startswith(b"{"):
        return str(reply.status)
    return str(json.loads(reply.body)["__type"]).rpartition("#")[2]


def _explained(
    service: Service, seed: int, start: int, number: int, operation: str, exchange: Exchange, error: Exception
) -> str:
    log = "" if service.log is None else service.log.read_text(errors="replace")[-LOG_CHARACTERS_MAX:]
    sent = b"".join(exchange.pieces)
    return "\n".join(
        (
            f"case {number} ({operation}, {len(sent)} bytes): {error}",
            f"sent: {sent[:2000]!r}",
            f"log of the service: {log}",
            f"again: python -m tests.fuzz --seed {seed} --start {number} --cases 1",
            f"again, after those before it: python -m tests.fuzz --seed {seed} --start {start} "
            f"--cases {number - start + 1}",
        )
    )
