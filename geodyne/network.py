"""What the network between regions is like, and what an operator asks of it at run time, as values.

A path is the pair of two regions; the global endpoint counts as a place of its own (topology.GLOBAL) where paths are
cut, and has the distances of the region where it is located. Times that end something are milliseconds of the lease
clock of the machine (geodyne.clock), which all processes of `geodyne up` share; 0 is never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

ROUND_TRIP_MS_MAX: Final = 10_000.0
LOSS_MAX: Final = 0.5  # above it hardly any connection of TCP makes progress
BANDWIDTH_MBIT_MAX: Final = 100_000.0
BANDWIDTH_MBIT_MIN: Final = 0.01
PLACES_MAX: Final = 17  # sixteen regions and the global endpoint
CUTS_MAX: Final = PLACES_MAX * (PLACES_MAX - 1)
PAUSES_MAX: Final = 256
DURATION_S_MAX: Final = 12 * 3_600.0  # as the fault injection service of AWS allows

Pair = frozenset[str]


class NetworkError(ValueError):
    """A state of the network that cannot be; the text is one line for the operator."""


class LinkQuality(NamedTuple):
    """A path. What it does to a stream of bytes: geodyne.rpc.shaping."""

    round_trip_ms: float = 0.0
    jitter_ms: float = 0.0  # a direction delays by up to so much more
    loss: float = 0.0  # of packets, as a part of 1
    bandwidth_mbit: float = 0.0  # Mbit/s of each connection's process and direction; 0: without bound

    @property
    def clear(self) -> bool:
        """Nothing stands between the two ends."""
        return not any(self)

    def to_json(self) -> dict[str, float]:
        return self._asdict()


_HIGHEST: Final[Mapping[str, float]] = {
    "round_trip_ms": ROUND_TRIP_MS_MAX,
    "jitter_ms": ROUND_TRIP_MS_MAX,
    "loss": LOSS_MAX,
    "bandwidth_mbit": BANDWIDTH_MBIT_MAX,
}


def quality_from(data: Mapping[str, Any], base: LinkQuality) -> LinkQuality:
    """`base` with the members that `data` names. Raises NetworkError."""
    return base._replace(**{name: quality_member(name, value) for name, value in data.items()})


def quality_member(name: str, value: Any) -> float:
    """A member of LinkQuality, checked. Raises NetworkError."""
    if name not in _HIGHEST:
        raise NetworkError(f"{name} is unknown; known are {', '.join(_HIGHEST)}")
    most = _HIGHEST[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise NetworkError(f"{name} must be a number from 0 to {most:g}, not {value!r}")
    if name == "bandwidth_mbit" and 0 < value < BANDWIDTH_MBIT_MIN:
        raise NetworkError(f"{name} must be 0, which is without bound, or at least {BANDWIDTH_MBIT_MIN:g}")
    return float(value)


class Cut(NamedTuple):
    """No byte passes from `origin` to `target`; the way back is a cut of its own."""

    origin: str
    target: str
    until_ms: int = 0


class Pause(NamedTuple):
    """Replication of a table to and from `region` rests; "": between all its regions."""

    table: str
    region: str
    until_ms: int

    def covers(self, table: str, source: str, destination: str) -> bool:
        return self.table == table and (not self.region or self.region in (source, destination))


@dataclass(frozen=True, slots=True)
class NetworkState:
    """All that was asked of the network and is not over yet. `qualities`: of the paths that were set at run time."""

    qualities: Mapping[Pair, LinkQuality] = field(default_factory=dict)
    cuts: tuple[Cut, ...] = ()
    pauses: tuple[Pause, ...] = ()

    def with_quality(self, one: str, other: str, quality: LinkQuality) -> NetworkState:
        return replace(self, qualities={**self.qualities, frozenset((one, other)): quality})

    def with_cuts(self, cuts: Iterable[Cut]) -> NetworkState:
        """With these, each instead of an earlier one of the same direction. Raises NetworkError."""
        merged = {(cut.origin, cut.target): cut for cut in (*self.cuts, *cuts)}
        if len(merged) > CUTS_MAX:
            raise NetworkError(f"more than {CUTS_MAX} cuts")
        return replace(self, cuts=tuple(merged.values()))

    def healed(self, one: str = "", other: str = "") -> NetworkState:
        """Without the cuts between two places, without all of one place, or without any. Qualities and pauses stay."""
        named = {name for name in (one, other) if name}
        return replace(self, cuts=tuple(cut for cut in self.cuts if not named <= {cut.origin, cut.target}))

    def with_pause(self, pause: Pause) -> NetworkState:
        """With this one instead of an earlier one of the same table and region. Raises NetworkError."""
        others = [one for one in self.pauses if one[:2] != pause[:2]]
        if len(others) >= PAUSES_MAX:
            raise NetworkError(f"more than {PAUSES_MAX} pauses of replication")
        return replace(self, pauses=(*others, pause))

    def resumed(self, table: str, region: str | None = None) -> NetworkState:
        """Without the pauses of a table, or only that of the table and region."""
        kept = (one for one in self.pauses if one.table != table or region not in (None, one.region))
        return replace(self, pauses=tuple(kept))

    def current(self, now_ms: int) -> NetworkState:
        """Without what is over."""
        return replace(
            self,
            cuts=tuple(cut for cut in self.cuts if not cut.until_ms or cut.until_ms > now_ms),
            pauses=tuple(pause for pause in self.pauses if pause.until_ms > now_ms),
        )

    def next_end_ms(self) -> int | None:
        """When the first of what is left is over; None: nothing ends by itself."""
        ends = [cut.until_ms for cut in self.cuts] + [pause.until_ms for pause in self.pauses]
        return min(filter(None, ends), default=None)

    def is_cut(self, origin: str, target: str) -> bool:
        return any(cut.origin == origin and cut.target == target for cut in self.cuts)

    def to_json(self) -> dict[str, Any]:
        return {
            "qualities": [[*sorted(pair), quality.to_json()] for pair, quality in self.qualities.items()],
            "cuts": [list(cut) for cut in self.cuts],
            "pauses": [list(pause) for pause in self.pauses],
        }


def state_from(data: Mapping[str, Any]) -> NetworkState:
    """The inverse of `NetworkState.to_json`. Raises NetworkError."""
    try:
        qualities = {
            frozenset((str(one), str(other))): quality_from(members, LinkQuality())
            for one, other, members in data["qualities"]
        }
        cuts = [Cut(str(origin), str(target), int(until_ms)) for origin, target, until_ms in data["cuts"]]
        pauses = [Pause(str(table), str(region), int(until_ms)) for table, region, until_ms in data["pauses"]]
    except NetworkError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NetworkError(f"not a state of the network: {error!r}") from None
    if len(cuts) > CUTS_MAX or len(pauses) > PAUSES_MAX or len(qualities) > CUTS_MAX:
        raise NetworkError("more cuts, pauses or paths than there can be")
    return NetworkState(qualities, tuple(cuts), tuple(pauses))
