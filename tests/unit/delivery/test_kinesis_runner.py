"""One destination at one partition: nothing is passed over, whatever the endpoint answers, and the cursor follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

import orjson
import pytest

from delivery.kinesisclient import BotocoreClient, KinesisError
from delivery.kinesisrecords import DataRecord, TableSource
from delivery.kinesisrunner import THROTTLED, KinesisFigures, KinesisRunner, KinesisSettings
from tests.cluster.awsstubs import KinesisStub
from tests.unit.delivery.fakes import SCHEMA, FakeStream, LoopClock, until
from tests.unit.delivery.http_peer import Peer, response, with_peer

ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/changes"
SOURCE = TableSource("destination", "t", "us-east-1", SCHEMA, 7, 1)
QUICK = KinesisSettings(page_records=20, read_wait_ms=20, commit_every_ms=1, retry_ms_min=1, retry_ms_max=2)


class FakeKinesis:
    """Implements KinesisClient. `answers` are taken by one request each: codes of its records, or an error."""

    def __init__(self) -> None:
        self.answers: list[Callable[[Sequence[DataRecord]], list[str]]] = []
        self.taken: list[int] = []
        self.requests: list[int] = []

    async def status(self, stream: str) -> str:
        return "ACTIVE"

    async def put(self, stream: str, records: Sequence[DataRecord]) -> list[str]:
        assert stream == "changes"
        await asyncio.sleep(0)
        self.requests.append(len(records))
        codes = self.answers.pop(0)(records) if self.answers else [""] * len(records)
        numbers = [int(orjson.loads(record.data)["dynamodb"]["NewImage"]["n"]["N"]) for record in records]
        self.taken += [number for number, code in zip(numbers, codes, strict=True) if not code]
        return codes

    def close(self) -> None:
        """Nothing is open."""


def refusing(code: str, *, unfit: bool = False) -> Callable[[Sequence[DataRecord]], list[str]]:
    def answer(records: Sequence[DataRecord]) -> list[str]:
        raise KinesisError(f"{code}: no", code=code, unfit=unfit)

    return answer


class Rig:
    def __init__(self, settings: KinesisSettings = QUICK) -> None:
        self.clock = LoopClock()
        self.stream = FakeStream(self.clock)
        self.kinesis = FakeKinesis()
        self.figures = KinesisFigures()
        self.given_up: list[str] = []
        self.settings = settings

    def runner(self) -> KinesisRunner:
        runner = KinesisRunner(
            ARN,
            "MICROSECOND",
            SOURCE,
            stream=self.stream,
            client=self.kinesis,
            figures=self.figures,
            clock=self.clock,
            random=Random(1),
            settings=self.settings,
            on_given_up=self.given_up.append,
        )
        runner.start()
        return runner

    @property
    def written(self) -> list[int]:
        return [record.sequence for record in self.stream.records]


def test_all_records_arrive_in_order_and_the_cursor_follows() -> None:
    async def play() -> None:
        rig = Rig()
        rig.stream.write(*(f"k{number % 5}" for number in range(50)))
        runner = rig.runner()
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        rig.stream.write("more")
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        await runner.close()
        assert rig.kinesis.taken == rig.written
        assert rig.figures.delivered == 51
        assert runner.pending_since_us == 0

    asyncio.run(play())


def test_records_that_are_put_off_are_sent_again_with_what_follows_of_their_items() -> None:
    async def play() -> None:
        rig = Rig()
        rig.kinesis.answers = [lambda records: [THROTTLED, *[""] * (len(records) - 1)]]
        rig.stream.write("a", "b", "a", "c")
        runner = rig.runner()
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        await runner.close()
        first, second, third, fourth = rig.written
        assert rig.kinesis.taken == [second, third, fourth, first, third]
        assert (rig.figures.throttled, rig.figures.repeated, rig.figures.failed) == (1, 2, 0)

    asyncio.run(play())


@pytest.mark.parametrize("code", [THROTTLED, "InternalFailure", "AccessDeniedException", ""])
def test_a_request_that_is_not_taken_is_repeated_until_it_is(code: str) -> None:
    async def play() -> None:
        rig = Rig()
        rig.kinesis.answers = [refusing(code)] * 8
        rig.stream.write("a", "b")
        runner = rig.runner()
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        await runner.close()
        assert rig.kinesis.taken == rig.written
        assert rig.given_up == [], "eight failures in little time are no reason"
        assert rig.figures.trouble == ""

    asyncio.run(play())


def test_a_record_that_no_stream_takes_is_found_by_halving_and_left_out() -> None:
    async def play() -> None:
        rig = Rig()
        rig.stream.write(*(f"k{number}" for number in range(16)))
        poison = rig.written[11]

        def answer(records: Sequence[DataRecord]) -> list[str]:
            if any(record.sequence == poison for record in records):
                raise KinesisError("ValidationException: too large", code="ValidationException", unfit=True)
            return [""] * len(records)

        rig.kinesis.answers = [answer] * 64
        runner = rig.runner()
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        await runner.close()
        assert rig.kinesis.taken == [sequence for sequence in rig.written if sequence != poison]
        assert rig.figures.failed == 1

    asyncio.run(play())


def test_the_cursor_does_not_move_while_nothing_is_taken_and_the_age_is_told() -> None:
    async def play() -> None:
        rig = Rig()
        rig.kinesis.answers = [refusing("")] * 10_000
        rig.stream.write("a")
        runner = rig.runner()
        await until(lambda: len(rig.kinesis.requests) > 5)
        assert rig.stream.bookmark == 0
        assert runner.pending_since_us == rig.stream.records[0].wall_us
        assert rig.figures.trouble == ": no"
        await runner.close()
        assert rig.stream.bookmark == 0
        rig.kinesis.answers.clear()
        again = rig.runner()
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        await again.close()

    asyncio.run(play())


def test_a_destination_that_takes_nothing_for_too_long_is_given_up() -> None:
    async def play() -> None:
        rig = Rig()
        rig.kinesis.answers = [refusing("")] * 10_000
        rig.stream.write("a")
        runner = rig.runner()
        await until(lambda: len(rig.kinesis.requests) > 8)
        assert rig.given_up == []
        rig.clock.ahead_us = int(169 * 3_600 * 1e6)
        await until(lambda: bool(rig.given_up))
        await runner.close()
        assert rig.given_up[0].startswith("Records were not taken for 168 hours")

    asyncio.run(play())


def test_old_records_alone_are_no_reason_to_give_up() -> None:
    async def play() -> None:
        rig = Rig()
        rig.stream.write(*"abc")
        rig.clock.ahead_us = int(200 * 3_600 * 1e6)
        rig.kinesis.answers = [refusing(THROTTLED)] * 2
        runner = rig.runner()
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        await runner.close()
        assert rig.given_up == []

    asyncio.run(play())


def test_a_feed_that_was_trimmed_is_read_from_what_there_is_and_counted() -> None:
    async def play() -> None:
        rig = Rig()
        rig.stream.write(*"abcd")
        rig.stream.floor = rig.written[1]
        runner = rig.runner()
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        await runner.close()
        assert rig.kinesis.taken == rig.written[2:]
        assert rig.figures.gaps == 1

    asyncio.run(play())


def test_reads_and_commits_that_fail_are_tried_again() -> None:
    async def play() -> None:
        rig = Rig()
        rig.stream.write(*"abcd")
        rig.stream.trouble = 3
        runner = rig.runner()
        await until(lambda: bool(rig.kinesis.taken))
        rig.stream.trouble = 3
        rig.stream.write("e")
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        await runner.close()
        assert sorted(set(rig.kinesis.taken)) == rig.written

    asyncio.run(play())


def test_the_sdk_and_an_endpoint_that_fails_by_chance_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")

    async def play(stub: KinesisStub) -> None:
        rig = Rig()
        client = BotocoreClient(stub.endpoint, "us-east-1")
        assert await client.status("changes") == "ACTIVE"
        with pytest.raises(KinesisError) as caught:
            await client.status("missing")
        assert caught.value.code == "ResourceNotFoundException"
        rig.kinesis = client  # type: ignore[assignment]
        stub.entry_faults = 3
        stub.faults.extend(["", "InternalFailure", "ProvisionedThroughputExceededException"])
        rig.stream.write(*(f"k{number % 7}" for number in range(60)))
        runner = rig.runner()
        await until(lambda: rig.stream.bookmark == rig.written[-1])
        await runner.close()
        client.close()
        last: dict[str, int] = {}
        for record in stub.streams["changes"]:
            image = record["dynamodb"]["NewImage"]
            last[image["pk"]["S"]] = int(image["n"]["N"])
        assert {int(one["dynamodb"]["NewImage"]["n"]["N"]) for one in stub.streams["changes"]} == set(rig.written)
        assert last == {f"k{number % 7}": sequence for number, sequence in enumerate(rig.written)}, "newest last"
        assert stub.put_off > 0

    with KinesisStub("changes") as stub:
        asyncio.run(play(stub))


def test_an_endpoint_that_is_not_there_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")

    async def play() -> None:
        client = BotocoreClient("http://127.0.0.1:9", "us-east-1")
        with pytest.raises(KinesisError) as caught:
            await client.status("changes")
        assert not caught.value.unfit
        client.close()

    asyncio.run(play())


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"{}",
        b"[]",
        b"\xff",
        b'{"StreamDescription":null,"Records":[null]}',
        b'{"StreamDescription":[],"Records":{"a":1}}',
        b'{"StreamDescription":{},"Records":[]}',
    ],
)
def test_an_endpoint_that_is_no_kinesis_is_no_defect(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")

    async def use(peer: Peer) -> None:
        client = BotocoreClient(peer.url, "us-east-1")
        with pytest.raises(KinesisError):
            await client.status("changes")
        with pytest.raises(KinesisError) as caught:
            await client.put("changes", [DataRecord(1, 1, "key", b"{}")])
        assert not caught.value.unfit
        client.close()

    with_peer(use, response(200, answer))
