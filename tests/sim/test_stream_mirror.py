"""A copy of a table that is kept by its stream alone ends equal to the table, whatever happens to the nodes; and with a
rule of the feed left out it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

import node.state
from geodyne.catalog import stream_consumer
from geodyne.messages import ReadStream, StreamPage
from geodyne.sim import workload
from geodyne.sim.faults import Fault
from geodyne.sim.run import Outcome, run_seed
from geodyne.wire import log_v1_pb2 as log
from node.feed import duty, shards, streams
from node.feed.records import decoded
from node.feed.retention import Upkeep
from node.feed.shards import Shard, Shards
from node.state import SEQUENCE_SHIFT, GroupState
from node.storage import schema

QUICK_SEEDS, LONG_SEEDS = range(1, 4), range(100, 160)
SEEDS_MAX = 12
FINDINGS = ("Violation", "ConsensusViolation")
Mutation = Callable[[], AbstractContextManager[Any]]


@contextmanager
def mirrored() -> Iterator[None]:
    """Every run has a consumer of its table's stream, and nothing else beside the clients of items."""

    def drawn(families: workload.Families, random: Random) -> None:
        families.mirror = True
        families.indexed = families.together = families.lists = families.feed = families.tables = False

    with patch.object(workload.Families, "__init__", drawn):
        yield


def run(seed: int, plan: list[Fault] | None = None) -> Outcome:
    with mirrored():
        return run_seed(seed, plan)


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_the_copy_ends_equal_to_the_table(seed: int) -> None:
    outcome = run(seed)
    assert (outcome.problem, outcome.bitten) == ("", True)


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_the_copy_ends_equal_to_the_table_after_many_courses_of_events(seed: int) -> None:
    assert run(seed).problem == ""


# --- deliberate faults --------------------------------------------------------------------------------------


def pages_end_where_the_shard_does() -> AbstractContextManager[Any]:
    """A page that its limit has cut counts as read to the end."""
    real = streams._page

    def page(store: Any, call: ReadStream, after: int, span: Any, *more: Any) -> StreamPage:
        return real(store, call, after, span, *more)._replace(next=span.high)

    return patch.object(streams, "_page", page)


def shards_close_behind_their_records() -> AbstractContextManager[Any]:
    """A shard ends some entries after the head of the feed, and the next one begins there."""
    real = shards.rolled

    def rolled(known: Shards, label: str, head: int, wall_us: int) -> Shards:
        return real(known, label, head + (9 << SEQUENCE_SHIFT), wall_us)

    return patch.object(node.state, "rolled", rolled)


def shards_close_before_their_records() -> AbstractContextManager[Any]:
    """A shard ends before the head of the feed, and the next one begins at the head."""
    real = shards._closed

    def closed(known: tuple[Shard, ...], head: int, wall_us: int) -> tuple[Shard, ...]:
        return real(known, max(known[-1].after, head - (2 << SEQUENCE_SHIFT)), wall_us)

    return patch.object(shards, "_closed", closed)


def shards_are_forgotten_at_restarts() -> AbstractContextManager[Any]:
    return patch.object(node.state, "_shards_of", lambda definition, stored: {})


def cursors_pass_what_nobody_may_have_read() -> AbstractContextManager[Any]:
    """Retention moves the cursor of a stream to the head of the feed."""

    def upkeep(state: GroupState, *parts: Any) -> Upkeep:
        label = next(iter(state.shards), "")
        advance = log.CursorAdvance(consumer=stream_consumer(label), sequence=state.feed_head)
        return Upkeep((advance,) if label else (), "")

    return patch.object(duty, "upkeep", upkeep)


def snapshots_come_without_records() -> AbstractContextManager[Any]:
    return patch.object(schema, "EXPORT_FEED", schema.EXPORT_FEED.replace("WHERE", "WHERE 0 AND"))


def records_lack_what_was_before() -> AbstractContextManager[Any]:
    return patch.object(streams, "decoded", lambda *parts: decoded(*parts)._replace(old_image=None))


MUTATIONS: dict[str, Mutation] = {
    "a page that is cut ends where the shard does": pages_end_where_the_shard_does,
    "a shard closes behind its records": shards_close_behind_their_records,
    "a shard closes before its records": shards_close_before_their_records,
    "shards are forgotten at restarts": shards_are_forgotten_at_restarts,
    "a cursor passes what nobody may have read": cursors_pass_what_nobody_may_have_read,
    "snapshots come without change records": snapshots_come_without_records,
    "records lack the image before": records_lack_what_was_before,
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_of_the_feed_is_seen(name: str) -> None:
    with MUTATIONS[name]():
        for seed in range(1, SEEDS_MAX + 1):
            outcome = run(seed)
            if outcome.problem:
                assert outcome.problem.startswith(FINDINGS), outcome.problem
                print(f"{name}: seed {seed}: {outcome.problem.splitlines()[0][:200]}")
                return
    raise AssertionError(f"no seed shows that {name}")
