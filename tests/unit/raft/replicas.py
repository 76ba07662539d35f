"""Scripted scenarios: one rule each, on a single replica that is fed by hand."""

from __future__ import annotations

import random

from geodyne.peermessages import Append, Appended, Entry, Heartbeat, HeartbeatAck, RaftMessage, Vote, VoteRequest
from node.raft.configuration import Configuration
from node.raft.core import Raft, Role
from node.raft.effects import Effects, HardState
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from node.raft.settings import Settings

S = Settings()
G = 7
START = 10_000


class Replica:
    """Node "a" of a group of "a", "b", "c"; its disk does what it is asked at once unless told otherwise."""

    def __init__(
        self,
        term: int = 0,
        entries: str = "",
        fresh: bool = True,
        voters: tuple[str, ...] = ("a", "b", "c"),
        learners: tuple[str, ...] = (),
        rank: int | None = None,
        vote: str = "",
        settings: Settings = S,
        configuration_index: int = 0,
    ) -> None:
        self.now = START
        if rank is not None and "a" in voters:
            others = [voter for voter in voters if voter != "a"]
            voters = (*others[:rank], "a", *others[rank:])
        peers = [peer for peer in (*voters, *learners) if peer != "a"]
        self.liveness = Liveness(settings, peers, 1, START)
        if fresh:
            self.liveness.votes_from_ms = START
        log = RaftLog(0, 0, [Entry(n, int(t), b"") for n, t in enumerate(entries, 1)])
        seeded = random.Random(1)
        hard_state = HardState(term, vote)
        self.raft = Raft(
            "a",
            G,
            Configuration(voters, (), learners),
            hard_state,
            log,
            0,
            self.liveness,
            settings,
            seeded,
            START,
            configuration_index,
        )
        self.sent: list[tuple[str, RaftMessage]] = []
        self.living = ""  # peers that are heard and acknowledge whenever time passes

    def take(self, durable: bool = True) -> Effects:
        effects = self.raft.take_effects()
        self.raft.check_invariants()
        if durable and effects.entries:
            self.raft.persisted(effects.entries[-1].index, effects.entries[-1].term)
        self.sent = [*effects.before, *effects.after]
        return effects

    def step(self, sender: str, message: RaftMessage, durable: bool = True) -> Effects:
        self.raft.step(sender, message, self.now)
        return self.take(durable)

    def tick(self, now: int | None = None) -> Effects:
        deadline = self.raft.next_deadline_ms
        assert now is not None or deadline is not None
        self.now = now if now is not None else deadline or 0
        for peer in self.living:
            self.heard(peer)
            self.acked(peer, self.now)
        self.raft.tick(self.now)
        return self.take()

    def time_out(self) -> Effects:
        """Let pass the time after which it would stand, if there is one."""
        return self.take() if self.raft.next_deadline_ms is None else self.tick()

    def heard(self, peer: str, incarnation: int = 1) -> None:
        self.liveness.on_heartbeat(peer, Heartbeat(incarnation, 1), self.now)

    def acked(self, peer: str, sent_ms: int, epoch: int = 1) -> None:
        self.liveness.on_heartbeat_ack(peer, HeartbeatAck(1, sent_ms, epoch), self.now)

    def follows(self, leader: str, term: int, last: int = 0, last_term: int = 0) -> Effects:
        self.heard(leader)
        return self.step(leader, Append(G, term, last, last_term, (), 0))

    def leads(self) -> Replica:
        """Win an election with b's votes and commit the first entry with b."""
        for peer in self.raft.voters:
            if peer != "a":
                self.heard(peer)
        self.time_out()
        self.step("b", Vote(G, self.raft.term + 1, True, True))
        self.step("b", Vote(G, self.raft.term, True, False))
        assert self.raft.role is Role.LEADER
        self.step("b", self.ok(self.raft.log.last_index))
        assert self.raft.ready_to_serve
        return self

    def ok(self, match: int, epoch: int = 1, term: int | None = None) -> Appended:
        return Appended(G, self.raft.term if term is None else term, True, match, 0, 1, epoch)

    def everyone_has_all(self) -> None:
        """Answer whatever is in flight until nothing is."""
        for _ in range(8):
            for peer in self.raft.members:
                if peer == "a":
                    continue
                self.step(peer, self.ok(self.raft.log.last_index))
            if self.raft.next_deadline_ms is not None:
                self.tick()


def request(term: int, last: int = 0, last_term: int = 0, pre: bool = False, transfer: bool = False) -> VoteRequest:
    return VoteRequest(G, term, last, last_term, pre, transfer)
