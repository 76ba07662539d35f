"""A runner between a stream, a function and a destination."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from delivery import lane as lane_module
from delivery import runner as runner_module
from delivery.runner import (
    CALL_FAILED,
    DESTINATION_FAILED,
    NOTHING_YET,
    RECORDS_TRIMMED,
    STREAM_FAILED,
    WELL,
    Budget,
    Figures,
    Runner,
)
from delivery.verdict import NotReached
from geodyne.triggers.mapping import LATEST, Mapping
from tests.unit.delivery.fakes import (
    SOURCE,
    FakeDestination,
    FakeFunction,
    FakeStream,
    LoopClock,
    numbers,
    surroundings,
    until,
)

STEP = 65_536


class Bench:
    """One runner and all that surrounds it."""

    def __init__(self, function: FakeFunction, **members: Any) -> None:
        self.clock = LoopClock()
        self.stream = FakeStream(self.clock)
        self.function = function
        self.destination = FakeDestination()
        self.figures = Figures()
        self.budget = Budget()
        self.mapping = Mapping("m", "t", "l", "f", LATEST, **members)
        self.runner: Runner | None = None

    def start(self) -> None:
        self.runner = Runner(
            self.mapping,
            SOURCE,
            stream=self.stream,
            function=self.function,
            function_arn="arn:f",
            destination=self.destination if self.mapping.on_failure else None,
            figures=self.figures,
            surroundings=surroundings(self.clock, self.budget),
        )
        self.runner.start()

    async def stop(self) -> None:
        if self.runner is not None:
            runner, self.runner = self.runner, None
            await runner.close()

    async def until_committed(self) -> None:
        await until(lambda: self.stream.bookmark >= self.stream.records[-1].sequence)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "RETRY_MS_MIN", 1)
    monkeypatch.setattr(lane_module, "RETRY_MS_MAX", 2)


def run(
    use: Callable[[Bench], Awaitable[None]],
    answer: Callable[[dict[str, Any]], Any] = lambda _event: None,
    **members: Any,
) -> None:
    async def whole() -> None:
        bench = Bench(FakeFunction(answer), **members)
        try:
            await use(bench)
        finally:
            await bench.stop()
        assert bench.budget.held_bytes == 0

    asyncio.run(whole())


def test_every_record_is_delivered_once_and_the_bookmark_follows() -> None:
    async def use(bench: Bench) -> None:
        bench.stream.write(*"abcdefghijkl")
        bench.start()
        await bench.until_committed()
        bench.stream.write(*"mn")
        await bench.until_committed()
        assert bench.function.delivered == [STEP * n for n in range(1, 15)]
        assert bench.stream.bookmark == STEP * 14
        assert (bench.figures.delivered, bench.figures.failed_calls, bench.figures.last_result) == (14, 0, WELL)

    run(use)


def test_after_a_restart_it_goes_on_at_the_bookmark() -> None:
    async def use(bench: Bench) -> None:
        assert bench.figures.last_result == NOTHING_YET
        bench.stream.write(*"abc")
        bench.start()
        await until(lambda: bench.figures.delivered == 3)
        await bench.stop()
        assert bench.stream.bookmark == STEP * 3, "closing commits what has ended"
        bench.stream.write("d")
        bench.start()
        await until(lambda: bench.figures.delivered == 4)
        assert bench.function.delivered == [STEP * n for n in range(1, 5)]

    run(use)


def test_filtered_records_are_passed_over() -> None:
    async def use(bench: Bench) -> None:
        bench.stream.write(*"abab")
        bench.start()
        await bench.until_committed()
        assert bench.function.delivered == [STEP * 2, STEP * 4]
        assert bench.figures.filtered == 2

    run(use, filters=('{"dynamodb": {"Keys": {"pk": {"S": ["b"]}}}}',))


def test_a_poison_record_ends_in_the_destination_and_the_others_are_delivered() -> None:
    def answer(event: dict[str, Any]) -> None:
        if STEP * 3 in numbers(event):
            raise LookupError("poison")

    async def use(bench: Bench) -> None:
        bench.destination.trouble = 2
        bench.stream.write(*"abcdef")
        bench.start()
        await bench.until_committed()
        [document] = bench.destination.documents
        assert document["DDBStreamBatchInfo"]["batchSize"] == 1
        assert document["DDBStreamBatchInfo"]["startSequenceNumber"].endswith(str(STEP * 3))
        assert document["DDBStreamBatchInfo"]["shardId"].endswith("-00000007")
        assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert set(bench.function.delivered) == {STEP * n for n in range(1, 7)}
        assert (bench.figures.delivered, bench.figures.discarded) == (5, 1)

    run(use, answer, bisect=True, max_retries=1, on_failure="file:///x")


def test_a_destination_that_is_away_is_visible_and_nothing_is_passed_over() -> None:
    def answer(_event: dict[str, Any]) -> None:
        raise LookupError("always")

    async def use(bench: Bench) -> None:
        bench.destination.trouble = 1 << 30
        bench.stream.write("a")
        bench.start()
        await until(lambda: bench.figures.last_result == DESTINATION_FAILED)
        assert bench.figures.trouble == "away"
        assert bench.stream.bookmark < STEP
        bench.destination.trouble = 0
        await bench.until_committed()
        assert len(bench.destination.documents) == 1
        assert (bench.figures.last_result, bench.figures.trouble) == (CALL_FAILED, "")

    run(use, answer, max_retries=0, on_failure="file:///x")


def test_without_a_destination_given_up_records_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def answer(_event: dict[str, Any]) -> None:
        raise LookupError("always")

    async def use(bench: Bench) -> None:
        bench.stream.write("a")
        bench.start()
        await bench.until_committed()
        assert bench.figures.discarded == 1
        assert bench.figures.last_result == CALL_FAILED
        [record] = [record for record in caplog.records if record.message == "records given up"]
        assert record.__dict__["first"].endswith(str(STEP))

    run(use, answer, max_retries=0)


def test_partial_responses_go_on_at_the_failed_record() -> None:
    failed: list[int] = []

    def answer(event: dict[str, Any]) -> Any:
        if STEP * 2 in numbers(event) and not failed:
            failed.append(1)
            identifier = event["Records"][numbers(event).index(STEP * 2)]["dynamodb"]["SequenceNumber"]
            return {"batchItemFailures": [{"itemIdentifier": identifier}]}
        return {"batchItemFailures": []}

    async def use(bench: Bench) -> None:
        bench.stream.write(*"abc")
        bench.start()
        await bench.until_committed()
        assert bench.function.delivered == [STEP, STEP * 2, STEP * 3, STEP * 2, STEP * 3]

    run(use, answer, report_failures=True)


def test_it_survives_a_stream_and_a_function_that_are_away() -> None:
    tries: list[int] = []

    def answer(_event: dict[str, Any]) -> Any:
        tries.append(1)
        return NotReached("away") if len(tries) < 5 else None

    async def use(bench: Bench) -> None:
        bench.stream.trouble = 5
        bench.stream.write(*"abc")
        bench.start()
        await until(lambda: bench.figures.delivered == 3)
        bench.stream.trouble = 3
        bench.stream.write("d")
        await bench.until_committed()

    run(use, answer, max_retries=0)


def test_a_stream_that_was_away_is_no_trouble_any_more_though_nothing_is_written_to_it() -> None:
    async def use(bench: Bench) -> None:
        bench.stream.trouble = 2
        bench.start()
        await until(lambda: bench.figures.last_result == STREAM_FAILED)
        await until(lambda: bench.figures.last_result == NOTHING_YET)
        bench.stream.write("a")
        await bench.until_committed()
        bench.stream.trouble = 2
        await until(lambda: bench.figures.last_result == STREAM_FAILED)
        await until(lambda: bench.figures.last_result == WELL)
        assert bench.figures.trouble == ""

    run(use)


def test_a_defect_in_calling_is_no_answer_of_the_function(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    def answer(_event: dict[str, Any]) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ZeroDivisionError
        return None

    async def use(bench: Bench) -> None:
        bench.stream.write("a")
        bench.start()
        await bench.until_committed()
        assert "calling a function failed" in caplog.messages

    run(use, answer, max_retries=0)


def test_a_stream_that_was_trimmed_beyond_the_bookmark_is_visible() -> None:
    async def use(bench: Bench) -> None:
        bench.stream.floor = STEP * 10
        bench.start()
        await until(lambda: bench.figures.gaps == 1)
        assert bench.figures.last_result == RECORDS_TRIMMED
        bench.stream.write("a")
        await until(lambda: bench.figures.delivered == 1)

    run(use)


def test_a_tumbling_window_ends_on_a_quiet_stream_and_holds_the_bookmark_until_then() -> None:
    def answer(event: dict[str, Any]) -> Any:
        return {"state": {"n": event["state"].get("n", 0) + len(event["Records"])}}

    async def use(bench: Bench) -> None:
        bench.stream.write(*"abc")
        bench.start()
        await until(lambda: bench.figures.delivered == 3)
        await asyncio.sleep(0)
        assert bench.stream.bookmark < STEP
        bench.clock.ahead_us += 3_000_000_000
        await bench.until_committed()
        final = bench.function.events[-1]
        assert (final["isFinalInvokeForWindow"], final["Records"], final["state"]) == (True, [], {"n": 3})
        assert final["shardId"].endswith("-00000007")

    run(use, answer, tumbling_window_s=900, batch_size=2)


def test_a_full_budget_stops_reading_but_starves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(bench: Bench) -> None:
        bench.budget = Budget(0)
        bench.stream.write(*"abcdefghijklmnopqrstuvwxyz")
        bench.start()
        await bench.until_committed()
        assert len(bench.function.delivered) == 26
        await bench.stop()
        assert bench.budget.held_bytes == 0

    run(use)


def test_closing_abandons_a_call_and_its_records_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "LAST_COMMIT_S_MAX", 0.1)

    async def use(bench: Bench) -> None:
        entered = asyncio.Event()

        async def never(_event: bytes, _request_id: str) -> Any:
            entered.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(bench.function, "call", never, raising=True)
        bench.stream.write("a")
        bench.start()
        await entered.wait()
        await bench.stop()
        assert bench.stream.bookmark < STEP
        monkeypatch.undo()
        bench.start()
        await bench.until_committed()

    run(use)


def test_a_defect_in_reading_passes_over_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = runner_module.arrival
    defects = [ValueError("of another table"), KeyError("defect")]

    def arrival(*arguments: Any) -> Any:
        if defects:
            raise defects.pop()
        return real(*arguments)

    monkeypatch.setattr(runner_module, "arrival", arrival)

    async def use(bench: Bench) -> None:
        bench.stream.write("a")
        bench.start()
        await bench.until_committed()
        assert bench.function.delivered == [STEP]

    run(use)


def test_a_defect_in_handing_over_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_event: dict[str, Any]) -> None:
        raise LookupError("always")

    async def use(bench: Bench) -> None:
        real = bench.destination.put
        defects = [ZeroDivisionError()]

        async def put(document: Any) -> None:
            if defects:
                raise defects.pop()
            await real(document)

        monkeypatch.setattr(bench.destination, "put", put)
        bench.stream.write("a")
        bench.start()
        await bench.until_committed()
        assert len(bench.destination.documents) == 1

    run(use, answer, max_retries=0, on_failure="file:///x")
