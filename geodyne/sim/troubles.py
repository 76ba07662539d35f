"""A few seconds full of faults, one after the other by chance: for the schedules of transactions and of indexes, which
look at one thing closely. A whole run with all kinds of faults is geodyne.sim.run."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from geodyne.sim.region import Region, SimNode

FAULTY_S = 8.0
DISK_LOSS_CHANCE = 0.3  # of a death
WHOLE_S = 2.5  # more than a slow disk takes to keep what makes a newcomer a member
FAULTS = (
    *("kill", "kill", "power", "stop", "cut", "cut", "cut_clients", "isolate", "corner", "one_way"),
    *("slow_disk", "slow", "jump", "heal"),
)


async def troubles(here: Region, random: Random, counts: Counter[str]) -> None:
    """Eight seconds full of faults. Afterwards all nodes live again; the network is still as the last one left it."""
    until = here.loop.time() + FAULTY_S
    revivals: list[asyncio.Task[None]] = []
    disks = Disks(here, Random(~here.seed))
    while here.loop.time() < until:
        await here.run_for(random.choice((0.02, 0.1, 0.3, 0.8, 1.5)))
        disks.look()
        node = random.choice(here.nodes)
        kind = random.choice(FAULTS)
        if kind in {"kill", "power", "stop"}:
            if sum(other.alive for other in here.nodes) < 3 and random.random() < 0.8:
                continue
            if not node.alive:
                continue
            if kind == "stop":
                await node.stop()
            else:
                await node.kill(power_loss=kind == "power")
                counts["lost_disk"] += disks.lose(node)
            revivals.append(asyncio.ensure_future(_revive(node, random.choice((0.0, 0.3, 1.0, 2.5)))))
        elif kind == "isolate":
            here.isolate(node, from_clients=random.random() < 0.4)
        elif kind == "corner":
            _corner(here, node)
        elif kind == "one_way":
            here.world.block(node.id, random.choice(here.others(node)).id)
        elif kind == "cut":
            here.world.cut(node.id, random.choice(here.others(node)).id)
        elif kind == "cut_clients":
            for client in here.clients:
                here.world.cut(node.id, client.id)
        elif kind == "slow_disk":
            if node.node is not None:
                node.trouble.slow_until = here.loop.time() + random.uniform(0.5, 2.0)
        elif kind == "slow":
            here.world.slow.add(node.id)
        elif kind == "jump":
            node.clock.skew_us = random.randint(-500_000, 500_000)
        else:
            here.world.heal()
        counts[kind] += 1
    await asyncio.gather(*revivals)


class Disks:
    """A majority of the replicas stays whole: a disk is lost only if both other nodes have been whole for a while."""

    def __init__(self, here: Region, random: Random) -> None:
        self._here = here
        self._random = random
        self._whole_since: dict[str, float] = {node.id: here.loop.time() for node in here.nodes}

    def look(self) -> None:
        for node in self._here.nodes:
            if node.node is None:
                continue
            if any(group.raft.newcomer for group in node.handler.groups):
                self._whole_since.pop(node.id, None)
            else:
                self._whole_since.setdefault(node.id, self._here.loop.time())

    def lose(self, node: SimNode) -> bool:
        """Perhaps: the dead node comes back with nothing."""
        now = self._here.loop.time()
        if self._random.random() >= DISK_LOSS_CHANCE:
            return False
        if any(now - self._whole_since.get(other.id, now) < WHOLE_S for other in self._here.others(node)):
            return False
        node.lose_disk()
        self._whole_since.pop(node.id, None)
        return True


def _corner(here: Region, node: SimNode) -> None:
    """One client sees nothing but this node, which sees no other node."""
    here.isolate(node, from_clients=False)
    alone = here.clients[0].id
    for other in here.others(node):
        here.world.block(alone, other.id)
        here.world.block(other.id, alone)


async def _revive(node: SimNode, after_s: float) -> None:
    await asyncio.sleep(after_s)
    node.start()


def heal(here: Region) -> None:
    """The network is whole and the disks are fast."""
    here.world.heal()
    for node in here.nodes:
        if node.node is not None:
            node.trouble.slow_until = 0.0
