"""Policies that are changed at run time: over the configuration, durable, refused when they are not understood."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from geodyne.routing import NEAREST, Policy, PolicyKind, Routing, RoutingError
from router import routebook
from router.routebook import RouteBook, RouteBookError

REGIONS = ("us-east-1", "eu-west-1")
PIN_EAST = Policy(PolicyKind.PINNED, ("us-east-1",))
PIN_WEST = Policy(PolicyKind.PINNED, ("eu-west-1",))
CONFIGURED = Routing(tables={"orders": PIN_EAST}, networks={"10.0.0.0/8": "us-east-1"})


def book(file: Path | None) -> RouteBook:
    return RouteBook(CONFIGURED, REGIONS, file)


def test_a_change_lies_over_the_configuration_until_it_is_reset(tmp_path: Path) -> None:
    async def run() -> None:
        routes = book(tmp_path / "routes.json")
        assert routes.source("orders") == "configuration"
        assert await routes.put("orders", PIN_WEST.to_json()) == PIN_WEST
        assert (routes.routing.tables["orders"], routes.source("orders")) == (PIN_WEST, "run time")
        assert routes.routing.networks == CONFIGURED.networks
        assert await routes.reset("orders") == PIN_EAST
        await routes.put(None, PIN_WEST.to_json())
        assert (routes.routing.policy, routes.source(None)) == (PIN_WEST, "run time")
        assert await routes.reset(None) == NEAREST

    asyncio.run(run())


def test_changes_outlive_the_process_if_it_has_a_file(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    asyncio.run(book(file).put("orders", PIN_WEST.to_json()))
    asyncio.run(book(file).put(None, PIN_EAST.to_json()))
    assert book(file).routing == Routing(PIN_EAST, {"orders": PIN_WEST}, networks=CONFIGURED.networks)
    assert book(file).durable
    assert not book(None).durable
    assert [path.name for path in tmp_path.iterdir()] == ["routes.json"]


def test_a_change_that_cannot_be_kept_is_not_in_force(tmp_path: Path) -> None:
    routes = book(tmp_path / "nowhere" / "routes.json")
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(routes.put(None, PIN_WEST.to_json()))
    assert routes.routing == CONFIGURED


def test_what_makes_no_policy_or_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        routes = book(None)
        for policy in (None, {}, {"policy": "pinned"}, {"policy": "pinned", "region": "mars"}):
            with pytest.raises(RoutingError):
                await routes.put(None, policy)
        with pytest.raises(RoutingError, match="name has 1 to"):
            await routes.put("", PIN_WEST.to_json())
        monkeypatch.setattr(routebook, "TABLE_POLICIES_MAX", 1)
        await routes.put("a", PIN_WEST.to_json())
        with pytest.raises(RoutingError, match="at most 1 tables"):
            await routes.put("b", PIN_WEST.to_json())
        assert set(routes.routing.tables) == {"orders", "a"}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "not a JSON file"),
        ("[]", "not a file of routing policies"),
        ('{"format": 2}', "format 2 is not known"),
        ('{"format": 1, "policy": null}', "not a file of routing policies"),
        ('{"format": 1, "policy": null, "tables": []}', "not a file of routing policies"),
        (
            json.dumps({"format": 1, "policy": None, "tables": {"t": {"policy": "pinned", "region": "mars"}}}),
            "'mars' is not a region",
        ),
    ],
)
def test_a_file_that_cannot_be_understood_keeps_the_endpoint_from_starting(
    tmp_path: Path, text: str, error: str
) -> None:
    file = tmp_path / "routes.json"
    file.write_text(text)
    with pytest.raises(RouteBookError, match=error):
        book(file)
