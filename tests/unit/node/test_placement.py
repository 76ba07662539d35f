from collections import Counter

from node.catalog.placement import rings_by_zone

MEMBERS = {f"r/node-{zone}{number}": zone for zone in "abc" for number in range(4)}


def test_no_two_voters_share_a_zone() -> None:
    placement = rings_by_zone(MEMBERS)
    for partition in range(1, 500):
        voters = placement.voters(partition)
        assert len({MEMBERS[voter] for voter in voters}) == len(voters) == 3


def test_preferred_leaders_spread_over_the_zones() -> None:
    placement = rings_by_zone({"r/a": "a", "r/b": "b", "r/c": "c"})
    leaders = Counter(placement.voters(partition)[0] for partition in range(1, 301))
    assert leaders == {"r/a": 100, "r/b": 100, "r/c": 100}


def test_adding_a_node_moves_only_to_it_and_about_its_share() -> None:
    before, after = rings_by_zone(MEMBERS), rings_by_zone({**MEMBERS, "r/node-a4": "a"})
    moved = 0
    for partition in range(1, 2001):
        old, new = set(before.voters(partition)), set(after.voters(partition))
        assert new - old <= {"r/node-a4"}
        moved += len(new - old)
    assert 0.1 < moved / 2000 < 0.3  # a fifth is the ideal


def test_fewer_than_three_zones_give_fewer_replicas() -> None:
    assert rings_by_zone({"r/a": "a"}).voters(1) == ("r/a",)
    assert len(rings_by_zone({"r/a": "a", "r/b": "b"}).voters(7)) == 2
