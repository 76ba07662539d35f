"""Ports are checked and chosen before any process starts."""

from __future__ import annotations

import socket

import pytest

from geodyne.cli import localports
from geodyne.cli.errors import CommandError


def test_a_public_port_in_use_is_named_with_its_user_and_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port} of us-east-1/router-1 is in use.*topology file"):
            localports.check_public({"global": 0, "us-east-1/router-1": port})
    localports.check_public({"us-east-1/router-1": port})


def test_chosen_ports_are_free_distinct_and_not_among_the_taken() -> None:
    start = 4_321
    skipped = localports.INTERNAL_PORTS[start]
    chosen = localports.allocate([str(n) for n in range(20)], {}, taken=[skipped], start=start)
    assert len(set(chosen.values())) == 20
    assert skipped not in chosen.values()
    assert all(port in localports.INTERNAL_PORTS for port in chosen.values())


def test_earlier_ports_are_kept_while_they_are_free() -> None:
    earlier = localports.allocate(["a", "b"], {}, taken=[], start=7_000)
    assert localports.allocate(["a", "b"], earlier, taken=[], start=0) == earlier
    with socket.create_server(("127.0.0.1", earlier["a"])):
        again = localports.allocate(["a", "b"], earlier, taken=[], start=0)
    assert again["b"] == earlier["b"]
    assert again["a"] != earlier["a"]


def test_ports_end_below_those_of_outgoing_connections() -> None:
    assert localports.INTERNAL_PORTS[-1] < 32_768
