"""What a leader that was paused, and replaced meanwhile, says of its streams before it knows: nothing of the past."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from geodyne.messages import (
    FROM_COMMITTED,
    FROM_LATEST,
    Answer,
    Call,
    ListShards,
    ReadStream,
    Refused,
    Shards,
    StreamPage,
)
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import Violation
from geodyne.sim.region import SimNode, region
from geodyne.sim.scene import PK, Scene
from node.feed.shards import Shard
from tests.sim.mutations import MUTATIONS

BYTES_MAX = 1 << 20
WAIT_MS = 1_000
SINCE_US = 1_600_000_000_000_000  # before the simulation began


class Past(Scene):
    """A table with a stream, read at one partition: a leader that has been replaced and does not know it yet, while the
    shard that it takes for the open one is closed, and a later one has records that it does not have."""

    label: str
    old: SimNode
    shard: Shard  # as the old leader has it
    later: Shard

    async def arrange(self) -> None:
        here = self.here
        self.label = here.client.catalog.tables["T"].streams[0].label
        await self.items.put(PK, "before")
        self.old = old = self.leader
        await here.settle(self.partitions)
        here.loop.stop_process(old.id)
        new = await self.new_leader(old)
        group = self.group(new)
        count = len(group.state.shards[self.label])
        group.keep_feed((), self.label, new.clock.wall_us())
        new.handler.touch(group)
        await here.until(lambda: len(group.state.shards[self.label]) > count, "there is a later shard", 10)
        await self.items.put(PK, "after")
        self.shard, self.later = self.group(old).state.shards[self.label][-1], group.state.shards[self.label][-1]
        assert self.group(old).serving
        assert self.shard.last is None

    def read(self, shard: int, after: int, limit: int = 10, wait_ms: int = 0, since_us: int = 0) -> ReadStream:
        return ReadStream(self.partition, 1, self.label, shard, after, limit, BYTES_MAX, wait_ms, since_us, "none")

    async def answers(self, call: Call) -> list[Answer]:
        """Of the old leader: its first turn is over before its timers run, and before it hears of anything."""
        answers = self.old.ask(call)
        await asyncio.sleep(0)
        self.here.loop.continue_process(self.old.id)
        self.here.world.release()
        await self.here.run_for(3.0)
        return answers


def play(path: Path, scenario: Callable[[Past], Awaitable[None]]) -> None:
    async def run() -> None:
        async with region(1, path, small=False) as here:
            await here.create_table(stream_view="NEW_AND_OLD_IMAGES")
            past = Past(here)
            await here.until(lambda: all(here.leader(p) is not None for p in past.partitions), "leaders")
            await past.arrange()
            await scenario(past)
            await past.settle()

    run_simulated(run())


async def _lists_no_shards(past: Past) -> None:
    for answer in await past.answers(ListShards(past.partition, 1, past.label)):
        if isinstance(answer, Shards):
            raise Violation(f"a leader of the past lists {answer.shards}")


def test_shards_are_not_listed_as_they_were(tmp_path: Path) -> None:
    play(tmp_path, _lists_no_shards)


def test_a_list_of_shards_as_they_were_is_noticed(tmp_path: Path) -> None:
    with MUTATIONS["shards are listed without a look at the lease"](), pytest.raises(Violation, match="of the past"):
        play(tmp_path, _lists_no_shards)


@pytest.mark.parametrize("wait_ms", [0, WAIT_MS])
@pytest.mark.parametrize(
    "place",
    [
        lambda past: past.read(0, FROM_LATEST, limit=0),
        lambda past: past.read(0, FROM_LATEST),
        lambda past: past.read(past.shard.opened_us, 0, since_us=SINCE_US),
        lambda past: past.read(0, FROM_COMMITTED),
        lambda past: past.read(past.later.opened_us, past.later.after),
    ],
    ids=["the newest position", "what is newer", "a position by time", "a bookmark", "a shard that is not known yet"],
)
def test_no_position_or_refusal_of_the_past_is_told(
    tmp_path: Path, place: Callable[[Past], ReadStream], wait_ms: int
) -> None:
    async def scenario(past: Past) -> None:
        answers = await past.answers(place(past)._replace(wait_ms=wait_ms))
        assert answers
        assert not any(isinstance(answer, StreamPage | Refused) for answer in answers)

    play(tmp_path, scenario)


def test_records_beyond_a_position_are_told_by_whoever_has_applied_them(tmp_path: Path) -> None:
    async def scenario(past: Past) -> None:
        (answer,) = await past.answers(past.read(past.shard.opened_us, 0))
        assert isinstance(answer, StreamPage)
        assert len(answer.records) == 1
        assert not answer.closed

    play(tmp_path, scenario)
