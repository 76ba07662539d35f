"""The network between the processes of a cluster, in the hands of a test.

Every process dials every other one through a forwarder of its own (`geodyne.rpc.delay`), all of them in one process
beside the cluster: so what one process says to another can be kept back or delayed, in one direction or both, while
everything else passes. Bytes that are kept back arrive late, in order, or never if their connection is given up: as
with TCP over a network that drops packets. Needs no privileges.

`python -m tests.cluster.wires SOCKET` is that process; `Wires` is the test's hold on it. Commands are lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from geodyne.rpc.delay import DelayedLinks, Direction
from tests.cluster.waiting import until

ANSWER_S_MAX: Final = 20.0
LOSS_TICK_S: Final = 0.02
LOSS_HOLD_S: Final = (0.2, 0.45)  # what a lost segment costs: the first retransmission, sometimes the second


class _Pair:
    """What one process dials at another one's address."""

    def __init__(self, dialer: str, target: str, address: str) -> None:
        self.dialer = dialer
        self.target = target
        self.address = address
        self.links = DelayedLinks()
        self.cut = Direction(0)
        self.lost = Direction(0)  # held for as long as a retransmission takes

    async def port(self) -> str:
        return await self.links.via(self.address, 0.0, always=True)

    def carries(self, sender: str, receiver: str) -> Direction:
        """Which of its directions leads from the one to the other."""
        if (self.dialer, self.target) == (sender, receiver):
            return Direction.OUT
        return Direction.IN if (self.target, self.dialer) == (sender, receiver) else Direction(0)

    def apply(self) -> None:
        for direction in (Direction.OUT, Direction.IN):
            if direction & (self.cut | self.lost):
                self.links.block(self.address, direction)
            else:
                self.links.unblock(self.address, direction)


class _Network:
    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str, str], _Pair] = {}
        self._lossy: dict[tuple[str, str], float] = {}
        self._random = random.Random(0)
        self._losing: asyncio.Task[None] | None = None

    async def answer(self, command: dict[str, Any]) -> Any:
        match command["do"]:
            case "via":
                key = (command["dialer"], command["target"], command["address"])
                pair = self._pairs.setdefault(key, _Pair(*key))
                return await pair.port()
            case "cut":
                for pair, direction in self._of(command["flows"]):
                    pair.cut |= direction
                    pair.apply()
            case "delay":
                for pair, _ in self._of(command["flows"]):
                    pair.links.set_delay(pair.address, command["one_way_ms"])
            case "lose":
                self._lossy.update(dict.fromkeys(map(tuple, command["flows"]), command["share"]))
                if self._losing is None:
                    self._losing = asyncio.get_running_loop().create_task(self._lose())
            case "heal":
                self._lossy.clear()
                for pair in self._pairs.values():
                    pair.cut = Direction(0)
                    pair.links.set_delay(pair.address, 0.0)
                    pair.apply()
            case other:
                raise ValueError(f"unknown command {other!r}")
        return None

    def _of(self, flows: Iterable[tuple[str, str]]) -> list[tuple[_Pair, Direction]]:
        found = []
        for sender, receiver in flows:
            for pair in self._pairs.values():
                if direction := pair.carries(sender, receiver):
                    found.append((pair, direction))
        return found

    async def _lose(self) -> None:
        """Every now and then a segment of a lossy flow is lost, and what follows waits for it."""
        loop = asyncio.get_running_loop()
        while True:
            for flow, share in self._lossy.items():
                for pair, direction in self._of([flow]):
                    if not direction & pair.lost and self._random.random() < share:
                        pair.lost |= direction
                        pair.apply()
                        loop.call_later(self._random.uniform(*LOSS_HOLD_S), _found_again, pair, direction)
            await asyncio.sleep(LOSS_TICK_S)


def _found_again(pair: _Pair, direction: Direction) -> None:
    pair.lost &= ~direction
    pair.apply()


async def _serve(path: str) -> None:
    network = _Network()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            command = json.loads(line)
            writer.write(json.dumps(await network.answer(command)).encode() + b"\n")
            await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, path) as server:
        await server.serve_forever()


class Wires:
    """A context manager. `flows` are pairs (who speaks, who hears) of process ids."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        repository = str(Path(__file__).parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.cluster.wires", str(self.path)],
            env={"PYTHONPATH": repository, "GRPC_VERBOSITY": "ERROR"},
            stdin=subprocess.DEVNULL,
        )
        until("the wires are there", self._is_there)
        return self

    def _is_there(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the wires ended"
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.path))
        except OSError:
            return False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def cut(self, flows: Iterable[tuple[str, str]]) -> None:
        """Nothing of these flows passes until `heal`."""
        ask(self.path, {"do": "cut", "flows": list(flows)})

    def delay(self, flows: Iterable[tuple[str, str]], one_way_ms: float) -> None:
        """Delay both directions between the two ends of each flow."""
        ask(self.path, {"do": "delay", "flows": list(flows), "one_way_ms": one_way_ms})

    def lose(self, flows: Iterable[tuple[str, str]], share: float) -> None:
        """In each fiftieth of a second something is lost with this chance."""
        ask(self.path, {"do": "lose", "flows": list(flows), "share": share})

    def heal(self) -> None:
        ask(self.path, {"do": "heal"})


def ask(path: Path, command: dict[str, Any]) -> Any:
    """Send one command and return its answer. Raises OSError when nobody answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S_MAX)
        connection.connect(str(path))
        connection.sendall(json.dumps(command).encode() + b"\n")
        with connection.makefile("rb") as answers:
            return json.loads(answers.readline())


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
