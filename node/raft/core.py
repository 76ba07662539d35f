"""One replica of one group: Raft with pre-vote, check-quorum, leader leases and leadership transfer.

Pure: it takes messages, times and reports of the disk, and returns `Effects`. Its leader's side is in `leadership`.
The rules, each written again where it binds:

- A term and a vote are durable before anything that depends on them is sent, and so are entries before they are
  acknowledged (`Effects.after`). A leader counts itself only after its own fsync (`Leadership.advance_commit`).
- A leader's first act is an empty entry of its own term; only entries of the own term commit by counting.
- A replica that confirmed a leader's term votes against it only once its promise to that leader's node is over, and
  withdraws its support first (`_bound`, `Support`; why that is enough: `liveness`). It votes at once
  where the leader itself gave up: in a transfer, or when that very node says that it leads no more.
- A quiet group has no deadline: followers trust the leader's node, the leader trusts its followers' nodes.
- Members change by entries of the log, through joint configurations (`configuration`, `change`); the last one in the
  log is in force, committed or not. Whoever is asked votes, member or not: the candidate's log says who counts.
- A newcomer is a replica that may have lost its disk: it follows, but it does not vote, and what it acknowledges counts
  neither towards a commit nor towards a lease. A leader makes it a member when an entry that it proposed after the
  newcomer's return is committed without the newcomer, and the newcomer has it (`Progress.admits`). Then:
  whatever it acknowledged to any leader and is committed lies before that entry, in every log that has it, since a
  majority that counted it shares a member with the one that did not; and no candidate that it voted for in a later
  term can win any more, since one of those that voted for both would have refused the entry or refuses the vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from geodyne.peermessages import Append, Appended, RaftMessage, TimeoutNow, Vote, VoteRequest
from node.raft.change import WAIT, Act, Step
from node.raft.configuration import Configuration, Configurations, rank
from node.raft.effects import FORGOTTEN, Effects, HardState
from node.raft.leadership import Leadership
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from node.raft.patience import Patience, RandomSource
from node.raft.settings import Settings
from node.raft.support import Support, resignation


class Role(IntEnum):
    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class NotLeaderError(Exception):
    """Only the leader may propose. `leader` is who is thought to lead, "" when unknown."""

    def __init__(self, leader: str) -> None:
        super().__init__(leader)
        self.leader = leader


class ConsensusViolation(Exception):
    """Something that Raft rules out has been seen: the replica must stop, its data must be looked at."""


class Raft:
    """One replica. Any method may leave effects: the shell calls `take_effects` before it turns to other work, and
    reads `next_deadline_ms` after that.

    `now_ms` is the node's lease clock, read after what the call reports has happened. Support for other nodes is
    withdrawn on `liveness` itself, before the vote that needs it is among the effects.
    """

    def __init__(
        self,
        node_id: str,
        group: int,
        configuration: Configuration,
        hard_state: HardState,
        log: RaftLog,
        applied_index: int,
        liveness: Liveness,
        settings: Settings,
        random: RandomSource,
        now_ms: int,
        configuration_index: int = 0,
    ) -> None:
        """`applied_index` is what the state has durably applied, and `configuration` what is in force by that, by the
        entry at `configuration_index` (0: it is the one that the group began with). Raises ValueError when the parts
        contradict each other: the shell has to reset a log that ends before the state does.
        """
        if log.last_term > hard_state.term:
            raise ValueError(f"group {group}: the log has term {log.last_term}, the hard state {hard_state.term}")
        if not log.offset_index <= applied_index <= log.last_index:
            raise ValueError(f"group {group}: applied {applied_index}, log {log.first_index}..{log.last_index}")
        self.node_id = node_id
        self.group = group
        self.log = log
        self.role = Role.FOLLOWER
        self.term = hard_state.term
        self.leader = ""
        self.commit_index = applied_index
        self._vote = hard_state.vote
        self._configurations = Configurations(configuration_index, configuration, log.after(applied_index))
        self._liveness = liveness
        self._settings = settings
        self._patience = Patience(settings, random, liveness)
        self._now_ms = now_ms
        self._leadership: Leadership | None = None
        self._granted: set[str] = set()
        self._refused: set[str] = set()
        self._prevote_rounds = 0
        self._support = Support(liveness)
        self._before: list[tuple[str, RaftMessage]] = []
        self._after: list[tuple[str, RaftMessage]] = []
        self._need_snapshot: list[str] = []
        self._known_hard_state = hard_state
        self._known_role = (self.role, self.term, self.leader)
        self._configuration_changed = False
        self._waits_after_restart = self._may_have_promised()
        self._deadline_ms = self._first_deadline_ms(now_ms)

    # --- what the shell asks ------------------------------------------------------------------------------

    @property
    def newcomer(self) -> bool:
        """True while this replica may have forgotten what it promised, and so counts for nothing."""
        return self._vote == FORGOTTEN

    @property
    def configuration(self) -> Configuration:
        """The one in force: the last in the log, committed or not."""
        return self._configurations.configuration

    @property
    def configuration_index(self) -> int:
        """The entry that put it in force, or of a snapshot that has it; 0: the group began with it."""
        return self._configurations.index

    @property
    def voters(self) -> tuple[str, ...]:
        """The voters to come, in order of preference."""
        return self._configurations.configuration.voters

    @property
    def learners(self) -> tuple[str, ...]:
        return self._configurations.configuration.learners

    @property
    def members(self) -> tuple[str, ...]:
        """All that have a replica of the group, this node included if it is one of them."""
        return self._configurations.configuration.members

    @property
    def _votes(self) -> bool:
        """Whoever is asked may be a voter of a configuration that it has not heard of yet."""
        return not self.newcomer

    @property
    def _stands(self) -> bool:
        """A voter of a configuration in force stands, and so does one of the configuration before as long as the new
        one is not known to be committed: its log may be what the others lack. So does who led this term, or tried
        to: the others go on trusting its node until it asks for votes in a later one."""
        if self.newcomer:
            return False
        return self._configurations.voting(self.node_id) or self._vote == self.node_id

    @property
    def next_deadline_ms(self) -> int | None:
        """When `tick` is due; None: not before something else happens."""
        return self._deadline_ms if self._leadership is None else self._leadership.deadline_ms()

    @property
    def ready_to_serve(self) -> bool:
        """True for a leader that has committed an entry of its own term: it knows all that was ever committed."""
        return self._leadership is not None and self.commit_index >= self._leadership.first_index

    def lease_valid(self, now_ms: int) -> bool:
        """True when this node leads and nobody else can have been elected by `now_ms`. Ask after the value was read,
        with a time read from the clock after it too; and only if `ready_to_serve`."""
        return self._leadership is not None and self._leadership.lease_valid(now_ms)

    def confirmed_since(self, start_ms: int) -> bool:
        """True when this node was the only leader at some time after `start_ms`: a heartbeat sent since then came back
        from a majority. What it had committed at that start may be read (thesis, section 6.4)."""
        return self._leadership is not None and self._leadership.confirmed_since(start_ms)

    def should_transfer_to(self, now_ms: int) -> str:
        """A preferred voter that could take over from this leader right now; "" when there is none."""
        if self._leadership is not None and not self._leadership.transfer_to:
            for peer in self.voters[: rank(self.node_id, self.voters)]:
                if self._leadership.can_take_over(peer, now_ms):
                    return peer
        return ""

    def can_take_over(self, peer: str, now_ms: int) -> bool:
        """True when this node leads and `peer` is a live voter that has everything: a transfer to it takes one
        round trip."""
        return self._leadership is not None and self._leadership.can_take_over(peer, now_ms)

    def behind(self) -> list[str]:
        """The voters that could not commit with this leader at once; none when this node does not lead."""
        return [] if self._leadership is None else self._leadership.behind()

    # --- what the shell reports ---------------------------------------------------------------------------

    def step(self, sender: str, message: RaftMessage, now_ms: int) -> None:
        """A message of this group from another replica. Raises ConsensusViolation."""
        self._now_ms = now_ms
        if isinstance(message, Appended):
            self._on_appended(sender, message, now_ms)
        elif isinstance(message, Append):
            self._on_append(sender, message, now_ms)
        elif isinstance(message, VoteRequest):
            self._on_vote_request(sender, message, now_ms)
        elif isinstance(message, Vote):
            self._on_vote(sender, message, now_ms)
        else:
            self._on_timeout_now(sender, message, now_ms)

    def tick(self, now_ms: int) -> None:
        """Do what is due. Costs nothing to call early."""
        self._now_ms = now_ms
        if self._leadership is not None:
            gave_up_to = self._leadership.transfer_to
            if not self._leadership.tick(now_ms):
                self._become_follower(self.term, "", now_ms)
                if gave_up_to:  # the lease was given up for this term: go on in another one
                    self._campaign(now_ms)
            return
        if self._deadline_ms is None or now_ms < self._deadline_ms:
            return
        if self._trusts_leader(now_ms):
            self.role = Role.FOLLOWER
            self.leader = self._support.leader
            self._deadline_ms = None
        elif self._must_wait(now_ms):
            self._deadline_ms = self._liveness.votes_from_ms + self._staggered_ms()
        else:
            self._campaign(now_ms)

    def vouched(self, now_ms: int) -> None:
        """All other voters say that no earlier disk of this node ever took part with them: what a newcomer may have
        forgotten counted nowhere. So begins a group that is new."""
        self._now_ms = now_ms
        if self.newcomer:
            self._vote = ""
            self._waits_after_restart = self._may_have_promised()
            if not self.leader or not self._liveness.alive(self.leader, now_ms):
                self._deadline_ms = self._first_deadline_ms(now_ms)

    def propose(self, payload: bytes) -> int:
        """Add an entry; its index. It is written and sent with the next effects, and committed later or never.

        Raises NotLeaderError when this node does not lead, or is handing over.
        """
        if self._leadership is None or self._leadership.transfer_to:
            raise NotLeaderError(self.leader if self._leadership is None else self._leadership.transfer_to)
        return self._leadership.propose(payload)

    def change_members(
        self, voters: Sequence[str], learners: Sequence[str] = (), number: int = 0, *, now_ms: int
    ) -> Step:
        """Take the next step towards a group of these voters, in order of preference, and these learners
        (node.raft.change). `number` grows with each change of what is wanted. Only a leader that serves takes any
        step. Raises ValueError for a target that is none."""
        self._now_ms = now_ms
        target = Configuration(tuple(voters), (), tuple(learners), number)
        leadership = self._leadership
        if leadership is None or leadership.transfer_to or not self.ready_to_serve or self._configurations.uncommitted:
            return WAIT
        step = leadership.next_step(target, now_ms)
        if isinstance(step, Step):
            return step
        index = leadership.propose(step.to_payload())
        self._reconfigured(self._configurations.appended(index, self.log.entries(index, index, 0)), now_ms)
        leadership.reconfigured(step, index, now_ms)
        return Step(Act.PROPOSED)

    def persisted(self, index: int, term: int) -> None:
        """The own log is durable up to the entry (index, term). To be reported by every replica, leading or not."""
        if self.log.persisted(index, term) and self._leadership is not None:
            self._advance_commit(self._leadership)

    def peer_connected(self, peer: str, now_ms: int) -> None:
        """A new stream to the peer: messages of the old one are lost."""
        self._now_ms = now_ms
        if self._leadership is not None:
            self._leadership.peer_connected(peer, now_ms)

    def peer_renewed(self, peer: str, now_ms: int) -> None:
        """`Liveness.renewed` named the peer. Matters to leaders only."""
        self._now_ms = now_ms
        if self._leadership is not None:
            self._leadership.peer_renewed(peer, now_ms)

    def peer_lost(self, peer: str, now_ms: int) -> None:
        """`Liveness.lost` named the peer."""
        self._now_ms = now_ms
        if self._leadership is not None:
            self._leadership.peer_lost(peer, now_ms)
        elif peer == self.leader and not self._liveness.alive(peer, now_ms):
            self.leader = ""
            self._wake(now_ms)

    def peer_restarted(self, peer: str, now_ms: int) -> None:
        """`Liveness.restarted` named the peer: its new process leads nothing that the old one led."""
        self._now_ms = now_ms
        if self._leadership is not None:
            self._leadership.peer_connected(peer, now_ms)
        elif peer == self._support.leader and self._support.process_died():
            self._support.end()
            if peer == self.leader:
                self.leader = ""
                self._wake(now_ms)

    def transfer(self, to: str, now_ms: int) -> bool:
        """Hand leadership to the voter `to`. The lease ends now, in any case; proposals are refused from now on. If it
        has not worked after `transfer_ms`, this node campaigns in a new term. False: nothing was done."""
        self._now_ms = now_ms
        return self._leadership is not None and self._leadership.transfer(to, now_ms)

    def step_down(self, now_ms: int) -> None:
        """Stop leading, without a successor: this node cannot serve."""
        self._now_ms = now_ms
        if self._leadership is not None:
            self._become_follower(self.term, "", now_ms)

    def snapshot_sent(self, peer: str, index: int, term: int, now_ms: int) -> None:
        """The peer durably installed the snapshot at (index, term)."""
        self._now_ms = now_ms
        leadership = self._leadership
        if leadership is not None and self.log.offset_index <= index and not self.log.holds(index, term):
            raise ConsensusViolation(f"group {self.group}: {peer} installed ({index}, {term}), which is not in the log")
        if leadership is not None and leadership.snapshot_sent(peer, index):
            self._advance_commit(leadership)

    def snapshot_failed(self, peer: str, now_ms: int) -> None:
        self._now_ms = now_ms
        if self._leadership is not None:
            self._leadership.snapshot_failed(peer, now_ms)

    def snapshot_offered(self, sender: str, term: int, index: int, now_ms: int) -> bool:
        """A part of a snapshot of the state at `index` came from a leader of `term`: is it wanted?

        True also confirms that leader's term, so the acknowledgement may carry `Liveness.support`, and must be sent
        only once a new hard state among the effects is durable.
        """
        self._now_ms = now_ms
        if term < self.term:
            return False
        self._follow(sender, term, now_ms)
        return index > self.commit_index

    def install_snapshot(self, index: int, term: int, configuration: Configuration | None) -> bool:
        """The state is now that of (index, term), durably, with this configuration in force (None: it was made before
        any was logged, and the known one stays).

        True when the log was emptied: the disk's log must be, too, before anything more is written to it. False when
        the log goes through that entry or is beyond it: it stays as it is, in memory and on disk, because answers
        that promise its newest entries may already wait for a write under way.
        """
        if index <= self.commit_index:
            return False
        held = self.log.holds(index, term)
        if not held:
            self._configurations.appended(self.commit_index + 1, ())
            self.log.reset(index, term)
        self.commit_index = index
        self._reconfigured(self._configurations.installed(index, configuration), self._now_ms)
        return not held

    def compact(self, through_index: int) -> None:
        """Forget entries that a durable checkpoint of the state covers. Raises ValueError beyond the commit index."""
        if through_index > self.commit_index:
            raise ValueError(f"cannot compact up to {through_index}: committed is {self.commit_index}")
        self.log.compact(through_index)

    def take_effects(self) -> Effects:
        """What has to be done since the last call; see `Effects` for the order."""
        if self._leadership is not None:
            self._leadership.fill(max(self._now_ms, self._liveness.now_ms))
        hard_state: HardState | None = None
        if self._known_hard_state != (self.term, self._vote):
            hard_state = self._known_hard_state = HardState(self.term, self._vote)
        role = (self.role, self.term, self.leader)
        role_changed = role != self._known_role
        self._known_role = role
        effects = Effects(
            hard_state,
            self.log.take_unwritten() if self.log.written_index < self.log.last_index else (),
            tuple(self._before),
            tuple(self._after),
            self.commit_index,
            tuple(self._need_snapshot),
            role_changed,
            self._configuration_changed,
        )
        self._configuration_changed = False
        self._before.clear()
        self._after.clear()
        self._need_snapshot.clear()
        return effects

    # --- roles --------------------------------------------------------------------------------------------

    def _become_follower(self, term: int, leader: str, now_ms: int) -> None:
        if term > self.term:
            self.term = term
            self._vote = FORGOTTEN if self.newcomer else ""
        self.role = Role.FOLLOWER
        self.leader = leader
        self._leadership = None
        self._prevote_rounds = 0
        self._await_leader(now_ms)

    def _await_leader(self, now_ms: int) -> None:
        """Look for another leader after a while, unless there is one, or this replica is not to stand."""
        if not self._stands or (self.leader and self._liveness.alive(self.leader, now_ms)):
            self._deadline_ms = None
        else:
            self._deadline_ms = now_ms + self._patience.election_ms()

    def _follow(self, leader: str, term: int, now_ms: int) -> None:
        """An Append or a snapshot came from the leader of `term`: what is answered confirms that term."""
        if term == self.term and self.role is Role.LEADER:
            raise ConsensusViolation(f"group {self.group}: {leader} leads term {term}, and so does this node")
        if term > self.term or self.leader != leader or self.role is not Role.FOLLOWER:
            self._become_follower(term, leader, now_ms)
        self._support.confirm(leader, term)

    def _become_leader(self, now_ms: int) -> None:
        self.role = Role.LEADER
        self.leader = self.node_id
        self._prevote_rounds = 0
        self._leadership = Leadership(
            settings=self._settings,
            node_id=self.node_id,
            group=self.group,
            term=self.term,
            configuration=self.configuration,
            log=self.log,
            liveness=self._liveness,
            committed=self.commit_index,
            before=self._before,
            need_snapshot=self._need_snapshot,
            now_ms=now_ms,
        )
        self._leadership.propose(b"")  # commits, with itself, what earlier terms left

    def _advance_commit(self, leadership: Leadership) -> None:
        if leadership.advance_commit(max(self._now_ms, self._liveness.now_ms)):
            self._commit(leadership.committed)

    def _commit(self, index: int) -> None:
        self.commit_index = index
        if self._configurations.uncommitted:
            self._configuration_changed |= self._configurations.committed(index)

    def _reconfigured(self, changed: bool, now_ms: int) -> None:
        """Another configuration is in force, and this node may be a voter by it, or none any more."""
        self._configurations.committed(self.commit_index)
        if changed:
            self._configuration_changed = True
            if self._leadership is None and (self._deadline_ms is None) == self._stands:
                self._await_leader(now_ms)

    # --- elections ----------------------------------------------------------------------------------------

    def _campaign(self, now_ms: int) -> None:
        """Ask whether an election could be won, before a term is spent on it (thesis, section 9.6)."""
        self.role = Role.PRE_CANDIDATE
        self.leader = ""
        self._granted = {self.node_id}
        self._refused = set()
        self._deadline_ms = now_ms + self._patience.again_ms(self._prevote_rounds)
        self._prevote_rounds += 1
        if self.configuration.agreed(self._granted):
            self._stand(now_ms, transfer=False)
        else:
            self._request_votes(self.term + 1, self._before, pre=True, transfer=False)

    def _stand(self, now_ms: int, transfer: bool) -> None:
        """Be a candidate in a new term: a vote for itself, so a vote away from whoever is supported."""
        if not transfer and self._bound(now_ms):
            self.role = Role.FOLLOWER
            self._before += self._support.question(self.group, now_ms)
            return
        self._support.vote_away(self.node_id, transfer)
        self.term += 1
        self._vote = self.node_id
        self.role = Role.CANDIDATE
        self.leader = ""
        self._granted = {self.node_id}
        self._refused = set()
        self._deadline_ms = now_ms + self._patience.election_ms()
        if self.configuration.agreed(self._granted):
            self._become_leader(now_ms)
        else:
            self._request_votes(self.term, self._after, pre=False, transfer=transfer)

    def _request_votes(self, term: int, out: list[tuple[str, RaftMessage]], pre: bool, transfer: bool) -> None:
        request = VoteRequest(self.group, term, self.log.last_index, self.log.last_term, pre, transfer)
        out.extend((voter, request) for voter in self.configuration.voting if voter != self.node_id)

    def _on_vote_request(self, sender: str, request: VoteRequest, now_ms: int) -> None:
        if not self._votes:
            if request.pre and request.term <= self.term:  # who asks in a term that is over may support this node
                self._before.append((sender, resignation(self.group, self.term)))
            return
        self._leads_none_before(request.term, sender, now_ms)
        # A term that had a leader has had its majority: a vote in it could only break a promise to that leader.
        settled = request.term <= self._support.term or request.term < self.term
        bound = not request.transfer and self._bound(now_ms)
        current = (request.last_term, request.last_index) >= (self.log.last_term, self.log.last_index)
        if bound and request.term > self._support.term:
            self._before += self._support.question(self.group, now_ms)
        if request.pre:
            granted = request.term > self.term and current and not bound and not settled
            resigned = not granted and self.role not in (Role.CANDIDATE, Role.LEADER)
            term = request.term if granted else self.term
            self._before.append((sender, Vote(self.group, term, granted, True, resigned)))
            if granted:
                self._give_way(sender, now_ms)
            if self._leadership is not None:
                self._leadership.reassure(sender)
            return
        if bound and request.term >= self.term:
            return  # no answer, and above all no new term: the leader that is supported goes on
        if request.term > self.term:
            self._become_follower(request.term, "", now_ms)
        free = self._vote == sender or (self._vote == "" and self.leader == "")
        granted = request.term == self.term and free and current and not settled
        if granted:
            self._support.vote_away(sender, request.transfer)
            self._vote = sender
            self._deadline_ms = now_ms + self._patience.election_ms() if self._stands else None
        self._after.append((sender, Vote(self.group, self.term, granted, False)))

    def _give_way(self, candidate: str, now_ms: int) -> None:
        """A pre-vote binds nobody. But two that stand at the same time share the votes, and of the two that are left
        of three neither can win: so who has granted one waits, and of two who ask at once the less preferred does."""
        preferred = rank(candidate, self.voters) <= rank(self.node_id, self.voters)
        if self._deadline_ms is None or (self.role is not Role.FOLLOWER and not preferred):
            return
        self.role = Role.FOLLOWER
        self._deadline_ms = max(self._deadline_ms, now_ms + self._patience.again_ms(0))

    def _leads_none_before(self, term: int, sender: str, now_ms: int) -> None:
        """The sender's own word that it leads no term before this one, and never will (`Support`)."""
        self._support.resigned(sender, term)
        if sender == self.leader and term > self.term:
            self.leader = ""
            self._wake(now_ms)

    def _on_vote(self, sender: str, vote: Vote, now_ms: int) -> None:
        if not (vote.pre and vote.granted):
            self._leads_none_before(vote.term + vote.resigned, sender, now_ms)
            if vote.term > self.term:
                self._become_follower(vote.term, "", now_ms)
                return
        asked = self.role is (Role.PRE_CANDIDATE if vote.pre else Role.CANDIDATE)
        if not asked or sender not in self.configuration.voting:
            return
        if vote.granted and vote.term != self.term + vote.pre:
            return
        (self._granted if vote.granted else self._refused).add(sender)
        if self.configuration.agreed(self._granted):
            if vote.pre:
                self._stand(now_ms, transfer=False)
            else:
                self._become_leader(now_ms)
        elif not self.configuration.agreed([one for one in self.configuration.voting if one not in self._refused]):
            if not vote.pre:  # most likely nobody has won: ask again soon, and not at the same time
                self._deadline_ms = now_ms + self._staggered_ms()
            self.role = Role.FOLLOWER

    def _on_timeout_now(self, sender: str, message: TimeoutNow, now_ms: int) -> None:
        if message.term == self.term and sender == self.leader and self._stands and self._leadership is None:
            self._stand(now_ms, transfer=True)

    # --- promises -----------------------------------------------------------------------------------------

    def _bound(self, now_ms: int) -> bool:
        """True while this replica has promised, or may have before a restart, to vote for nobody but the leader it
        supports; and while it leads itself."""
        return self._leadership is not None or self._must_wait(now_ms) or self._support.live(now_ms)

    def _may_have_promised(self) -> bool:
        """A replica that has never had a term has confirmed nobody's, and the only voter that the group ever had
        promises nothing to others: neither has to wait for what it may have forgotten. A newcomer does not know
        whether it had a term, and a voter that is the only one now may have been one of several."""
        only = self.configuration_index == 0 and self.configuration.alone(self.node_id)
        return (self.term > 0 or self.newcomer) and not only

    def _must_wait(self, now_ms: int) -> bool:
        return self._waits_after_restart and not self._liveness.may_vote(now_ms)

    def _trusts_leader(self, now_ms: int) -> bool:
        """True when nothing newer is known than that a live node leads this term."""
        return self._support.term == self.term and self._support.live(now_ms)

    # --- following ----------------------------------------------------------------------------------------

    def _on_append(self, sender: str, message: Append, now_ms: int) -> None:
        if message.term < self.term:
            self._answer(sender, False, self.commit_index, self.term)  # so that the old leader learns of the new term
            return
        self._follow(sender, message.term, now_ms)
        previous = message.prev_index
        entries = message.entries
        if previous <= self.commit_index:
            self._check_committed(sender, message)
        if previous < self.commit_index:  # what is committed is equal in both logs
            known = self.commit_index - previous
            if known >= len(entries):
                self._accept(sender, message, max(previous + len(entries), self.commit_index))
                return
            entries = entries[known:]
            previous = self.commit_index
        elif not self.log.holds(previous, message.prev_term):
            retry = max(self.log.conflict_before(previous, message.prev_term), self.commit_index)
            self._answer(sender, False, retry, self.log.term(retry))
            return
        added = self.log.append(entries)
        if 0 < added <= self.commit_index:
            raise ConsensusViolation(f"group {self.group}: {sender} contradicts the committed entry {added}")
        match = previous + len(entries)
        if added:
            changed = self._configurations.appended(added, entries[added - previous - 1 :])
            if changed:
                self._reconfigured(changed, now_ms)
        if message.commit > self.commit_index and match > self.commit_index:
            self._commit(min(message.commit, match))
        self._accept(sender, message, match)

    def _accept(self, leader: str, message: Append, match: int) -> None:
        """The answer of a newcomer that has just become a member leaves once that is durable, as every answer does."""
        if message.admits and self.newcomer and message.admits == self._liveness.incarnation:
            self._vote = ""
            if not self._liveness.alive(leader, self._now_ms):
                self._wake(self._now_ms)
        self._answer(leader, True, match, 0)

    def _check_committed(self, leader: str, message: Append) -> None:
        """A leader's log and what is committed here agree, unless voters have lost their logs: this replica must not
        hide that by acknowledging entries that it does not have. Raises ConsensusViolation."""
        disputed = self.log.disputed(message.prev_index, message.prev_term, message.entries, self.commit_index)
        if disputed:
            raise ConsensusViolation(f"group {self.group}: {leader} contradicts the committed entry {disputed}")

    def _answer(self, leader: str, success: bool, match: int, conflict_term: int) -> None:
        """Sent once the entries it speaks of are durable. It confirms the term, under this node's present support."""
        incarnation, support_epoch = self._liveness.support(leader)
        answer = Appended(
            self.group, self.term, success, match, conflict_term, incarnation, support_epoch, self.newcomer
        )
        self._after.append((leader, answer))

    def _on_appended(self, sender: str, message: Appended, now_ms: int) -> None:
        leadership = self._leadership
        if message.term > self.term:
            self._become_follower(message.term, "", now_ms)
        elif leadership is not None and message.term == self.term and leadership.appended(sender, message, now_ms):
            self._advance_commit(leadership)

    # --- times --------------------------------------------------------------------------------------------

    def _first_deadline_ms(self, now_ms: int) -> int | None:
        if not self._stands:
            return None
        place = rank(self.node_id, self.voters)
        if not self._may_have_promised() and (place == 0 or self.configuration.alone(self.node_id)):
            return now_ms  # alone, or the preferred leader of a group that never had one
        if self.term == 0:
            return now_ms + self._settings.election_ms_min + self._staggered_ms()
        return max(now_ms, self._liveness.votes_from_ms) + self._staggered_ms()

    def _wake(self, now_ms: int) -> None:
        """The leader is gone: look for another soon, the preferred replicas first, no two at the same time."""
        self._deadline_ms = now_ms + self._staggered_ms() if self._stands else None

    def _staggered_ms(self) -> int:
        return self._patience.staggered_ms(rank(self.node_id, self.voters))

    # --- tests --------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """What holds between any two calls."""
        log = self.log
        assert log.offset_index <= self.commit_index <= log.last_index
        assert log.offset_index <= log.persisted_index <= log.written_index <= log.last_index
        assert log.last_term <= self.term
        assert (self._leadership is not None) == (self.role is Role.LEADER) == (self.leader == self.node_id)
        assert self._leadership is None or self._leadership.term == self.term
        assert self._support.term <= self.term
        if self._leadership is not None:
            assert self._leadership.committed == self.commit_index
            self._leadership.check_invariants()
        elif self._stands and not self.leader:
            assert self._deadline_ms is not None
