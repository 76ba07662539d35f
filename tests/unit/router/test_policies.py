"""Which region serves under which policy."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.routing import NEAREST, Affinity, Policy, PolicyKind, Routing
from router.policies import Choice, Client, NoCommonRegion, Rule, choose, preferred, rule_of

EAST, WEST, SEOUL = "us-east-1", "eu-west-1", "ap-northeast-2"
REGIONS = (EAST, WEST, SEOUL)
ANA = Client("AKIAANA 10.0.0.1", "10.0.0.1 4711")


class State(NamedTuple):
    healthy: bool
    tables: frozenset[str]


def up(*tables: str) -> State:
    return State(True, frozenset(tables))


def down(*tables: str) -> State:
    return State(False, frozenset(tables))


def pinned(region: str) -> Policy:
    return Policy(PolicyKind.PINNED, (region,))


def failover(*regions: str) -> Policy:
    return Policy(PolicyKind.FAILOVER, regions)


def weighted(affinity: Affinity = Affinity.CLIENT, **weights: int) -> Policy:
    regions = {"east": EAST, "west": WEST, "seoul": SEOUL}
    return Policy(PolicyKind.WEIGHTED, tuple(regions[name] for name in weights), tuple(weights.values()), affinity)


def test_the_nearest_healthy_region_with_the_table_serves() -> None:
    health = {EAST: up(), WEST: up("t"), SEOUL: up("t", "u")}
    assert choose(Rule(NEAREST), REGIONS, ANA, health, ["t"]) == [
        Choice(WEST, "nearest with the table"),
        Choice(SEOUL, f"fail-over from {WEST}"),
    ]
    assert choose(Rule(NEAREST), REGIONS, ANA, health, ["t", "u"]) == [Choice(SEOUL, "nearest with the table")]
    health[WEST] = down("t")
    assert choose(Rule(NEAREST), REGIONS, ANA, health, ["t"]) == [Choice(SEOUL, f"fail-over from {WEST}")]


def test_a_table_whose_only_regions_are_down_is_not_looked_for_elsewhere() -> None:
    assert choose(Rule(NEAREST), REGIONS, ANA, {EAST: up(), WEST: down("t"), SEOUL: up()}, ["t"]) == []


def test_a_request_about_no_table_or_an_unknown_one_goes_to_the_nearest_healthy_region() -> None:
    health = {EAST: up(), WEST: up("t"), SEOUL: up("u")}
    assert choose(Rule(NEAREST), REGIONS, ANA, health, [])[0] == Choice(EAST, "nearest")
    assert choose(Rule(NEAREST), REGIONS, ANA, health, ["new"])[0] == Choice(EAST, "nearest")
    health[EAST] = down()
    assert choose(Rule(NEAREST), REGIONS, ANA, health, [])[0] == Choice(WEST, f"fail-over from {EAST}")


def test_a_pinned_table_is_served_by_one_region_or_none_wherever_the_client_is() -> None:
    health = {EAST: up("t"), WEST: up("t"), SEOUL: up("t")}
    assert choose(Rule(pinned(SEOUL)), REGIONS, ANA, health, ["t"]) == [Choice(SEOUL, "pinned")]
    health[SEOUL] = down("t")
    assert choose(Rule(pinned(SEOUL)), REGIONS, ANA, health, ["t"]) == []
    health[SEOUL] = up()
    assert choose(Rule(pinned(SEOUL)), REGIONS, ANA, health, ["t"]) == [Choice(SEOUL, "pinned")]


def test_a_list_is_tried_in_its_order_and_what_it_does_not_name_never_serves() -> None:
    health = {EAST: up("t"), WEST: up("t"), SEOUL: up("t")}
    rule = Rule(failover(SEOUL, WEST))
    assert choose(rule, REGIONS, ANA, health, ["t"])[0] == Choice(SEOUL, "failover")
    health[SEOUL] = down("t")
    assert choose(rule, REGIONS, ANA, health, ["t"]) == [Choice(WEST, f"fail-over from {SEOUL}")]
    health[WEST] = down("t")
    assert choose(rule, REGIONS, ANA, health, ["t"]) == []


def test_shares_of_clients_are_as_the_weights() -> None:
    policy = weighted(east=3, west=1, seoul=0)
    clients = [Client(f"key 10.0.{number >> 8}.{number & 255}", "") for number in range(4_000)]
    first = Counter(preferred(Rule(policy), REGIONS, client)[0] for client in clients)
    assert set(first) == {EAST, WEST}
    assert 0.72 < first[EAST] / len(clients) < 0.78


def test_a_region_of_weight_0_serves_when_no_other_can() -> None:
    rule = Rule(weighted(east=1, west=0))
    assert choose(rule, REGIONS, ANA, {EAST: up("t"), WEST: up("t"), SEOUL: up("t")}, ["t"])[0].region == EAST
    chosen = choose(rule, REGIONS, ANA, {EAST: down("t"), WEST: up("t"), SEOUL: up("t")}, ["t"])
    assert chosen == [Choice(WEST, f"fail-over from {EAST}")]


def test_under_affinity_to_the_connection_one_client_is_served_by_several_regions() -> None:
    def firsts(policy: Policy) -> set[str]:
        clients = (Client("key 10.0.0.1", f"10.0.0.1 {port}") for port in range(100))
        return {preferred(Rule(policy), REGIONS, client)[0] for client in clients}

    assert len(firsts(weighted(east=1, west=1))) == 1
    assert firsts(weighted(Affinity.CONNECTION, east=1, west=1)) == {EAST, WEST}


def test_of_several_tables_the_strictest_policy_counts_within_what_all_allow() -> None:
    tables = {"p": pinned(WEST), "f": failover(SEOUL, WEST), "w": weighted(east=1, seoul=1)}
    routing = Routing(tables=tables)
    assert rule_of(routing, ["x"]) == Rule(NEAREST)
    assert rule_of(routing, []) == Rule(NEAREST)
    assert rule_of(routing, ["p"]) == Rule(tables["p"], None, "p")
    assert rule_of(routing, ["x", "f", "p"]) == Rule(tables["p"], frozenset({WEST}), "p")
    both = rule_of(routing, ["w", "f"])
    assert preferred(both, REGIONS, ANA) == [SEOUL]
    with pytest.raises(NoCommonRegion, match="no region in common: p, w"):
        rule_of(routing, ["w", "p", "x"])


def test_a_request_that_names_a_region_goes_there_or_is_refused() -> None:
    assert preferred(Rule(NEAREST).within({WEST}), REGIONS, ANA) == [WEST]
    assert preferred(Rule(failover(SEOUL, WEST)).within({WEST}), REGIONS, ANA) == [WEST]
    with pytest.raises(NoCommonRegion, match="policy of table t allows eu-west-1 alone"):
        Rule(pinned(WEST), None, "t").within({EAST})


any_policy = st.one_of(
    st.just(NEAREST),
    st.sampled_from(REGIONS).map(pinned),
    st.permutations(REGIONS).flatmap(
        lambda order: st.integers(min_value=1, max_value=3).map(lambda count: failover(*order[:count]))
    ),
    st.tuples(*[st.integers(min_value=0, max_value=3)] * 3)
    .filter(any)
    .map(lambda weights: Policy(PolicyKind.WEIGHTED, REGIONS, weights)),
)
any_health = st.lists(
    st.builds(State, st.booleans(), st.frozensets(st.sampled_from("ab"))), min_size=3, max_size=3
).map(lambda states: dict(zip(REGIONS, states, strict=True)))
any_client = st.integers(min_value=0, max_value=1_000).map(lambda number: Client(f"client {number}", "1"))
any_tables = st.frozensets(st.sampled_from("abc"))


@settings(max_examples=200, deadline=None)
@given(any_policy, st.permutations(REGIONS), any_client, any_health, any_tables)
def test_whoever_is_chosen_is_up_and_allowed_and_has_the_tables_if_any_allowed_region_has(
    policy: Policy, near: list[str], client: Client, health: dict[str, State], tables: frozenset[str]
) -> None:
    chosen = choose(Rule(policy), near, client, health, tables)
    allowed = preferred(Rule(policy), near, client)
    assert sorted(allowed) == sorted(policy.regions or REGIONS)
    holders = [region for region in allowed if tables <= health[region].tables]
    assert [choice.region for choice in chosen] == [r for r in (holders or allowed) if health[r].healthy]
    assert choose(Rule(policy), near, client, dict(reversed(health.items())), sorted(tables)) == chosen


@settings(max_examples=200, deadline=None)
@given(any_policy, any_client, any_health, st.sampled_from(REGIONS))
def test_the_loss_of_a_region_moves_its_own_clients_alone_and_its_return_brings_them_back(
    policy: Policy, client: Client, health: dict[str, State], lost: str
) -> None:
    before = [choice.region for choice in choose(Rule(policy), REGIONS, client, health, [])]
    health_now = {**health, lost: health[lost]._replace(healthy=False)}
    now = [choice.region for choice in choose(Rule(policy), REGIONS, client, health_now, [])]
    assert now == [region for region in before if region != lost]


@settings(max_examples=200, deadline=None)
@given(any_client, st.tuples(*[st.integers(min_value=1, max_value=5)] * 3), st.integers(min_value=1, max_value=5))
def test_a_weight_that_grows_draws_clients_to_its_region_and_moves_no_others(
    client: Client, weights: tuple[int, int, int], more: int
) -> None:
    before = preferred(Rule(Policy(PolicyKind.WEIGHTED, REGIONS, weights)), REGIONS, client)[0]
    grown = (weights[0] + more, *weights[1:])
    after = preferred(Rule(Policy(PolicyKind.WEIGHTED, REGIONS, grown)), REGIONS, client)[0]
    assert after in (before, REGIONS[0])
