"""Broken transactions, each with one rule taken out: scenarios and schedules must see every one of them. As in
test_mutations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne import ledger
from geodyne.ledger import LedgerKey
from geodyne.messages import Found, Get, Write, WriteId
from geodyne.sim.transactionschedule import run_transaction_schedule
from node import groups
from node.group import Asker, Group
from node.transactions import state
from node.transactions.ages import Watched
from node.transactions.deletions import Deletions
from node.transactions.participant import Decision, Participant, Reader
from node.transactions.recovery import Recovery
from node.transactions.state import Prepared, Transactions
from node.transactions.sweeper import Sweeper
from node.window import Window
from router.api import coordinator
from router.api.context import Context
from router.api.coordinator import GetAction, Part
from tests.sim import test_transaction_scenarios as scenes
from tests.sim.test_mutations import SEEN

Mutation = Callable[[], AbstractContextManager[Any]]
Hunt = Callable[[Path], object]


def schedules(last: int, first: int = 1) -> Hunt:
    """Hunts end at the first seed that sees the fault."""

    def hunt(path: Path) -> None:
        for seed in range(first, last + 1):
            run_transaction_schedule(seed)

    return hunt


def dead_coordinators(path: Path) -> None:
    for dies_at in range(scenes.CALLS):
        (path / str(dies_at)).mkdir()
        scenes.test_what_a_dead_coordinator_leaves_is_brought_to_one_end_within_seven_seconds(
            path / str(dies_at), dies_at
        )


def clocks_apart(path: Path) -> None:
    scenes.test_nor_where_the_clocks_of_the_two_leaders_are_ten_minutes_apart(path, 601)


def write_through_locks() -> AbstractContextManager[Any]:
    real = Group.write

    def write(group: Group, call: Write, write_id: WriteId | None, asker: Asker, wall_us: int) -> None:
        locks, group.participant.locks = group.participant.locks, {}
        real(group, call, write_id, asker, wall_us)
        group.participant.locks = locks

    return patch.object(Group, "write", write)


def keep_no_preparations() -> AbstractContextManager[Any]:
    real = Transactions.to_bytes

    def to_bytes(transactions: Transactions) -> list[bytes]:
        with patch.object(transactions, "prepared", {}):
            return list(real(transactions))

    return patch.object(Transactions, "to_bytes", to_bytes)


def commit_though_cancelled() -> AbstractContextManager[Any]:
    real = ledger.commit

    def commit(at: LedgerKey, attempt: int, digest: bytes, now_us: int, partitions: Any) -> Write:
        return real(at, attempt, digest, now_us, partitions)._replace(condition=None)

    return patch.object(ledger, "commit", commit)


async def decide_by_oneself(recovery: Recovery, held: Prepared, cancel: bool) -> Decision:
    return Decision.CANCELLED if cancel else Decision.OPEN


async def decide_nothing(context: Context, at: Any, attempt: Any, parts: Any) -> bool:
    return True


def commit_in_part() -> AbstractContextManager[Any]:
    real = Participant._commit

    def commit(participant: Participant, part: Prepared, wall_us: int) -> int:
        items = part.items[:-1] if len(part.items) > 1 else part.items
        return real(participant, part._replace(items=items), wall_us)

    return patch.object(Participant, "_commit", commit)


def read_what_is_committed() -> AbstractContextManager[Any]:
    """Of an item whose transaction has been told its end, before that is committed."""

    def answer_reader(participant: Participant, reader: Reader) -> None:
        participant._group.answer_read(reader.asker, participant._group.look_up(reader.key))

    return patch.object(Participant, "_answer_reader", answer_reader)


async def read_once(actions: Sequence[GetAction], parts: Sequence[Part], context: Context) -> tuple[Found, ...]:
    return coordinator._found(await coordinator._round(actions, parts, context))


def ignore_locks_in_reads() -> AbstractContextManager[Any]:
    real = Participant.read_together

    def read_together(participant: Participant, call: Any, asker: Asker) -> None:
        locks, participant.locks = participant.locks, {}
        real(participant, call, asker)
        participant.locks = locks

    return patch.object(Participant, "read_together", read_together)


def no_read(participant: Participant, call: Get, asker: Asker) -> bool:
    return False


MUTATIONS: dict[str, tuple[Mutation, Hunt]] = {
    "prepared items are not locked": (
        lambda: patch.object(Participant, "blocks", lambda participant, key: False),
        schedules(4),
    ),
    "single writes do not look at locks": (write_through_locks, schedules(4)),
    "a new leader forgets what is prepared": (
        lambda: patch.object(Participant, "begin", lambda participant: participant.end()),
        scenes.test_what_is_prepared_survives_a_power_cut_of_the_whole_region,
    ),
    "windows and snapshots come without what is prepared": (
        keep_no_preparations,
        scenes.test_a_leader_that_was_built_from_a_snapshot_knows_what_is_prepared,
    ),
    "what is prepared is forgotten at a restart": (
        lambda: patch.object(groups, "_window", lambda *parts: Window()),
        scenes.test_what_is_prepared_survives_a_power_cut_of_the_whole_region,
    ),
    "a cancelled attempt may be committed": (commit_though_cancelled, scenes.test_a_slow_coordinator_is_overruled),
    "a participant decides by itself": (
        lambda: patch.object(Recovery, "_decision", decide_by_oneself),
        dead_coordinators,
    ),
    "the coordinator decides by itself": (
        lambda: patch.object(coordinator, "_decided", decide_nothing),
        dead_coordinators,
    ),
    "half of a part takes effect": (commit_in_part, dead_coordinators),
    "nobody brings to an end what a dead coordinator left": (
        lambda: patch.object(Participant, "overdue", lambda participant, wall_us: []),
        dead_coordinators,
    ),
    "reads do not ask the ledger": (
        lambda: patch.object(Participant, "take_read", no_read),
        scenes.test_a_strong_read_sees_what_is_decided_though_its_partition_has_not_been_told,
    ),
    "reads see what was there before an end that is not committed yet": (
        read_what_is_committed,
        scenes.test_a_strong_read_waits_for_the_end_of_a_transaction_to_be_committed,
    ),
    "several partitions are read in one round": (
        lambda: patch.object(coordinator, "_read", read_once),
        schedules(60, first=11),
    ),
    "reads together do not look at locks": (ignore_locks_in_reads, schedules(6)),
    "absent items all look the same": (
        lambda: patch.object(Deletions, "note", lambda deletions, key: None),
        scenes.test_an_item_that_came_and_went_between_two_reads_is_told_from_one_that_was_never_there,
    ),
    "the same transaction is done again": (
        lambda: patch.object(Participant, "_answered_before", lambda participant, call, asker, wall_us: False),
        scenes.test_a_transaction_of_one_partition_is_not_done_twice_after_its_leader_died,
    ),
    "what looks old is taken for forgotten": (
        lambda: patch.object(Watched, "look", lambda watched, wall_us, lease_ms: 1 << 60),
        clocks_apart,
    ),
    "what looks old is dropped": (lambda: patch.object(state, "COMMITTED_MIN", 0), clocks_apart),
    "rows of the ledger go as soon as they look old": (
        lambda: patch.object(Sweeper, "_seen_before", lambda sweeping, key, touched_us: True),
        scenes.test_a_row_that_a_wrong_clock_calls_old_outlives_every_coordinator_that_may_still_decide,
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_broken_transactions_are_caught(name: str, tmp_path: Path) -> None:
    mutation, hunt = MUTATIONS[name]
    with mutation(), pytest.raises((*SEEN, pytest.fail.Exception)):
        hunt(tmp_path)
