"""The way from one configuration to another, a step at a time.

learner -> caught up -> joint -> the new voters alone. Whoever leads takes the next step; the state of the change is the
configuration itself, so a new leader goes on where the last one was. A target that changes before the joint
configuration only takes learners back; a joint configuration is always left forwards.

A step is taken only when the one before is committed, and a leader takes none before it has committed an entry of its
own term: otherwise two leaders' steps from the same configuration could both be in force, with quorums apart.

What is wanted has a number that grows. A leader that does not know the newest number waits: the log tells it so. A
change is DONE when an entry of its number has been committed, so that can never be taken back by one who knows less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

from node.raft.configuration import Configuration
from node.raft.quorum import majority

CAUGHT_UP_ENTRIES = 128  # a learner that lacks no more than this follows as fast as the leader goes on


class Act(IntEnum):
    """What the shell of a leader has to do.

    DONE      nothing: the group is as it should be, committed, and this leader stays in it
    WAIT      nothing now; ask again when something has changed, and after a while
    PROPOSED  perform the effects, as after any proposal, and ask again when it is committed
    HAND_OVER give leadership to `Step.peer`: this node does not stay
    """

    DONE = 0
    WAIT = 1
    PROPOSED = 2
    HAND_OVER = 3


class Step(NamedTuple):
    """`peer`: to whom to hand over, or (WAIT) the node that is waited for, "" for none in particular."""

    act: Act
    peer: str = ""


DONE = Step(Act.DONE)
WAIT = Step(Act.WAIT)


def next_step(
    current: Configuration, target: Configuration, leader: str, ready: Callable[[str], bool]
) -> Step | Configuration:
    """What brings a group from `current`, which is committed, nearer to `target`: an act, or the configuration to
    propose. `ready`: the peer is a member, alive and caught up; the leader always is.

    Raises ValueError when `target` is joint.
    """
    if target.joint:
        raise ValueError("a joint configuration is a way, not a target")
    if target.number < current.number:
        return WAIT  # somebody knew better
    if current.joint:
        return _leave(current, target, leader, ready)
    learners = _learners(current, target)
    if set(learners) != set(current.learners):
        return Configuration(current.voters, (), learners, target.number)
    if set(target.voters) != set(current.voters):
        return _enter(current, target, learners, leader, ready)
    if leader not in current.voters:
        return _give_away(current.voters, leader, ready)
    if set(current.learners) == set(target.learners) and current.voters == target.voters:
        return DONE if current.number == target.number else target
    return target  # another order, or the number alone: no quorum depends on them


def _learners(current: Configuration, target: Configuration) -> tuple[str, ...]:
    """Who shall be a learner now: those that are to stay one, and those that are to vote. A voter that is to become a
    learner has to cease to vote first."""
    wanted = dict.fromkeys((*target.learners, *target.voters))
    return tuple(node for node in wanted if node not in current.voters)


def _enter(
    current: Configuration, target: Configuration, learners: Sequence[str], leader: str, ready: Callable[[str], bool]
) -> Step | Configuration:
    """Vote together with the old ones, once all that are new have caught up and a majority of the new set is at hand:
    from here on nothing commits without it. A leader that goes gives way before, if it can: afterwards others than
    the new ones might not be there to take over."""
    for voter in target.voters:
        if voter not in current.voters and not ready(voter):
            return Step(Act.WAIT, voter)
    at_hand = [voter for voter in target.voters if voter == leader or ready(voter)]
    if len(at_hand) < majority(len(target.voters)):
        return Step(Act.WAIT, next(voter for voter in target.voters if voter not in at_hand))
    staying = [voter for voter in at_hand if voter in current.voters]
    if leader not in target.voters and staying:
        return Step(Act.HAND_OVER, staying[0])
    rest = tuple(node for node in learners if node not in target.voters)
    return Configuration(target.voters, current.voters, rest, target.number)


def _leave(
    current: Configuration, target: Configuration, leader: str, ready: Callable[[str], bool]
) -> Step | Configuration:
    """The new voters alone; of the old ones, who is wanted as a learner (or, by now, as a voter) goes on receiving."""
    if leader not in current.voters:
        return _give_away(current.voters, leader, ready)
    wanted = {*target.learners, *target.voters}
    kept = [node for node in current.outgoing if node in wanted and node not in current.voters]
    return Configuration(current.voters, (), (*current.learners, *kept), target.number)


def _give_away(voters: Sequence[str], leader: str, ready: Callable[[str], bool]) -> Step:
    for voter in voters:
        if ready(voter):
            return Step(Act.HAND_OVER, voter)
    return WAIT
