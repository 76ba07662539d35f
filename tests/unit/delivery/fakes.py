"""A partition's stream, a function and a destination that do what the test says, and the clock beside them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import orjson

from delivery.destinations import DestinationError
from delivery.events import FailureDocument, Source
from delivery.ports import StreamUnavailable
from delivery.progress import ProgressSettings
from delivery.runner import Budget, Surroundings
from delivery.verdict import Raised, Reply, Returned
from geodyne.messages import FROM_COMMITTED, Change, FeedRecord, Shards, ShardSpan, StreamPage
from geodyne.model.keys import KeySchema, encode_key

SCHEMA = KeySchema("pk", "S")
ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/l"
SOURCE = Source(ARN, "us-east-1", "NEW_AND_OLD_IMAGES", SCHEMA, 7, 3)
START_US = 1_700_000_000_000_000
QUICK = ProgressSettings(
    page_records=10,
    commit_every_ms=1,
    idle_commit_every_ms=1,
    read_wait_ms=50,
    window_read_wait_ms=5,
    retry_ms_min=1,
    retry_ms_max=2,
)


class LoopClock:
    """The event loop's time for both clocks; the wall clock may be set forward."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def wall_us(self) -> int:
        return START_US + self.lease_ms() * 1000 + self.ahead_us

    def lease_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)


def feed_record(sequence: int, key: str, wall_us: int) -> FeedRecord:
    item = {"pk": {"S": key}, "n": {"N": str(sequence)}}
    return FeedRecord(sequence, Change(encode_key(SCHEMA, item), b"\0" * 9, orjson.dumps(item), 5), None, wall_us)


class FakeStream:
    """Implements delivery.ports.PartitionStream over a list."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock = clock
        self.records: list[FeedRecord] = []
        self.bookmark = 0
        self.floor = 0
        self.closed = False
        self.trouble = 0  # so many calls fail
        self.commits: list[int] = []
        self._changed = asyncio.Event()

    def write(self, *keys: str) -> None:
        for key in keys:
            last = self.records[-1].sequence if self.records else self.floor
            self.records.append(feed_record(last + 65_536, key, self._clock.wall_us()))
        self._changed.set()

    async def read(self, after: int, *, limit: int, max_bytes: int, wait_ms: int) -> StreamPage:
        self._fail()
        after = self.bookmark if after == FROM_COMMITTED else after
        if after < self.floor:
            return StreamPage((), self.floor, False, True)
        found = self._after(after)
        if not found and not self.closed:
            self._changed.clear()
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await self._changed.wait()
            except TimeoutError:
                return StreamPage((), after, False, False)
            found = self._after(after)
        found = found[:limit]
        following = found[-1].sequence if found else after
        return StreamPage(tuple(found), following, self.closed and not self._after(following), False)

    async def commit(self, sequence: int) -> None:
        self._fail()
        self.commits.append(sequence)
        self.bookmark = max(self.bookmark, sequence)

    async def shards(self) -> Shards:
        self._fail()
        return Shards((ShardSpan(1_000, 0, None),), self.floor)

    def _after(self, after: int) -> list[FeedRecord]:
        return [record for record in self.records if record.sequence > after]

    def _fail(self) -> None:
        if self.trouble:
            self.trouble -= 1
            raise StreamUnavailable("no leader")


def numbers(event: dict[str, Any]) -> list[int]:
    return [int(record["dynamodb"]["NewImage"]["n"]["N"]) for record in event["Records"]]


class FakeFunction:
    """Implements delivery.functions.Function. `answer` gets each event."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any] = lambda _event: None) -> None:
        self.answer = answer
        self.events: list[dict[str, Any]] = []
        self.closed = False

    async def call(self, event: bytes, request_id: str) -> Reply:
        parsed = orjson.loads(event)
        self.events.append(parsed)
        await asyncio.sleep(0)
        try:
            answer = self.answer(parsed)
        except LookupError as error:
            return Raised(str(error))
        return answer if isinstance(answer, tuple) else Returned(answer)  # a Reply is a tuple

    async def close(self) -> None:
        self.closed = True

    @property
    def delivered(self) -> list[int]:
        return [number for event in self.events for number in numbers(event)]


class FakeDestination:
    """Implements delivery.destinations.Destination."""

    def __init__(self) -> None:
        self.trouble = 0
        self.documents: list[dict[str, Any]] = []

    async def put(self, document: FailureDocument) -> None:
        if self.trouble:
            self.trouble -= 1
            raise DestinationError("away")
        self.documents.append(orjson.loads(document.body))


def surroundings(clock: LoopClock, budget: Budget | None = None, settings: ProgressSettings = QUICK) -> Surroundings:
    ids = iter(range(1_000_000))
    return Surroundings(clock, random.Random(1), lambda: f"request-{next(ids)}", budget or Budget(), settings)


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - counters and processes tell nobody
            await asyncio.sleep(0.001)
