"""The destination's side: what is applied, what is held, what a receipt promises."""

from __future__ import annotations

import asyncio

from geodyne.catalog import ADDED_CLOCKS_MS
from geodyne.messages import ApplyChanges, Change
from replication.apply import Applier
from replication.values import CLOCK_SKEW_MS_MAX, Outcome, Receipt, Ship
from tests.unit.replication.fake_region import FakeClock, FakeRegion, key_of, version


class Destination:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.region = FakeRegion("b", self.clock)
        self.region.create("t")
        self.region.control("update_table", name="t", replicas_add=["a"])
        self.region.control("set_replica", name="t", region="a", status="ACTIVE")
        self.table = self.region.table("t")
        self.held: list[int] = []
        self.applier = Applier(self.region, self.clock, lambda _ship, ahead_ms: self.held.append(ahead_ms))
        self.receipts: list[Receipt] = []

    def change(self, number: int, us: int, image: bytes | None = b"x") -> Change:
        return Change(key_of(number), version(us, "a"), image, 1)

    def submit(
        self, number: int, *changes: Change, table_id: str = "", source: str = "a", stream: object = None
    ) -> None:
        ship = Ship(number, "t", table_id or self.table.id, changes)
        self.applier.submit(ship, self.receipts.append, source, stream)

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


def test_a_receipt_comes_only_after_every_partition_has_applied() -> None:
    async def run() -> None:
        there = Destination()
        there.submit(1, *(there.change(n, 5) for n in range(20)))
        assert there.receipts == []
        await there.settle()
        assert there.receipts == [Receipt(1, Outcome.APPLIED, 20)]
        assert len(there.region.items("t")) == 20

    asyncio.run(run())


def test_a_table_that_is_no_replica_takes_nothing() -> None:
    async def run() -> None:
        there = Destination()
        there.region.control("drop_replica", name="t", region="a")
        there.submit(1, there.change(1, 5))
        await there.settle()
        assert [receipt.outcome for receipt in there.receipts] == [Outcome.NO_TABLE]
        assert there.region.items("t") == {}

    asyncio.run(run())


def test_changes_of_one_partition_that_wait_travel_in_one_call_in_order() -> None:
    async def run() -> None:
        there = Destination()
        for number in range(10):
            there.submit(number, there.change(1, number + 1))
        await there.settle()
        calls = [call for call in there.region.calls if isinstance(call, ApplyChanges)]
        assert len(calls) == 1
        assert [c.version for c in calls[0].changes] == [version(n + 1, "a") for n in range(10)]
        assert [r.id for r in there.receipts] == list(range(10))

    asyncio.run(run())


def test_a_change_from_the_future_is_held_and_applied_when_time_has_caught_up() -> None:
    async def run() -> None:
        there = Destination()
        future_us = there.clock.wall_us() + (CLOCK_SKEW_MS_MAX + 700) * 1000
        there.submit(1, there.change(1, 5), there.change(2, future_us))
        await there.settle()
        [receipt] = there.receipts
        assert receipt.outcome is Outcome.HELD
        assert receipt.retry_after_ms == 700
        assert there.held == [CLOCK_SKEW_MS_MAX + 700]
        assert there.region.items("t") == {}
        there.clock.advance(700)
        there.submit(2, there.change(1, 5), there.change(2, future_us))
        await there.settle()
        assert there.receipts[-1].outcome is Outcome.APPLIED

    asyncio.run(run())


def test_a_region_that_is_no_member_gives_nothing() -> None:
    """The tombstone of what it still has to send may be gone here."""

    async def run() -> None:
        there = Destination()
        there.submit(1, there.change(1, 5), source="c")
        await there.settle()
        assert [receipt.outcome for receipt in there.receipts] == [Outcome.NO_TABLE]
        assert there.region.items("t") == {}

    asyncio.run(run())


def test_what_a_region_wrote_before_its_replica_was_asked_for_waits_until_that_is_complete() -> None:
    """It was forgotten and is back: what was deleted since must not come with what it still had to send."""

    async def run() -> None:
        there = Destination()
        there.region.control("drop_replica", name="t", region="a")
        there.region.control("update_table", name="t", replicas_add=["a"])
        now_us = there.clock.wall_us()
        third = Change(key_of(3), version(5, "c"), b"x", 1)  # what it sends of other regions tells nothing
        there.submit(1, there.change(1, now_us - (ADDED_CLOCKS_MS + 1_000) * 1_000), there.change(2, now_us))
        there.submit(2, there.change(2, now_us), third)
        await there.settle()
        assert [receipt.outcome for receipt in there.receipts] == [Outcome.NO_TABLE, Outcome.APPLIED]
        there.region.control("set_replica", name="t", region="a", status="CREATION_FAILED")
        there.submit(3, there.change(2, now_us + 1))
        there.region.control("set_replica", name="t", region="a", status="ACTIVE")
        there.submit(4, there.change(1, 5))
        await there.settle()
        assert [receipt.outcome for receipt in there.receipts[2:]] == [Outcome.NO_TABLE, Outcome.APPLIED]

    asyncio.run(run())


def test_what_waited_while_its_region_was_removed_is_not_applied() -> None:
    async def run() -> None:
        there = Destination()
        there.submit(1, there.change(1, 5))
        there.submit(2, there.change(1, 6))
        there.region.control("drop_replica", name="t", region="a")
        there.region.control("update_table", name="t", replicas_add=["c"])
        await there.settle()
        assert {(receipt.id, receipt.outcome) for receipt in there.receipts} == {
            (1, Outcome.FAILED),
            (2, Outcome.FAILED),
        }
        assert there.region.items("t") == {}

    asyncio.run(run())


def test_what_waits_does_not_grow_with_the_streams_that_break() -> None:
    async def run() -> None:
        there = Destination()
        for number in range(50):  # before the lane has its first turn
            stream = object()
            there.submit(number, there.change(1, 5), stream=stream)
            there.applier.withdraw(stream)
        there.submit(50, there.change(1, 6), stream=object())
        await there.settle()
        [call] = [call for call in there.region.calls if isinstance(call, ApplyChanges)]
        assert [change.version for change in call.changes] == [version(6, "a")]
        assert [receipt.id for receipt in there.receipts] == [50]

    asyncio.run(run())


def test_a_table_of_the_same_name_that_is_another_takes_nothing() -> None:
    async def run() -> None:
        there = Destination()
        there.submit(1, there.change(1, 5), table_id="another")
        assert there.receipts[0].outcome is Outcome.NO_TABLE
        assert there.region.items("t") == {}

    asyncio.run(run())


def test_without_a_leader_the_receipt_says_failed_and_says_why() -> None:
    async def run() -> None:
        there = Destination()
        there.region.down = True
        there.submit(1, there.change(1, 5))
        await there.settle()
        assert there.receipts[0].outcome is Outcome.FAILED
        assert "no leader" in there.receipts[0].reason

    asyncio.run(run())


def test_applying_again_changes_nothing() -> None:
    async def run() -> None:
        there = Destination()
        for number in (1, 2):
            there.submit(number, there.change(1, 5), there.change(1, 4))
            await there.settle()
        assert [r.applied for r in there.receipts] == [1, 0]

    asyncio.run(run())
