"""Which replicas shall move, for any history of a region's nodes."""

from __future__ import annotations

from random import Random

import pytest

from geodyne.catalog import HASH_SPACE, MemberRecord, MemberState, PartitionRecord
from geodyne.messages import METADATA_PARTITION
from node.catalog.members import goes_on
from node.catalog.moves import MOVES_AT_ONCE_MAX, MovePlan, begun, concluded

ACTIVE, DRAINING, DOWN, LEFT = MemberState.ACTIVE, MemberState.DRAINING, MemberState.DOWN, MemberState.LEFT
Members = dict[str, MemberRecord]


def region(*nodes: str, **states: MemberState) -> Members:
    """Nodes "a1", "b1", ... in the zones that their first letters name."""
    return {node: MemberRecord(node, node[0], states.get(node, ACTIVE)) for node in nodes}


def record(partition: int, voters: tuple[str, ...], **more: object) -> PartitionRecord:
    return PartitionRecord(partition, 1, 0, HASH_SPACE, voters, **more)  # type: ignore[arg-type]


def placed(members: Members, count: int) -> list[PartitionRecord]:
    placement = MovePlan().placement(members)
    metadata = record(METADATA_PARTITION, tuple(sorted({m.zone: n for n, m in members.items()}.values())[:3]))
    return [metadata, *(record(number, placement.voters(number)) for number in range(1, count + 1))]


def carried_out(members: Members, partitions: list[PartitionRecord]) -> list[PartitionRecord]:
    """Plan and carry out until nothing is due."""
    plan, index = MovePlan(), max(p.configuration for p in partitions)
    for _ in range(200):
        moves = plan.due(members, partitions)
        if not moves:
            return partitions
        for number, voters, target in moves:
            index += 1
            partitions = [begun(p, voters, target, index) if p.id == number else p for p in partitions]
            partitions = [concluded(p, target, index) if p.id == number else p for p in partitions]
    raise AssertionError("moves without end")


def test_nothing_moves_where_everything_is_in_its_place() -> None:
    members = region("a1", "b1", "c1", "a2")
    assert MovePlan().due(members, placed(members, 50)) == []


def test_only_so_many_move_at_once() -> None:
    partitions = placed(region("a1", "b1", "c1"), 100)
    plan, members = MovePlan(), region("a1", "b1", "c1", a1=DRAINING) | region("a2")
    moves = plan.due(members, partitions)
    assert len(moves) == MOVES_AT_ONCE_MAX
    for move in moves:
        partitions = [begun(p, move.voters, move.target, 5) if p.id == move.partition else p for p in partitions]
    assert plan.due(members, partitions) == []


def test_what_lacks_a_voter_comes_first() -> None:
    members = region("a1", "b1", "c1", "a2")
    partitions = placed(members, 100)
    lacking = partitions[-1]
    partitions[-1] = record(lacking.id, lacking.voters[:2])
    later = members | region("b2", "a1", a1=DRAINING)
    assert MovePlan().due(later, partitions)[0].partition == lacking.id


def test_a_move_to_a_node_that_goes_is_begun_anew() -> None:
    members = region("a1", "b1", "c1", "a2", "a3", a1=DRAINING)
    plan = MovePlan()
    moving = record(7, ("a1", "b1", "c1"))
    (move,) = plan.due(members, [moving])
    moving = begun(moving, move.voters, move.target, 5)
    assert plan.due(members, [moving]) == []
    (gone,) = moving.incoming
    other = {"a2": "a3", "a3": "a2"}[gone]
    (again,) = plan.due(region("a1", "b1", "c1", "a2", "a3", a1=DRAINING, **{gone: DOWN}), [moving])
    assert begun(moving, again.voters, again.target, 6).incoming == (other,)
    (back,) = plan.due(region("a1", "b1", "c1", "a2", "a3", **{gone: LEFT, other: LEFT}), [moving])
    assert begun(moving, back.voters, back.target, 6) == record(7, ("a1", "b1", "c1"), number=6)


def test_a_dead_voter_stays_while_its_zone_has_no_other_node() -> None:
    partitions = placed(region("a1", "b1", "c1"), 20)
    assert MovePlan().due(region("a1", "b1", "c1", c1=DOWN), partitions) == []
    after = carried_out(region("a1", "b1", "c1", "c2", c1=DOWN), partitions)
    assert all("c2" in p.voters and "c1" not in p.voters for p in after)


def test_groups_without_a_majority_begin_no_move_and_keep_no_place_from_others() -> None:
    stuck = [record(number, ("a1", "b1", "c1")) for number in range(1, 30)]
    whole = [record(number, ("a1", "b1", "c2")) for number in range(30, 60)]
    plan = MovePlan()
    members = region("a1", "b1", "c1", "b2", "c2", b1=DOWN)
    begun_before = {move.partition: move for move in plan.due(members, stuck)}
    assert len(begun_before) == MOVES_AT_ONCE_MAX
    stuck = [
        begun(p, begun_before[p.id].voters, begun_before[p.id].target, 5) if p.id in begun_before else p for p in stuck
    ]
    members |= {"c1": MemberRecord("c1", "c", DOWN)}
    due = plan.due(members, [*stuck, *whole])
    assert {move.partition for move in due if move.partition >= 30} == set(range(30, 30 + MOVES_AT_ONCE_MAX))
    assert {move.partition for move in due if move.partition < 30} <= set(begun_before)


def test_a_zone_that_is_given_up_leaves_two_voters_and_one_that_comes_makes_three() -> None:
    partitions = carried_out(region("a1", "b1", "c1", c1=DRAINING), placed(region("a1", "b1", "c1"), 20))
    assert {len(p.voters) for p in partitions} == {2}
    partitions = carried_out(region("a1", "b1", "c1", "c2", c1=LEFT), partitions)
    assert {len(p.voters) for p in partitions} == {3}


def test_two_voters_are_never_given_up_for_one() -> None:
    partitions = placed(region("a1", "b1", "c1"), 20)
    assert MovePlan().due(region("a1", "b1", "c1", b1=LEFT, c1=LEFT), partitions) == []


def test_the_catalogs_own_group_moves_only_what_must() -> None:
    metadata = record(METADATA_PARTITION, ("b1", "a2", "c1"))
    assert MovePlan().due(region("a1", "a2", "b1", "c1"), [metadata]) == []
    (move,) = MovePlan().due(region("a1", "a2", "b1", "c1", a2=DRAINING), [metadata])
    assert move.target == ("b1", "c1", "a1")


@pytest.mark.parametrize("seed", range(30))
def test_any_history_of_nodes_ends_with_replicas_on_active_nodes_in_zones_of_their_own(seed: int) -> None:
    random = Random(seed)
    members = region("a1", "b1", "c1")
    partitions = placed(members, 30)
    for number in range(12):
        name = f"{random.choice('abcd')}{random.randint(1, 3)}"
        state = random.choice([ACTIVE, ACTIVE, DRAINING, DOWN, LEFT])
        changed = members | {name: MemberRecord(name, name[0], state if name in members else ACTIVE)}
        if len({m.zone for m in changed.values() if m.state is ACTIVE}) < 2:
            continue  # refused by node.catalog.members
        if not all(goes_on(changed, p.voters) for p in partitions):
            continue  # nothing can move then
        before, members = {p.id: p.voters for p in partitions}, changed
        partitions = carried_out(members, partitions)
        zones = {m.zone for m in members.values() if m.state is ACTIVE}
        for p in partitions:
            states = [members[voter].state for voter in p.voters]
            assert len({members[voter].zone for voter in p.voters}) == len(p.voters), (number, p)
            assert DRAINING not in states, (number, p)
            assert LEFT not in states, (number, p)
            assert len(p.voters) >= min(3, len(zones)), (number, p)
            down = [voter for voter in p.voters if members[voter].state is DOWN]
            assert all(members[voter].zone not in zones for voter in down), (number, p)
            assert all(voter in before[p.id] or members[voter].state is ACTIVE for voter in p.voters), (number, p)


def test_a_move_begins_only_from_the_voters_it_was_planned_for() -> None:
    held = record(7, ("a1", "b1", "c1"))
    assert begun(held, ("a2", "b1", "c1"), ("a3", "b1", "c1"), 5) is held
    moving = begun(held, held.voters, ("a2", "b1", "c1"), 5)
    assert (moving.incoming, moving.target) == (("a2",), ("a2", "b1", "c1"))
    assert begun(moving, held.voters, ("a2", "b1", "c1"), 6) is moving
    assert begun(moving, held.voters, held.voters, 7) == record(7, held.voters, number=7)


def test_a_report_that_comes_late_changes_nothing() -> None:
    moving = begun(record(7, ("a1", "b1", "c1")), ("a1", "b1", "c1"), ("a2", "b1", "c1"), 5)
    done = concluded(moving, ("a2", "b1", "c1"), 40)
    assert (done.voters, done.incoming, done.target, done.configuration) == (("a2", "b1", "c1"), (), (), 40)
    assert concluded(done, ("a1", "b1", "c1"), 39) is done
    assert concluded(done, ("a2", "b1", "c1"), 40) == done


def test_the_term_that_a_report_named_stays_when_it_is_repeated_without() -> None:
    done = concluded(record(7, ("a1", "b1", "c1")), ("a1", "b1", "c1"), 40, 3)
    assert (done.configuration, done.configuration_term) == (40, 3)
    assert PartitionRecord.from_json(done.to_json()) == done
    assert concluded(done, ("a1", "b1", "c1"), 40) == done
    assert concluded(done, ("a1", "b1", "c1"), 41).configuration_term == 0


def test_a_report_of_other_voters_leaves_the_move_under_way() -> None:
    moving = begun(record(7, ("a1", "b1", "c1")), ("a1", "b1", "c1"), ("a3", "b1", "c1"), 5)
    halfway = concluded(moving, ("a2", "b1", "c1"), 40)
    assert (halfway.voters, halfway.incoming, halfway.target) == (("a2", "b1", "c1"), ("a3",), ("a3", "b1", "c1"))


def test_a_record_from_before_replicas_moved_is_read() -> None:
    data = {"id": 3, "epoch": 1, "low": "0", "high": "ff", "voters": ["a", "b"]}
    assert PartitionRecord.from_json(data) == PartitionRecord(3, 1, 0, 255, ("a", "b"))
    moving = PartitionRecord(3, 1, 0, 255, ("a", "b"), ("c",), ("b", "c"), 9, 4)
    assert PartitionRecord.from_json(moving.to_json()) == moving
