"""Where a client is: what it says, its network, its key, and the default; and whom to believe about addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.routing import Routing
from router import placement
from router.placement import Networks, Placement

EAST, WEST, SEOUL = "us-east-1", "eu-west-1", "ap-northeast-2"
ROUTING = Routing(
    places={"frankfurt": WEST},
    networks={"10.0.0.0/8": WEST, "10.9.0.0/16": SEOUL, "2001:db8::/32": SEOUL},
    keys={"AKIASEOUL": SEOUL},
    trusted_proxies=("192.0.2.0/24", "2001:db8:ffff::/48"),
)


def placed(location: str = "", peer: str = "", forwarded: str = "", key: str = "") -> tuple[str, str]:
    origin = Placement(ROUTING, (EAST, WEST, SEOUL), EAST).origin(location.encode(), peer, forwarded.encode(), key)
    return origin.region, origin.reason


def test_a_header_comes_before_the_network_that_before_the_key_and_that_before_the_default() -> None:
    assert placed(SEOUL, "10.1.1.1", "", "AKIASEOUL") == (SEOUL, "header")
    assert placed(" Frankfurt") == (WEST, "header")
    assert placed("", "10.1.1.1", "", "AKIASEOUL") == (WEST, "network 10.0.0.0/8")
    assert placed("", "203.0.113.1", "", "AKIASEOUL") == (SEOUL, "key")
    assert placed("", "203.0.113.1") == (EAST, "default")
    assert placed("mars", "10.1.1.1") == (WEST, "network 10.0.0.0/8")


def test_the_longest_prefix_counts() -> None:
    assert placed(peer="10.9.1.1") == (SEOUL, "network 10.9.0.0/16")
    assert placed(peer="2001:db8:1::5") == (SEOUL, "network 2001:db8::/32")
    assert placed(peer="::ffff:10.9.1.1") == (SEOUL, "network 10.9.0.0/16")


def test_forwarded_addresses_are_believed_from_trusted_proxies_alone() -> None:
    assert placed(peer="203.0.113.1", forwarded="10.9.1.1") == (EAST, "default")
    assert placed(peer="192.0.2.7", forwarded="10.9.1.1") == (SEOUL, "network 10.9.0.0/16")


@pytest.mark.parametrize(
    ("forwarded", "region"),
    [
        ("10.9.1.1, 10.1.1.1", WEST),  # the last one is the proxy's word, the first may be the client's own
        ("10.1.1.1, 10.9.1.1, 192.0.2.8", SEOUL),  # over two proxies
        ("10.9.1.1:4711", SEOUL),
        ("[2001:db8::1]:4711", SEOUL),
        ("10.1.1.1, unknown", EAST),
        (", , ", EAST),
        ("10.1.1.1," * 40 + "192.0.2.8," * 40 + "192.0.2.9", EAST),
        ("1" * 1000, EAST),
    ],
)
def test_the_last_address_that_is_no_proxys_is_the_clients(forwarded: str, region: str) -> None:
    assert placed(peer="192.0.2.7", forwarded=forwarded)[0] == region


def test_what_is_kept_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "ADDRESSES_KEPT_MAX", 10)
    places = Placement(ROUTING, (EAST, WEST, SEOUL), EAST)
    for number in range(100):
        assert places.origin(b"", f"10.1.0.{number}", b"", "").region == WEST
        assert len(places._known) <= 10


networks = st.lists(
    st.tuples(st.integers(min_value=0, max_value=255), st.integers(min_value=0, max_value=8)), min_size=1, max_size=20
)


@settings(max_examples=100, deadline=None)
@given(networks, st.integers(min_value=0, max_value=255))
def test_a_network_is_found_as_by_looking_at_all_of_them(given: list[tuple[int, int]], last: int) -> None:
    known = {str(ipaddress.ip_network((f"192.0.2.{base}", 24 + bits), strict=False)) for base, bits in given}
    address = ipaddress.ip_address(f"192.0.2.{last}")
    holding = [network for network in known if address in ipaddress.ip_network(network)]
    longest = max(holding, key=lambda network: ipaddress.ip_network(network).prefixlen, default=None)
    found = Networks({network: network for network in known}).find(address)
    assert found == (None if longest is None else (longest, longest))
