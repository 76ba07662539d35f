"""The service keeps runners in step with the catalog and the mappings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from delivery import lane as lane_module
from delivery import service as service_module
from delivery.ports import StreamUnavailable
from delivery.service import Deliverer
from delivery.stream import RegionStream
from geodyne.catalog import PartitionRecord, StreamRecord, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.messages import (
    AdvanceCursor,
    Answer,
    Applied,
    Busy,
    Call,
    ListShards,
    ReadStream,
    Refused,
    StreamPage,
)
from geodyne.triggers.functions import FunctionSpec
from geodyne.triggers.mapping import TRIM_HORIZON, Mapping
from tests.unit.delivery.fakes import FakeFunction, FakeStream, LoopClock, surroundings, until

LABEL = "2026-11-24T03:44:12.123"
MAPPING = Mapping("m" * 36, "t", LABEL, "f", TRIM_HORIZON)
SPEC = FunctionSpec("f", "http", url="http://127.0.0.1:1/")
HALF = 1 << 63


class FakeCatalog:
    def __init__(self) -> None:
        self.tables: dict[str, TableRecord] = {}
        self.revision = 0


class FakeRegion:
    """Implements delivery.ports.Region: a stream a partition."""

    def __init__(self, clock: LoopClock) -> None:
        self.catalog = FakeCatalog()
        self.streams: dict[int, FakeStream] = {1: FakeStream(clock), 2: FakeStream(clock)}
        self.consumers: set[str] = set()

    async def call(self, call: Call, *, timeout_ms: int) -> Answer:
        match call:
            case ReadStream():
                self.consumers.add(call.consumer)
                assert (call.label, call.shard) == (LABEL, 0)
                return await self.streams[call.partition].read(
                    call.after, limit=call.limit, max_bytes=call.max_bytes, wait_ms=call.wait_ms
                )
            case ListShards():
                return await self.streams[call.partition].shards()
            case AdvanceCursor():
                await self.streams[call.partition].commit(call.sequence)
                return Applied(1)
        raise AssertionError(call)


class FakeMappings:
    def __init__(self) -> None:
        self.all: list[Mapping] = [MAPPING]
        self.specs: dict[str, FunctionSpec] = {"f": SPEC}

    def mappings(self) -> Sequence[Mapping]:
        return self.all

    def function(self, name: str) -> FunctionSpec | None:
        return self.specs.get(name)


def table(**changes: Any) -> TableRecord:
    partitions = (PartitionRecord(1, 1, 0, HALF, ()), PartitionRecord(2, 1, HALF, 1 << 64, ()))
    record = TableRecord(
        "t", "id", TableStatus.ACTIVE, 1, 0, "pk", "S", None, None, "PAY_PER_REQUEST", 0, 0, partitions
    )
    streams = (StreamRecord(LABEL, "NEW_IMAGE", 0),)
    return replace(record, streams=streams, bookmarks=(MAPPING.bookmark,), **changes)


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = LoopClock()
        self.region = FakeRegion(self.clock)
        self.mappings = FakeMappings()
        self.functions: list[FakeFunction] = []
        monkeypatch.setattr(service_module, "HttpFunction", self._function)
        monkeypatch.setattr(service_module, "LOOK_S", 0.005)
        self.deliverer = Deliverer("us-east-1", "000000000000", self.region, self.mappings, surroundings(self.clock))

    def _function(self, spec: FunctionSpec, *, arn: str) -> FakeFunction:
        assert arn == "arn:aws:lambda:us-east-1:000000000000:function:f"
        self.functions.append(FakeFunction())
        return self.functions[-1]

    @property
    def delivered(self) -> list[int]:
        return sorted(number for function in self.functions for number in function.delivered)


def run(monkeypatch: pytest.MonkeyPatch, use: Callable[[Bench], Awaitable[None]]) -> None:
    async def whole() -> None:
        bench = Bench(monkeypatch)
        bench.deliverer.start()
        try:
            await use(bench)
        finally:
            await bench.deliverer.close()
        assert all(function.closed for function in bench.functions)

    asyncio.run(whole())


def test_a_mapping_runs_at_every_partition_of_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(bench: Bench) -> None:
        bench.region.streams[1].write("a", "b")
        bench.region.streams[2].write("c")
        assert bench.deliverer.status(MAPPING.uuid) is None
        bench.region.catalog.tables["t"] = table()
        bench.deliverer.wake()
        await until(lambda: len(bench.delivered) == 3)
        assert bench.region.consumers == {MAPPING.bookmark}
        await until(lambda: bench.region.streams[2].bookmark > 0)
        status = bench.deliverer.status(MAPPING.uuid)
        assert status is not None
        assert (status.last_result, status.partitions, status.delivered) == ("OK", 2, 3)
        assert bench.deliverer.statuses() == {MAPPING.uuid: status}

    run(monkeypatch, use)


@pytest.mark.parametrize(
    "lacking",
    [
        lambda bench: bench.mappings.specs.clear(),
        lambda bench: bench.region.catalog.tables.update(t=replace(table(), bookmarks=())),
        lambda bench: bench.region.catalog.tables.update(t=replace(table(), streams=())),
        lambda bench: bench.mappings.all.__setitem__(0, replace(MAPPING, enabled=False)),
    ],
)
def test_nothing_runs_before_all_that_it_needs_is_there(
    monkeypatch: pytest.MonkeyPatch, lacking: Callable[[Bench], None]
) -> None:
    async def use(bench: Bench) -> None:
        bench.region.streams[1].write("a")
        bench.region.catalog.tables["t"] = table()
        lacking(bench)
        bench.deliverer.wake()
        for _ in range(10):
            await asyncio.sleep(0)
        assert bench.region.consumers == set()
        bench.mappings.specs["f"] = SPEC
        bench.mappings.all[0] = MAPPING
        bench.region.catalog.tables["t"] = table()
        await until(lambda: len(bench.delivered) == 1)

    run(monkeypatch, use)


def test_a_disabled_mapping_stops_and_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(bench: Bench) -> None:
        stream = bench.region.streams[1]
        stream.write("a")
        bench.region.catalog.tables["t"] = table()
        await until(lambda: len(bench.delivered) == 1)
        bench.mappings.all[0] = replace(MAPPING, enabled=False)
        await until(lambda: bench.deliverer.status(MAPPING.uuid) is None)
        await until(lambda: stream.bookmark == 65_536)
        stream.write("b")
        bench.mappings.all[0] = replace(MAPPING, batch_size=1)
        await until(lambda: len(bench.delivered) == 2)
        assert bench.delivered == [65_536, 2 * 65_536]

    run(monkeypatch, use)


def test_a_function_that_changed_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(bench: Bench) -> None:
        bench.region.streams[1].write("a")
        bench.region.catalog.tables["t"] = table()
        await until(lambda: len(bench.delivered) == 1)
        bench.mappings.specs["f"] = replace(SPEC, timeout_s=9.0)
        await until(lambda: bench.functions[0].closed and len(bench.functions) == 2)
        bench.region.streams[1].write("b")
        await until(lambda: len(bench.functions[1].delivered) == 1)

    run(monkeypatch, use)


def test_refusals_and_errors_of_the_region_are_no_answers() -> None:
    class Refusing:
        catalog = FakeCatalog()

        def __init__(self, answer: Answer | ApiError) -> None:
            self.answer = answer

        async def call(self, call: Call, *, timeout_ms: int) -> Answer:
            if isinstance(self.answer, ApiError):
                raise self.answer
            return self.answer

    async def run_each() -> None:
        for answer in (
            Refused("ResourceNotFoundException", "gone"),
            Busy("full"),
            ApiError("InternalServerError", "x"),
        ):
            stream = RegionStream(Refusing(answer), partition=1, epoch=1, label=LABEL, bookmark="b")
            for call in (stream.shards(), stream.commit(1), stream.read(0, limit=1, max_bytes=1, wait_ms=0)):
                with pytest.raises(StreamUnavailable):
                    await call

    asyncio.run(run_each())


def test_a_read_that_outlives_its_time_is_asked_again_without_a_wait_before_the_stream_counts_as_away() -> None:
    class Moving:
        catalog = FakeCatalog()

        def __init__(self) -> None:
            self.calls: list[tuple[Call, int]] = []

        async def call(self, call: Call, *, timeout_ms: int) -> Answer:
            self.calls.append((call, timeout_ms))
            if len(self.calls) == 1:
                raise ApiError("InternalServerError", "The request did not complete in time")
            return StreamPage((), 70, False, False)

    async def read() -> None:
        region = Moving()
        stream = RegionStream(region, partition=1, epoch=1, label=LABEL, bookmark="b")
        assert (await stream.read(70, limit=1, max_bytes=1, wait_ms=10_000)).next == 70
        (first, first_ms), (second, second_ms) = region.calls
        assert isinstance(first, ReadStream)
        assert second == first._replace(wait_ms=0)
        assert first_ms > second_ms

    asyncio.run(read())


def test_the_whole_way_to_a_python_function_and_a_directory(tmp_path: Path) -> None:
    """Nothing is faked but the region: a worker process takes what it likes, the rest lands in the directory."""
    (tmp_path / "mine.py").write_text(
        "def handle(event, context):\n"
        "    for record in event['Records']:\n"
        "        if record['dynamodb']['Keys']['pk']['S'] == 'bad':\n"
        "            raise ValueError('bad')\n"
    )

    async def whole() -> None:
        clock = LoopClock()
        region = FakeRegion(clock)
        region.streams[1].write("a", "bad", "b")
        region.catalog.tables["t"] = table()
        mappings = FakeMappings()
        mappings.all[0] = replace(MAPPING, max_retries=0, bisect=True, on_failure=f"file://{tmp_path}/failed")
        mappings.specs["f"] = FunctionSpec("f", "python", str(tmp_path), "mine:handle", timeout_s=10.0)
        deliverer = Deliverer("us-east-1", "000000000000", region, mappings, surroundings(clock))
        deliverer.start()
        try:
            await until(lambda: region.streams[1].bookmark >= 3 * 65_536, timeout_s=20.0)
        finally:
            await deliverer.close()

    asyncio.run(whole())
    [file] = [path for path in (tmp_path / "failed").rglob("*") if path.is_file()]
    document = orjson.loads(file.read_bytes())
    assert document["DDBStreamBatchInfo"]["batchSize"] == 1
    [record] = orjson.loads(document["payload"])["Records"]
    assert record["dynamodb"]["Keys"] == {"pk": {"S": "bad"}}


TROUBLED = """
import json, os, time

seen = set()

def handle(event, context):
    failures = []
    with open('taken', 'a') as taken:
        for record in event['Records']:
            number = int(record['dynamodb']['NewImage']['n']['N']) >> 16
            first = not os.path.exists(f'tried-{number}')
            open(f'tried-{number}', 'w').close()
            if number % 10 == 7:
                os._exit(9)                      # always: poison
            if first and number % 10 == 1:
                time.sleep(600)                  # hangs once
            if first and number % 10 == 3:
                os.kill(os.getpid(), 9)          # crashes once
            if first and number % 10 == 5:
                return {'batchItemFailures': [{'itemIdentifier': record['dynamodb']['SequenceNumber']}]}
            taken.write(f"{record['dynamodb']['Keys']['pk']['S']} {number}\\n")
            taken.flush()
    return {'batchItemFailures': []}
"""


def test_functions_that_crash_hang_and_half_fail_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "RETRY_MS_MIN", 1)
    (tmp_path / "mine.py").write_text(TROUBLED)
    count = 30

    async def whole() -> None:
        clock = LoopClock()
        region = FakeRegion(clock)
        region.streams[1].write(*(f"key-{number % 7}" for number in range(1, count + 1)))
        region.catalog.tables["t"] = table()
        mappings = FakeMappings()
        mappings.all[0] = replace(
            MAPPING,
            max_retries=4,
            bisect=True,
            report_failures=True,
            parallelization_factor=3,
            batch_size=4,
            on_failure=f"file://{tmp_path}/failed",
        )
        mappings.specs["f"] = FunctionSpec("f", "python", str(tmp_path), "mine:handle", timeout_s=1.0)
        deliverer = Deliverer("us-east-1", "000000000000", region, mappings, surroundings(clock))
        deliverer.start()
        try:
            await until(lambda: region.streams[1].bookmark >= count << 16, timeout_s=60.0)
        finally:
            await deliverer.close()

    asyncio.run(whole())
    taken = [line.split() for line in (tmp_path / "taken").read_text().splitlines()]
    poison = {number for number in range(1, count + 1) if number % 10 == 7}
    assert {int(number) for _, number in taken} == set(range(1, count + 1)) - poison
    first_taken: dict[str, list[int]] = {}
    for key, number in taken:
        numbers = first_taken.setdefault(key, [])
        if int(number) not in numbers:
            numbers.append(int(number))
    assert all(numbers == sorted(numbers) for numbers in first_taken.values())
    documents = [orjson.loads(path.read_bytes()) for path in (tmp_path / "failed").rglob("*") if path.is_file()]
    failed = [
        int(record["dynamodb"]["NewImage"]["n"]["N"]) >> 16
        for document in documents
        for record in orjson.loads(document["payload"])["Records"]
    ]
    assert sorted(failed) == sorted(poison)
