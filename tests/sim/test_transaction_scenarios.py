"""Transactions in situations that chance would seldom make. As in test_scenarios."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from geodyne import ledger
from geodyne.checkers.serializability import Outcome
from geodyne.errors import ApiError
from geodyne.ledger import LEDGER_TABLE
from geodyne.messages import (
    Applied,
    ApplyChanges,
    AttributeValue,
    Busy,
    Change,
    Finish,
    Found,
    Get,
    Images,
    Moved,
    NotLeader,
    Prepare,
    Prepared,
    PrepareRefused,
    ReadTogether,
    Refused,
    Write,
    WriteKind,
    Written,
)
from geodyne.model.keys import hash_of
from geodyne.model.values import loads
from geodyne.sim.items import key_of, putting
from geodyne.sim.region import Region, SimNode
from geodyne.sim.transactions import RECOVERED_S, Lists, appending, checking, held, partitions_of, play
from node.transactions import sweeper

SPREAD = ("a", "b", "c", "d", "e")  # over several partitions
CALLS = 13  # of a transaction on SPREAD: prepares, the decision, finishes
OLD_ROWS = 600  # of the ledger, to be swept
SWEEP_S_MAX = 0.4


def _partition(here: Region, key: str) -> int:
    return here.client.catalog.tables["T"].partition_of(hash_of(key_of(key))).id


def _prepares(here: Region) -> int:
    """How many calls of a transaction on SPREAD are preparations."""
    return len({_partition(here, key) for key in SPREAD})


def _leader(here: Region, partition: int) -> SimNode:
    leader = here.leader(partition)
    assert leader is not None
    return leader


@pytest.mark.parametrize("dies_at", range(CALLS))
def test_what_a_dead_coordinator_leaves_is_brought_to_one_end_within_seven_seconds(
    tmp_path: Path, dies_at: int
) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        await lists.append("x", SPREAD, dies_at=dies_at)
        began = here.loop.time()
        await here.until(lambda: not held(here), "nothing is prepared", RECOVERED_S)
        assert here.loop.time() - began < RECOVERED_S
        read = await lists.read(SPREAD)
        assert read is not None
        assert len(set(read.values())) == 1
        assert await lists.append("y", SPREAD) is Outcome.COMMITTED

    play(tmp_path, scenario)


@pytest.mark.parametrize("dies_at", [2, 5, 6, 7])
def test_a_dead_coordinator_and_dead_leaders_leave_nothing_half_done(tmp_path: Path, dies_at: int) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        await lists.append("x", SPREAD, dies_at=dies_at)
        for key in ("a", LEDGER_TABLE):
            partitions = [_partition(here, key)] if key == "a" else _ledger(here)
            for partition in partitions[:1]:
                await here.until(partial(here.leader, partition), "a leader serves")
                node = _leader(here, partition)
                await node.kill(power_loss=True)
                await here.run_for(0.2)
                node.start()
        await here.until(lambda: not held(here), "nothing is prepared", 3 * RECOVERED_S)
        await lists.read(SPREAD)

    play(tmp_path, scenario)


def _ledger(here: Region) -> list[int]:
    return [partition.id for partition in here.client.catalog.tables[LEDGER_TABLE].partitions]


def _ledger_rows(here: Region) -> int:
    groups = [here.group(here.nodes[0], partition) for partition in _ledger(here)]
    return sum(group.state.items for group in groups if group is not None)


def test_a_write_on_a_prepared_item_is_refused_and_a_read_of_it_is_not(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        await lists.append("x", SPREAD, dies_at=_prepares(here))  # prepared everywhere, and not decided
        with pytest.raises(ApiError) as caught:
            await lists.run("UpdateItem", appending("a", "y"))
        assert (caught.value.kind.code, caught.value.message) == (
            "TransactionConflictException",
            "Transaction is ongoing for the item",
        )
        with pytest.raises(ApiError) as caught:
            await lists.run("TransactWriteItems", {"TransactItems": [{"ConditionCheck": checking("a", 1)}]})
        assert caught.value.details["CancellationReasons"] == [
            {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}
        ]
        assert await lists.read(["a"]) == {"a": ("first",)}

    play(tmp_path, scenario)


def test_a_strong_read_sees_what_is_decided_though_its_partition_has_not_been_told(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        await lists.append("x", SPREAD, dies_at=_prepares(here) + 1)  # decided, and nobody told
        assert held(here)
        for key in SPREAD:
            assert await lists.read([key]) == {key: ("first", "x")}

    play(tmp_path, scenario)


@pytest.mark.parametrize("healable", [True, False])
def test_damage_that_the_end_of_a_transaction_meets_leaves_it_prepared_and_every_reader_answered(
    tmp_path: Path, healable: bool
) -> None:
    """The leader asks the ledger for a reader, outside of any call, and finds what it is to replace damaged."""

    async def scenario(here: Region, lists: Lists) -> None:
        await lists.append("x", SPREAD, dies_at=_prepares(here) + 1)  # decided, and nobody told
        partition, key = _partition(here, "a"), key_of("a")
        leader = _leader(here, partition)
        await here.settle(partitions_of(here))

        def change(value: str) -> None:
            store = leader.handler._store
            where = (store._groups[partition].space, key)
            store._db.execute(f"UPDATE items SET value = CAST({value} AS BLOB) WHERE space=? AND key=?", where)

        change("'x' || value")
        with patch.object(leader.handler.healing, "_healable", lambda group: healable):
            answers = [leader.ask(Get(partition, 1, key, True)) for _ in range(2)]
            await here.run_for(0.5)
            assert [len(one) for one in answers] == [1, 1]
            assert all(isinstance(one[0], NotLeader if healable else Refused) for one in answers)
            assert held(here)
        if not healable:
            change("substr(value, 2)")
        await here.until(lambda: not held(here), "nothing is prepared", RECOVERED_S)
        assert await lists.read(SPREAD) == dict.fromkeys(SPREAD, ("first", "x"))

    play(tmp_path, scenario)


def test_what_is_prepared_survives_a_power_cut_of_the_whole_region(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        await lists.append("x", SPREAD, dies_at=_prepares(here) + 1)
        for node in here.nodes:
            await node.kill(power_loss=True)
        for node in here.nodes:
            node.start()
        await here.until(lambda: not held(here), "nothing is prepared", 3 * RECOVERED_S)
        assert await lists.read(SPREAD) == dict.fromkeys(SPREAD, ("first", "x"))

    play(tmp_path, scenario)


def test_a_leader_that_was_built_from_a_snapshot_knows_what_is_prepared(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        partition = _partition(here, "a")
        leader = _leader(here, partition)
        away = here.others(leader)[0]
        await away.kill()
        await lists.append("x", SPREAD, dies_at=_prepares(here) + 1)
        group = here.group(leader, partition)
        assert group is not None
        index = group.state.applied_index
        leader.handler._store.save_window(partition, group.window.to_bytes(), index)
        group.raft.compact(group.state.applied_index)
        away.start()
        await here.until(here.lead_by(partition, away), "the replica that was away leads")
        assert held(here)
        assert await lists.read(["a"]) == {"a": ("first", "x")}

    play(tmp_path, scenario)


def test_a_resent_prepare_and_a_resent_finish_are_answered_the_same(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        partition = _partition(here, "a")
        leader = _leader(here, partition)
        item = putting(0, "one", "1")._replace(key=key_of("a"))
        prepare = Prepare(partition, 1, b"t" * 16, 7, b"d", (item,))
        finish = Finish(partition, 1, b"t" * 16, 7, False)
        answers = [leader.ask(call) for call in (prepare, prepare)]
        await here.run_for(0.5)
        assert isinstance(answers[0][0], Prepared)
        assert answers[0] == answers[1]
        other = leader.ask(prepare._replace(attempt=8))
        mismatch = leader.ask(prepare._replace(digest=b"e"))
        await here.run_for(0.5)
        assert isinstance(other[0], Refused)
        assert other[0].code == "TransactionInProgressException"
        assert isinstance(mismatch[0], Refused)
        assert mismatch[0].code == "IdempotentParameterMismatchException"
        ended = [leader.ask(finish) for _ in range(2)]
        late = leader.ask(prepare)
        await here.run_for(0.5)
        assert [len(one) for one in ended] == [1, 1]
        assert isinstance(late[0], PrepareRefused)
        assert not held(here)

    play(tmp_path, scenario)


def _counting(partition: int, transaction: bytes = b"t") -> Prepare:
    """A transaction of one partition that adds one to item a."""
    values: dict[str, AttributeValue] = {":one": {"N": "1"}}
    update = Write(0, 0, WriteKind.UPDATE, key_of("a"), b'{"pk":{"S":"a"}}', 3, None, "ADD n :one", {}, values)
    return Prepare(partition, 1, transaction * 16, 7, b"d", (update,), commit=True)


def test_a_transaction_of_one_partition_is_not_done_twice_after_its_leader_died(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        partition = _partition(here, "a")
        leader = _leader(here, partition)
        prepare = _counting(partition)
        first = leader.ask(prepare)
        await here.run_for(0.5)
        assert first == [Prepared(first[0].outcomes, False)]  # type: ignore[union-attr]
        await leader.kill()
        await here.until(lambda: here.leader(partition) not in (None, leader), "another leader serves")
        again = _leader(here, partition).ask(prepare)
        by_another = _leader(here, partition).ask(prepare._replace(attempt=8))
        await here.run_for(0.5)
        assert again == first
        assert by_another == [Prepared(first[0].outcomes, True)]  # type: ignore[union-attr]
        found = await lists._client.call(Get(partition, 1, key_of("a"), True), timeout_ms=5_000)
        assert isinstance(found, Found)
        assert loads(found.item or b"{}")["n"] == {"N": "1"}
        leader.start()

    play(tmp_path, scenario)


@pytest.mark.parametrize("off_s", [-601, 601])
def test_nor_where_the_clocks_of_the_two_leaders_are_ten_minutes_apart(tmp_path: Path, off_s: int) -> None:
    """Its first leader's clock is that far off, or the next one's: what was done just now looks old, or yet to come."""

    async def scenario(here: Region, lists: Lists) -> None:
        partition = _partition(here, "a")
        leader = _leader(here, partition)
        for node in [leader] if off_s < 0 else here.others(leader):
            node.clock.skew_us += off_s * 1_000_000
        prepare = _counting(partition)
        first = leader.ask(prepare)
        await here.run_for(0.5)
        await leader.kill()
        await here.until(lambda: here.leader(partition) not in (None, leader), "another leader serves")
        serving = _leader(here, partition)
        between = serving.ask(_counting(partition, b"u"))
        await here.run_for(0.5)
        assert isinstance(between[0], Prepared)
        again = serving.ask(prepare)
        by_another = serving.ask(prepare._replace(attempt=8))
        await here.run_for(0.5)
        assert again == first
        assert by_another == [Prepared(first[0].outcomes, True)]  # type: ignore[union-attr]
        leader.start()

    play(tmp_path, scenario)


def test_a_token_is_free_again_where_a_leader_has_seen_ten_minutes_go_by(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        partition = _partition(here, "a")
        prepare = _counting(partition)
        for attempt, wait_s, replayed in ((7, 599, False), (8, 2, True), (9, 1, False)):
            answers = _leader(here, partition).ask(prepare._replace(attempt=attempt))
            await here.run_for(wait_s)
            assert isinstance(answers[0], Prepared)
            assert answers[0].replayed is replayed

    play(tmp_path, scenario)


def test_money_is_neither_made_nor_lost(tmp_path: Path) -> None:
    """Transfers between accounts while leaders come and go: every TransactGetItems finds the same sum."""

    async def scenario(here: Region, lists: Lists) -> None:
        accounts = [f"account {number}" for number in range(5)]
        await lists.run("TransactWriteItems", {"TransactItems": [{"Put": _account(name, 100)} for name in accounts]})
        stop = asyncio.Event()
        totals: list[int] = []
        done: list[int] = []

        async def transfer(number: int) -> None:
            while not stop.is_set():
                await asyncio.sleep(0.01 * (1 + number))
                source, target = accounts[number % 5], accounts[(number * 2 + 1) % 5]
                items = [{"Update": _moved(source, -7)}, {"Update": _moved(target, 7)}]
                with contextlib.suppress(ApiError):
                    await lists.run("TransactWriteItems", {"TransactItems": items})
                    done.append(number)
                    await lists.run("UpdateItem", _moved(source, 0))

        async def audit() -> None:
            gets = [{"Get": {"TableName": "T", "Key": {"pk": {"S": name}}}} for name in accounts]
            while not stop.is_set():
                await asyncio.sleep(0.005)
                try:
                    answer = await lists.run("TransactGetItems", {"TransactItems": gets})
                except ApiError:
                    continue
                totals.append(sum(int(one["Item"]["balance"]["N"]) for one in answer["Responses"]))

        tasks = [asyncio.ensure_future(job) for job in (transfer(1), transfer(2), transfer(3), audit(), audit())]
        for number in range(4):
            await here.run_for(1.5)
            node = _leader(here, _partition(here, accounts[number]))
            await node.kill()
            await here.run_for(0.5)
            node.start()
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert set(done) == {1, 2, 3}
        assert len(totals) > 20
        assert set(totals) == {500}

    play(tmp_path, scenario)


def _account(name: str, balance: int) -> dict[str, object]:
    return {"TableName": "T", "Item": {"pk": {"S": name}, "balance": {"N": str(balance)}}}


def _moved(name: str, amount: int) -> dict[str, object]:
    return {
        "TableName": "T",
        "Key": {"pk": {"S": name}},
        "UpdateExpression": "SET balance = balance + :amount",
        "ConditionExpression": "balance >= :need",
        "ExpressionAttributeValues": {":amount": {"N": str(amount)}, ":need": {"N": str(max(0, -amount))}},
    }


def test_two_transactions_that_check_what_the_other_writes_never_both_happen(tmp_path: Path) -> None:
    """Write skew: each appends to one list if the other is as it was read."""

    async def scenario(here: Region, lists: Lists) -> None:
        done = 0
        for number in range(20):
            read = await lists.read(["a", "b"])
            assert read is not None
            lengths = {key: len(values) for key, values in read.items()}
            both = [
                asyncio.ensure_future(lists.append(f"{number}a", ["a"], {"b": lengths["b"]})),
                asyncio.ensure_future(lists.append(f"{number}b", ["b"], {"a": lengths["a"]})),
            ]
            outcomes = await asyncio.gather(*both)
            assert outcomes.count(Outcome.COMMITTED) <= 1
            done += outcomes.count(Outcome.COMMITTED)
            await here.run_for(0.05)
        assert done > 0

    play(tmp_path, scenario)


def test_the_ledger_forgets_transactions_after_ten_minutes(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        await lists.append("x", SPREAD, dies_at=3)
        await lists.append_once("y", ["a", "b", "c"], [], dies_at=1 << 30)

        await here.until(lambda: not held(here), "nothing is prepared", RECOVERED_S)
        await here.settle(partitions_of(here))
        assert _ledger_rows(here) >= 2
        for node in here.nodes:
            node.clock.skew_us += 601_000_000
        await here.run_for(3 * sweeper.INTERVAL_S)
        await here.settle(partitions_of(here))
        assert _ledger_rows(here) == 0

    play(tmp_path, scenario)


def test_a_row_that_a_wrong_clock_calls_old_outlives_every_coordinator_that_may_still_decide(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        table = here.client.catalog.tables[LEDGER_TABLE]
        at = ledger.ledger_key(table, b"t" * 16)
        sweeps = 2
        await here.run_for(sweeps * sweeper.INTERVAL_S - 1.0)
        old_us = (
            here.nodes[0].clock.wall_us() - 601_000_000
        )  # by the clock of the participant that gives the attempt up
        assert isinstance(await lists._client.call(ledger.cancel(at, 1, old_us), timeout_ms=5_000), Written)
        await here.run_for(ledger.DECIDE_WITHIN_MS / 1_000 + sweeper.DECISION_MS / 1_000)
        late = ledger.commit(at, 1, b"d" * 16, old_us + 601_000_000, [_partition(here, "a")])
        assert isinstance(await lists._client.call(late, timeout_ms=5_000), Refused)

    play(tmp_path, scenario)


def test_the_sweep_of_the_ledger_is_faster_than_the_ledger_grows(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        await lists.append("x", SPREAD)
        table = here.client.catalog.tables[LEDGER_TABLE]
        participant = partitions_of(here)[0]
        began_us = here.nodes[0].clock.wall_us() - 601_000_000
        for first in range(0, OLD_ROWS, 100):
            rows = [ledger.ledger_key(table, b"%016d" % number) for number in range(first, first + 100)]
            writes = [ledger.commit(at, 1, b"d" * 16, began_us, [participant]) for at in rows]
            for reply in [lists._client.call(write, timeout_ms=5_000) for write in writes]:
                assert isinstance(await reply, Written)

        await here.settle(partitions_of(here))
        before = _ledger_rows(here)
        assert before >= OLD_ROWS
        await here.until(lambda: _ledger_rows(here) < before, "the sweep begins", 2 * sweeper.INTERVAL_S)
        await here.run_for(SWEEP_S_MAX)
        await here.settle(partitions_of(here))
        assert _ledger_rows(here) <= before - OLD_ROWS

    play(tmp_path, scenario)


def test_a_table_that_is_deleted_while_its_items_are_prepared_takes_them_along(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        table = await here.create_table("U")
        key = key_of("u")
        partition = table.partition_of(hash_of(key))
        prepare = Prepare(partition.id, 1, b"u" * 16, 1, b"d", (putting(0, "u", "1"),))
        assert isinstance(await lists._client.call(prepare, timeout_ms=5_000), Prepared)
        await here.control("delete_table", {"name": "U"})
        await here.until(lambda: "U" not in here.client.catalog.tables, "the table is gone")
        finish = Finish(partition.id, 1, b"u" * 16, 1, True)
        assert isinstance(await lists._client.call(finish, timeout_ms=5_000), Moved)

    play(tmp_path, scenario)


def test_a_slow_coordinator_is_overruled(tmp_path: Path) -> None:
    """It comes back to decide when the participants have given its attempt up."""

    async def scenario(here: Region, lists: Lists) -> None:
        body = {"TransactItems": [{"Update": appending(key, "x")} for key in SPREAD]}
        sleeps_at = _prepares(here)
        running = asyncio.ensure_future(lists.run("TransactWriteItems", body, sleeps=(sleeps_at, RECOVERED_S)))
        await here.run_for(RECOVERED_S - 0.5)
        assert not held(here)
        with pytest.raises(ApiError) as caught:
            await asyncio.wait_for(running, 10)
        assert caught.value.kind.code == "ServiceUnavailable"
        assert await lists.read(SPREAD) == dict.fromkeys(SPREAD, ("first",))

    play(tmp_path, scenario)


def test_a_strong_read_waits_for_the_end_of_a_transaction_to_be_committed(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        await lists.append("x", SPREAD, dies_at=_prepares(here) + 1)  # decided, and nobody told
        partition = _partition(here, "a")
        leader = _leader(here, partition)
        group = here.group(leader, partition)
        assert group is not None
        (part,) = group.participant._held.values()
        here.isolate(leader, from_clients=False)
        ended = leader.ask(Finish(partition, 1, part.transaction, part.attempt, True))
        read = leader.ask(Get(partition, 1, key_of("a"), True))
        await here.run_for(0.2)  # well within the lease
        assert (ended, read) == ([], [])
        here.world.heal()

    play(tmp_path, scenario)


def test_a_change_of_another_region_waits_for_the_end_of_a_transaction(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        partition = _partition(here, "a")
        item = putting(0, "a", "ours")
        call = Prepare(partition, 1, b"t" * 16, 7, b"d", (item,))
        assert isinstance(await lists._client.call(call, timeout_ms=5_000), Prepared)
        version = (1 << 62).to_bytes(8, "big") + b"eu-west-1"
        theirs = ApplyChanges(partition, 1, (Change(item.key, version, b'{"pk":{"S":"a"},"l":{"L":[]}}', 9),))
        (early,) = [_leader(here, partition).ask(theirs)]
        await here.run_for(0.1)
        assert isinstance(early[0], Busy)
        sent = lists._client.call(theirs, timeout_ms=9_000)
        done = await lists._client.call(Finish(partition, 1, b"t" * 16, 7, False), timeout_ms=5_000)
        assert done == Applied(1)
        assert await sent == Applied(1)
        lists.history.clear()

    play(tmp_path, scenario)


def test_an_item_that_came_and_went_between_two_reads_is_told_from_one_that_was_never_there(tmp_path: Path) -> None:
    async def scenario(here: Region, lists: Lists) -> None:
        item = putting(0, "gone", "1")
        partition = _partition(here, "gone")
        read = ReadTogether(partition, 1, (item.key,))
        before, again = [await lists._client.call(read, timeout_ms=5_000) for _ in range(2)]
        assert before == again
        for kind in (WriteKind.PUT, WriteKind.DELETE):
            call = item._replace(partition=partition, kind=kind)
            assert isinstance(await lists._client.call(call, timeout_ms=5_000), Written)
        after = await lists._client.call(read, timeout_ms=5_000)
        assert isinstance(before, Images)
        assert isinstance(after, Images)
        assert (before.images[0].item, after.images[0].item) == (None, None)
        assert before.images[0].stamp != after.images[0].stamp

    play(tmp_path, scenario)
