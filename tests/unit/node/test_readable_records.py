"""What the metadata leader logs, every node can read: a record that none could would end them all, again and again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from geodyne.catalog import MemberRecord
from geodyne.clock import SystemClock
from geodyne.messages import Control
from node.catalog.keeper import CatalogKeeper
from node.catalog.placement import Member, Placement
from node.group import Asker
from tests.unit.node.test_index_catalog import DEFINITION


class Leader:
    """Of the metadata group, as far as the keeper looks at it."""

    def __init__(self) -> None:
        self.raft = SimpleNamespace(term=1)
        self.state = SimpleNamespace(applied_index=0)
        self.logged: list[Any] = []

    def change_catalog(self, revision: int, changes: Any, wall_us: int) -> int:
        self.logged.append(changes)
        return len(self.logged)

    def wait_for(self, *_: object) -> None:
        """Nobody waits."""


def offered(**change: Any) -> list[Any]:
    """What is logged of a table that another region has made here."""
    keeper = CatalogKeeper(
        node_id="us-east-1/a",
        region="us-east-1",
        clock=SystemClock(),
        placement=Placement([Member("us-east-1/a", "a")]),
        submit=lambda _call: None,
    )
    keeper.catalog.members["us-east-1/a"] = MemberRecord("us-east-1/a", "a", format=99)
    leader = Leader()
    body = {"definition": {**DEFINITION, **change}, "members": {"us-east-1": "ACTIVE", "eu": "ACTIVE"}, "table_id": "t"}
    keeper.control(leader, Control("ensure_replica", body), Asker(lambda _response: None, 1), 0)  # type: ignore[arg-type]
    return leader.logged


def test_a_table_that_makes_sense_is_logged() -> None:
    assert len(offered()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"hash_key": 5},
        {"range_type": ["S"]},
        {"indexes": [{"name": "i"}]},
        {"ttl_attribute": 7},
        {"extra": {"writes": {"mode": "two"}}},
        {"extra": {"writes": {"mode": "home", "active": 5, "home": 7}}},
        {"extra": {"writes": "one"}},
        {"created": 1, "read_units": 1 << 70},
    ],
)
def test_one_that_nodes_could_not_read_is_not(change: dict[str, Any]) -> None:
    logged: list[Any] = []
    with pytest.raises((AttributeError, LookupError, TypeError, ValueError)):  # the caller answers an error
        logged += offered(**change)
    assert logged == []
