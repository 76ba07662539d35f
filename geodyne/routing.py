"""How the global endpoint is told to route, as values: policies, and what says where a client is.

Written as TOML in a topology file, as JSON in launch files, in the file of changes made at run time and in
administration calls: the same members everywhere, read by `policy_from` and `routing_from`. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

TABLE_POLICIES_MAX: Final = 1_000
PLACES_MAX: Final = 1_000
NETWORKS_MAX: Final = 10_000
KEYS_MAX: Final = 1_000
PROXIES_MAX: Final = 100
WEIGHT_MAX: Final = 255  # Route 53's (Developer Guide, "Values specific for weighted records")
NAME_CHARACTERS_MAX: Final = 255  # of tables, places and keys

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RoutingError(ValueError):
    """What was told cannot be used. `path` are the members on the way to what is wrong with it."""

    def __init__(self, text: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.text = text
        self.path = path

    def under(self, *path: str) -> RoutingError:
        """The same, found as a part of something larger."""
        return RoutingError(self.text, (*path, *self.path))

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.text}" if self.path else self.text


class PolicyKind(StrEnum):
    """NEAREST by round trip from where the client is; FAILOVER the first that is up of a list; WEIGHTED a share of the
    clients for each region; PINNED one region or none."""

    NEAREST = "nearest"
    FAILOVER = "failover"
    WEIGHTED = "weighted"
    PINNED = "pinned"


class Affinity(StrEnum):
    """What of a client decides its region under WEIGHTED: who it is and from where, or also by which connection."""

    CLIENT = "client"
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True)
class Policy:
    """`regions` are all that may serve (NEAREST: empty, for every one there is), FAILOVER in order. `weights` go with
    them, of WEIGHTED alone: relative shares, of which 0 serves only when no other can."""

    kind: PolicyKind = PolicyKind.NEAREST
    regions: tuple[str, ...] = ()
    weights: tuple[int, ...] = ()
    affinity: Affinity = Affinity.CLIENT

    def to_json(self) -> dict[str, Any]:
        """The inverse of `policy_from`."""
        match self.kind:
            case PolicyKind.NEAREST:
                return {"policy": "nearest"}
            case PolicyKind.FAILOVER:
                return {"policy": "failover", "order": list(self.regions)}
            case PolicyKind.PINNED:
                return {"policy": "pinned", "region": self.regions[0]}
        weights = dict(zip(self.regions, self.weights, strict=True))
        return {"policy": "weighted", "weights": weights, "affinity": self.affinity.value}


NEAREST: Final = Policy()
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Routing:
    """All that is configured for the global endpoint but its port and own place.

    `places`, `networks` (CIDR) and `keys` (access key ids) name the region that a client is nearest to. Of
    `X-Forwarded-For` is believed what a peer in `trusted_proxies` (CIDR) says.
    """

    policy: Policy = NEAREST
    tables: Mapping[str, Policy] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    trusted_proxies: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The inverse of `routing_from`."""
        return {
            "policy": self.policy.to_json(),
            "tables": {table: policy.to_json() for table, policy in self.tables.items()},
            "places": dict(self.places),
            "networks": dict(self.networks),
            "keys": dict(self.keys),
            "trusted_proxies": list(self.trusted_proxies),
        }


ROUTING_MEMBERS: Final = frozenset({"policy", "tables", "places", "networks", "keys", "trusted_proxies"})


def routing_from(data: Mapping[str, Any], regions: Collection[str]) -> Routing:
    """Read what `Routing.to_json` or a topology file says; members that are missing are as by default. Values of
    `networks` and `keys` may be names of `places`. Raises RoutingError."""
    places = {
        name.lower(): _one_of(region, regions, ("places", name))
        for name, region in _named(data, "places", PLACES_MAX).items()
    }

    def region_of(value: Any, path: tuple[str, ...]) -> str:
        if isinstance(value, str) and value not in regions and value.lower() in places:
            return places[value.lower()]
        return _one_of(value, regions, path)

    networks = {}
    for text, value in _named(data, "networks", NETWORKS_MAX).items():
        network = str(_network(text, ("networks", text)))
        if network in networks:
            raise RoutingError("this network is given twice", ("networks", text))
        networks[network] = region_of(value, ("networks", text))
    proxies = data.get("trusted_proxies", ())
    if not isinstance(proxies, list | tuple) or len(proxies) > PROXIES_MAX:
        raise RoutingError(f"a list of up to {PROXIES_MAX} networks is expected", ("trusted_proxies",))
    return Routing(
        _policy_at(data.get("policy", {"policy": "nearest"}), regions, ("policy",)),
        {
            table: _policy_at(policy, regions, ("tables", table))
            for table, policy in _named(data, "tables", TABLE_POLICIES_MAX).items()
        },
        places,
        networks,
        {key: region_of(value, ("keys", key)) for key, value in _named(data, "keys", KEYS_MAX).items()},
        tuple(str(_network(proxy, ("trusted_proxies",))) for proxy in proxies),
    )


def policy_from(data: Any, regions: Collection[str]) -> Policy:
    """Read {"policy": "nearest"}, {"policy": "failover", "order": [...]}, {"policy": "pinned", "region": ...} or
    {"policy": "weighted", "weights": {region: 0 to 255}, "affinity": "client" or "connection"}. Raises RoutingError.
    """
    if not isinstance(data, Mapping):
        raise RoutingError(f"a policy with its parameters is expected, not {data!r}")
    kinds = [kind.value for kind in PolicyKind]
    if data.get("policy") not in kinds:
        raise RoutingError(f"policy must be one of {', '.join(kinds)}, not {data.get('policy')!r}")
    kind = PolicyKind(data["policy"])
    for name in data:
        if name not in _PARAMETERS[kind]:
            raise RoutingError(f"policy {kind} does not take {name}", (str(name),))
    if kind is PolicyKind.FAILOVER:
        return Policy(kind, _order(data.get("order"), regions))
    if kind is PolicyKind.PINNED:
        return Policy(kind, (_one_of(data.get("region"), regions, ("region",)),))
    return _weighted(data, regions) if kind is PolicyKind.WEIGHTED else NEAREST


_PARAMETERS: Mapping[PolicyKind, frozenset[str]] = {
    PolicyKind.NEAREST: frozenset({"policy"}),
    PolicyKind.FAILOVER: frozenset({"policy", "order"}),
    PolicyKind.PINNED: frozenset({"policy", "region"}),
    PolicyKind.WEIGHTED: frozenset({"policy", "weights", "affinity"}),
}


def _policy_at(data: Any, regions: Collection[str], path: tuple[str, ...]) -> Policy:
    try:
        return policy_from(data, regions)
    except RoutingError as error:
        raise error.under(*path) from None


def _order(value: Any, regions: Collection[str]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise RoutingError("a list of regions, the first one first, is expected", ("order",))
    order = tuple(_one_of(region, regions, ("order",)) for region in value)
    if len(set(order)) != len(order):
        raise RoutingError("a region is named twice", ("order",))
    return order


def _weighted(data: Mapping[str, Any], regions: Collection[str]) -> Policy:
    weights = data.get("weights")
    if not isinstance(weights, Mapping) or not weights:
        raise RoutingError("a weight for each region that may serve is expected", ("weights",))
    for region, weight in weights.items():
        _one_of(region, regions, ("weights",))
        if type(weight) is not int or not 0 <= weight <= WEIGHT_MAX:
            raise RoutingError(
                f"a whole number from 0 to {WEIGHT_MAX} is expected, not {weight!r}", ("weights", region)
            )
    if not any(weights.values()):
        raise RoutingError("some region must have a weight other than 0", ("weights",))
    affinity = data.get("affinity", Affinity.CLIENT.value)
    if affinity not in [one.value for one in Affinity]:
        raise RoutingError(f"affinity must be {' or '.join(Affinity)}, not {affinity!r}", ("affinity",))
    return Policy(PolicyKind.WEIGHTED, tuple(weights), tuple(weights.values()), Affinity(affinity))


def _named(data: Mapping[str, Any], member: str, most: int) -> Mapping[str, Any]:
    entries = data.get(member, _NOTHING)
    if not isinstance(entries, Mapping) or len(entries) > most:
        raise RoutingError(f"a table of up to {most} entries is expected", (member,))
    for name in entries:
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX:
            raise RoutingError(f"a name has 1 to {NAME_CHARACTERS_MAX} characters", (member,))
    return entries


def _one_of(region: Any, regions: Collection[str], path: tuple[str, ...]) -> str:
    if not isinstance(region, str) or region not in regions:
        raise RoutingError(f"{region!r} is not a region of this cluster; there are {', '.join(regions)}", path)
    return region


def _network(text: Any, path: tuple[str, ...]) -> Network:
    try:
        return ipaddress.ip_network(text if isinstance(text, str) else "")
    except ValueError:
        raise RoutingError(f"a network such as 10.2.0.0/16 is expected, not {text!r}", path) from None
