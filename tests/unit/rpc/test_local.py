import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from geodyne import messages as m
from geodyne.rpc.local import LocalConnector


class Node:
    def __init__(self) -> None:
        self.batches: list[Sequence[m.Request]] = []

    def on_requests(self, requests: Sequence[m.Request], reply: Callable[[m.Response], None]) -> None:
        self.batches.append(requests)
        for request in requests:
            reply(m.Response(request.id, m.Written(0, 0)))


class Events:
    def __init__(self) -> None:
        self.log: list[object] = []

    def on_connected(self, node_id: str) -> None:
        self.log.append("up")

    def on_responses(self, node_id: str, responses: Sequence[m.Response]) -> None:
        self.log.append([response.id for response in responses])

    def on_disconnected(self, node_id: str, reason: str) -> None:
        self.log.append("down")


def get(id: int) -> m.Request:
    return m.Request(id, m.Get(1, 1, b"k", True), None, 1_000)


def test_one_turn_makes_one_batch_in_each_direction():
    async def main() -> None:
        node, events = Node(), Events()
        link = LocalConnector({"n": node}).open("n", "", events)
        link.send(get(0))  # not connected yet: dropped
        assert not link.connected
        await asyncio.sleep(0)
        assert link.connected
        assert link.node_id == "n"
        for id in (1, 2, 3):
            link.send(get(id))
        assert node.batches == []
        for _ in range(3):
            await asyncio.sleep(0)
        link.send(get(4))
        for _ in range(3):
            await asyncio.sleep(0)
        assert [[request.id for request in batch] for batch in node.batches] == [[1, 2, 3], [4]]
        assert events.log == ["up", [1, 2, 3], [4]]

    asyncio.run(main())


def test_nothing_arrives_after_close():
    async def main() -> None:
        node, events = Node(), Events()
        link = LocalConnector({"n": node}).open("n", "", events)
        await asyncio.sleep(0)
        link.send(get(1))
        await link.close()
        await link.close()
        link.send(get(2))
        for _ in range(3):
            await asyncio.sleep(0)
        assert node.batches == []
        assert events.log == ["up", "down"]

    asyncio.run(main())


def test_a_link_closed_before_it_came_up_stays_down():
    async def main() -> None:
        events = Events()
        link = LocalConnector({"n": Node()}).open("n", "", events)
        await link.close()
        await asyncio.sleep(0)
        assert events.log == []
        with pytest.raises(KeyError):
            LocalConnector({}).open("n", "", events)

    asyncio.run(main())


def test_the_local_path_imports_no_grpc():
    code = (
        "import sys; import geodyne.rpc.local, geodyne.rpc.region, geodyne.rpc.drive, geodyne.clock;"
        "bad = {'grpc', 'google.protobuf', 'botocore'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
