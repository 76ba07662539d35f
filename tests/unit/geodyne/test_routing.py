"""What the global endpoint can be told, and how mistakes are named."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.routing import NEAREST, Affinity, Policy, PolicyKind, Routing, RoutingError, policy_from, routing_from

REGIONS = ("us-east-1", "eu-west-1")
POLICIES = [
    NEAREST,
    Policy(PolicyKind.FAILOVER, ("eu-west-1", "us-east-1")),
    Policy(PolicyKind.PINNED, ("eu-west-1",)),
    Policy(PolicyKind.WEIGHTED, ("us-east-1", "eu-west-1"), (255, 0)),
    Policy(PolicyKind.WEIGHTED, ("us-east-1",), (1,), Affinity.CONNECTION),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_is_read_as_it_was_written(policy: Policy) -> None:
    assert policy_from(policy.to_json(), REGIONS) == policy


def test_all_that_is_configured_is_read_as_it_was_written() -> None:
    routing = Routing(
        POLICIES[1],
        {"orders": POLICIES[2]},
        {"frankfurt": "eu-west-1"},
        {"10.0.0.0/8": "eu-west-1", "2001:db8::/32": "us-east-1"},
        {"AKIA": "eu-west-1"},
        ("192.0.2.0/24",),
    )
    assert routing_from(routing.to_json(), REGIONS) == routing
    assert routing_from({}, REGIONS) == Routing()


def test_networks_and_keys_may_name_places() -> None:
    data = {"places": {"Cork": "eu-west-1"}, "networks": {"10.0.0.0/8": "cork"}, "keys": {"AKIA": "Cork"}}
    routing = routing_from(data, REGIONS)
    assert routing.networks["10.0.0.0/8"] == routing.keys["AKIA"] == "eu-west-1"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"policy": "nearest"}, "policy: a policy with its parameters is expected, not 'nearest'"),
        ({"policy": {}}, "policy: policy must be one of nearest, failover, weighted, pinned, not None"),
        ({"policy": {"policy": "nearest", "region": "x"}}, "policy.region: policy nearest does not take region"),
        ({"policy": {"policy": "pinned"}}, "policy.region: None is not a region of this cluster"),
        ({"policy": {"policy": "failover", "order": []}}, "policy.order: a list of regions"),
        ({"policy": {"policy": "failover", "order": ["eu-west-1"] * 2}}, "policy.order: a region is named twice"),
        ({"policy": {"policy": "weighted"}}, "policy.weights: a weight for each region"),
        ({"policy": {"policy": "weighted", "weights": {"mars": 1}}}, "policy.weights: 'mars' is not a region"),
        (
            {"policy": {"policy": "weighted", "weights": {"eu-west-1": 256}}},
            "policy.weights.eu-west-1: a whole number from 0 to 255 is expected, not 256",
        ),
        ({"policy": {"policy": "weighted", "weights": {"eu-west-1": True}}}, "a whole number"),
        ({"policy": {"policy": "weighted", "weights": {"eu-west-1": 0}}}, "policy.weights: some region must have"),
        (
            {"policy": {"policy": "weighted", "weights": {"eu-west-1": 1}, "affinity": "x"}},
            "policy.affinity: affinity must be client or connection, not 'x'",
        ),
        ({"tables": {"t": {"policy": "pinned", "region": "mars"}}}, "tables.t.region: 'mars' is not a region"),
        ({"tables": []}, "tables: a table of up to 1000 entries is expected"),
        ({"tables": {"t" * 256: {}}}, "tables: a name has 1 to 255 characters"),
        ({"networks": {"10.0.0.1/8": "eu-west-1"}}, "networks.10.0.0.1/8: a network such as 10.2.0.0/16 is expected"),
        ({"networks": {"10.0.0.0/8": "mars"}}, "networks.10.0.0.0/8: 'mars' is not a region"),
        ({"networks": {"1.0.0.0/8": "eu-west-1", "1.0.0.0/255.0.0.0": "eu-west-1"}}, "this network is given twice"),
        ({"trusted_proxies": "x"}, "trusted_proxies: a list of up to 100 networks"),
        ({"trusted_proxies": ["x"]}, "trusted_proxies: a network such as"),
        ({"places": {"a": "b"}}, "places.a: 'b' is not a region"),
        ({"keys": {"a": 1}}, "keys.a: 1 is not a region"),
    ],
)
def test_a_mistake_is_named_with_the_way_to_it(data: dict[str, Any], error: str) -> None:
    with pytest.raises(RoutingError) as caught:
        routing_from(data, REGIONS)
    assert error in str(caught.value)
