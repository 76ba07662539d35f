"""Which regions may serve a request of the global endpoint, in which order, and why. Pure and deterministic.

WEIGHTED is rendezvous hashing: each region draws a number from the client and its own name, scaled by its weight, and
the smallest one wins. So a client keeps its region, whatever the endpoint restarts, and when a region goes or a
weight changes only those clients move that must.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from math import log
from typing import Final, NamedTuple, Protocol

from geodyne.routing import Affinity, Policy, PolicyKind, Routing

_DRAWS: Final = 1 << 53  # as many as a float tells apart


class Choice(NamedTuple):
    """Where a request goes. `reason` is for people: it is told in a response header."""

    region: str
    reason: str


class Health(Protocol):
    """What a choice asks of a region."""

    @property
    def healthy(self) -> bool: ...

    @property
    def tables(self) -> frozenset[str]: ...


class Client(NamedTuple):
    """Who asks: what stays the same over connections, and the connection."""

    identity: str
    connection: str


class Rule(NamedTuple):
    """The policy a request falls under. `regions` None: any; `table`: whose policy it is, "" for the endpoint's."""

    policy: Policy
    regions: frozenset[str] | None = None
    table: str = ""

    def within(self, regions: Collection[str]) -> Rule:
        """The same, for a request that itself says which region it means. Raises NoCommonRegion."""
        allowed = self.policy.regions if self.regions is None else self.regions
        if allowed and not any(region in allowed for region in regions):
            whose = f"table {self.table}" if self.table else "this endpoint"
            raise NoCommonRegion(
                f"The request names a table of {', '.join(sorted(regions))}, and the routing policy of {whose} allows "
                f"{', '.join(sorted(allowed))} alone"
            )
        return self._replace(regions=frozenset(regions) if self.regions is None else self.regions.intersection(regions))


class NoCommonRegion(Exception):
    """What a request names and the policies of its tables have no region in common. The text says which."""


_STRICTEST: Final = (PolicyKind.PINNED, PolicyKind.FAILOVER, PolicyKind.WEIGHTED, PolicyKind.NEAREST)


def rule_of(routing: Routing, tables: Sequence[str]) -> Rule:
    """The policy for a request about these tables: the strictest of theirs, the first one named of two alike, within
    the regions that all of them allow. Raises NoCommonRegion."""
    if not routing.tables or not tables:
        return Rule(routing.policy)
    if len(tables) == 1:
        table = tables[0]
        found = routing.tables.get(table)
        return Rule(routing.policy) if found is None else Rule(found, None, table)
    policies = [(routing.tables.get(table, routing.policy), table) for table in tables]
    policy, table = min(policies, key=lambda one: _STRICTEST.index(one[0].kind))
    common: frozenset[str] | None = None
    for other, _ in policies:
        if other.regions:
            common = frozenset(other.regions) if common is None else common.intersection(other.regions)
    if common is not None and not common:
        named = ", ".join(sorted({table for policy, table in policies if policy.regions}))
        raise NoCommonRegion(f"The routing policies of these tables have no region in common: {named}")
    return Rule(policy, common, table if table in routing.tables else "")


def preferred(rule: Rule, nearest: Sequence[str], client: Client) -> list[str]:
    """The regions that may serve, best first. `nearest` are all regions, nearest to the client first."""
    policy = rule.policy
    match policy.kind:
        case PolicyKind.NEAREST:
            order: Iterable[str] = nearest
        case PolicyKind.WEIGHTED:
            order = _by_weight(policy, client)
        case _:
            order = policy.regions
    return [region for region in order if rule.regions is None or region in rule.regions]


def choose(
    rule: Rule, nearest: Sequence[str], client: Client, health: Mapping[str, Health], tables: Iterable[str]
) -> list[Choice]:
    """The regions to try, in order; empty when none is healthy.

    Regions known to have all `tables` come alone, unless there is none such: then a region that has none of them can
    still give the right answer (to CreateTable, or that there is no such table).
    """
    wanted = frozenset(tables)
    may_serve = preferred(rule, nearest, client)
    holders = [region for region in may_serve if wanted <= health[region].tables]
    local = not wanted or not holders
    candidates = may_serve if local else holders
    first = candidates[0]
    kind = rule.policy.kind.value
    choices = []
    for region in candidates:
        if not health[region].healthy:
            continue
        if region != first:
            reason = f"fail-over from {first}"
        elif first == may_serve[0] or local:
            reason = kind
        else:
            reason = f"{kind} with the table"
        choices.append(Choice(region, reason))
    return choices


def _by_weight(policy: Policy, client: Client) -> list[str]:
    """Regions of weight 0 come last: they serve when no other can, as Route 53 has it."""
    who = client.identity if policy.affinity is Affinity.CLIENT else f"{client.identity} {client.connection}"
    weighed = sorted((_draw(who, region) / weight, region) for region, weight in _pairs(policy) if weight)
    return [*(region for _, region in weighed), *(region for region, weight in _pairs(policy) if not weight)]


def _pairs(policy: Policy) -> Iterable[tuple[str, int]]:
    return zip(policy.regions, policy.weights, strict=True)


def _draw(who: str, region: str) -> float:
    """An exponentially distributed number: the smallest of several, each divided by its weight, is a region's with the
    probability of its share."""
    digest = blake2b(f"{who}\0{region}".encode(), digest_size=8).digest()
    return -log(((int.from_bytes(digest, "big") >> 11) + 1) / (_DRAWS + 1))
