"""Nodes that take each other's place, in the midst of other trouble: what an operator does, again and again until it is
done."""

from __future__ import annotations

import asyncio
from typing import Any

from geodyne.errors import ApiError
from geodyne.messages import ControlDone
from geodyne.sim.growth import Growth
from geodyne.sim.network import Violation
from geodyne.sim.region import SimNode

RETRY_S = 1.0
MOVED_S = 120.0  # within this all replicas have moved: the faults beside it are over long before


class Exchanges:
    """In each zone one node has replicas; another one may be there that has none."""

    def __init__(self, growth: Growth) -> None:
        self._growth = growth
        self._empty: dict[str, SimNode] = {}  # zone -> its node that has been drained
        self._added = 0

    async def exchange(self, zone: str, *, removes: bool) -> None:
        """Have another node take over in a zone. Raises Violation when that comes to no end."""
        growth, here = self._growth, self._growth.here
        spare = self._empty.pop(zone, None)
        old = next(node for node in here.nodes if node.zone == zone and node is not spare)
        if spare is None:
            self._added += 1
            spare = await growth.add(f"node-{zone}{self._added}", zone)
        else:
            await self._ask("node_activate", node=spare.id)
        await self._ask("node_drain", node=old.id, force=False)
        until = here.loop.now + MOVED_S
        while True:
            members = (await self._ask("node_list"))["members"]
            own = next(member for member in members if member["node"] == old.id)
            if not own["replicas"] and not own["joining"]:
                break
            if here.loop.now > until:
                raise Violation(f"not within {MOVED_S} s: {old.id} is drained; {members}")
            await asyncio.sleep(RETRY_S)
        if not removes:
            self._empty[zone] = old
            return
        await self._ask("node_remove", node=old.id, force=False)
        await self._stop(old)
        here.nodes.remove(old)
        del growth.members[old.id]
        await growth.tell()

    async def _stop(self, node: SimNode) -> None:
        """For good, whoever kills it meanwhile, and has it started again."""
        here = self._growth.here
        await here.until(
            lambda: node.alive and not node.trouble.failing and not here.loop.stopped(node.id),
            f"{node.id} can be stopped",
            MOVED_S,
        )
        if not await node.stop():
            await self._stop(node)

    async def _ask(self, operation: str, **body: Any) -> Any:
        until = self._growth.here.loop.now + MOVED_S
        answer: Any = None
        while self._growth.here.loop.now < until:
            try:
                answer = await self._growth.here.control(operation, body)
            except ApiError as error:
                answer = error
            if isinstance(answer, ControlDone):
                return answer.body
            await asyncio.sleep(RETRY_S)
        raise Violation(f"not within {MOVED_S} s: {operation} {body}: {answer}")
