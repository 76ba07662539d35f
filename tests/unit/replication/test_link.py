"""The stream to one region: what is shipped comes in in its order, however little the path takes at once."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from geodyne.messages import Change
from replication.apply import Applier, Reply
from replication.values import Receipt, Ship, change_bytes
from replication.window import WINDOW_BYTES_MIN
from tests.unit.replication.fake_region import key_of, version
from tests.unit.replication.test_packing import Pair
from tests.unit.replication.test_replicator import until


def test_ships_come_in_in_their_order_and_no_more_is_sent_than_the_window_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        came: list[int] = []
        submit = Applier.submit

        def noting(applier: Applier, ship: Ship, reply: Reply, source: str, stream: object) -> None:
            came.append(ship.id)
            submit(applier, ship, reply, source, stream)

        monkeypatch.setattr(Applier, "submit", noting)
        async with Pair() as pair:
            receipts: list[Receipt] = []
            shipped, random = 0, Random(1)
            for number in range(60):
                change = Change(key_of(1), version(1_000 + number, "a"), random.randbytes(10_000), 9)
                size = change_bytes(change)
                shipped += size
                pair.link.ship("t", pair.b.table("t").id, (change,), size, receipts.append)
            assert pair.link._window.under_way <= WINDOW_BYTES_MIN
            assert pair.link.bytes_in_flight == shipped
            assert not pair.link.has_room, "nothing is worth reading while something waits"
            await until(lambda: len(receipts) == 60, "receipts")
            assert came == sorted(came)
            assert pair.link.has_room
            assert pair.link.bytes_in_flight == pair.link._window.under_way == 0
            assert pair.b.items("t")[key_of(1)][0] == version(1_059, "a")

    asyncio.run(run())
