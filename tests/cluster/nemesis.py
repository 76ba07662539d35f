"""What hurts a region while clients record histories: a plan that follows from a seed, and the carrying out of it.

Every node leads some partitions and follows in others, so a fault of a node is a fault of leaders and of followers.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from tests.cluster.clusters import Cluster
from tests.cluster.waiting import until
from tests.cluster.wires import Wires

LEASE_S: Final = 0.75
ELECTION_S: Final = 1.5  # at most until somebody campaigns
HOLDS_S: Final = (0.4, LEASE_S + 0.25, ELECTION_S + 0.5, 3.0, 4.5)
PAUSES_S: Final = (0.1, 0.5, 1.5, 2.5)  # until the next step
TWO_AT_ONCE: Final = 0.3
DELAYS_MS: Final = (5, 40, 150, 400)
LOSSES: Final = (0.02, 0.1)

KILLS: Final = ("kill a node", "kill a router", "kill all nodes", "kill a node and a router")
STOPS: Final = (
    "stop a node",
    "stop a router",
    "stop a node and a router",
    "stop a node that a router cannot replace",
    "stop two nodes",
)
CUTS: Final = (
    "isolate a node from nodes",
    "isolate a node from all",
    "mute a node towards nodes",
    "deafen a node towards nodes",
    "cut two nodes apart",
    "cut a router from a node",
    "cut a node and a router off",
    "mute a node towards a router",
    "delay all",
    "lose everywhere",
)
KINDS: Final = KILLS + STOPS + CUTS
WITHOUT_WIRES: Final = (*KILLS, "stop a node", "stop a router", "stop a node and a router", "stop two nodes")


class Fault(NamedTuple):
    kind: str
    roll: int  # which node, router or strength


class Step(NamedTuple):
    faults: tuple[Fault, ...]
    hold_s: float
    pause_s: float


def plan(seed: int, steps: int, kinds: Sequence[str] = KINDS) -> list[Step]:
    """Every kind once, in some order, before any comes again."""
    random = Random(seed)
    bag: list[str] = []

    def draw() -> Fault:
        if not bag:
            bag.extend(random.sample(kinds, len(kinds)))
        return Fault(bag.pop(), random.randrange(1 << 16))

    def step() -> Step:
        faults = (draw(), draw()) if random.random() < TWO_AT_ONCE else (draw(),)
        return Step(faults, random.choice(HOLDS_S), random.choice(PAUSES_S))

    return [step() for _ in range(steps)]


class Nemesis:
    """Carries out steps on the nodes and routers of one region."""

    def __init__(self, cluster: Cluster, wires: Wires, region: str, aimed_at: str = "") -> None:
        """`aimed_at`: a table; the nodes that are hurt are then those that lead some of its partitions just then."""
        self._cluster = cluster
        self._wires = wires
        self._region = region
        self._aimed_at = aimed_at
        self._targets: list[str] = []
        self.nodes: list[str] = []
        self.routers: list[str] = []
        self._stopped: list[int] = []

    def perform(self, step: Step) -> None:
        processes = self._cluster.processes(self._region)
        pids = {process.id: process.pid for process in processes}
        self.nodes = [process.id for process in processes if process.role == "node"]  # they may come and go
        self.routers = [process.id for process in processes if process.role == "router"]
        self._targets = self._leaders() or self.nodes
        try:
            for fault in step.faults:
                self._begin(fault, pids)
            time.sleep(step.hold_s)  # not synchronisation: how long the fault lasts
        finally:
            self.relent()
        time.sleep(step.pause_s)

    def relent(self) -> None:
        """End what lasts. Processes that were killed are started by the supervisor."""
        stopped, self._stopped = self._stopped, []
        for pid in stopped:
            _send(pid, signal.SIGCONT)
        self._wires.heal()

    def _begin(self, fault: Fault, pids: dict[str, int | None]) -> None:
        kind, roll = fault
        node = self._targets[roll % len(self._targets)]
        others = [other for other in self.nodes if other != node]
        other = others[roll // 7 % len(others)]
        router = self.routers[roll // 11 % len(self.routers)]
        towards = [(node, peer) for peer in others]
        from_there = [(peer, node) for peer in others]
        at_routers = [flow for r in self.routers for flow in ((node, r), (r, node))]
        match kind:
            case "kill a node":
                self._kill(pids, node)
            case "kill a router":
                self._kill(pids, router)
            case "kill all nodes":
                self._kill(pids, *self.nodes)
            case "kill a node and a router":
                self._kill(pids, node, router)
            case "stop a node":
                self._stop(pids, node)
            case "stop a router":
                self._stop(pids, router)
            case "stop a node and a router":
                self._stop(pids, node, router)
            case "stop a node that a router cannot replace":  # what others lead by now, it does not hear
                self._stop(pids, node)
                self._wires.cut(flow for o in others for flow in ((router, o), (o, router)))
            case "stop two nodes":
                self._stop(pids, node, other)
            case "isolate a node from nodes":
                self._wires.cut(towards + from_there)
            case "isolate a node from all":
                self._wires.cut(towards + from_there + at_routers)
            case "mute a node towards nodes":
                self._wires.cut(towards)
            case "deafen a node towards nodes":
                self._wires.cut(from_there)
            case "cut two nodes apart":
                self._wires.cut([(node, other), (other, node)])
            case "cut a router from a node":
                self._wires.cut([(node, router), (router, node)])
            case "cut a node and a router off":
                apart = [flow for o in others for flow in ((router, o), (o, router))]
                elsewhere = [flow for r in self.routers if r != router for flow in ((node, r), (r, node))]
                self._wires.cut(towards + from_there + apart + elsewhere)
            case "mute a node towards a router":
                self._wires.cut([(node, router)])
            case "delay all":
                self._wires.delay(self._everything(), DELAYS_MS[roll % len(DELAYS_MS)])
            case "lose everywhere":
                self._wires.lose(self._everything(), LOSSES[roll % len(LOSSES)])
            case _:
                raise ValueError(f"no such fault: {kind}")

    def _leaders(self) -> list[str]:
        entries = self._cluster.status()["partitions"] if self._aimed_at else []
        ours = [entry for entry in entries if (entry["region"], entry["table"]) == (self._region, self._aimed_at)]
        return sorted({entry["leader"] for entry in ours if entry["leader"]})

    def _everything(self) -> list[tuple[str, str]]:
        return [(one, other) for one in (*self.nodes, *self.routers) for other in self.nodes if one != other]

    def _kill(self, pids: dict[str, int | None], *ids: str) -> None:
        for id_ in ids:
            if (pid := pids[id_]) is not None:
                _send(pid, signal.SIGKILL)

    def _stop(self, pids: dict[str, int | None], *ids: str) -> None:
        found = [pid for id_ in ids if (pid := pids[id_]) is not None]
        self._stopped += found
        for pid in found:
            _send(pid, signal.SIGSTOP)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # an earlier fault has ended it


def await_leaders(cluster: Cluster, region: str, table: str, seconds_max: float) -> None:
    """Until every partition of the table has a leader that serves."""
    until(
        "all partitions have leaders",
        lambda: len(cluster.partitions(region, table)) >= 1 and all_led(cluster, region, table),
        seconds_max,
        0.2,
    )


def all_led(cluster: Cluster, region: str, table: str) -> bool:
    entries = [p for p in cluster.status()["partitions"] if (p["region"], p["table"]) == (region, table)]
    return bool(entries) and all(entry["leader"] for entry in entries)
