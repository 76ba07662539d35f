"""A follower that missed a hand-over, and whose leader of old has left the group while its node lives on."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import permutations

import pytest

from geodyne.peermessages import Heartbeat, RaftMessage, VoteRequest
from node.raft.change import Act
from node.raft.configuration import Configuration
from node.raft.core import Raft, Role
from node.raft.effects import FORGOTTEN, HardState
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from node.raft.settings import Settings
from node.raft.support import resignation

SETTINGS = Settings()
BEGUN = ("p", "r", "x")
GROUP = 7


class Net:
    """Four nodes in lock step: p leads at first, d is to take its place."""

    def __init__(self) -> None:
        self.now = 10_000
        self.names = (*BEGUN, "d")
        self.live = {n: Liveness(SETTINGS, [o for o in self.names if o != n], 1, 9_000) for n in self.names}
        self.raft = {n: self._made(n, "" if n in BEGUN else FORGOTTEN) for n in self.names}
        self.out: set[str] = set()  # cut off, or dead
        self.marks: dict[str, int] = {}  # of replicas that were given up, their last terms
        self._queue: list[tuple[str, str, RaftMessage]] = []
        self._beat_at = 0

    def _made(self, name: str, vote: str) -> Raft:
        return Raft(
            node_id=name,
            group=GROUP,
            configuration=Configuration(BEGUN),
            hard_state=HardState(0, vote),
            log=RaftLog(),
            applied_index=0,
            liveness=self.live[name],
            settings=SETTINGS,
            random=random.Random(name),
            now_ms=self.now,
        )

    def pump(self) -> None:
        for _ in range(200):
            for name, raft in self.raft.items():
                effects = raft.take_effects()
                if effects.entries:
                    raft.persisted(effects.entries[-1].index, effects.entries[-1].term)
                self._queue += [(name, to, message) for to, message in (*effects.before, *effects.after)]
            queue, self._queue = self._queue, []
            for name, to, message in queue:
                if {name, to} & self.out:
                    continue
                if to in self.raft:
                    self.raft[to].step(name, message, self.now)
                elif isinstance(message, VoteRequest) and message.pre:  # what the node says where a mark is left
                    self._queue.append((to, name, resignation(GROUP, self.marks[to])))
            if not queue:
                return

    def run(self, ms: int, until: Callable[[], bool] = lambda: False) -> None:
        end = self.now + ms
        while self.now < end and not until():
            self.now += 10
            if self.now >= self._beat_at:
                self._beat_at = self.now + SETTINGS.heartbeat_ms
                for one, other in permutations(self.names, 2):
                    self._beat(one, other)
            for name, raft in list(self.raft.items()):
                for peer in self.live[name].lost(self.now):
                    raft.peer_lost(peer, self.now)
                for peer in self.live[name].renewed():
                    raft.peer_renewed(peer, self.now)
                if raft.next_deadline_ms is not None and raft.next_deadline_ms <= self.now:
                    raft.tick(self.now)
            self.pump()

    def _beat(self, one: str, other: str) -> None:
        if {one, other} & self.out:
            return
        ack = self.live[other].on_heartbeat(one, Heartbeat(1, self.now), self.now)
        if ack is not None:
            self.live[one].on_heartbeat_ack(other, ack, self.now)

    def leader(self) -> str:
        serving = (n for n, r in self.raft.items() if r.role is Role.LEADER and r.ready_to_serve and n not in self.out)
        return next(serving, "")

    def give_up(self, name: str) -> None:
        """The node gives its replica up, and lives on."""
        self.marks[name] = self.raft.pop(name).term

    def moved(self, target: tuple[str, ...], learners: tuple[str, ...], act: Act) -> None:
        """Until the leader of the move says so."""
        for _ in range(300):
            self.run(50)
            leader = self.leader()
            if leader:
                step = self.raft[leader].change_members(target, learners, 1, now_ms=self.now)
                self.pump()
                if step.act is act:
                    return
        raise AssertionError(act)


@pytest.mark.parametrize("fate", ["destroyed", "learner", "voter"])
def test_two_of_three_voters_elect_a_leader_whatever_became_of_the_one_before(fate: str) -> None:
    net = Net()
    net.run(5000, lambda: net.leader() == "p")
    target = BEGUN if fate == "voter" else ("x", "r", "d")
    learners = ("p",) if fate == "learner" else ()
    if fate != "voter":
        net.moved(target, learners, Act.HAND_OVER)
    net.out = {"r"}
    net.raft["p"].transfer("x", net.now)
    net.pump()
    net.run(3000, lambda: net.leader() == "x")
    if fate != "voter":
        net.moved(target, learners, Act.DONE)
        net.run(500)
    if fate == "destroyed":
        net.give_up("p")
    net.out = {"r", "x"}
    net.run(3000)
    net.out = {"x"}
    net.run(5_000, lambda: net.leader() != "")
    assert net.leader()
