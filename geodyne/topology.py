"""The shape of a cluster as values: regions, zones, processes, ports and the delays between them.

A topology is written as TOML (docs/topology.md) and read by `parse`; without a file it is `default()`. Addresses are
empty until the supervisor has chosen ports and `resolved` has put them in. Times are round trips in milliseconds.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from geodyne.network import ROUND_TRIP_MS_MAX, LinkQuality, NetworkError, quality_member
from geodyne.routing import ROUTING_MEMBERS, Routing, RoutingError, routing_from

REGIONS_MAX = 16
ZONES_MAX = 6
NODES_PER_ZONE_MAX = 16
ROUTERS_MAX = 16
REPLICATORS_MAX = 4
PORT_MAX = 65_535

GLOBAL = "global"  # the pseudo-region of the processes of the global endpoint; never the name of a region

ROLE_NODE = "node"
ROLE_ROUTER = "router"
ROLE_REPLICATOR = "replicator"
ROLE_DELIVERY = "delivery"
ROLE_GLOBAL = "global"
ROLES = (ROLE_NODE, ROLE_ROUTER, ROLE_REPLICATOR, ROLE_DELIVERY, ROLE_GLOBAL)

# Round trips between AWS regions as public latency tables show them, within the span that the default cluster
# promises (70 to 180 ms; Ireland to Seoul is nearer 230 in reality).
MEASURED_ROUND_TRIP_MS: Mapping[frozenset[str], float] = {
    frozenset(("us-east-1", "eu-west-1")): 76.0,
    frozenset(("us-east-1", "ap-northeast-2")): 178.0,
    frozenset(("eu-west-1", "ap-northeast-2")): 180.0,
}
IMPAIRMENTS = ("jitter_ms", "loss", "bandwidth_mbit")  # members of LinkQuality beside the round trip
UNKNOWN_ROUND_TRIP_MS = 100.0  # between regions that neither the file nor the table above names

REGION_NAME_FORM = "like us-east-1: lower-case words joined by hyphens"
_REGION_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_ZONE_NAME = re.compile(r"[a-z][a-z0-9]{0,7}")
_REGION_NAME_CHARACTERS_MAX = 32


class TopologyError(ValueError):
    """A topology that cannot be used. The text is one line that names the key and, when known, its line."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process. `address` ("host:port") is what others dial: gRPC of a node or replicator, HTTP of a router.
    Delivery is dialled by nobody: its address is that of its metrics."""

    id: str  # "us-east-1/node-a": unique over the cluster
    role: str  # one of ROLES
    region: str  # GLOBAL for the global endpoint
    zone: str  # "" for the global endpoint
    address: str = ""
    metrics: str = ""


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """A region. The first router listens on `port` (0: a free one); further routers get free ports.

    `founders`: node id -> zone of the nodes that the region began with, once others were added or some removed; empty
    before that. They alone may decide to begin a new region.
    """

    name: str
    port: int
    zones: tuple[str, ...]
    nodes: tuple[ProcessSpec, ...]
    routers: tuple[ProcessSpec, ...]
    replicators: tuple[ProcessSpec, ...]
    founders: Mapping[str, str] = field(default_factory=dict)
    delivery: tuple[ProcessSpec, ...] = ()  # one; none in files that an older version has written

    def processes(self) -> Iterator[ProcessSpec]:
        """Nodes, then routers, replicators, delivery: the order in which they are useful to each other."""
        yield from self.nodes
        yield from self.routers
        yield from self.replicators
        yield from self.delivery

    def members(self) -> dict[str, str]:
        """node id -> zone of its nodes."""
        return {node.id: node.zone for node in self.nodes}

    def founded(self) -> dict[str, str]:
        """node id -> zone of the nodes that it began with."""
        return dict(self.founders) or self.members()

    def with_members(self, members: Mapping[str, str], founders: Mapping[str, str]) -> RegionSpec:
        """The same region with these nodes, in this order; those that it has already keep their addresses."""
        known = {node.id: node for node in self.nodes}
        nodes = tuple(known.get(id_) or ProcessSpec(id_, ROLE_NODE, self.name, zone) for id_, zone in members.items())
        changed = dict(members) != dict(founders)
        return replace(self, nodes=nodes, founders=dict(founders) if changed else {})


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole cluster. `regions` keeps the file's order; `round_trip_ms` has an entry for each pair of regions."""

    regions: Mapping[str, RegionSpec]
    global_router: ProcessSpec
    global_port: int
    global_location: str  # the region from which the global endpoint measures distance by default
    round_trip_ms: Mapping[frozenset[str], float] = field(default_factory=dict)
    zone_round_trip_ms: float = 0.0
    impairments: Mapping[frozenset[str], LinkQuality] = field(default_factory=dict)  # of pairs that have any
    routing: Routing = field(default_factory=Routing)  # what the global endpoint begins with

    def processes(self) -> Iterator[ProcessSpec]:
        """Every process: all nodes first, then routers, replicators and delivery, the global endpoint last."""
        for region in self.regions.values():
            yield from region.nodes
        for region in self.regions.values():
            yield from region.routers
        for region in self.regions.values():
            yield from region.replicators
        for region in self.regions.values():
            yield from region.delivery
        yield self.global_router

    def process(self, process_id: str) -> ProcessSpec:
        """The process of that id. Raises KeyError."""
        for process in self.processes():
            if process.id == process_id:
                return process
        raise KeyError(process_id)

    def region_round_trip_ms(self, one: str, other: str) -> float:
        """Round trip between two regions; 0 within one. Raises KeyError for an unknown region."""
        if one == other and one in self.regions:
            return 0.0
        return self.round_trip_ms[frozenset((one, other))]

    def region_quality(self, one: str, other: str) -> LinkQuality:
        """The path between two regions; a clear one within a region. Raises KeyError for an unknown region."""
        impaired = self.impairments.get(frozenset((one, other)), LinkQuality())
        return impaired._replace(round_trip_ms=self.region_round_trip_ms(one, other))

    def one_way_ms(self, origin: ProcessSpec, target: ProcessSpec) -> float:
        """The delay that the network between two processes adds to each byte, in each direction."""
        if origin.region == target.region:
            return 0.0 if origin.zone == target.zone else self.zone_round_trip_ms / 2
        return self.region_round_trip_ms(self._place(origin), self._place(target)) / 2

    def _place(self, process: ProcessSpec) -> str:
        return self.global_location if process.region == GLOBAL else process.region

    def fingerprint(self) -> dict[str, Any]:
        """What a data directory is made for: regions, zones and nodes."""
        return {name: region.members() for name, region in self.regions.items()}

    def with_region(self, changed: RegionSpec) -> Topology:
        """The same topology with another account of one of its regions."""
        return replace(self, regions={**self.regions, changed.name: changed})

    def resolved(self, addresses: Mapping[str, str], metrics: Mapping[str, str]) -> Topology:
        """The same topology with every process's addresses filled in. Raises KeyError when one is missing."""

        def fill(processes: tuple[ProcessSpec, ...]) -> tuple[ProcessSpec, ...]:
            return tuple(replace(p, address=addresses[p.id], metrics=metrics[p.id]) for p in processes)

        regions = {
            name: replace(
                r,
                nodes=fill(r.nodes),
                routers=fill(r.routers),
                replicators=fill(r.replicators),
                delivery=fill(r.delivery),
            )
            for name, r in self.regions.items()
        }
        return replace(self, regions=regions, global_router=fill((self.global_router,))[0])

    def to_json(self) -> dict[str, Any]:
        return {
            "regions": [
                {
                    "name": region.name,
                    "port": region.port,
                    "zones": list(region.zones),
                    "processes": [_process_json(process) for process in region.processes()],
                    **({"founders": dict(region.founders)} if region.founders else {}),
                }
                for region in self.regions.values()
            ],
            "global": {
                "port": self.global_port,
                "location": self.global_location,
                "process": _process_json(self.global_router),
                "routing": self.routing.to_json(),
            },
            "round_trip_ms": [[*sorted(pair), value] for pair, value in self.round_trip_ms.items()],
            "zone_round_trip_ms": self.zone_round_trip_ms,
            **{
                name: [[*sorted(pair), getattr(quality, name)] for pair, quality in self.impairments.items()]
                for name in (IMPAIRMENTS if self.impairments else ())
            },
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Topology:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError on anything else."""
        regions: dict[str, RegionSpec] = {}
        for entry in data["regions"]:
            processes = [ProcessSpec(**process) for process in entry["processes"]]
            by_role = {role: tuple(p for p in processes if p.role == role) for role in ROLES}
            regions[entry["name"]] = RegionSpec(
                entry["name"],
                entry["port"],
                tuple(entry["zones"]),
                by_role[ROLE_NODE],
                by_role[ROLE_ROUTER],
                by_role[ROLE_REPLICATOR],
                {str(node): str(zone) for node, zone in entry.get("founders", {}).items()},
                by_role[ROLE_DELIVERY],
            )
        return Topology(
            regions,
            ProcessSpec(**data["global"]["process"]),
            data["global"]["port"],
            data["global"]["location"],
            {frozenset((one, other)): float(value) for one, other, value in data["round_trip_ms"]},
            float(data["zone_round_trip_ms"]),
            _impairments({name: _pairs(data.get(name, ())) for name in IMPAIRMENTS}),  # none in older files
            routing_from(data["global"].get("routing", {}), tuple(regions)),  # none in files of an older version
        )


def is_region_name(text: str) -> bool:
    """Whether a region can have this name; REGION_NAME_FORM says what one looks like."""
    fits = len(text) <= _REGION_NAME_CHARACTERS_MAX and _REGION_NAME.fullmatch(text) is not None
    return fits and text != GLOBAL


def region(
    name: str, port: int, nodes_per_zone: Mapping[str, int], routers: int = 1, replicators: int = 1
) -> RegionSpec:
    """A region with the usual process ids. Routers and replicators are spread over the zones in turn. It has one
    process that delivers to functions: two would call them twice."""
    zones = tuple(nodes_per_zone)

    def spread(role: str, count: int) -> tuple[ProcessSpec, ...]:
        return tuple(
            ProcessSpec(f"{name}/{role}-{number + 1}", role, name, zones[number % len(zones)])
            for number in range(count)
        )

    nodes = tuple(
        ProcessSpec(f"{name}/node-{zone}" + (f"-{number}" if number > 1 else ""), ROLE_NODE, name, zone)
        for zone, count in nodes_per_zone.items()
        for number in range(1, count + 1)
    )
    return RegionSpec(
        name,
        port,
        zones,
        nodes,
        spread(ROLE_ROUTER, routers),
        spread(ROLE_REPLICATOR, replicators),
        delivery=spread(ROLE_DELIVERY, 1),
    )


def default() -> Topology:
    """Three regions of three zones, one node a zone; one router, one replicator and one delivery process a region."""
    zones = {"a": 1, "b": 1, "c": 1}
    names = ("us-east-1", "eu-west-1", "ap-northeast-2")
    regions = {name: region(name, 8000 + number, zones) for number, name in enumerate(names)}
    return Topology(regions, _global_router(), 8100, names[0], dict(MEASURED_ROUND_TRIP_MS))


def parse(text: str) -> Topology:
    """Read a topology file's text. Raises TopologyError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TopologyError(f"not valid TOML: {error}") from None
    try:
        return _Reader(data).topology()
    except _KeyProblemError as problem:
        line = _line_of(text, problem.path)
        where = f"line {line}: " if line else ""
        raise TopologyError(f"{where}{'.'.join(problem.path)}: {problem.text}") from None


def _process_json(process: ProcessSpec) -> dict[str, str]:
    return {
        "id": process.id,
        "role": process.role,
        "region": process.region,
        "zone": process.zone,
        "address": process.address,
        "metrics": process.metrics,
    }


def _global_router() -> ProcessSpec:
    return ProcessSpec(f"{GLOBAL}/router-1", ROLE_GLOBAL, GLOBAL, "")


class _KeyProblemError(Exception):
    def __init__(self, path: tuple[str, ...], text: str) -> None:
        super().__init__(path, text)
        self.path = path
        self.text = text


class _Reader:
    """Checks a parsed file key by key; unknown keys are refused, so that a misspelt one is never ignored."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self._ports: dict[int, str] = {}

    def topology(self) -> Topology:
        data = self._data
        _known(data, (), {"regions", "global", "round_trip_ms", "zone_round_trip_ms", *IMPAIRMENTS})
        entries = _table(data.get("regions", {}), ("regions",))
        if not 1 <= len(entries) <= REGIONS_MAX:
            raise _KeyProblemError(("regions",), f"between 1 and {REGIONS_MAX} regions are needed, not {len(entries)}")
        regions = {name: self._region(name, entry) for name, entry in entries.items()}
        global_ = _table(data.get("global", {}), (GLOBAL,))
        _known(global_, (GLOBAL,), {"port", "location", *ROUTING_MEMBERS})
        location = global_.get("location", next(iter(regions)))
        if location not in regions:
            raise _KeyProblemError((GLOBAL, "location"), f"{location!r} is not a region of this file")
        return Topology(
            regions,
            _global_router(),
            self._port(global_.get("port", 0), (GLOBAL, "port")),
            location,
            self._round_trips(data.get("round_trip_ms", {}), tuple(regions)),
            _milliseconds(data.get("zone_round_trip_ms", 0), ("zone_round_trip_ms",)),
            _impairments({name: self._pairs(name, data.get(name, {}), tuple(regions)) for name in IMPAIRMENTS}),
            self._routing(global_, tuple(regions)),
        )

    def _routing(self, global_: dict[str, Any], regions: tuple[str, ...]) -> Routing:
        try:
            return routing_from(global_, regions)
        except RoutingError as error:
            raise _KeyProblemError((GLOBAL, *error.path), error.text) from None

    def _region(self, name: str, value: Any) -> RegionSpec:
        path = ("regions", name)
        if not is_region_name(name):
            raise _KeyProblemError(path, f"a region's name is {REGION_NAME_FORM}")
        entry = _table(value, path)
        _known(entry, path, {"port", "zones", "routers", "replicators"})
        return region(
            name,
            self._port(entry.get("port", 0), (*path, "port")),
            _zones(entry.get("zones", ["a", "b", "c"]), (*path, "zones")),
            _count(entry.get("routers", 1), 1, ROUTERS_MAX, (*path, "routers")),
            _count(entry.get("replicators", 1), 1, REPLICATORS_MAX, (*path, "replicators")),
        )

    def _port(self, value: Any, path: tuple[str, ...]) -> int:
        port = _count(value, 0, PORT_MAX, path)
        if port and port in self._ports:
            raise _KeyProblemError(path, f"port {port} is already taken by {self._ports[port]}")
        self._ports[port] = ".".join(path)
        return port

    def _round_trips(self, value: Any, names: tuple[str, ...]) -> dict[frozenset[str], float]:
        found = self._pairs("round_trip_ms", value, names)
        pairs = [frozenset((one, other)) for i, one in enumerate(names) for other in names[i + 1 :]]
        return {pair: found.get(pair, MEASURED_ROUND_TRIP_MS.get(pair, UNKNOWN_ROUND_TRIP_MS)) for pair in pairs}

    def _pairs(self, key: str, value: Any, names: tuple[str, ...]) -> dict[frozenset[str], float]:
        """One number for all pairs of regions, or a table with those of some."""
        path = (key,)
        if not isinstance(value, dict):
            pairs = [frozenset((one, other)) for i, one in enumerate(names) for other in names[i + 1 :]]
            return dict.fromkeys(pairs, _path_number(value, path))
        found: dict[frozenset[str], float] = {}
        for one, row in value.items():
            for other, delay in _table(row, (*path, one)).items():
                at = (*path, one, other)
                for name in (one, other):
                    if name not in names:
                        raise _KeyProblemError(at, f"{name!r} is not a region of this file")
                if one == other:
                    raise _KeyProblemError(at, "a region has no distance to itself; zones have zone_round_trip_ms")
                if frozenset((one, other)) in found:
                    raise _KeyProblemError(at, "this pair of regions is given twice")
                found[frozenset((one, other))] = _path_number(delay, at)
        return found


def _path_number(value: Any, path: tuple[str, ...]) -> float:
    """A number that says something about a path, by the key that it stands under."""
    if path[0] not in IMPAIRMENTS:
        return _milliseconds(value, path)
    try:
        return quality_member(path[0], value)
    except NetworkError as error:
        raise _KeyProblemError(path, str(error).removeprefix(f"{path[0]} ")) from None


def _impairments(members: Mapping[str, Mapping[frozenset[str], float]]) -> dict[frozenset[str], LinkQuality]:
    pairs = {pair for values in members.values() for pair, value in values.items() if value}
    return {pair: LinkQuality(**{name: values.get(pair, 0.0) for name, values in members.items()}) for pair in pairs}


def _pairs(rows: Iterable[tuple[str, str, float]]) -> dict[frozenset[str], float]:
    return {frozenset((one, other)): float(value) for one, other, value in rows}


def _table(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _KeyProblemError(path, f"a table is expected, not {value!r}")
    return value


def _known(table: Mapping[str, Any], path: tuple[str, ...], keys: set[str]) -> None:
    for key in table:
        if key not in keys:
            raise _KeyProblemError((*path, key), f"unknown key; known here: {', '.join(sorted(keys))}")


def _count(value: Any, low: int, high: int, path: tuple[str, ...]) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _KeyProblemError(path, f"a whole number from {low} to {high} is expected, not {value!r}")
    return value


def _milliseconds(value: Any, path: tuple[str, ...]) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= ROUND_TRIP_MS_MAX:
        raise _KeyProblemError(path, f"milliseconds from 0 to {ROUND_TRIP_MS_MAX:.0f} are expected, not {value!r}")
    return float(value)


def _zones(value: Any, path: tuple[str, ...]) -> dict[str, int]:
    """Either a list of zone names, one node each, or a table of zone name to number of nodes."""
    if isinstance(value, list):
        if len(set(map(str, value))) != len(value):
            raise _KeyProblemError(path, "a zone is named twice")
        value = {str(zone): 1 for zone in value}
    zones = _table(value, path)
    for zone, count in zones.items():
        if not _ZONE_NAME.fullmatch(zone):
            raise _KeyProblemError(path, f"a zone's name is like a: up to 8 lower-case letters or digits, not {zone!r}")
        _count(count, 1, NODES_PER_ZONE_MAX, (*path, zone))
    # Two zones would be worse than one: no majority outlives the loss of either.
    if len(zones) not in {1, *range(3, ZONES_MAX + 1)}:
        raise _KeyProblemError(path, f"1 zone or 3 to {ZONES_MAX} zones are needed, not {len(zones)}")
    return zones


_HEADER = re.compile(r"\s*\[\s*(.+?)\s*\]\s*(#.*)?$")
_ASSIGNMENT = re.compile(r"\s*([A-Za-z0-9_.\"'\s-]+?)\s*=")


def _line_of(text: str, path: tuple[str, ...]) -> int:
    """The line that sets a key, for messages: 0 when a plain scan of headers and assignments does not find it."""
    table: tuple[str, ...] = ()
    best, best_depth = 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = here = _key_parts(header[1])
        elif assignment := _ASSIGNMENT.match(line):
            here = table + _key_parts(assignment[1])
        else:
            continue
        depth = len(here)
        if here == path[:depth] and depth > best_depth:
            best, best_depth = number, depth
    return best


def _key_parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))
