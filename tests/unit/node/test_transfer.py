"""Sending snapshots: who is given one of the few places, and what becomes of those of a replica that has left."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from prometheus_client import CollectorRegistry

from node.metrics import NodeMetrics
from node.storage.port import TooManyExports
from node.storage.sqlite import EXPORTS_MAX
from node.transfer import SnapshotTransfers

PARTITION, PEER = 7, "b"
TURNS = 5  # of the loop, until everything that can go on has


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Replica:
    """A group that this node leads, and its consensus."""

    partition, leading, damaged, frozen, term = PARTITION, True, "", 0, 3

    def __init__(self) -> None:
        self.raft = self.window = self.state = self.log = self
        self.failed: list[str] = []
        self.commit_index = self.last_index = self.applied_index = 9

    def snapshot_failed(self, peer: str, now_ms: int) -> None:
        self.failed.append(peer)

    def to_bytes(self) -> bytes:
        return b""


class Service:
    """What a transfer asks of the node and its store."""

    def __init__(self, replica: Replica) -> None:
        self.liveness = self.groups = self
        self.metrics = NodeMetrics(CollectorRegistry())
        self.replica: Replica | None = replica
        self.heard = True
        self.exports: list[int] = []

    def get(self, partition: int) -> Replica | None:
        return self.replica

    def alive(self, peer: str, now_ms: int) -> bool:
        return self.heard

    def connected(self, peer: str) -> bool:
        return True

    def now_ms(self) -> int:
        return 1

    def touch(self, group: object) -> None: ...

    def save_window(self, partition: int, window: bytes, index: int) -> None: ...

    async def export(self, partition: int, chunk_bytes: int, first: bool) -> Any:
        self.exports.append(partition)
        raise TooManyExports("enough for this test")


def transfers(service: Service) -> SnapshotTransfers:
    stand_in = cast(Any, service)
    return SnapshotTransfers(stand_in, stand_in, stand_in, stand_in)


def begin(of: SnapshotTransfers, replica: Replica) -> None:
    of.begin(cast(Any, replica), PEER)


def test_whoever_is_silent_when_its_turn_has_come_keeps_no_place_from_others() -> None:
    async def scenario() -> None:
        service = Service(replica := Replica())
        sending = transfers(service)
        service.heard = False
        begin(sending, replica)
        await turns()
        assert (replica.failed, service.exports) == ([PEER], [])
        service.heard = True
        begin(sending, replica)
        await turns()
        assert service.exports == [PARTITION]

    asyncio.run(scenario())


def test_the_transfer_of_a_replica_that_was_given_up_ends_and_is_not_taken_for_that_of_the_next_one() -> None:
    """That one would wait for the end of it, and never be told."""

    async def scenario() -> None:
        service = Service(old := Replica())
        sending = transfers(service)
        for _ in range(EXPORTS_MAX):
            sending._places.take_now()
        begin(sending, old)
        await turns()
        service.replica = None
        sending.forget(PARTITION)
        service.replica = new = Replica()
        begin(sending, new)
        assert new.failed == [PEER]  # so it asks again after a while
        sending._places.give_back()
        await turns()
        assert (old.failed, service.exports) == ([PEER], [])
        begin(sending, new)
        await turns()
        assert service.exports == [PARTITION]

    asyncio.run(scenario())
