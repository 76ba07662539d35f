"""The way from one configuration to another, step by step; and what a configuration is on the wire and in the log."""

from __future__ import annotations

import pytest

from geodyne.peermessages import Entry
from node.raft.change import DONE, Act, Step, next_step
from node.raft.configuration import Configuration, Configurations, configuration_of

ABC = Configuration(("a", "b", "c"))


def way(current: Configuration, target: Configuration, leader: str, ready: str) -> list[Step | Configuration]:
    """All steps, with leadership handed over where that is asked, until there is nothing to propose."""
    steps: list[Step | Configuration] = []
    for _ in range(12):
        step = next_step(current, target, leader, lambda peer: peer in ready)
        steps.append(step)
        if isinstance(step, Configuration):
            current = step
        elif step.act is Act.HAND_OVER:
            leader = step.peer
        else:
            return steps
    raise AssertionError(steps)


def test_a_voter_is_replaced_as_a_learner_first_then_jointly_then_alone() -> None:
    target = Configuration(("a", "b", "d"), (), (), 4)
    assert way(ABC, target, "a", "bcd") == [
        Configuration(("a", "b", "c"), (), ("d",), 4),
        Configuration(("a", "b", "d"), ("a", "b", "c"), (), 4),
        target,
        DONE,
    ]


def test_nothing_is_joint_before_the_new_voter_has_caught_up() -> None:
    target = Configuration(("a", "b", "d"))
    assert way(ABC, target, "a", "bc") == [Configuration(("a", "b", "c"), (), ("d",)), Step(Act.WAIT, "d")]


def test_a_leader_that_goes_gives_way_to_one_that_stays_before_the_change() -> None:
    steps = way(ABC, Configuration(("b", "c", "d")), "a", "abcd")
    assert steps[1] == Step(Act.HAND_OVER, "b")
    assert steps[2] == Configuration(("b", "c", "d"), ("a", "b", "c"))
    assert steps[-1] == DONE


def test_where_nobody_stays_the_leader_gives_way_within_the_joint_configuration() -> None:
    steps = way(Configuration(("a",)), Configuration(("d",)), "a", "ad")
    assert steps == [
        Configuration(("a",), (), ("d",)),
        Configuration(("d",), ("a",)),
        Step(Act.HAND_OVER, "d"),
        Configuration(("d",)),
        DONE,
    ]


def test_a_joint_configuration_is_left_forwards_whatever_is_wanted_by_now() -> None:
    joint = Configuration(("a", "b", "d"), ("a", "b", "c"), (), 3)
    steps = way(joint, Configuration(("a", "b", "c"), (), (), 4), "a", "abcd")
    assert steps[0] == Configuration(("a", "b", "d"), (), ("c",), 4)
    assert steps[-2:] == [Configuration(("a", "b", "c"), (), (), 4), DONE]


def test_a_change_that_is_given_up_before_it_is_joint_takes_the_learner_back() -> None:
    adding = Configuration(("a", "b", "c"), (), ("d",), 3)
    assert way(adding, Configuration(("a", "b", "c"), (), (), 4), "a", "bcd") == [
        Configuration(("a", "b", "c"), (), (), 4),
        DONE,
    ]


def test_a_group_shrinks_to_two_and_grows_again() -> None:
    two = Configuration(("a", "b"))
    assert way(ABC, two, "a", "b") == [Configuration(("a", "b"), ("a", "b", "c")), two, DONE]
    assert way(two, ABC, "a", "bc")[-2:] == [ABC, DONE]


def test_a_group_does_not_shrink_to_voters_that_are_not_there() -> None:
    assert way(ABC, Configuration(("a", "b")), "a", "c") == [Step(Act.WAIT, "b")]


def test_another_order_of_preference_is_one_plain_entry() -> None:
    target = Configuration(("c", "a", "b"), (), (), 1)
    assert way(ABC, target, "a", "") == [target, DONE]


def test_a_voter_becomes_a_learner_by_leaving_the_joint_configuration() -> None:
    target = Configuration(("a", "b"), (), ("c",))
    assert way(ABC, target, "a", "bc") == [Configuration(("a", "b"), ("a", "b", "c")), target, DONE]


def test_who_knows_only_an_older_number_does_nothing_and_reports_nothing() -> None:
    current = Configuration(("a", "b", "d"), ("a", "b", "c"), (), 7)
    assert next_step(current, Configuration(("a", "b", "c"), (), (), 6), "a", lambda peer: True) == Step(Act.WAIT)


def test_a_change_to_what_is_already_so_is_done_only_when_its_number_is_logged() -> None:
    target = Configuration(("a", "b", "c"), (), (), 5)
    assert way(ABC, target, "a", "bc") == [target, DONE]


def test_a_leader_outside_of_the_configuration_never_reports_it_done() -> None:
    assert way(ABC, ABC, "d", "") == [Step(Act.WAIT)]
    assert way(ABC, ABC, "d", "c") == [Step(Act.HAND_OVER, "c"), DONE]


def test_a_configuration_reads_back_from_its_payload_and_nothing_else_reads_as_one() -> None:
    configuration = Configuration(("a", "b"), ("b", "c"), ("d",), 9)
    assert configuration_of(configuration.to_payload()) == configuration
    assert configuration.to_payload()[0] == 0
    assert configuration_of(b"") is None
    assert configuration_of(b"\x0a\x00") is None
    for broken in (b"\x00{}", b"\x00", b'\x00{"voters":["a","a"],"outgoing":[],"learners":[],"number":0}'):
        with pytest.raises(ValueError):
            configuration_of(broken)


def test_what_no_group_can_be_is_refused() -> None:
    for voters, outgoing, learners in (((), (), ()), (("a", "a"), (), ()), (("a",), ("b",), ("b",))):
        with pytest.raises(ValueError):
            Configuration(voters, outgoing, learners)


def test_a_quorum_of_a_joint_configuration_has_a_majority_of_both_sets() -> None:
    joint = Configuration(("c", "d", "e"), ("a", "b", "c"))
    assert joint.agreed({"a", "c", "d"})
    assert not joint.agreed({"c", "d", "e"})
    assert not joint.agreed({"a", "b", "c"})


def test_any_two_successive_configurations_share_a_voter_in_all_of_their_quorums() -> None:
    names = "abcde"
    sets = [tuple(name for bit, name in enumerate(names) if mask >> bit & 1) for mask in range(1, 32)]
    for old, new in ((old, new) for old in sets[::3] for new in sets[::4]):
        joint = Configuration(new, old)
        for side in (Configuration(old), Configuration(new), joint):
            for nodes in sets:
                others = [name for name in names if name not in nodes]
                assert not (joint.agreed(nodes) and side.agreed(others)), (old, new, nodes)


def entry(index: int, configuration: Configuration | None = None) -> Entry:
    return Entry(index, 1, b"\x0a" if configuration is None else configuration.to_payload())


def test_a_configuration_is_in_force_from_its_append_until_it_is_cut() -> None:
    first, second = Configuration(("a", "b", "d"), ("a", "b", "c")), Configuration(("a", "b", "d"))
    known = Configurations(0, ABC, [])
    assert not known.appended(1, [entry(1), entry(2)])
    assert known.appended(3, [entry(3, first), entry(4), entry(5, second)])
    assert (known.index, known.configuration) == (5, second)
    assert known.appended(5, [entry(5)])
    assert (known.index, known.configuration) == (3, first)
    assert known.uncommitted
    assert known.voting("c")
    assert known.committed(3)
    assert not known.uncommitted
    assert not known.appended(4, [entry(4)])
    assert known.configuration == first


def test_a_snapshot_brings_its_configuration_and_what_follows_it_in_the_log_stays() -> None:
    later = Configuration(("a", "b", "d"))
    known = Configurations(0, ABC, [entry(9, later)])
    joint = Configuration(("a", "b", "d"), ("a", "b", "c"))
    assert not known.installed(6, joint)
    assert (known.index, known.configuration) == (9, later)
    assert known.appended(9, [])
    assert (known.index, known.configuration) == (6, joint)
    assert not known.installed(7, None)
    assert known.configuration == joint
