"""Randomised changes of members under faults, and the proof that these runs can fail.

GEODYNE_RAFT_SEEDS sets how many seeds are run (default SEEDS).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import pytest

from geodyne.peermessages import Vote, VoteRequest
from node.raft.configuration import Configuration, Configurations, configuration_of
from node.raft.core import Raft, Role
from node.raft.leadership import Leadership
from node.raft.support import Support
from tests.unit.raft.moving import LeftBehind, Moving
from tests.unit.raft.simulation import Disk, Violation
from tests.unit.raft.test_simulation import FAILURES

SEEDS = 24
CALM_SEEDS = 8
MUTATION_SEEDS = 300
LEFT_SEEDS = 10
LEFT_MS = 20_000


def test_no_safety_property_breaks_while_members_change_under_faults() -> None:
    totals: dict[str, int] = {}
    for seed in range(int(os.environ.get("GEODYNE_RAFT_SEEDS", SEEDS))):
        try:
            counts = Moving(seed).run()
        except FAILURES as error:
            raise AssertionError(f"Moving({seed}).run()") from error
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count
    assert min(totals.values()) > 0, totals  # a run in which nothing happens proves nothing


def test_after_the_faults_every_group_is_where_it_is_wanted_and_nowhere_else() -> None:
    for seed in range(1000, 1000 + CALM_SEEDS):
        Moving(seed).run(faulty_ms=4000, calm_ms=10000)


def test_who_missed_that_its_leader_left_is_free_to_vote_once_it_has_asked() -> None:
    left_behind = answered = 0
    for seed in range(LEFT_SEEDS):
        counts = LeftBehind(seed).run(faulty_ms=LEFT_MS)
        left_behind += counts["left behind"]
        answered += counts["answered for"]
    assert left_behind > LEFT_SEEDS // 2
    assert answered > 0


class NobodyAsksTheOldLeader(Support):
    def question(self, group: int, now_ms: int) -> Sequence[tuple[str, VoteRequest]]:
        return ()


class NobodyAnswersForReplicasThatAreGone(LeftBehind):
    def absent(self, name: str, peer: str, message: Any) -> None:
        pass


@pytest.mark.parametrize("mutation", [NobodyAsksTheOldLeader, NobodyAnswersForReplicasThatAreGone])
def test_a_follower_that_stays_bound_to_who_has_left_is_found(mutation: type, monkeypatch: pytest.MonkeyPatch) -> None:
    make = mutation if issubclass(mutation, LeftBehind) else LeftBehind
    if issubclass(mutation, Support):
        monkeypatch.setattr("node.raft.core.Support", mutation)
    with pytest.raises(Violation, match="nobody leads"):
        any(make(seed).run(faulty_ms=LEFT_MS) == {} for seed in range(LEFT_SEEDS))


class JointNeedsOnlyTheNewVoters(Configuration):
    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        return (self.voters,)


class LearnersCount(Leadership):
    def _matched(self, part: Any) -> int:
        part = part._replace(followers=(*part.followers, *self._configuration.learners))
        return super()._matched(part)


class InForceWhenCommitted(Configurations):
    def _point(self) -> None:
        self.index, self.configuration = self._at[0]

    def committed(self, index: int) -> bool:
        settled = super().committed(index)
        self._point()
        return settled


class InForceAfterItWasCut(Configurations):
    def appended(self, first: int, entries: Any) -> bool:
        before = self._at[-1]
        for entry in entries:
            configuration = configuration_of(entry.payload)
            if configuration is not None:
                self._at.append((entry.index, configuration))
        self._point()
        return self._at[-1] != before


class StepsOnWhatIsNotCommitted(Configurations):
    uncommitted = property(lambda self: False)


class LeaseByTheNewVotersOnly(Leadership):
    def _quorum_acked_ms(self) -> int:
        return self._acked_ms(self._parts[0])


class RemovedVotersCount(Leadership):
    """They go on receiving, and what they have counts as one of the majority."""

    def reconfigured(self, configuration: Configuration, index: int, now_ms: int) -> None:
        gone = {peer: one for peer, one in self._progress.items() if peer not in configuration.members}
        super().reconfigured(configuration, index, now_ms)
        self._progress.update(gone)

    def _matched(self, part: Any) -> int:
        gone = [one.match for peer, one in self._progress.items() if peer not in self._configuration.members]
        matches = [0 if (one := self._progress[peer]).newcomer else one.match for peer in part.followers]
        if part.leads:
            matches.append(self._log.persisted_index)
        needed = len(matches) // 2 + 1
        return sorted(matches + gone, reverse=True)[needed - 1]

    def check_invariants(self) -> None:
        pass


class WhoStandsSaysThatItLeadsNoMore(Raft):
    """It may still win in this very term."""

    def _on_vote_request(self, sender: str, request: VoteRequest, now_ms: int) -> None:
        super()._on_vote_request(sender, request, now_ms)
        if self.role is Role.CANDIDATE:
            self._before[:] = [
                (to, one._replace(resigned=True) if isinstance(one, Vote) and not one.granted else one)
                for to, one in self._before
            ]


class MembersAreMadeWithAVote(Moving):
    def disk(self, group: int, name: str) -> Disk:
        return Disk(self.base(group))


# As in test_simulation: what is switched off, under which faults ("" for those that each seed draws), where to begin,
# and what must be seen. LOST is what two quorums apart lead to.
LOST = "lacks committed|commits other|contradicts|two leaders|leads term"
MUTATIONS = (
    (JointNeedsOnlyTheNewVoters, "schism", 26, LOST),
    (LearnersCount, "schism", 6, LOST),
    (InForceWhenCommitted, "schism", 0, "old configuration"),
    (InForceAfterItWasCut, "lone_step", 0, "not in its log"),
    (StepsOnWhatIsNotCommitted, "schism", 11, LOST),
    (LeaseByTheNewVotersOnly, "schism", 5, "leased|stale"),
    (RemovedVotersCount, "schism", 3, LOST),
    (MembersAreMadeWithAVote, "", 0, LOST),
    (WhoStandsSaysThatItLeadsNoMore, "", 0, "against its word"),
)


@pytest.mark.parametrize(
    ("mutation", "fault", "first", "seen"), MUTATIONS, ids=[entry[0].__name__ for entry in MUTATIONS]
)
def test_the_simulation_finds_what_is_switched_off(
    mutation: type, fault: str, first: int, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = mutation if issubclass(mutation, Moving) else Moving
    if issubclass(mutation, Configuration):
        monkeypatch.setattr(Configuration, "parts", mutation.parts)
    elif issubclass(mutation, Configurations):
        monkeypatch.setattr("node.raft.core.Configurations", mutation)
    elif issubclass(mutation, Raft):
        monkeypatch.setattr(Moving, "make_raft", mutation)
    elif issubclass(mutation, Leadership):
        monkeypatch.setattr("node.raft.core.Leadership", mutation)
    for seed in range(first, first + MUTATION_SEEDS):
        try:
            make(seed, groups=4, fault=fault).run()
        except FAILURES as failure:
            if re.search(seen, str(failure)):
                return
    pytest.fail(f"{mutation.__name__} passed {MUTATION_SEEDS} seeds")
