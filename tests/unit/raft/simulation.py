"""A few nodes with several groups in virtual time, driven by one seed, with everything going wrong.

The shell modelled here is the simplest that obeys `Effects`; a mutation replaces a part of it or of the core. Each
node has its own clock (offset and drift). Checked after every event: one leader a term, log matching of what is
committed, leader completeness, agreement of applied entries, one valid lease a group, and that a lease
holder knows everything that anybody has committed.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from geodyne.peermessages import Entry, Heartbeat, HeartbeatAck, Vote
from node.raft.configuration import Configuration, configuration_of
from node.raft.core import NotLeaderError, Raft, Role
from node.raft.effects import FORGOTTEN, Effects, HardState
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from node.raft.settings import Settings

SETTINGS = Settings(append_bytes_max=64, inflight_appends_max=4, inflight_bytes_max=256)
ALL_BYTES = 1 << 60


COUNTED = ("leaders", "committed", "leases", "confirmed reads", "faults", "snapshots", "lost disks", "readmitted")


class Violation(AssertionError):
    """A safety property does not hold."""


class Disk:
    """What one group's replica has durably: hard state, log, and the state up to `applied` (a checkpoint)."""

    def __init__(self, configuration: Configuration, vote: str = "") -> None:
        self.hard_state = HardState(0, vote)
        self.offset = (0, 0)
        self.entries: list[Entry] = []
        self.configuration = (0, configuration)  # of the state, and the entry that put it in force

    def write(self, hard_state: HardState | None, entries: tuple[Entry, ...]) -> None:
        if hard_state is not None:
            self.hard_state = hard_state
        if entries:
            del self.entries[max(0, entries[0].index - self.offset[0] - 1) :]
            self.entries.extend(entry for entry in entries if entry.index > self.offset[0])

    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.offset[1]

    def compact(self, index: int, term: int) -> None:
        for entry in self.entries[: max(0, index - self.offset[0])]:
            configuration = configuration_of(entry.payload)
            if configuration is not None:
                self.configuration = (entry.index, configuration)
        del self.entries[: max(0, index - self.offset[0])]
        self.offset = (index, term)

    def reset(self, index: int, term: int, configuration: Configuration) -> None:
        self.entries.clear()
        self.offset = (index, term)
        self.configuration = (index, configuration)


class Node:
    """The state of one process, and the disk that outlives it."""

    def __init__(self, name: str, simulation: Simulation) -> None:
        self.name = name
        self.simulation = simulation
        self.disks = {
            group: Disk(simulation.first(group))
            for group in simulation.groups
            if name in simulation.first(group).members
        }
        self.incarnation = 0
        self.offset_ms = simulation.random.randrange(0, 1_000_000)
        self.drift = 1 + simulation.random.uniform(-0.008, 0.008)
        self.up = False
        self.paused_until = 0.0
        self.slow_ms = 8
        self.syncing = 0  # how many of the writes the sync under way covers
        self.writes: list[tuple[int, HardState | None, tuple[Entry, ...], tuple[Any, ...]]] = []
        self.reads: dict[int, tuple[int, int, int, int]] = {}  # by group: start, term, commit index here, anywhere

    def disk_ms(self) -> float:
        return self.simulation.random.choice((1, 2, self.slow_ms))

    def now_ms(self) -> int:
        return self.offset_ms + int(self.simulation.now * self.drift)

    def start(self) -> None:
        simulation = self.simulation
        self.incarnation += 1
        self.up = True
        self.writes = []
        self.syncing = 0
        self.reads = {}
        now_ms = self.now_ms()
        peers = [name for name in simulation.names if name != self.name]
        self.liveness = simulation.make_liveness(SETTINGS, peers, self.incarnation, now_ms)
        self.rafts: dict[int, Raft] = {}
        for group in self.disks:
            self.hold(group)
        simulation.schedule(1, self.tick, self.incarnation)

    def hold(self, group: int) -> None:
        """Bring a replica to life from its disk."""
        disk, simulation = self.disks[group], self.simulation
        if disk.last_term() > disk.hard_state.term:  # a snapshot was durable before the term of its sender
            vote = FORGOTTEN if disk.hard_state.vote == FORGOTTEN else ""
            disk.hard_state = HardState(disk.last_term(), vote)
        self.rafts[group] = simulation.make_raft(
            self.name,
            group,
            disk.configuration[1],
            disk.hard_state,
            RaftLog(*disk.offset, disk.entries),
            disk.offset[0],
            self.liveness,
            SETTINGS,
            simulation.random,
            self.now_ms(),
            disk.configuration[0],
        )

    def crash(self) -> None:
        """Lose what is not durable: of the writes under way any number may have reached the disk, oldest first."""
        for group, hard_state, entries, _ in self.writes[: self.simulation.random.randrange(len(self.writes) + 1)]:
            if group in self.disks:
                self.disks[group].write(self.simulation.durable(hard_state), entries)
        self.up = False

    # --- events -------------------------------------------------------------------------------------------

    def tick(self, incarnation: int) -> None:
        if not self.up or incarnation != self.incarnation:
            return
        if self.simulation.now < self.paused_until:
            self.simulation.schedule(self.paused_until - self.simulation.now, self.tick, incarnation)
            return
        now_ms = self.now_ms()
        liveness = self.liveness
        for peer in liveness.lost(now_ms):
            for raft in self.rafts.values():
                raft.peer_lost(peer, now_ms)
        self.relay(now_ms)
        if liveness.heartbeat_due(now_ms):
            heartbeat = liveness.heartbeat(now_ms)
            for peer in self.simulation.names:
                if peer != self.name:
                    self.simulation.send(self.name, peer, heartbeat)
        for raft in self.rafts.values():
            deadline = raft.next_deadline_ms
            if deadline is not None and deadline <= now_ms:
                raft.tick(now_ms)
        self.effects()
        self.read(now_ms)
        self.simulation.schedule(25, self.tick, incarnation)

    def read(self, now_ms: int) -> None:
        """Reads that wait for a heartbeat round: what is committed here when one starts must be all there is."""
        for group, raft in self.rafts.items():
            if not raft.ready_to_serve:
                self.reads.pop(group, None)
                continue
            read = self.reads.get(group)
            if read is not None and read[1] == raft.term:
                if not raft.confirmed_since(read[0]):
                    continue
                self.simulation.counts["confirmed reads"] += 1
                if read[2] < read[3]:
                    raise Violation(f"{self.name} would confirm a stale read of group {group}")
            everywhere = len(self.simulation.committed[group])
            self.reads[group] = (now_ms + 1, raft.term, raft.commit_index, everywhere)

    def connected(self, peer: str, incarnation: int) -> None:
        now_ms = self.now_ms()
        self.liveness.on_connected(peer, incarnation, now_ms)
        self.relay(now_ms)
        for raft in self.rafts.values():
            raft.peer_connected(peer, now_ms)
        self.effects()

    def disconnected(self, peer: str) -> None:
        self.liveness.on_disconnected(peer, self.now_ms())

    def relay(self, now_ms: int) -> None:
        """Pass on what liveness has noticed."""
        for peer in self.liveness.restarted():
            for raft in self.rafts.values():
                raft.peer_restarted(peer, now_ms)
        for peer in self.liveness.renewed():
            for raft in self.rafts.values():
                raft.peer_renewed(peer, now_ms)

    def receive(self, peer: str, message: Any) -> None:
        now_ms = self.now_ms()
        if isinstance(message, Heartbeat):
            ack = self.liveness.on_heartbeat(peer, message, now_ms)
            if ack is not None:
                self.simulation.send(self.name, peer, ack)
            self.relay(now_ms)
        elif isinstance(message, HeartbeatAck):
            self.liveness.on_heartbeat_ack(peer, message, now_ms)
            self.relay(now_ms)
        elif self.simulation.group_of(message) not in self.rafts:
            self.simulation.absent(self.name, peer, message)
            return
        elif isinstance(message, tuple) and message[0] == "snapshot":
            _, group, term, index, index_term = message
            raft = self.rafts[group]
            if raft.snapshot_offered(peer, term, index, now_ms):
                delay_ms = self.simulation.random.choice((1, 50, 300))
                self.simulation.schedule(delay_ms, self.install, raft, peer, index, index_term)
            else:
                self.simulation.send(self.name, peer, ("refused", group))
        elif isinstance(message, tuple) and message[0] == "installed":
            self.rafts[message[1]].snapshot_sent(peer, message[2], message[3], now_ms)
        elif isinstance(message, tuple) and message[0] == "refused":
            self.rafts[message[1]].snapshot_failed(peer, now_ms)
        else:
            self.rafts[message.group].step(peer, message, now_ms)
        self.effects()

    def install(self, raft: Raft, peer: str, index: int, term: int) -> None:
        """The snapshot is durable."""
        group = raft.group
        if not self.up or self.rafts.get(group) is not raft:
            return
        configuration = self.simulation.configuration_at(group, index)
        if raft.install_snapshot(index, term, configuration):
            for position, write in enumerate(self.writes):  # what was under way for the log before is void
                if write[0] == group:
                    self.writes[position] = (group, write[1], (), write[3])
            self.disks[group].reset(index, term, configuration)
        self.simulation.send(self.name, peer, ("installed", group, index, term))
        self.effects()

    def effects(self) -> None:
        """Take every group's effects: send what may go, start the write of the rest."""
        for group, raft in self.rafts.items():
            effects = raft.take_effects()
            self.simulation.observe(self, raft, effects)
            for peer, message in effects.before:
                self.simulation.send(self.name, peer, message)
            for peer in effects.need_snapshot:
                index = raft.commit_index
                snapshot = ("snapshot", group, raft.term, index, raft.log.term(index))
                if not self.simulation.send(self.name, peer, snapshot):
                    raft.snapshot_failed(peer, self.now_ms())
                else:  # stands for the sender's own bounded wait
                    self.simulation.schedule(900, self.snapshot_late, self.incarnation, group, peer)
            if effects.hard_state is None and not effects.entries and not effects.after:
                continue
            if self.simulation.sends_before_durable:
                for peer, message in effects.after:
                    self.simulation.send(self.name, peer, message)
                effects = effects._replace(after=())
            self.writes.append((group, effects.hard_state, effects.entries, effects.after))
        self.sync()

    def snapshot_late(self, incarnation: int, group: int, peer: str) -> None:
        if self.up and incarnation == self.incarnation and group in self.rafts:
            self.rafts[group].snapshot_failed(peer, self.now_ms())

    def sync(self) -> None:
        """One at a time; the next covers all that was written meanwhile."""
        if self.writes and not self.syncing:
            self.syncing = len(self.writes)
            self.simulation.schedule(self.disk_ms(), self.written, self.incarnation)

    def written(self, incarnation: int) -> None:
        """A sync is done."""
        if not self.up or incarnation != self.incarnation:
            return
        if self.simulation.now < self.paused_until:
            self.simulation.schedule(self.paused_until - self.simulation.now, self.written, incarnation)
            return
        done, self.writes = self.writes[: self.syncing], self.writes[self.syncing :]
        self.syncing = 0
        for group, hard_state, entries, after in done:
            if group not in self.disks:
                continue
            if hard_state is not None and self.disks[group].hard_state.vote == FORGOTTEN != hard_state.vote:
                self.simulation.counts["readmitted"] += 1
            self.disks[group].write(self.simulation.durable(hard_state), entries)
            for peer, message in after:
                self.simulation.send(self.name, peer, message)
                if self.simulation.sniper and isinstance(message, Vote) and message.granted and not message.pre:
                    self.simulation.snipe(self.name, peer)
            if entries:
                self.rafts[group].persisted(entries[-1].index, entries[-1].term)
        self.effects()
        self.sync()


class Simulation:
    """One run. `run` raises Violation, or returns counts of what happened."""

    make_raft: Callable[..., Raft] = Raft
    make_liveness: Callable[..., Liveness] = Liveness
    sends_before_durable = False

    def __init__(self, seed: int, nodes: int = 3, groups: int = 2, learners: int = 0, fault: str = "") -> None:
        """`fault` names the only kind of fault that happens; by default each seed draws a few."""
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.names = [f"node-{letter}" for letter in "abcde"[: nodes + learners]]
        self.voter_names = self.names[:nodes]
        self.groups = list(range(1, groups + 1))
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.sequence = 0
        self.blocked: set[tuple[str, str]] = set()
        self.connection: dict[frozenset[str], int] = {}  # the number of each pair's current stream; absent: down
        self.last_arrival: dict[tuple[str, str], float] = {}
        self.delay_ms = 5.0
        self.calm = False
        self.sniper = False
        self.idle_until = 0.0
        # Each seed draws its own few kinds of faults, and how busy it is: what is rare in a mixture is common in some.
        kinds: list[Callable[[str, str, float], None]]
        kinds = [self.crash, self.reset, self.cut, self.isolate, self.pause, self.hand_over]
        kinds += [self.lost_write, self.lost_promise, self.stale_leader, self.duel]
        drawn = self.random.sample(kinds, self.random.randint(1, 4))
        losses: list[Callable[[str, str, float], None]] = [self.lost_disk, self.lost_holder, self.lost_witness]
        if random.Random(~seed).random() < 0.5:
            drawn += losses
        self.kinds = [kind for kind in [*kinds, *losses] if kind.__name__ == fault] if fault else drawn
        self.fault_gap_ms = self.random.choice((200, 600, 1500, 3000))
        self.work_gap_ms = self.random.choice((20, 150, 800))
        self.nodes = {name: Node(name, self) for name in self.names}
        self.leaders: dict[tuple[int, int], tuple[str, int]] = {}
        self.committed: dict[int, list[Entry]] = {group: [] for group in self.groups}
        self.committed_in: dict[int, list[int]] = {group: [] for group in self.groups}  # not before this term
        self.configurations: dict[int, list[tuple[int, Configuration]]] = {group: [] for group in self.groups}
        self.counts = dict.fromkeys(COUNTED, 0)

    # --- the world ----------------------------------------------------------------------------------------

    def voters(self, group: int) -> list[str]:
        turn = group % len(self.voter_names)
        return self.voter_names[turn:] + self.voter_names[:turn]

    def first(self, group: int) -> Configuration:
        """The configuration that the group begins with."""
        voters = self.voters(group)
        return Configuration(tuple(voters), (), tuple(name for name in self.names if name not in voters))

    def base(self, group: int) -> Configuration:
        """What the catalog tells a replica that is made now."""
        return self.first(group)

    def configuration_at(self, group: int, index: int) -> Configuration:
        """The one that the committed entries up to `index` have put in force."""
        known = [one for position, one in self.configurations[group] if position <= index]
        return known[-1] if known else self.first(group)

    @staticmethod
    def group_of(message: Any) -> int:
        group: int = message[1] if message[0] in {"snapshot", "installed", "refused"} else message.group
        return group

    def absent(self, name: str, peer: str, message: Any) -> None:
        """For a replica that was destroyed, or is not made yet."""

    def durable(self, hard_state: HardState | None) -> HardState | None:
        return hard_state

    def schedule(self, delay_ms: float, call: Callable[..., None], *arguments: Any) -> None:
        self.sequence += 1
        heapq.heappush(self.events, (self.now + delay_ms, self.sequence, call, arguments))

    def send(self, source: str, target: str, message: Any) -> bool:
        """In order on one stream; lost in a blocked direction. Rarely the queue is full, which resets the stream."""
        stream = self.connection.get(frozenset((source, target)))
        if stream is None or (source, target) in self.blocked:
            return False
        if not self.calm and self.random.random() < 0.001:
            self.schedule(0, self.disconnect, source, target)
            return False
        if isinstance(message, tuple) and message[0] == "snapshot":
            self.counts["snapshots"] += 1
        arrival = max(self.now + self.random.random() * self.delay_ms, self.last_arrival.get((source, target), 0.0))
        self.last_arrival[source, target] = arrival
        self.schedule(arrival - self.now, self.deliver, source, target, stream, message)
        return True

    def deliver(self, source: str, target: str, stream: int, message: Any) -> None:
        node = self.nodes[target]
        if not node.up or self.connection.get(frozenset((source, target))) != stream:
            return
        if self.now < node.paused_until:
            self.schedule(node.paused_until - self.now, self.deliver, source, target, stream, message)
            return
        node.receive(source, message)

    def connect(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        a, b = self.nodes[one], self.nodes[other]
        if pair in self.connection or not (a.up and b.up):
            return
        blocked = (one, other) in self.blocked or (other, one) in self.blocked
        if blocked or self.now < max(a.paused_until, b.paused_until):
            self.schedule(100, self.connect, one, other)
            return
        self.sequence += 1
        self.connection[pair] = self.sequence
        a.connected(other, b.incarnation)
        b.connected(one, a.incarnation)

    def disconnect(self, one: str, other: str) -> None:
        if self.connection.pop(frozenset((one, other)), None) is None:
            return
        for node, peer in ((self.nodes[one], other), (self.nodes[other], one)):
            if node.up:
                node.disconnected(peer)
        self.schedule(self.random.choice((5, 50, 400)), self.connect, one, other)

    def boot(self, name: str) -> None:
        node = self.nodes[name]
        if node.up:
            return
        node.start()
        for peer in self.names:
            if peer != name:
                self.schedule(self.random.uniform(1, 30), self.connect, name, peer)

    def kill(self, name: str, down_ms: float) -> None:
        node = self.nodes[name]
        if not node.up:
            return
        node.crash()
        for peer in self.names:
            if peer != name:
                self.disconnect(name, peer)
        self.schedule(down_ms, self.boot, name)

    # --- what happens -------------------------------------------------------------------------------------

    def fault(self) -> None:
        draw = self.random
        self.counts["faults"] += 1
        one, other = draw.sample(self.voter_names, 2)
        self.nodes[draw.choice(self.names)].slow_ms = draw.choice((8, 60, 300))
        self.delay_ms = draw.choice((2.0, 5.0, 30.0, 120.0))
        draw.choice(self.kinds)(one, other, draw.choice((100, 400, 900, 1500, 2500)))
        self.schedule(draw.uniform(0.1, 2) * self.fault_gap_ms, self.fault)

    def crash(self, one: str, other: str, lasting: float) -> None:
        self.kill(one, self.random.choice((5, 30, lasting)))

    def reset(self, one: str, other: str, lasting: float) -> None:
        self.disconnect(one, other)

    def cut(self, one: str, other: str, lasting: float) -> None:
        self.block(self.random.choice(({(one, other)}, {(one, other), (other, one)})), lasting)

    def isolate(self, one: str, other: str, lasting: float) -> None:
        outward = {(one, name) for name in self.names}
        inward = {(name, one) for name in self.names}
        self.block(self.random.choice((outward, inward, outward | inward)), lasting)

    def pause(self, one: str, other: str, lasting: float) -> None:
        self.nodes[one].paused_until = max(self.nodes[one].paused_until, self.now + lasting)

    def hand_over(self, one: str, other: str, lasting: float) -> None:
        """A transfer, perhaps by a leader that hears nothing from the moment it has asked."""
        for node in self.running():
            for raft in node.rafts.values():
                if raft.role is Role.LEADER and self.random.random() < 0.5:
                    raft.transfer(self.random.choice(raft.voters), node.now_ms())
                    if self.random.random() < 0.5:
                        self.schedule(self.random.choice((1, 5, 20)), self.isolate, node.name, other, lasting)
            node.effects()

    def lost_write(self, one: str, other: str, lasting: float) -> None:
        """Only a leader and one follower can have the newest entries; then one of the two dies for a moment and
        forgets what was not durable, and the other for longer."""
        leader, middle, far = self.cast(one)
        self.part(leader, far, 300)
        brief, longer = self.random.choice(((leader, middle), (middle, leader)))
        wait_ms = self.random.choice((20, 100, 250))
        self.schedule(wait_ms, self.kill, brief, 5)
        self.schedule(wait_ms, self.kill, longer, 2500)

    def lost_promise(self, one: str, other: str, lasting: float) -> None:
        """One that cannot hear the leader waits for the vote of one that can; that one dies for a moment."""
        leader, middle, far = self.cast(one)
        self.idle_until = self.now + 3000
        self.part(leader, far, 3000)
        wait_ms = self.random.randrange(1200, 2200)
        self.schedule(wait_ms, self.kill, middle, 5)
        self.schedule(wait_ms, self.block, {(leader, middle)}, 700)

    def stale_leader(self, one: str, other: str, lasting: float) -> None:
        """A leader is replaced while it is frozen, and afterwards hears only one that knows better."""
        leader, _, far = self.cast(one)
        self.rest(3000)
        self.part(leader, far, 3000)
        self.schedule(self.random.choice((20, 1000)), self.pause, leader, far, self.random.choice((900, 1100, 1300)))

    def lost_disk(self, one: str, other: str, lasting: float) -> None:
        """A node comes back with nothing. Not before the last one that did has its voice back, or a majority of the
        disks would be gone."""
        self.kill(one, self.random.choice((5, 30, lasting)))
        healthy = all(
            disk.hard_state.vote != FORGOTTEN
            for node in self.nodes.values()
            if node.name != one
            for disk in node.disks.values()
        )
        if healthy and not self.nodes[one].up:
            self.counts["lost disks"] += 1
            self.nodes[one].disks = {group: Disk(self.base(group), FORGOTTEN) for group in self.nodes[one].disks}

    def lost_holder(self, one: str, other: str, lasting: float) -> None:
        """Only a leader and one follower can have the newest entries; then the leader dies for longer, and the
        follower comes back with nothing."""
        leader, middle, far = self.cast(one)
        self.part(leader, far, 400)
        wait_ms = self.random.choice((100, 250, 400))
        self.schedule(wait_ms, self.lost_disk, middle, far, 5)
        self.schedule(wait_ms, self.kill, leader, 2500)

    def lost_witness(self, one: str, other: str, lasting: float) -> None:
        """A leader is replaced while it is frozen. When it goes on, one of the two that replaced it is out of sight,
        and the other one comes back with nothing."""
        leader, middle, far = self.cast(one)
        self.part(leader, far, 4000)
        self.pause(leader, far, self.random.choice((1150, 1300)))
        wait_ms = self.random.randrange(1050, 1400)
        self.schedule(wait_ms, self.part, middle, far, 2000)
        self.schedule(wait_ms, self.lost_disk, middle, far, 5)
        if self.random.random() < 0.5:
            self.schedule(wait_ms + self.random.choice((50, 300, 800)), self.kill, leader, 5)

    def cast(self, one: str) -> tuple[str, str, str]:
        """A leader, if there is any, and two others."""
        leader = self.random.choice([name for _, name in self.leading()] or [one])
        middle, far = self.random.sample([name for name in self.voter_names if name != leader], 2)
        return leader, middle, far

    def part(self, one: str, other: str, lasting: float) -> None:
        self.block({(one, other), (other, one)}, lasting)

    def duel(self, one: str, other: str, lasting: float) -> None:
        """A leader's node dies for a moment; the others, who do not hear each other, both want its vote. Whoever
        votes dies right after that, and comes back out of sight of the one it voted for."""
        leader, middle, far = self.cast(one)
        self.idle_until = self.now + 2000
        self.part(middle, far, 2500)
        self.nodes[far].slow_ms = 300
        self.delay_ms = 30
        self.sniper = True
        self.schedule(100, self.kill, leader, 5)

    def snipe(self, voter: str, candidate: str) -> None:
        self.sniper = False
        delay_ms = self.delay_ms + 1
        self.schedule(delay_ms, self.kill, voter, 5)
        self.schedule(delay_ms, self.block, {(candidate, voter)}, 500)

    def rest(self, lasting_ms: float) -> None:
        """Half of the time nothing is written for a while, so that a replica that is cut off may still be elected."""
        if self.random.random() < 0.5:
            self.idle_until = self.now + lasting_ms

    def leading(self) -> list[tuple[int, str]]:
        return [(g, n.name) for n in self.running() for g, raft in n.rafts.items() if raft.role is Role.LEADER]

    def block(self, directions: set[tuple[str, str]], lasting_ms: float) -> None:
        self.blocked |= directions
        self.schedule(lasting_ms, self.unblock, directions)

    def unblock(self, directions: set[tuple[str, str]]) -> None:
        self.blocked -= directions
        for source, target in sorted(directions):
            if self.random.random() < 0.7 and source != target:
                self.disconnect(source, target)

    def work(self) -> None:
        """Propose on whoever believes to lead, and now and then cut a log."""
        for node in self.running():
            for group, raft in node.rafts.items():
                if raft.role is Role.LEADER and self.now >= self.idle_until and self.random.random() < 0.7:
                    with suppress(NotLeaderError):  # handing over
                        raft.propose(b"%d/%d" % (self.seed, self.sequence))
                limit = min(raft.commit_index, raft.log.persisted_index)
                if limit > raft.log.offset_index and self.random.random() < 0.1:
                    raft.compact(limit)
                    node.disks[group].compact(raft.log.offset_index, raft.log.offset_term)
            node.effects()
        self.schedule(self.random.uniform(0.1, 2) * self.work_gap_ms, self.work)

    def running(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.up and self.now >= node.paused_until]

    # --- what must hold -----------------------------------------------------------------------------------

    def observe(self, node: Node, raft: Raft, effects: Effects) -> None:
        """Called whenever a replica's state may have changed."""
        raft.check_invariants()
        group = raft.group
        if raft.role is Role.LEADER and (group, raft.term) not in self.leaders:
            self.counts["leaders"] += 1
            self.leaders[group, raft.term] = (node.name, node.incarnation)
            self.check_completeness(raft)
        if raft.role is Role.LEADER and self.leaders[group, raft.term] != (node.name, node.incarnation):
            raise Violation(f"term {raft.term} of group {group} has two leaders")
        log = self.committed[group]
        known = effects.committed_to
        while len(log) < known:
            position = len(log) + 1
            log.extend(raft.log.entries(position, known, ALL_BYTES))
            self.committed_in[group].extend([raft.term] * (known - position + 1))
            for entry in log[position - 1 :]:
                configuration = configuration_of(entry.payload)
                if configuration is not None:
                    self.configurations[group].append((entry.index, configuration))
            self.counts["committed"] += known - position + 1
        low = max(raft.log.offset_index, known - 3)
        if known > low and list(raft.log.entries(low + 1, known, ALL_BYTES)) != log[low:known]:
            raise Violation(f"{node.name} commits other entries at {low + 1}..{known} of group {group}")

    def check_completeness(self, raft: Raft) -> None:
        """A leader has what was committed in earlier terms. (One elected so late that a later term is already
        under way need not have that term's entries, and can commit nothing.)
        """
        low = raft.log.offset_index
        high = bisect_left(self.committed_in[raft.group], raft.term)
        held = list(raft.log.entries(low + 1, high, ALL_BYTES)) if low < high else []
        if raft.log.last_index < high or held[: high - low] != self.committed[raft.group][low:high]:
            raise Violation(f"the leader of term {raft.term} of group {raft.group} lacks committed entries")

    def check_leases(self) -> None:
        for group in self.groups:
            holders = []
            for node in self.running():
                raft = node.rafts.get(group)
                if raft is None or raft.role is not Role.LEADER:
                    continue
                if raft.lease_valid(node.now_ms()):
                    holders.append(node.name)
                    self.counts["leases"] += 1
                    if raft.ready_to_serve and raft.commit_index < len(self.committed[group]):
                        raise Violation(f"{node.name} would serve a stale read of group {group}")
            if len(holders) > 1:
                raise Violation(f"group {group} is leased to {holders} at once")

    def check_converged(self) -> None:
        for group in self.groups:
            rafts = [node.rafts[group] for node in self.nodes.values() if group in node.rafts]
            leaders = [raft for raft in rafts if raft.role is Role.LEADER]
            if len(leaders) != 1 or not leaders[0].ready_to_serve:
                raise Violation(f"group {group} has no leader that serves")
            if {raft.commit_index for raft in rafts} != {leaders[0].log.last_index}:
                raise Violation(f"group {group} has not converged: {[raft.commit_index for raft in rafts]}")
            if any(raft.next_deadline_ms is not None for raft in rafts):
                raise Violation(f"group {group} is not quiet")
            if not leaders[0].lease_valid(self.nodes[leaders[0].node_id].now_ms()):
                raise Violation(f"group {group} has no lease")

    # --- running ------------------------------------------------------------------------------------------

    def run_until(self, end: float) -> None:
        while self.events and self.events[0][0] <= end:
            self.now, _, call, arguments = heapq.heappop(self.events)
            call(*arguments)
            self.check_leases()
        self.now = end

    def run(self, faulty_ms: float = 6000, calm_ms: float = 0) -> dict[str, int]:
        for name in self.names:
            self.schedule(self.random.uniform(0, 50), self.boot, name)
        self.schedule(300, self.fault)
        self.schedule(200, self.work)
        self.run_until(faulty_ms)
        if calm_ms:
            self.calm = True
            self.events = [event for event in self.events if event[2] not in {self.fault, self.work}]
            heapq.heapify(self.events)
            self.run_until(faulty_ms + calm_ms)
            self.check_converged()
        return self.counts
