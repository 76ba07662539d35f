"""Items that expire in a region of three nodes: what is due goes, in bounded time, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from geodyne.errors import ApiError
from geodyne.messages import Answer, ControlDone, Finish, Found, Get, Prepare, Prepared, Write, WriteKind, Written
from geodyne.model.expiry import Expiry
from geodyne.model.keys import KeySchema, encode_key, hash_of
from geodyne.model.values import dumps, item_size
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import Violation
from geodyne.sim.region import Region, SimNode, region
from node import ttl
from node.group import Group
from node.storage import schema
from node.storage.sqlite import StateStore
from node.transactions import participant

SCHEMA = KeySchema("pk", "S")
ATTRIBUTE = "expires"
SKEW_S = 2  # more than the nodes' clocks differ by
BOUND_S = 8.0  # within which all that is due goes, elections included
TIMEOUT_MS = 6_000


class Stage:
    """Table T, through one client."""

    def __init__(self, here: Region) -> None:
        self.here = here

    @property
    def now_s(self) -> int:
        return self.here.nodes[0].clock.wall_us() // 1_000_000

    @property
    def partitions(self) -> list[int]:
        return [partition.id for partition in self.here.client.catalog.tables["T"].partitions]

    async def enable(self, attribute: str = ATTRIBUTE, enabled: bool = True) -> None:
        body = {"name": "T", "attribute": attribute, "enabled": enabled}
        while not isinstance(await self.here.control("set_ttl", body), ControlDone):
            await self.here.run_for(0.1)  # it is not known yet what all nodes speak
        wanted, catalog = "ENABLED" if enabled else "DISABLED", self.here.client.catalog
        await self.here.until(lambda: catalog.tables["T"].ttl_status == wanted, "the change is settled")

    async def call(self, pk: str, kind: WriteKind | None, second: int | None = None) -> Answer:
        item = {"pk": {"S": pk}}
        if second is not None:
            item[ATTRIBUTE] = {"N": str(second)}
        key = encode_key(SCHEMA, item)
        partition = self.here.client.catalog.tables["T"].partition_of(hash_of(key)).id
        if kind is None:
            return await self.here.client.call(Get(partition, 1, key, True), timeout_ms=TIMEOUT_MS)
        image = dumps(item) if kind is WriteKind.PUT else b""
        write = Write(partition, 1, kind, key, image, item_size(item), None, None)
        return await self.here.client.call(write, timeout_ms=TIMEOUT_MS)

    async def put(self, pk: str, second: int | None = None) -> bool:
        """False when the outcome is not known."""
        try:
            return isinstance(await self.call(pk, WriteKind.PUT, second), Written)
        except ApiError:
            return False

    async def there(self, pk: str) -> bool:
        while True:
            try:
                found = await self.call(pk, None)
            except ApiError:
                await asyncio.sleep(0.1)
                continue
            if isinstance(found, Found):
                return found.item is not None

    def leader(self, number: int) -> SimNode:
        node = self.here.leader(self.partitions[number])
        assert node is not None
        return node

    def deleted(self) -> float:
        return sum(node.count("geodyne_ttl_deleted_items_total") for node in self.here.nodes if node.alive)


def play(path: Path, scenario: Callable[[Stage], Awaitable[None]], seed: int = 1, small: bool = False) -> None:
    async def run() -> None:
        async with region(seed, path, small=small) as here:
            await here.create_table()
            stage = Stage(here)
            await here.until(lambda: all(here.leader(p) for p in stage.partitions), "leaders")
            await scenario(stage)
            await here.revived()
            await here.settle(stage.partitions)

    run_simulated(run())


# --- what goes ------------------------------------------------------------------------------------------------------


def test_what_is_due_goes_within_seconds_and_nothing_else_does(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        now = stage.now_s
        await stage.enable()
        for number in range(60):
            assert await stage.put(f"past{number}", now - 10)
            assert await stage.put(f"soon{number}", now + 6)
            assert await stage.put(f"later{number}", now + 10_000)
            assert await stage.put(f"never{number}")
            assert await stage.put(f"old{number}", now - ttl_years(6))
        await stage.here.run_for(max(0, now + 6 - stage.now_s) + 4)
        for number in range(60):
            assert not await stage.there(f"past{number}")
            assert not await stage.there(f"soon{number}")
            assert await stage.there(f"later{number}")
            assert await stage.there(f"never{number}")
            assert await stage.there(f"old{number}")
        assert stage.deleted() == 120

    play(tmp_path, scenario)


def ttl_years(years: int) -> int:
    return years * 365 * 86_400


def test_what_was_there_before_ttl_was_enabled_goes_too_and_nothing_after_it_is_disabled(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        now = stage.now_s
        for number in range(200):
            assert await stage.put(f"k{number}", now - 10 if number % 2 else now + 10_000)
        await stage.enable()
        await stage.here.until(lambda: stage.deleted() == 100, "all are gone", BOUND_S)
        assert [await stage.there(f"k{number}") for number in range(6)] == [True, False] * 3
        await stage.enable(enabled=False)
        assert await stage.put("kept", now - 10)
        await stage.here.run_for(5)
        assert await stage.there("kept")

    play(tmp_path, scenario)


def test_an_item_that_a_transaction_has_locked_stays_until_its_end(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.enable()
        assert await stage.put("locked", stage.now_s + 2)
        key = encode_key(SCHEMA, {"pk": {"S": "locked"}})
        partition = stage.here.client.catalog.tables["T"].partition_of(hash_of(key)).id
        check = Write(partition, 1, WriteKind.CHECK, key, b"", 0, "attribute_exists(pk)", None)
        prepare = Prepare(partition, 1, b"t" * 16, 1, b"d", (check,))
        with patch.object(participant, "RECOVER_AFTER_US", 60_000_000):
            assert isinstance(await stage.here.client.call(prepare, timeout_ms=TIMEOUT_MS), Prepared)
            await stage.here.run_for(6)
            assert await stage.there("locked")
            await stage.here.client.call(Finish(partition, 1, b"t" * 16, 1, False), timeout_ms=TIMEOUT_MS)
        await stage.here.run_for(3)
        assert not await stage.there("locked")

    play(tmp_path, scenario)


# --- under kills ----------------------------------------------------------------------------------------------------


async def killer(stage: Stage, seed: int, times: int) -> None:
    random = Random(seed)
    for _ in range(times):
        await asyncio.sleep(random.uniform(0.5, 2.5))
        leader = stage.here.leader(random.choice(stage.partitions))
        if leader is None or any(not node.alive for node in stage.here.nodes):
            continue
        await leader.kill(power_loss=random.random() < 0.5)
        await leader.revive(random.uniform(0.2, 1.5))


async def renewing(stage: Stage, name: str, random: Random, rounds: int) -> None:
    """An item that is due is renewed all the time: once that is acknowledged, the item must stay."""
    for number in range(rounds):
        pk = f"{name}-{number % 3}"
        await stage.put(pk, stage.now_s - SKEW_S)
        await asyncio.sleep(random.uniform(0.0, 0.03))
        if await stage.put(pk, stage.now_s + 10_000):
            await asyncio.sleep(random.uniform(0.0, 0.1))
            if not await stage.there(pk):
                raise Violation(f"{pk} was renewed, and is gone")


def kept_under_kills(path: Path, seed: int, kills: int = 6) -> None:
    async def scenario(stage: Stage) -> None:
        random = Random(seed)
        now = stage.now_s
        await stage.enable()
        expiring = [f"e{number}" for number in range(150)]
        kept = [f"k{number}" for number in range(50)]
        for pk in expiring:
            while not await stage.put(pk, now + random.randrange(1, 12)):
                pass
        for pk in kept:
            while not await stage.put(pk, now + 10_000):
                pass
        clients = [renewing(stage, f"r{number}", random, 60) for number in range(8)]
        await asyncio.gather(killer(stage, seed, kills), *clients)
        await stage.here.revived()
        await stage.here.run_for(max(0, now + 12 - stage.now_s) + BOUND_S)
        left = [pk for pk in expiring if await stage.there(pk)]
        gone = [pk for pk in kept if not await stage.there(pk)]
        if left or gone:
            raise Violation(f"left: {left}, gone: {gone}")

    play(path, scenario, seed, small=True)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_through_kills_of_leaders_all_that_is_due_goes_and_nothing_that_was_renewed(tmp_path: Path, seed: int) -> None:
    kept_under_kills(tmp_path, seed)


def test_a_replica_that_a_snapshot_built_knows_what_expires(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        now = stage.now_s
        await stage.enable()
        away = stage.here.others(stage.leader(0))[0]
        await away.kill()
        for number in range(300):
            await stage.put(f"k{number}", now + 60)
        await stage.here.run_for(8)  # the log is cut beyond what it has
        await away.revive(0)
        await stage.here.run_for(8)
        assert away.count("geodyne_snapshots_total", direction="received", result="ok") > 0
        for partition in stage.partitions:
            await stage.here.until(stage.here.lead_by(partition, away), "the rebuilt node leads")
        await stage.here.run_for(max(0, now + 60 - stage.now_s) + BOUND_S)
        assert not any([await stage.there(f"k{number}") for number in range(0, 300, 10)])
        assert away.count("geodyne_ttl_deleted_items_total") > 20  # it may have given some partitions back

    play(tmp_path, scenario, small=True)


# --- deliberate faults ----------------------------------------------------------------------------------------------


def no_look_at_the_newest_image() -> AbstractContextManager[object]:
    """What the index says is deleted as it is."""

    def expire(group: Group, expiry: Expiry, key: bytes, wall_us: int) -> bool:
        _, row = group.newest(key)
        if row is None or row.value is None:
            return False
        group.expire(key, row, wall_us)
        return True

    return patch.object(ttl, "expire", expire)


def only_what_is_applied_is_looked_at() -> AbstractContextManager[object]:
    """The image in SQLite is judged, not one that is on its way."""

    def expire(group: Group, expiry: Expiry, key: bytes, wall_us: int) -> bool:
        row = group._store.get(group.partition, key)
        if row is None or not expiry.due(row.value, wall_us):
            return False
        group.expire(key, row, wall_us)
        return True

    return patch.object(ttl, "expire", expire)


@contextmanager
def old_entries_stay() -> Iterator[None]:
    with patch.object(schema, "DELETE_EXPIRY", "SELECT ?, ?, ?"):
        yield


@contextmanager
def filled_before_it_is() -> Iterator[None]:
    real = StateStore.fill_expiries

    def fill(store: StateStore, partition: int, rows_max: int) -> bool:
        with patch.object(schema, "PUT_EXPIRIES", ((1, "SELECT ?, ?, ?"),)):
            return real(store, partition, rows_max)

    with patch.object(StateStore, "fill_expiries", fill):
        yield


FAULTS: dict[str, tuple[Callable[[], AbstractContextManager[object]], Callable[[Path], object]]] = {
    "no look at the newest image": (no_look_at_the_newest_image, lambda path: kept_under_kills(path, 1, kills=0)),
    "only what is applied": (only_what_is_applied_is_looked_at, lambda path: kept_under_kills(path, 1, kills=0)),
    "old entries stay": (old_entries_stay, lambda path: kept_under_kills(path, 2, kills=0)),
    "filled before it is": (
        filled_before_it_is,
        test_what_was_there_before_ttl_was_enabled_goes_too_and_nothing_after_it_is_disabled,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_node_that_breaks_the_rule_is_found_out(tmp_path: Path, fault: str) -> None:
    broken, hunt = FAULTS[fault]
    with broken(), pytest.raises((Violation, AssertionError)):
        hunt(tmp_path)
