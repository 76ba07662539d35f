"""Randomised runs of several groups under faults, and the proof that these runs can fail.

GEODYNE_RAFT_SEEDS sets how many seeds are run (default SEEDS).
"""

from __future__ import annotations

import os
import re
from typing import ClassVar

import pytest

from geodyne.peermessages import Appended
from node.raft.core import ConsensusViolation, Raft
from node.raft.effects import HardState
from node.raft.leadership import Leadership
from node.raft.liveness import NEVER_MS, Liveness
from node.raft.progress import Progress
from node.raft.support import Support
from tests.unit.raft.simulation import Simulation, Violation

SEEDS = 30
CALM_SEEDS = 6
MUTATION_SEEDS = 300
FAILURES = (Violation, ConsensusViolation, AssertionError, ValueError, LookupError)


def test_no_safety_property_breaks_under_faults() -> None:
    totals: dict[str, int] = {}
    for seed in range(int(os.environ.get("GEODYNE_RAFT_SEEDS", SEEDS))):
        try:
            counts = Simulation(seed, learners=seed % 3 == 0).run()
        except FAILURES as error:
            raise AssertionError(f"Simulation({seed}, learners={seed % 3 == 0}).run()") from error
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count
    assert min(totals.values()) > 0, totals  # a run in which nothing happens proves nothing


def test_after_the_faults_every_group_converges_holds_a_lease_and_falls_quiet() -> None:
    for seed in range(1000, 1000 + CALM_SEEDS):
        Simulation(seed, learners=seed % 2).run(faulty_ms=4000, calm_ms=6000)


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        simulation = Simulation(7)
        runs.append((simulation.run(3000), simulation.sequence, simulation.leaders))
    assert runs[0] == runs[1]


class SupportEpochsIgnored(Liveness):
    def acked_ms(self, peer: str, incarnation: int, support_epoch: int) -> int:
        return self._peers[peer].acked_sent_at_ms


class SupportNeverWithdrawn(Liveness):
    def withdraw(self, peer: str) -> None:
        pass


class NoLeaseWaitAfterRestart(Liveness):
    def may_vote(self, now_ms: int) -> bool:
        return True


class PromisesEndWithTheConnection(Liveness):
    def on_disconnected(self, peer: str, now_ms: int) -> None:
        self._peers[peer].lost_at_ms = now_ms


class LeaseFromTheReceiptOfTheAcknowledgement(Liveness):
    def acked_ms(self, peer: str, incarnation: int, support_epoch: int) -> int:
        sent_ms = super().acked_ms(peer, incarnation, support_epoch)
        return sent_ms if sent_ms == NEVER_MS else sent_ms + 600


class PromisesIgnored(Support):
    def live(self, now_ms: int) -> bool:
        return False


class StaleTermAppends(Raft):
    def _on_append(self, sender, message, now_ms):  # type: ignore[no-untyped-def]
        super()._on_append(sender, message._replace(term=max(message.term, self.term)), now_ms)


class LogNotComparedBeforeVoting(Raft):
    def _on_vote_request(self, sender, request, now_ms):  # type: ignore[no-untyped-def]
        super()._on_vote_request(sender, request._replace(last_term=1 << 40), now_ms)


class LogNotMatchedBeforeAppending(Raft):
    def _on_append(self, sender, message, now_ms):  # type: ignore[no-untyped-def]
        if self.log.offset_index <= message.prev_index <= self.log.last_index:
            message = message._replace(prev_term=self.log.term(message.prev_index))
        super()._on_append(sender, message, now_ms)


class SeveralVotesInATerm(Raft):
    def _on_vote_request(self, sender, request, now_ms):  # type: ignore[no-untyped-def]
        self._vote = "" if self._vote != self.node_id else self._vote
        super()._on_vote_request(sender, request, now_ms)


class CommitsBeforeItsOwnFsync(Leadership):
    def advance_commit(self, now_ms: int) -> bool:
        self._log.persisted_index = self._log.written_index
        return super().advance_commit(now_ms)


class KeepsTheLeaseInATransfer(Leadership):
    def lease_valid(self, now_ms: int) -> bool:
        transfer_to, self.transfer_to = self.transfer_to, ""
        try:
            return super().lease_valid(now_ms)
        finally:
            self.transfer_to = transfer_to


class LiveInsteadOfConfirmed(Leadership):
    def _quorum_acked_ms(self) -> int:
        for peer in self._followers:
            self._progress[peer].confirmed = self._liveness.acked_pair(peer)
        return super()._quorum_acked_ms()


class AnyRefusalEndsSupport(Support):
    """Also that of the leader itself, which is asked whether it leads yet."""

    def resigned(self, node: str, term: int) -> None:
        if node == self.leader:
            self.end()


class NewcomersVote(Raft):
    @property
    def _votes(self) -> bool:
        return True

    @property
    def _stands(self) -> bool:
        return self.node_id in self.voters


class NewcomersCount(Leadership):
    def appended(self, peer: str, message: Appended, now_ms: int) -> bool:
        return super().appended(peer, message._replace(newcomer=False), now_ms)


class NewcomersHoldLeases(Leadership):
    def _quorum_acked_ms(self) -> int:
        newcomers = [progress for progress in self._progress.values() if progress.newcomer]
        for progress in newcomers:
            progress.newcomer = False
        try:
            return super()._quorum_acked_ms()
        finally:
            for progress in newcomers:
                progress.newcomer = True


class NewcomersAreMembersAtOnce(Progress):
    def admits(self, committed: int) -> int:
        return self.confirmed[0]


class NewcomersAreMembersOfTheTerm(Progress):
    """An entry committed in this term is enough, even one from before the newcomer's return."""

    def admits(self, committed: int) -> int:
        return self.confirmed[0] if self.newcomer and self.admitted_at else 0


class VoteNotDurable(Simulation):
    make_liveness = NoLeaseWaitAfterRestart  # which hides it

    def durable(self, hard_state: HardState | None) -> HardState | None:
        return None if hard_state is None else HardState(hard_state.term, "")


class TermNotDurable(Simulation):
    def durable(self, hard_state: HardState | None) -> HardState | None:
        return None


class AnswersBeforeDurable(Simulation):
    sends_before_durable: ClassVar[bool] = True  # type: ignore[misc]


# What is switched off, the kind of fault under which it matters most, where to begin (a seed that found it
# when this was written: a change of the code may need more of them), and what must be seen.
MUTATIONS = (
    (SupportEpochsIgnored, "stale_leader", 0, "leased|stale"),
    (SupportNeverWithdrawn, "stale_leader", 0, "leased|stale"),
    (LiveInsteadOfConfirmed, "stale_leader", 0, "leased|stale"),
    (NoLeaseWaitAfterRestart, "lost_promise", 1, "leased|stale"),
    (PromisesEndWithTheConnection, "isolate", 3, "leased|stale"),
    (LeaseFromTheReceiptOfTheAcknowledgement, "isolate", 0, "leased|stale"),
    (PromisesIgnored, "cut", 10, "leased|stale"),
    (AnyRefusalEndsSupport, "cut", 39, "leased|stale"),
    (KeepsTheLeaseInATransfer, "hand_over", 3, "leased|stale"),
    (StaleTermAppends, "hand_over", 4, "leads term|contradicts|commits other"),
    (LogNotComparedBeforeVoting, "crash", 1, "lacks committed"),
    (LogNotMatchedBeforeAppending, "hand_over", 42, "commits other|lacks committed|contradicts"),
    (SeveralVotesInATerm, "hand_over", 29, "two leaders|leads term"),
    (NewcomersVote, "lost_holder", 0, "lacks committed|commits other|contradicts|leased|stale"),
    (NewcomersCount, "lost_witness", 0, "lacks committed|commits other|contradicts|leased|stale"),
    (NewcomersHoldLeases, "lost_witness", 0, "leased|stale"),
    (NewcomersAreMembersAtOnce, "lost_witness", 0, "lacks committed|commits other|contradicts|leased|stale"),
    (NewcomersAreMembersOfTheTerm, "lost_witness", 0, "lacks committed|commits other|contradicts|leased|stale"),
    (VoteNotDurable, "duel", 33, "two leaders|leads term"),
    (TermNotDurable, "duel", 0, "two leaders|leads term"),
    (CommitsBeforeItsOwnFsync, "lost_write", 12, "lacks committed|commits other"),
    (AnswersBeforeDurable, "lost_write", 6, "lacks committed|commits other|two leaders"),
)


@pytest.mark.parametrize(
    ("mutation", "fault", "first", "seen"), MUTATIONS, ids=[entry[0].__name__ for entry in MUTATIONS]
)
def test_the_simulation_finds_what_is_switched_off(
    mutation: type, fault: str, first: int, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = mutation if issubclass(mutation, Simulation) else Simulation
    if issubclass(mutation, Liveness):
        monkeypatch.setattr(Simulation, "make_liveness", mutation)
    elif issubclass(mutation, Raft):
        monkeypatch.setattr(Simulation, "make_raft", mutation)
    elif issubclass(mutation, Support):
        monkeypatch.setattr("node.raft.core.Support", mutation)
    elif issubclass(mutation, Leadership):
        monkeypatch.setattr("node.raft.core.Leadership", mutation)
    elif issubclass(mutation, Progress):
        monkeypatch.setattr("node.raft.leadership.Progress", mutation)
    for seed in range(first, first + MUTATION_SEEDS):
        try:
            make(seed, groups=4, fault=fault).run()
        except FAILURES as failure:
            if re.search(seen, str(failure)):
                return
    pytest.fail(f"{mutation.__name__} passed {MUTATION_SEEDS} seeds")
