"""To whom a node that stops gives what it leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from node.handover import SETTLED_MS, HandOver


class Raft:
    voters = ("me", "new", "old", "far")

    def __init__(self, whole: set[str]) -> None:
        self.whole = whole

    def can_take_over(self, peer: str, now_ms: int) -> bool:
        return peer in self.whole

    def should_transfer_to(self, now_ms: int) -> str:
        return ""


class Group:
    partition = 1
    leading = True
    serving = True

    def __init__(self, whole: set[str], takes: set[str]) -> None:
        self.raft = Raft(whole)
        self.handing_over = False
        self.asked: list[str] = []
        self._takes = takes

    def hand_over(self, to: str, now_ms: int) -> bool:
        self.asked.append(to)
        self.handing_over = to in self._takes
        return self.handing_over


class Service:
    """The part of the node's shell that handing over needs."""

    def __init__(self, group: Group, wrong: tuple[str, ...] = ()) -> None:
        self.clocks: Any = self
        self._wrong = wrong
        self.groups = [group]
        self.network: Any = self
        self.up = {"old"}
        self.clock_ms = 1_000

    def unfit(self, peers: Sequence[str]) -> set[str]:
        return {*peers} & {*self._wrong}

    def now_ms(self) -> int:
        return self.clock_ms

    def connected(self, peer: str) -> bool:
        return peer in self.up

    def leads_changed(self) -> None:
        return

    def touch(self, group: Group) -> None:
        assert group in self.groups


@pytest.mark.parametrize(
    ("whole", "takes", "asked"),
    [
        ({"new", "old"}, {"new", "old"}, ["old"]),  # both have everything: the one that has been up for a while
        ({"new"}, {"new", "old"}, ["new"]),  # but rather one that has everything
        ({"new", "old"}, {"new"}, ["old", "new"]),  # and in any case one that takes it
        (set(), set(), ["old", "new"]),  # never one that is not connected
    ],
)
def test_rather_to_a_peer_that_has_everything_and_of_those_to_one_that_callers_are_connected_to(
    whole: set[str], takes: set[str], asked: list[str]
) -> None:
    group = Group(whole, takes)
    service: Any = Service(group)
    handover = HandOver(service, ("new", "old", "far"))
    handover.balance()
    service.clock_ms += SETTLED_MS
    service.up.add("new")
    handover.balance()
    given: list[Any] = [group] if takes & {*asked} else []
    assert handover.offer_all() == given
    assert group.asked == asked


def test_rather_to_a_peer_whose_clock_is_right_and_because_of_the_own_clock_to_no_other() -> None:
    group = Group({"new", "old"}, {"old"})
    service: Any = Service(group, wrong=("old",))
    service.up.add("new")
    handover = HandOver(service, ("new", "old", "far"))
    assert handover.offer_all(right_clocks_only=True) == []
    assert group.asked == ["new"]
    given: list[Any] = [group]
    assert handover.offer_all() == given
    assert group.asked == ["new", "new", "old"]
