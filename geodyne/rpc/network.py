"""What crosses regions in one process: the connections that it dials there, and what is asked of them at run time.

The supervisor writes the state of the network (geodyne.network) to a file before it tells it to the processes, so that
one that is started later begins with it; the call `network` of a process's metrics page takes the same state whole.
What has a duration ends here, by the process's own clock, whether or not whoever asked is still there.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from geodyne.network import LinkQuality, NetworkError, NetworkState, state_from
from geodyne.ports import Clock
from geodyne.rpc.delay import DelayedLinks, Direction
from geodyne.settings import ProcessConfig
from geodyne.topology import GLOBAL, ProcessSpec

log = logging.getLogger("geodyne.network")

AdminCall = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class RegionNetwork:
    """The connections of one process to other regions. `on_state` hears what is in force, at each change."""

    def __init__(
        self,
        config: ProcessConfig,
        links: DelayedLinks,
        clock: Clock,
        on_state: Callable[[NetworkState], None] | None = None,
    ) -> None:
        self._config = config
        self._links = links
        self._clock = clock
        self._on_state = on_state
        self._targets: dict[str, str] = {}  # address -> region
        self._timer: asyncio.TimerHandle | None = None
        self.state = NetworkState()

    async def dial(self, target: ProcessSpec) -> str:
        """The address to dial instead of the target's, so that the path can be changed and cut."""
        address = await self._links.via(target.address, 0.0, always=True)
        self._targets[target.address] = target.region
        self._shape(target.address, target.region)
        return address

    def start(self, on_state: Callable[[NetworkState], None] | None = None) -> None:
        """Begin with what is in force already. Needs a running loop."""
        self._on_state = on_state or self._on_state
        self.put(_kept(self._config.network_file))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def put(self, state: NetworkState) -> None:
        """This is what is asked of the network from now on."""
        now_ms = self._clock.lease_ms()
        self.state = state.current(now_ms)
        for address, region in self._targets.items():
            self._shape(address, region)
        if self._on_state is not None:
            self._on_state(self.state)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        end_ms = self.state.next_end_ms()
        if end_ms is not None:
            # One millisecond more, so that rounding never wakes it just before the time.
            delay_s = (max(end_ms - now_ms, 0) + 1) / 1_000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._something_ended)

    def _something_ended(self) -> None:
        log.info("a fault of the network is over")
        self.put(self.state)

    def _shape(self, address: str, region: str) -> None:
        own = self._config.region
        self._links.set_quality(address, self._quality(own, region))
        blocked = Direction(0)
        if self.state.is_cut(own, region):
            blocked |= Direction.OUT
        if self.state.is_cut(region, own):
            blocked |= Direction.IN
        self._links.set_blocked(address, blocked)

    def _quality(self, own: str, region: str) -> LinkQuality:
        topology = self._config.topology
        place = topology.global_location if own == GLOBAL else own
        asked = self.state.qualities.get(frozenset((place, region)))
        return asked if asked is not None else topology.region_quality(place, region)

    def admin(self) -> dict[str, AdminCall]:
        """For the metrics page: `network`, which takes a state ({} asks only) and answers {"result": the state in
        force} or {"error"}, a sentence for the operator."""

        async def network(arguments: dict[str, Any]) -> dict[str, Any]:
            if arguments:
                try:
                    state = state_from(arguments)
                except NetworkError as error:
                    return {"error": str(error)}
                self.put(state)
                log.warning("the network was changed on request", extra={"state": self.state.to_json()})
            return {"result": self.state.to_json()}

        return {"network": network}


def _kept(file: str) -> NetworkState:
    """What the file says; nothing when there is none."""
    if not file:
        return NetworkState()
    try:
        return state_from(json.loads(Path(file).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return NetworkState()
    except (OSError, ValueError) as error:
        log.error("what was asked of the network cannot be read", extra={"path": file, "reason": str(error)})
        return NetworkState()
