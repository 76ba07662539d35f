"""Where a client of the global endpoint is, as the region that it is nearest to. Pure.

In this order: what it says itself (a header), its network, the key it signs with, the endpoint's own place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from geodyne.routing import Routing

FORWARDED_MAX: Final = 32  # addresses of one X-Forwarded-For that are looked at, from its end
ADDRESSES_KEPT_MAX: Final = 4_096

ADDRESS_CHARACTERS_MAX: Final = 80  # IPv6 with a zone, brackets and a port

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Origin(NamedTuple):
    """`reason` is for people: it is told in a response header. `address` is the client's, "" when it is not known."""

    region: str
    reason: str
    address: str


class Networks:
    """The value of the longest prefix that holds an address."""

    def __init__(self, networks: Mapping[str, str]) -> None:
        """Raises ValueError for what is no network."""
        self._by_version: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}  # version, prefix length, its bits
        for text, value in networks.items():
            network = ipaddress.ip_network(text)
            of_length = self._by_version[network.version].setdefault(network.prefixlen, {})
            of_length[int(network.network_address) >> (network.max_prefixlen - network.prefixlen)] = value
        for version, by_length in self._by_version.items():
            self._by_version[version] = dict(sorted(by_length.items(), reverse=True))

    def find(self, address: Address) -> tuple[str, str] | None:
        """(network, value); None when no network holds the address."""
        bits = int(address)
        for length, values in self._by_version[address.version].items():
            value = values.get(bits >> (address.max_prefixlen - length))
            if value is not None:
                return str(ipaddress.ip_network((address, length), strict=False)), value
        return None


class _Known(NamedTuple):
    """An address, the network that holds it with its region, and whether it is a trusted proxy's."""

    address: str
    found: tuple[str, str] | None
    trusted: bool


_NOBODY: Final = _Known("", None, False)


class Placement:
    """The rules in force. `home` is the region nearest to the endpoint itself."""

    def __init__(self, routing: Routing, regions: Sequence[str], home: str) -> None:
        self._regions = frozenset(regions)
        self._home = home
        self._places = routing.places
        self._keys = routing.keys
        self._networks = Networks(routing.networks)
        self._proxies = Networks(dict.fromkeys(routing.trusted_proxies, ""))
        self._known: dict[str, _Known] = {}

    def origin(self, location: bytes, peer: str, forwarded: bytes, access_key_id: str) -> Origin:
        """`location` and `forwarded` are the values of the two headers, b"" without; `peer` is the address of the
        connection's other end."""
        client = self._client(self._look_up(peer), forwarded)
        address = client.address
        if location:
            name = location.decode("utf-8", "replace").strip()
            region = name if name in self._regions else self._places.get(name.lower())
            if region is not None:
                return Origin(region, "header", address)
        if client.found is not None:
            network, region = client.found
            return Origin(region, f"network {network}", address)
        region = self._keys.get(access_key_id)
        if region is not None:
            return Origin(region, "key", address)
        return Origin(self._home, "default", address)

    def _client(self, peer: _Known, forwarded: bytes) -> _Known:
        """Each trusted proxy appended whom it heard from: read from the end, the first address that is none of theirs
        is the client's. What stands before it, the client may have written itself."""
        client = peer
        if not forwarded or not peer.trusted:
            return client
        for text in reversed(forwarded.decode("latin-1").split(",")[-FORWARDED_MAX:]):
            named = self._look_up(text.strip())
            if not named.address:
                break
            client = named
            if not named.trusted:
                break
        return client

    def _look_up(self, text: str) -> _Known:
        known = self._known.get(text)
        if known is not None:
            return known
        address = _address(text)
        if address is None:
            return _NOBODY
        known = _Known(str(address), self._networks.find(address), self._proxies.find(address) is not None)
        if len(self._known) >= ADDRESSES_KEPT_MAX:
            self._known.clear()
        self._known[text] = known
        return known


def _address(text: str) -> Address | None:
    """An address as proxies write it, with a port perhaps; an IPv4 address in IPv6's clothes is itself."""
    if len(text) > ADDRESS_CHARACTERS_MAX:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
