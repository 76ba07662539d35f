"""How far regions are from each other, and when one counts as down. Pure and deterministic.

Health is damped in both directions: several failed probes, one failed connection, or a region's own word that it does
not serve, take it out; several good probes and a minimum time, which doubles while it keeps failing, bring it back.
So routes do not flap with a region that comes and goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """Damping. Times in milliseconds."""

    failures_to_down: int = 2
    successes_to_up: int = 4
    down_ms_min: int = 3_000
    down_ms_max: int = 60_000
    calm_ms: int = 60_000  # up for this long: the next failure is a first one again

    def __post_init__(self) -> None:
        assert self.failures_to_down > 0
        assert self.successes_to_up > 0
        assert 0 <= self.down_ms_min <= self.down_ms_max


class RegionHealth:
    """One region as its probes show it. A region starts down and comes up with the first good probe."""

    __slots__ = (
        "_down_ms",
        "_failures",
        "_limits",
        "_since_ms",
        "_successes",
        "_went_down",
        "healthy",
        "known",
        "reason",
        "tables",
    )

    def __init__(self, limits: HealthLimits | None = None) -> None:
        self._limits = limits or HealthLimits()
        self.healthy = False
        self.known = False  # a probe has been answered once
        self.reason = "not probed yet"
        self.tables: frozenset[str] = frozenset()
        self._failures = 0
        self._successes = 0
        self._since_ms = 0
        self._down_ms = self._limits.down_ms_min
        self._went_down = False

    def succeeded(self, now_ms: int, tables: frozenset[str] | None = None) -> bool:
        """A probe was answered by a healthy region; `tables` None: as before. Returns whether the state changed."""
        if tables is not None:
            self.tables = tables
        self._failures = 0
        self._successes += 1
        if self.healthy:
            return False
        if self.known:
            waited = now_ms - self._since_ms >= self._down_ms
            if not waited or self._successes < self._limits.successes_to_up:
                return False
        self.known = True
        self.healthy = True
        self.reason = ""
        self._since_ms = now_ms
        return True

    def failed(self, now_ms: int, reason: str) -> bool:
        """A probe failed or told that the region is not healthy. Returns whether the state changed."""
        self._failures += 1
        self._successes = 0
        if self.healthy and self._failures >= self._limits.failures_to_down:
            self._go_down(now_ms, reason)
            return True
        if not self.healthy:
            self.reason = reason
        return False

    def lost(self, now_ms: int, reason: str) -> bool:
        """A connection was refused or broke, or the region knows that it does not serve: no need to wait for more
        probes. Returns whether the state changed."""
        self._failures += 1
        self._successes = 0
        if not self.healthy:
            self.reason = reason
            return False
        self._go_down(now_ms, reason)
        return True

    def state_ms(self, now_ms: int) -> int:
        """For how long it has been up or down; 0 before the first good probe."""
        return now_ms - self._since_ms if self.known else 0

    def _go_down(self, now_ms: int, reason: str) -> None:
        limits = self._limits
        flaps = self._went_down and now_ms - self._since_ms < limits.calm_ms
        self._down_ms = min(self._down_ms * 2, limits.down_ms_max) if flaps else limits.down_ms_min
        self._went_down = True
        self.healthy = False
        self.reason = reason
        self._since_ms = now_ms


class Geography:
    """Distances between the regions of a cluster. `round_trip_ms` has an entry for each pair of them."""

    def __init__(
        self,
        regions: Sequence[str],
        round_trip_ms: Mapping[frozenset[str], float],
        *,
        home: str,
    ) -> None:
        """`home` is the region nearest to the endpoint itself.

        Raises ValueError when it is none of the cluster's or a distance is missing.
        """
        self._regions = tuple(regions)
        if home not in self._regions:
            raise ValueError(f"{home} is not a region of the cluster")
        self.home = home
        self._round_trip_ms = round_trip_ms
        self._nearest = {origin: self._by_distance(origin, round_trip_ms) for origin in self._regions}

    def _by_distance(self, origin: str, round_trip_ms: Mapping[frozenset[str], float]) -> tuple[str, ...]:
        def distance(region: str) -> tuple[float, str]:
            if region == origin:
                return (0.0, "")  # nothing is nearer than the same place, whatever the name
            found = round_trip_ms.get(frozenset((origin, region)))
            if found is None:
                raise ValueError(f"no distance between {origin} and {region}")
            return (found, region)

        return tuple(sorted(self._regions, key=distance))

    @property
    def regions(self) -> tuple[str, ...]:
        return self._regions

    def nearest(self, origin: str) -> tuple[str, ...]:
        """All regions, nearest first; equal distances in the order of their names."""
        return self._nearest[origin]

    def round_trip_ms(self, one: str, other: str) -> float:
        """0 within a region. Raises KeyError for an unknown one."""
        return 0.0 if one == other else self._round_trip_ms[frozenset((one, other))]
