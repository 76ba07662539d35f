"""Which replicas shall move: what consensus has, compared with where replicas belong. Reads no clock, asks nobody.

The metadata leader begins moves (`begun`), some at a time, the urgent ones first; the partition's leader carries a move
out and reports what came of it (`concluded`). A move whose new node goes away meanwhile is begun anew, to another one
or back to the voters that there are.

Must hold:
- No two voters in one zone, and never one voter in place of two.
- A replica is placed on an active node only; a voter may stay on one that is down, while its zone has no other.
- What was begun for one state of a partition does nothing to another: a move names the voters that it begins from.
- A group without a majority can change nothing. It begins no move, and a move that it is in takes no other's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from geodyne.catalog import MemberState, PartitionRecord
from geodyne.messages import METADATA_PARTITION
from node.catalog.members import Members, active, goes_on, placeable
from node.catalog.placement import REPLICAS, Placement, rings_by_zone

MOVES_AT_ONCE_MAX = 8  # partitions whose replicas move at the same time, in one region; see `due`


class Move(NamedTuple):
    """A partition's voters shall be `target`, in order; `voters` are those it has."""

    partition: int
    voters: tuple[str, ...]
    target: tuple[str, ...]


class MovePlan:
    """Plans moves, and remembers where replicas belong for as long as the members are the same."""

    def __init__(self) -> None:
        self._placeable: dict[str, str] = {}
        self._placement = Placement(())
        self._active: dict[str, str] = {}
        self._belongs = Placement(())
        self._chosen: dict[int, tuple[str, ...]] = {}

    def placement(self, members: Members) -> Placement:
        """Where new partitions go."""
        nodes = placeable(members)
        if nodes != self._placeable:
            self._placeable = nodes
            self._placement = rings_by_zone(nodes)
        return self._placement

    def due(self, members: Members, partitions: Iterable[PartitionRecord]) -> list[Move]:
        """The moves to begin now, so that MOVES_AT_ONCE_MAX are on their way. `partitions`: all that nodes are to hold,
        the metadata group's among them."""
        nodes = active(members)
        if not nodes:
            return []
        if nodes != self._active:
            self._active, self._belongs, self._chosen = nodes, rings_by_zone(nodes), {}
        moving = 0
        again: list[Move] = []
        waiting: list[tuple[int, int, Move]] = []
        for record in partitions:
            able = goes_on(members, record.voters) and goes_on(members, record.target or record.voters)
            if record.target:
                moving += able
                if not _lost(record, members):
                    continue
            target = self._wanted(record, members)
            if target == (record.target or record.voters):
                continue
            move = Move(record.id, record.voters, target)
            if record.target:
                again.append(move)
            elif able:
                waiting.append((_urgency(record, members), record.id, move))
        waiting.sort()
        return again + [move for _, _, move in waiting[: max(0, MOVES_AT_ONCE_MAX - moving)]]

    def _wanted(self, record: PartitionRecord, members: Members) -> tuple[str, ...]:
        """The voters that a partition shall have. Two voters are not given up for one, and no order for another."""
        if record.id == METADATA_PARTITION:
            chosen = _near(record.voters, self._active)
        else:
            chosen = self._chosen.get(record.id) or self._chosen.setdefault(record.id, self._belongs.voters(record.id))
        zones = {*self._active.values()}
        staying = [
            voter
            for voter in record.voters
            if voter in members and members[voter].state is MemberState.DOWN and members[voter].zone not in zones
        ]
        target = (*chosen, *staying)[:REPLICAS]
        same = set(target) == set(record.voters)
        return record.voters if same or len(target) < min(2, len(record.voters)) else target


def _near(voters: Sequence[str], nodes: Mapping[str, str]) -> tuple[str, ...]:
    """For the metadata group: the voters that it has as far as they may stay, then the first node of other zones."""
    chosen = {nodes[voter]: voter for voter in voters if voter in nodes}
    for node, zone in sorted(nodes.items()):
        if zone not in chosen and len(chosen) < REPLICAS:
            chosen[zone] = node
    return tuple(chosen.values())


def _lost(record: PartitionRecord, members: Members) -> bool:
    """The move leads to a node that is not to hold replicas any more."""
    wrong = (MemberState.DRAINING, MemberState.LEFT)
    return any(node not in members or members[node].state in wrong for node in record.target) or any(
        members[node].state is MemberState.DOWN for node in record.incoming if node in members
    )


def _urgency(record: PartitionRecord, members: Members) -> int:
    """0: it lacks a voter; 1: one is to go; 2: it is well, and would be better elsewhere."""
    states = [members[voter].state if voter in members else MemberState.LEFT for voter in record.voters]
    if MemberState.DOWN in states or MemberState.LEFT in states or len(states) < REPLICAS:
        return 0
    return 1 if MemberState.DRAINING in states else 2


def begun(record: PartitionRecord, voters: tuple[str, ...], target: tuple[str, ...], number: int) -> PartitionRecord:
    """The record with a move under way; the same where it no longer has those voters. To the voters that it has:
    the move is given up."""
    if record.voters != voters or target == (record.target or voters):
        return record
    if target == voters:
        return replace(record, incoming=(), target=(), number=number)
    return replace(record, incoming=_lacking(target, voters), target=target, number=number)


def concluded(record: PartitionRecord, voters: tuple[str, ...], configuration: int, term: int = 0) -> PartitionRecord:
    """The record after its leader has reported the voters that its log put in force at the index `configuration`, by
    an entry of this term (0: not known); the same when a later one is known."""
    if configuration < record.configuration:
        return record
    if configuration == record.configuration:
        term = term or record.configuration_term
    target = () if record.target == voters else record.target
    incoming = _lacking(target, voters)
    return replace(
        record,
        voters=voters,
        incoming=incoming,
        target=target,
        configuration=configuration,
        configuration_term=term,
    )


def _lacking(target: Iterable[str], voters: Sequence[str]) -> tuple[str, ...]:
    return tuple(node for node in target if node not in voters)
