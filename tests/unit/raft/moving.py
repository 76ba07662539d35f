"""Members that change while everything goes wrong.

What is around the consensus core is reduced to what it rests on: a catalog that says, under a growing number, who is
to have a group; leaders that may know an old number of it, and take the next step whenever they are asked; replicas
made as newcomers on nodes that are named, and destroyed on nodes that are not once the change of the present number
is reported done. A destroyed replica forgets everything but its term, in the middle of its process or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from geodyne.peermessages import Vote, VoteRequest
from node.raft.change import Act
from node.raft.configuration import Configuration, configuration_of
from node.raft.core import Raft, Role
from node.raft.effects import FORGOTTEN, Effects
from node.raft.support import resignation
from tests.unit.raft.simulation import ALL_BYTES, Disk, Node, Simulation, Violation

CHECKED_ENTRIES = 8
LEFT = ("left behind", "answered for")
MOVED = ("targets", "steps", "handed over", "done", "made", "destroyed", "disordered")


class Target(NamedTuple):
    """What the catalog wants a group to be."""

    voters: tuple[str, ...]
    learners: tuple[str, ...]
    number: int

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.voters, *self.learners)


class Moving(Simulation):
    """Five nodes; each group begins on three of them."""

    disorder = True  # within a stream messages are doubled and overtake each other
    destroys = True  # replicas that are not wanted any more
    steps_ms = 60.0

    def __init__(self, seed: int, groups: int = 2, fault: str = "") -> None:
        super().__init__(seed, nodes=3, groups=groups, learners=2, fault=fault)
        self.counts.update(dict.fromkeys(MOVED, 0))
        self.targets = {group: [Target(tuple(self.voters(group)), (), 0)] for group in self.groups}
        self.done = dict.fromkeys(self.groups, 0)  # the number of the last change that was reported done
        self.move_gap_ms = self.random.choice((150, 500, 1500, 4000))
        self.wild = self.random.random() < 0.3  # whole sets are replaced, and set again before they are reached
        self.disorderly = self.disorder and self.random.random() < 0.4
        self.ambushed: dict[int, str] = {}  # by group: the stage of its change at which the network falls apart
        self.marks: dict[tuple[str, int], int] = {}  # (node, group) -> the term of a replica that was destroyed
        self.words: dict[tuple[str, int, int], int] = {}  # (node, incarnation, group) -> leads no term before
        self.unheeded_until = dict.fromkeys(self.groups, 0.0)  # no leader of the group takes a step before
        own: list[Callable[[str, str, float], None]]
        own = [kind for kind in (self.schism, self.lone_step) if kind.__name__ == fault or not fault]
        if fault:
            self.kinds = own or self.kinds
        elif self.random.random() < 0.6:
            self.kinds = [*self.kinds, *own]
        self.schedule(400, self.want)
        self.schedule(100, self.drive)

    # --- the catalog --------------------------------------------------------------------------------------

    def first(self, group: int) -> Configuration:
        return Configuration(tuple(self.voters(group)))

    def base(self, group: int) -> Configuration:
        """A node that is named by the catalog knows no better than that it follows."""
        return Configuration(self.targets[group][-1].voters)

    def want(self) -> None:
        """Something else is wanted of a group, whatever has become of what was wanted before."""
        if not self.calm:
            group = self.random.choice(self.groups)
            last = self.targets[group][-1]
            if self.wild or self.done[group] == last.number or self.random.random() < 0.2:
                self.set_target(group, self.another(last))
            self.schedule(self.random.uniform(0.1, 2) * self.move_gap_ms, self.want)

    def another(self, last: Target) -> Target:
        draw = self.random
        names = draw.sample(self.names, len(self.names))
        if self.wild:
            voters = names[: draw.choice((1, 2, 3, 3, 4))]
        elif draw.random() < 0.2:
            voters = draw.sample(last.voters, len(last.voters))  # another order
        else:  # one goes, one comes, or both
            kept = draw.sample(last.voters, len(last.voters) - draw.choice((0, 1)))
            fresh = [name for name in names if name not in last.voters]
            voters = (kept + fresh[: draw.choice((0, 1, 1))] or names)[: draw.choice((2, 3, 3, 3))]
        rest = [name for name in names if name not in voters]
        learners = rest[: draw.choice((0, 0, 1, 2))]
        return Target(tuple(voters), tuple(learners), last.number + 1)

    def set_target(self, group: int, target: Target) -> None:
        self.targets[group].append(target)
        self.counts["targets"] += 1
        for name in target.members:
            self.schedule(self.random.choice((1, 20, 300)), self.make, name, group)

    def make(self, name: str, group: int) -> None:
        """A node has read in the catalog that it is to have a replica. It may have one left."""
        node = self.nodes[name]
        if name not in self.targets[group][-1].members or group in node.disks:
            return
        self.counts["made"] += 1
        disk = node.disks[group] = self.disk(group, name)
        disk.hard_state = disk.hard_state._replace(term=self.marks.pop((name, group), 0))
        if node.up:
            node.hold(group)

    def disk(self, group: int, name: str) -> Disk:
        return Disk(self.base(group), FORGOTTEN)

    def destroy(self, name: str, group: int, number: int) -> None:
        """What the catalog says has been reached, and this node is not in it. One that leads, or thinks so, goes on
        until it does not: the others trust its node."""
        node = self.nodes[name]
        if self.targets[group][-1].number != number or group not in node.disks:
            return
        if node.up and node.rafts[group].role is Role.LEADER:
            self.schedule(100, self.destroy, name, group, number)
            return
        self.check_gone(name, group)
        self.counts["destroyed"] += 1
        self.marks[name, group] = node.rafts[group].term if node.up else node.disks[group].hard_state.term
        del node.disks[group]
        if node.up:
            del node.rafts[group]
            node.reads.pop(group, None)
            node.writes = [(-1, None, (), ()) if write[0] == group else write for write in node.writes]

    def lost_disk(self, one: str, other: str, lasting: float) -> None:
        """Not where that would be half of those who vote."""
        for node in self.nodes.values():
            for raft in node.rafts.values() if node.up else ():
                if any(one in part and len(part) < 3 for part in raft.configuration.parts):
                    return
        before = self.counts["lost disks"]
        super().lost_disk(one, other, lasting)
        if self.counts["lost disks"] > before:
            self.marks = {held: term for held, term in self.marks.items() if held[0] != one}

    def absent(self, name: str, peer: str, message: Any) -> None:
        mark = self.marks.get((name, message.group)) if isinstance(message, VoteRequest) else None
        if mark is not None and message.pre:
            self.counts[LEFT[1]] = self.counts.get(LEFT[1], 0) + 1
            self.send(name, peer, resignation(message.group, mark))

    def schism(self, one: str, other: str, lasting: float) -> None:
        """The network falls apart in the middle of a change, along the line between those it adds and those it
        leaves behind."""
        group, leader = self.random.choice(self.leading() or [(self.groups[0], one)])
        fresh = [name for name in self.names if name not in self.targets[group][-1].voters]
        others = [name for name in self.names if name not in fresh and name != leader]
        self.ambushed[group] = self.random.choice(("learners", "joint", "joint", "left"))
        adding = self.ambushed[group] == "learners"
        voters = tuple(dict.fromkeys((leader, *others) if adding else (*fresh, leader)))
        learners = tuple(name for name in self.names if adding and name not in voters)
        self.set_target(group, Target(voters, learners, self.targets[group][-1].number + 1))

    def lone_step(self, one: str, other: str, lasting: float) -> None:
        """A leader takes the first step of a change by itself, is replaced meanwhile, and leads again later."""
        self.schism(one, other, lasting)
        self.ambushed = dict.fromkeys(self.ambushed, "alone")

    def ambush(self, node: Node, raft: Raft, before: Configuration) -> None:
        """The leader has just proposed what follows `before`."""
        group, after = raft.group, raft.configuration
        stage = "joint" if after.joint else "left" if before.joint else "learners"
        planned = self.ambushed.get(group, "")
        if planned == "alone" and after.joint:
            del self.ambushed[group]
            self.unheeded_until[group] = self.now + 5000
            self.part_from(node.name, {node.name}, 2000)
            self.schedule(2600, self.lead_again, node.name, group)
        elif planned == stage:
            del self.ambushed[group]
            near = set(after.voters) if after.joint else set(before.outgoing) or set(after.learners)
            delay_ms = self.random.choice((0, 5, 50)) if after.joint else self.random.choice((30, 100, 300))
            self.schedule(delay_ms, self.part_from, node.name, {node.name, *near}, 2500)

    def part_from(self, leader: str, near: set[str], lasting: float) -> None:
        far = [name for name in self.names if name not in near and name != leader]
        self.block({pair for a in sorted(near) for b in far for pair in ((a, b), (b, a))}, lasting)

    def lead_again(self, name: str, group: int) -> None:
        for node in self.running():
            raft = node.rafts.get(group)
            if raft is not None and raft.role is Role.LEADER and raft.transfer(name, node.now_ms()):
                self.schedule(300, self.heed, group)
            node.effects()

    def heed(self, group: int) -> None:
        self.unheeded_until[group] = self.now

    # --- the leaders --------------------------------------------------------------------------------------

    def drive(self) -> None:
        """Every leader takes a step, in its own time; it may have an old copy of the catalog."""
        for node in self.running():
            for raft in list(node.rafts.values()):
                if raft.role is Role.LEADER and self.random.random() < 0.7:
                    self.step(node, raft)
            node.effects()
        self.schedule(self.random.uniform(0.2, 2) * self.steps_ms, self.drive)

    def step(self, node: Node, raft: Raft) -> None:
        if self.now < self.unheeded_until[raft.group] and not self.calm:
            return
        known, before = self.targets[raft.group], raft.configuration
        target = known[-1] if self.calm or self.random.random() < 0.9 else self.random.choice(known[-3:])
        step = raft.change_members(target.voters, target.learners, target.number, now_ms=node.now_ms())
        if step.act is Act.PROPOSED:
            self.counts["steps"] += 1
            self.ambush(node, raft, before)
        elif step.act is Act.HAND_OVER:
            self.counts["handed over"] += raft.transfer(step.peer, node.now_ms())
        elif step.act is Act.DONE:
            self.report(raft.group, target)

    def report(self, group: int, target: Target) -> None:
        last = self.targets[group][-1]
        if target.number != last.number or self.done[group] == last.number:
            return
        self.done[group] = last.number
        self.counts["done"] += 1
        if self.destroys:
            for name in self.names:
                if name not in last.members:
                    delay_ms = self.random.choice((1, 50, 400))
                    self.schedule(delay_ms, self.destroy, name, group, last.number)

    # --- the network --------------------------------------------------------------------------------------

    def send(self, source: str, target: str, message: Any) -> bool:
        if isinstance(message, VoteRequest):
            self.gives_its_word(source, message.group, message.term)
        elif isinstance(message, Vote) and not (message.pre and message.granted):
            self.gives_its_word(source, message.group, message.term + message.resigned)
        sent = super().send(source, target, message)
        if sent and self.disorderly and not self.calm and self.random.random() < 0.05:
            self.counts["disordered"] += 1
            stream = self.connection[frozenset((source, target))]
            delay_ms = self.random.random() * 4 * self.delay_ms
            self.schedule(delay_ms, self.deliver, source, target, stream, message)
        return sent

    # --- what must hold -----------------------------------------------------------------------------------

    def gives_its_word(self, name: str, group: int, term: int) -> None:
        """That it leads no term before this one, and never will: as long as its process lives, replica or not."""
        key = name, self.nodes[name].incarnation, group
        self.words[key] = max(self.words.get(key, 0), term)

    def observe(self, node: Node, raft: Raft, effects: Effects) -> None:
        super().observe(node, raft, effects)
        if raft.role is Role.LEADER and raft.term < self.words.get((node.name, node.incarnation, raft.group), 0):
            raise Violation(f"{node.name} leads term {raft.term} of group {raft.group}, against its word")
        index, log = raft.configuration_index, raft.log
        if index > log.offset_index and (
            index > log.last_index or configuration_of(log.entries(index, index, 0)[0].payload) != raft.configuration
        ):
            raise Violation(f"{node.name} goes by a configuration of group {raft.group} that is not in its log")
        low = max(index, log.offset_index) + 1
        newer = log.entries(low, low + CHECKED_ENTRIES, ALL_BYTES) if low <= log.last_index else ()
        if any(configuration_of(entry.payload) for entry in newer):
            raise Violation(f"{node.name} goes by an old configuration of group {raft.group}")

    def check_gone(self, name: str, group: int) -> None:
        """Nobody needs a replica that is destroyed."""
        rafts = [node.rafts[group] for node in self.nodes.values() if node.up and group in node.rafts]
        leaders = [raft for raft in rafts if raft.role is Role.LEADER]
        newest = max(leaders, key=lambda raft: raft.term, default=None)
        if newest is not None and name in newest.configuration.voting and newest.term == max(r.term for r in rafts):
            raise Violation(f"the replica of group {group} on {name} is destroyed while it votes")

    def check_converged(self) -> None:
        super().check_converged()
        for group in self.groups:
            wanted = self.targets[group][-1]
            holders = {name for name, node in self.nodes.items() if group in node.rafts}
            rafts = [node.rafts[group] for node in self.nodes.values() if group in node.rafts]
            leader = next(raft for raft in rafts if raft.role is Role.LEADER)
            in_force = leader.configuration
            if self.done[group] != wanted.number or in_force.voters != wanted.voters or in_force.joint:
                raise Violation(f"group {group} is {in_force}, wanted is {wanted}")
            if set(in_force.members) != set(wanted.members) or (self.destroys and holders != set(wanted.members)):
                raise Violation(f"group {group} is on {sorted(holders)}, wanted is {wanted}")


class LeftBehind(Moving):
    """A follower misses that its leader gave way and left the group, while that one's node lives on; then the leader
    that came after is lost. Two of the three voters are there, and have to find out that they are free."""

    WITHIN_MS = 6000.0

    def __init__(self, seed: int, groups: int = 1, fault: str = "") -> None:
        super().__init__(seed, groups=1, fault=fault)
        self.group = self.groups[0]
        self.left = self.next = self.missing = ""
        self.counts.update(dict.fromkeys(LEFT, 0))

    def fault(self) -> None:
        """No other one: what is there is enough to elect a leader, and nothing disturbs it."""

    def want(self) -> None:
        """Once somebody leads, it is to go: a node that has no replica yet takes its place."""
        led = [name for _, name in self.leading() if self.nodes[name].rafts[self.group].ready_to_serve]
        if not led:
            self.schedule(50, self.want)
            return
        self.left = led[0]
        others = [name for name in self.voter_names if name != self.left]
        self.next, self.missing = self.random.sample(others, 2)
        fresh = next(name for name in self.names if name not in self.voter_names)
        learners = (self.left,) if self.random.random() < 0.4 else ()
        self.set_target(self.group, Target((self.next, self.missing, fresh), learners, 1))
        self.lose()

    def step(self, node: Node, raft: Raft) -> None:
        before = self.counts["handed over"]
        super().step(node, raft)
        if self.counts["handed over"] > before:
            self.part(self.next, self.missing, 60_000)

    def lose(self) -> None:
        """When the change is done, and the replica that it leaves behind is destroyed or learns."""
        target = self.targets[self.group][-1]
        held = self.group in self.nodes[self.left].disks
        if self.done[self.group] < target.number or (held and not target.learners):
            self.schedule(50, self.lose)
            return
        self.counts["left behind"] += self.nodes[self.missing].rafts[self.group].leader == self.left
        self.kill(self.next, 60_000)
        self.schedule(self.WITHIN_MS, self.check_led)

    def check_led(self) -> None:
        if not any(self.nodes[name].rafts[group].ready_to_serve for group, name in self.leading()):
            raise Violation(f"nobody leads group {self.group}, though two of its three voters are there")
