"""The supervisor's part of `geodyne network`: it keeps what is asked of the network and tells it to every process that
has connections to other regions.

The file comes first: a process that starts meanwhile, or again, reads it. A new start of the cluster forgets all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from geodyne.cli import probe
from geodyne.cli.administration import Administration
from geodyne.cli.child import Child
from geodyne.cli.datadir import write_private
from geodyne.cli.errors import CommandError
from geodyne.cli.launch import CROSSING_ROLES
from geodyne.clock import SystemClock
from geodyne.network import (
    DURATION_S_MAX,
    Cut,
    LinkQuality,
    NetworkError,
    NetworkState,
    Pause,
    quality_from,
)
from geodyne.topology import GLOBAL, Topology

TABLE_NAME_CHARACTERS_MAX: Final = 255


class Networking:
    """The network of one running cluster. Distances and cuts are shared by all its processes."""

    def __init__(self, topology: Topology, file: Path, admin_token: str = "") -> None:
        self._topology = topology
        self._file = file
        self._admin_token = admin_token
        self._clock = SystemClock()
        self._changing = asyncio.Lock()
        self.state = NetworkState()

    def forget(self) -> None:
        """The cluster starts: whatever was asked of an earlier one is over. Raises CommandError."""
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            raise CommandError(f"{self._file} cannot be removed: {error.strerror}") from None

    async def administer(self, children: Mapping[str, Child], request: Mapping[str, Any]) -> dict[str, Any]:
        """{"paths", "cuts", "pauses", "untold"} after an operation: show, set, cut, heal, pause, resume. `untold` are
        processes that did not answer: they begin with this state when they start. Raises CommandError."""
        async with self._changing:
            now_ms = self._clock.lease_ms()
            self.state = self.state.current(now_ms)
            untold: list[str] = []
            if request.get("operation") != "show":
                try:
                    changed = self._changed(request, now_ms)
                except NetworkError as error:
                    raise CommandError(str(error)) from None
                if request.get("operation") == "pause":
                    await self._check_table(children, str(request.get("table")))
                self._keep(changed)
                self.state = changed
                untold = await self._tell(children)
            return {**self._described(now_ms), "untold": untold}

    async def _check_table(self, children: Mapping[str, Child], table: str) -> None:
        """A region that does not answer may have it. Raises CommandError for a table that is nowhere."""
        administration = Administration(self._topology, children, self._admin_token)
        call = {"operation": "show", "table": table}
        replies = await asyncio.gather(
            *(administration.ask_replicator(region, "writes", call) for region in self._topology.regions.values())
        )
        if {reply.get("error") for reply in replies} == {f"there is no table {table}"}:
            raise CommandError(f"no region has a table {table}")

    def _changed(self, request: Mapping[str, Any], now_ms: int) -> NetworkState:
        """Raises NetworkError."""
        one, other = str(request.get("one") or ""), str(request.get("other") or "")
        match request.get("operation"):
            case "set":
                self._check(one, other, regions_only=True)
                pair = frozenset((one, other))
                before = self.state.qualities.get(pair, self._topology.region_quality(one, other))
                return self.state.with_quality(one, other, quality_from(dict(request.get("quality", {})), before))
            case "cut":
                self._check(one, *([other] if other else []))
                until_ms = self._until_ms(request, now_ms, needed=False)
                others = [other] if other else [place for place in self._places() if place != one]
                ways = [(one, place) for place in others]
                if not request.get("one_way"):
                    ways += [(place, one) for place in others]
                return self.state.with_cuts(Cut(origin, target, until_ms) for origin, target in ways)
            case "heal":
                self._check(*[place for place in (one, other) if place])
                return self.state.healed(one, other)
            case "pause":
                table, region = str(request.get("table") or ""), str(request.get("region") or "")
                self._check(*([region] if region else []), regions_only=True)
                if not 1 <= len(table) <= TABLE_NAME_CHARACTERS_MAX:
                    raise NetworkError("a table's name is needed")
                return self.state.with_pause(Pause(table, region, self._until_ms(request, now_ms, needed=True)))
            case "resume":
                where = request.get("region")
                return self.state.resumed(str(request.get("table") or ""), None if where is None else str(where))
        raise NetworkError("the operation must be show, set, cut, heal, pause or resume")

    def _places(self) -> list[str]:
        return [*self._topology.regions, GLOBAL]

    def _check(self, *places: str, regions_only: bool = False) -> None:
        known = list(self._topology.regions) if regions_only else self._places()
        for place in places:
            if place not in known:
                raise NetworkError(f"{place!r} is not one of {', '.join(known)}")
        if len(set(places)) != len(places):
            raise NetworkError("there is no path from a region to itself")

    def _until_ms(self, request: Mapping[str, Any], now_ms: int, *, needed: bool) -> int:
        seconds = request.get("seconds")
        if seconds is None and not needed:
            return 0
        if not isinstance(seconds, int | float) or not 0 < seconds <= DURATION_S_MAX:
            raise NetworkError(f"a duration is more than 0 and at most {DURATION_S_MAX:.0f} seconds")
        return now_ms + round(seconds * 1_000)

    def _keep(self, state: NetworkState) -> None:
        try:
            write_private(self._file, state.to_json())
        except OSError as error:
            raise CommandError(f"nothing has changed: {self._file} cannot be written: {error.strerror}") from None

    async def _tell(self, children: Mapping[str, Child]) -> list[str]:
        crossing = [child for child in children.values() if child.spec.role in CROSSING_ROLES]
        body = self.state.to_json()
        answers = await asyncio.gather(
            *(probe.administer(child.spec.metrics, "network", body, self._admin_token) for child in crossing)
        )
        return [
            child.spec.id
            for child, answer in zip(crossing, answers, strict=True)
            if answer is None or "result" not in answer.json()
        ]

    def _described(self, now_ms: int) -> dict[str, Any]:
        def left_s(until_ms: int) -> float | None:
            return round(max(until_ms - now_ms, 0) / 1_000, 1) if until_ms else None

        names = list(self._topology.regions)
        pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
        return {
            "paths": [
                {"between": [one, other], "changed": asked is not None, **self._quality(one, other, asked).to_json()}
                for one, other in pairs
                for asked in (self.state.qualities.get(frozenset((one, other))),)
            ],
            "cuts": [
                {"from": cut.origin, "to": cut.target, "seconds_left": left_s(cut.until_ms)} for cut in self.state.cuts
            ],
            "pauses": [
                {"table": pause.table, "region": pause.region or None, "seconds_left": left_s(pause.until_ms)}
                for pause in self.state.pauses
            ],
        }

    def _quality(self, one: str, other: str, asked: LinkQuality | None) -> LinkQuality:
        return asked if asked is not None else self._topology.region_quality(one, other)
