"""The nodes of a region as control operations change them, and what of them may hold replicas. Pure.

An operator drains a node before it is removed: its replicas move to other nodes of its zone. What would leave groups
with fewer replicas is refused with a reason and a way out; `force` accepts two replicas in place of three, never one in
place of two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import MemberRecord, MemberState, PartitionRecord
from geodyne.errors import ApiError

ZONES_MIN = 2  # with active nodes, that a change may leave: groups on one replica lose what is acknowledged
Members = Mapping[str, MemberRecord]


def active(members: Members) -> dict[str, str]:
    """node -> zone of those that replicas move to."""
    return {node: member.zone for node, member in members.items() if member.state is MemberState.ACTIVE}


def placeable(members: Members) -> dict[str, str]:
    """node -> zone of those that the replicas of new partitions are placed on: the active nodes of each zone, and where
    there is none, those that are down, since they may return."""
    nodes = active(members)
    zones = set(nodes.values())
    down = {node: one.zone for node, one in members.items() if one.state is MemberState.DOWN and one.zone not in zones}
    return nodes | down


GONE = (MemberState.DOWN, MemberState.LEFT)


def all_speak(members: Members, stream_format: int, but: Collection[MemberState] = GONE) -> bool:
    """Every node is known to speak a format of the streams, but those in a state that does not count."""
    return bool(members) and all(one.format >= stream_format or one.state in but for one in members.values())


def seen(members: Members, named: Mapping[str, str], formats: Mapping[str, int]) -> list[MemberRecord]:
    """The records that change when the launch file names nodes (node -> zone) that speak these formats."""
    records = []
    for node, zone in sorted(named.items()):
        known = members.get(node) or MemberRecord(node, zone)
        if node not in members or formats.get(node, 0) > known.format:
            records.append(replace(known, format=max(known.format, formats.get(node, 0))))
    return records


def drained(members: Members, node: str, force: bool) -> MemberRecord:
    """The member, to be emptied. Raises ApiError."""
    member = _known(members, node)
    if member.state is MemberState.LEFT:
        raise _refused(f"Node {node} was removed; nothing is left on it to drain")
    if member.state is not MemberState.DRAINING:
        _check_zones(members, member, force)
    return replace(member, state=MemberState.DRAINING)


def activated(members: Members, node: str) -> MemberRecord:
    """The member, holding replicas again. Raises ApiError."""
    return replace(_known(members, node), state=MemberState.ACTIVE)


def goes_on(members: Members, voters: Collection[str], without: str = "") -> bool:
    """Whether a majority of the voters is there, as far as is known, when the node `without` is not."""
    gone = (MemberState.DOWN, MemberState.LEFT)
    there = sum(one != without and one in members and members[one].state not in gone for one in voters)
    return 2 * there > len(voters)


def removed(members: Members, node: str, force: bool, partitions: Collection[PartitionRecord]) -> MemberRecord:
    """The member, gone for good. Raises ApiError; whatever the operator says where a group would be lost with it."""
    member = _known(members, node)
    held = sum(node in partition.holders or node in partition.target for partition in partitions)
    if member.state is MemberState.LEFT:
        return member
    if not force and member.state is MemberState.ACTIVE:
        raise _refused(f"Node {node} is active; drain it first (geodyne node drain {node})")
    if not force and member.state is MemberState.DRAINING and held:
        raise _refused(f"{held} replicas are still on node {node}; wait until it is drained, or use --force")
    if member.state is not MemberState.DRAINING and held:
        _check_zones(members, member, force)
    sets = [(one.id, one.voters) for one in partitions] + [(one.id, one.target) for one in partitions]
    lost = {id_ for id_, voters in sets if node in voters and not goes_on(members, voters, node)}
    if lost:
        raise _refused(
            f"Without node {node} {len(lost)} partition(s) would have no majority left to rebuild them from, and what "
            "they hold would be lost; start the nodes that are down first (geodyne start)"
        )
    return replace(member, state=MemberState.LEFT)


def listed(members: Members, partitions: Collection[PartitionRecord]) -> list[dict[str, Any]]:
    """The nodes, and how many replicas each holds and is about to hold, in order of their names."""
    return [described(member, partitions) for _, member in sorted(members.items())]


def described(member: MemberRecord, partitions: Collection[PartitionRecord]) -> dict[str, Any]:
    """One of them."""
    return {
        "node": member.node,
        "zone": member.zone,
        "state": member.state.value,
        "replicas": sum(member.node in partition.voters for partition in partitions),
        "joining": sum(member.node in partition.incoming for partition in partitions),
    }


def _check_zones(members: Members, leaving: MemberRecord, force: bool) -> None:
    """Raises ApiError when groups would run on fewer replicas without the operator's word, or on a single one."""
    staying = [one for one in members.values() if one.state is MemberState.ACTIVE and one.node != leaving.node]
    zones = {one.zone for one in staying}
    if leaving.zone in zones:
        return
    region = leaving.node.partition("/")[0]
    hint = f"add a node to zone {leaving.zone} first (geodyne node add --region {region} --zone {leaving.zone})"
    if len(zones) < ZONES_MIN:
        raise _refused(
            f"Node {leaving.node} is the last active one of zone {leaving.zone}, and without it fewer than "
            f"{ZONES_MIN} zones have an active node; {hint}"
        )
    if not force:
        raise _refused(
            f"Node {leaving.node} is the last active one of zone {leaving.zone}: groups would run on two replicas; "
            f"{hint}, or use --force"
        )


def _known(members: Members, node: str) -> MemberRecord:
    member = members.get(node)
    if member is None:
        raise _refused(f"There is no node {node} in this region; its nodes are {', '.join(sorted(members))}")
    return member


def _refused(message: str) -> ApiError:
    return ApiError("ValidationException", message)
