"""What must hold after every step of every node, looked at when the step is done.

A step is what a loop turn makes one replica persist, send, commit or apply. Each look costs what the step changed, not
what the log holds. The rules, by the names of the Raft paper (Ongaro and Ousterhout 2014, figure 3):

- election safety: one leader a term; nobody votes for two in a term, whatever it has lost meanwhile; nobody stands
  without a majority's pre-vote
- log matching: an entry's index and term decide its content and its predecessor, in all logs
- leader completeness: who leads holds all that was committed in earlier terms
- state machine safety: one entry is committed at an index; at equal index the replicas' states are equal
- durability: a vote or an acknowledgement leaves after its fsync; what is committed is on a majority's disks; a state
  that follows from no log is durable at once; what counts goes on to count as long as its disk does
- leases: while a node holds one on a group, nobody else is its leader; none outlasts the promises that it rests on
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from geodyne.peermessages import Appended, Entry, HeartbeatAck, PeerMessage, Vote, VoteRequest
from geodyne.ports import Clock, PeerNetwork
from geodyne.sim.elections import Elections
from geodyne.sim.leases import Leases
from geodyne.sim.promises import PROMISES, DurableLog, Promises
from geodyne.sim.replicadigests import ReplicaDigests
from node.compose import Node
from node.group import Group
from node.raft.core import Role
from node.raft.effects import FORGOTTEN, Effects, HardState
from node.state import GroupState
from node.storage.port import GroupUpdate

PROBLEMS_MAX = 20  # one broken rule breaks others: more would tell nothing new


class Watched(Protocol):
    """One node's machine, as geodyne.sim.region has it."""

    id: str
    alive: bool
    rotten: bool  # bits of its disk have changed
    node: Node | None
    disk: Any

    @property
    def clock(self) -> Clock: ...

    def state_is_durable(self) -> bool: ...


class _Known(NamedTuple):
    """An entry that some log has held."""

    previous_term: int
    content: int


class Checks:
    """All nodes of a region, over all of their lives. What is wrong goes into `problems`, with the step's number."""

    def __init__(self, problems: list[str], now_s: Any) -> None:
        """`now_s`: the virtual time, for the text of a problem."""
        self.steps = 0
        self.replicas_compared = 0
        self._problems = problems
        self._now_s = now_s
        self.elections = Elections()
        self._leases = Leases()
        self._promises = Promises()
        self._digests = ReplicaDigests()
        self._watches: dict[str, _Watch] = {}
        self._left: dict[str, set[int]] = {}  # node -> what its disk says for good that it gave up
        self._lives = 0
        self._entries: dict[tuple[int, int, int], _Known] = {}  # (group, index, term)
        self._committed: dict[int, dict[int, int]] = {}  # group -> index -> term
        self._committed_to: dict[int, int] = {}
        self._voting: dict[int, tuple[int, frozenset[str]]] = {}  # group -> (index, who votes) as last committed
        self._leading: dict[int, dict[str, Group]] = {}  # group -> node -> its replica, while it thinks that it leads
        self._contested: tuple[int, ...] = ()  # groups that more than one node thinks it leads

    def watch(self, machine: Watched, network: PeerNetwork) -> PeerNetwork:
        """A node has been opened and is about to start: look at it from now on. Returns the network to give it."""
        self._lives += 1
        watch = _Watch(self, machine, network, self._lives)
        self._watches[machine.id] = watch
        self.died(machine.id)
        return watch

    def died(self, node: str) -> None:
        """The process is gone, and with it whatever it thought it led."""
        for leading in self._leading.values():
            leading.pop(node, None)
        self._compare_leaders()

    def stepped_since(self) -> Iterator[Group]:
        """The replicas of live nodes that a step has changed since the last call, and that are still there."""
        for watch in self._watches.values():
            stepped, watch.stepped = watch.stepped, {}
            if watch.machine.alive and watch.machine.node is watch.node:
                groups = watch.node.service.groups
                yield from (group for number, group in stepped.items() if groups.get(number) is group)

    def _compare_leaders(self) -> None:
        self._contested = tuple(group for group, leading in self._leading.items() if len(leading) > 1)

    def disk_lost(self, node: str) -> None:
        """What the node comes back with is empty."""
        self._promises.lost(node)
        self.left(node).clear()

    def left(self, node: str) -> set[int]:
        """The partitions of which the node's disk has had a replica that it gave up, in this life or an earlier one."""
        return self._left.setdefault(node, set())

    @property
    def leaderships(self) -> int:
        """How many terms of all groups had a leader."""
        return self.elections.leaderships

    def committed_term(self, partition: int) -> int:
        """Of the last entry that any node has committed; -1 when that is not known."""
        return self._committed.get(partition, {}).get(self._committed_to.get(partition, 0), -1)

    def problem(self, what: str) -> None:
        if what and len(self._problems) < PROBLEMS_MAX:
            self._problems.append(f"step {self.steps} at {self._now_s():.6f} s: {what}")

    # --- one step ---------------------------------------------------------------------------------------

    def stepped(self, watch: _Watch, group: Group, effects: Effects) -> None:
        self.steps += 1
        raft = group.raft
        if effects.entries:
            self._logged(watch, group, effects.entries)
        partition, term = group.partition, raft.term
        watch.stepped[partition] = group
        known = watch.terms.get(partition, 0)
        if term != known:
            if term < known:
                self.problem(f"{watch.id} went back from term {known} of group {partition}")
            watch.terms[partition] = term
        if wrong := self.elections.stepped(watch.id, group):
            self.problem(wrong)
        if raft.commit_index > watch.commits.get(partition, -1):
            self._commits(watch, group)
        if effects.role_changed:
            self._role(watch, group)
            if group.serving and group.leading and raft.log.term(raft.commit_index) != raft.term:
                self.problem(
                    f"{watch.id} serves group {group.partition}, and has committed nothing in term {raft.term}"
                )
        if partition in self._contested:
            self._exclusive(partition)

    def last_words(self, watch: _Watch, group: Group) -> None:
        """A leader whose disk has failed performs no effects any more, but takes notice of who has what, commits by
        that, and tells so (node.failing). What it counts itself for has been fsynced before the failure."""
        if group.raft.commit_index > watch.commits.get(group.partition, -1):
            self._commits(watch, group)

    def _logged(self, watch: _Watch, group: Group, entries: Sequence[Entry]) -> None:
        partition, first = group.partition, entries[0].index
        if first <= watch.logged.get(partition, 0):
            self._promises.cut(watch.id, partition, first)
            watch.log.cut(partition, first)
        watch.logged[partition] = entries[-1].index
        log = group.raft.log
        previous = log.term(first - 1) if log.offset_index < first <= log.last_index + 1 else -1
        for entry in entries:
            one = _Known(previous, zlib.crc32(entry.payload))
            known = self._entries.setdefault((partition, entry.index, entry.term), one)
            if known.content != one.content or (known.previous_term != previous and -1 not in (known[0], previous)):
                self.problem(
                    f"{watch.id}: entry {entry.index} of term {entry.term} in group {partition} is another one"
                )
            previous = entry.term

    def _commits(self, watch: _Watch, group: Group) -> None:
        partition, raft = group.partition, group.raft
        log, high = raft.log, raft.commit_index
        low = max(watch.commits.get(partition, 0), log.offset_index - 1)
        watch.commits[partition] = high
        terms = self._committed.setdefault(partition, {})
        for index in range(low + 1, min(high, log.last_index) + 1):
            term = log.term(index)
            if terms.setdefault(index, term) != term:
                self.problem(
                    f"{watch.id} commits term {term} at {index} in group {partition}: term {terms[index]} is committed"
                )
        if self._voting.get(partition, (0,))[0] < raft.configuration_index <= high:
            self._voting[partition] = raft.configuration_index, frozenset(raft.configuration.voting)
        if high > self._committed_to.get(partition, 0):
            self._committed_to[partition] = high
            self._majority(watch, group)

    def _majority(self, watch: _Watch, group: Group) -> None:
        """What is committed for the first time lies on the disks of a majority of each set of voters. A leader counts
        only for entries of its own term (Raft, section 5.4.2)."""
        partition, index, raft = group.partition, group.raft.commit_index, group.raft
        if raft.role is Role.LEADER and raft.log.term(index) != raft.term:
            self.problem(
                f"{watch.id} commits {index} of group {partition} in term {raft.term}, and it is of an earlier one"
            )
        if watch.log.holds_entry(partition, index):
            self._promises.durable(watch.id, partition, index)
        for voters in _quorums(group):
            holders = [voter for voter in voters if self._promises.durable_on(voter, partition) >= index]
            if 2 * len(holders) <= len(voters):
                self.problem(
                    f"{watch.id} commits {index} in group {partition} of {voters}: only the disks of {holders} hold it"
                )

    def _role(self, watch: _Watch, group: Group) -> None:
        partition, raft = group.partition, group.raft
        leading = self._leading.setdefault(partition, {})
        if raft.role is not Role.LEADER:
            leading.pop(watch.id, None)
            self._compare_leaders()
            return
        leading[watch.id] = group
        self._compare_leaders()
        alone = [set(voters) for voters in _quorums(group)] == [{watch.id}]
        news, wrong = self.elections.led(watch.id, watch.life, partition, raft.term, alone=alone)
        self.problem(wrong)
        if news:
            self._complete(watch, group)

    def _complete(self, watch: _Watch, group: Group) -> None:
        """A new leader holds the last entry that was committed in an earlier term, and so all before it."""
        partition, raft = group.partition, group.raft
        terms = self._committed.get(partition, {})
        index = self._committed_to.get(partition, 0)
        while index > 0 and terms.get(index, -1) >= raft.term:
            index -= 1
        if index <= raft.log.offset_index or index not in terms:
            return
        if not raft.log.holds(index, terms[index]):
            self.problem(
                f"{watch.id} leads term {raft.term} of group {partition} without entry {index} of term {terms[index]}, "
                "which is committed"
            )

    def _exclusive(self, partition: int) -> None:
        """While a lease lasts nobody else is elected: who leads an earlier term has none."""
        leading = self._leading[partition]
        newest = max(group.raft.term for group in leading.values())
        for node, group in leading.items():
            machine = self._watches[node].machine
            if group.raft.term < newest and machine.alive and group.raft.lease_valid(machine.clock.lease_ms()):
                self.problem(f"{node} has a lease on group {partition} in term {group.raft.term}: term {newest} is led")

    # --- storage and network ----------------------------------------------------------------------------

    def sent(self, watch: _Watch, peer: str, message: PeerMessage) -> None:
        """One of `PROMISES` leaves a node."""
        promises, life = self._promises, watch.life
        again = isinstance(message, (Vote, VoteRequest)) and promises.took_part(watch.id, life, message.group)
        if wrong := promises.sent(watch.id, life, peer, message, watch.log):
            self.problem(wrong)
        if isinstance(message, Appended):
            return
        service = watch.node.service
        own, own_ms = service.liveness, watch.machine.clock.lease_ms()
        if isinstance(message, Vote):
            if message.granted and message.pre:
                self.elections.granted(watch.id, peer, message)
            elif message.granted:
                self.problem(self._leases.votes(watch.id, peer, message, own, own_ms, again))
        elif isinstance(message, VoteRequest) and not message.pre:
            self.problem(self._leases.stands(watch.id, message, own, own_ms, again))
            group = service.groups.get(message.group)
            if group is not None:
                self.problem(self.elections.stands(watch.id, message, _quorums(group)))

    def acknowledged(self, watch: _Watch, peer: str) -> None:
        """A node has taken a heartbeat's acknowledgement."""
        other = self._watches.get(peer)
        if other is None or not other.machine.alive:
            return
        own, theirs = watch.machine.clock.lease_ms(), other.machine.clock.lease_ms()
        liveness = watch.node.service.liveness, other.node.service.liveness
        if wrong := self._leases.acknowledged(watch.id, liveness[0], own, peer, liveness[1], theirs):
            self.problem(wrong)
        for partition in self._contested:
            if watch.id in self._leading[partition]:
                self._exclusive(partition)

    def applied(self, watch: _Watch, update: GroupUpdate, applied_index: int) -> None:
        self.replicas_compared += 1
        if not watch.log.holds_entry(update.partition, applied_index):
            self.problem(f"{watch.id} applies {applied_index} in group {update.partition}: its log does not hold it")
        self.problem(self._digests.applied(watch.id, update, applied_index))

    def loaded(self, watch: _Watch, partition: int, state: GroupState) -> None:
        self.problem(
            self._digests.loaded(watch.id, partition, watch.node._store, state.applied_index, state.to_bytes())
        )

    def owns(self, watch: _Watch, partition: int) -> None:
        """The state has a first version, or another one, that follows from nothing in the node's own log."""
        if not watch.machine.state_is_durable():
            self.problem(f"{watch.id} has a state of group {partition} that is neither in its log nor durable")

    def given_up(self, watch: _Watch, partition: int) -> None:
        """Whoever has acknowledged the committed configuration in which it votes stays, unless the table goes."""
        index, voting = self._voting.get(partition, (0, frozenset()))
        stays = watch.node.service.catalog.assigned(partition) is not None
        if stays and watch.id in voting and self._promises.acknowledged(watch.id, partition) >= index:
            self.problem(f"{watch.id} gives up group {partition}, in which it votes by the entry {index}")
        self.destroyed(watch, partition)

    def destroyed(self, watch: _Watch, partition: int) -> None:
        self._promises.destroyed(watch.id, partition)
        self._digests.destroyed(watch.id, partition)
        self._leading.get(partition, {}).pop(watch.id, None)
        self._compare_leaders()

    def forgotten(self, watch: _Watch, partition: int) -> None:
        """A replica is written down as a newcomer. It counts for nothing then, and what it promised with it: only
        damage and a lost disk are a reason. One that was given up has promised nothing any more."""
        acknowledged = self._promises.forgotten(watch.id, partition)
        if acknowledged is not None and not watch.machine.rotten:
            self.problem(f"{watch.id} acknowledged entry {acknowledged} of group {partition}, and is a newcomer now")

    def recovered(self, watch: _Watch) -> None:
        """What a start has found on disk, before anything is done with it."""
        groups = watch.node.service.groups
        self._digests.started(watch.id)
        for partition in groups._logs.keys() | groups._stored.keys():
            state = groups.stored_state(partition)
            if state is not None:
                self.loaded(watch, partition, state)
                watch.log.state_recovered(partition, state.applied_term)
        for partition, recovered in groups._logs.items():
            if recovered.entries and recovered.entries[-1].term > recovered.hard_state[0]:
                self.problem(f"{watch.id} recovered entries of group {partition} from a term that it does not know")
        for partition in self._promises.promised(watch.id):
            log, state = groups._logs.get(partition), groups.stored_state(partition)
            hard_state = HardState(*log.hard_state) if log is not None else HardState(0, "")
            if hard_state.vote == FORGOTTEN:
                self.forgotten(watch, partition)
                continue
            reach = max(
                (log.entries[-1].index if log.entries else log.offset_index) if log is not None else 0,
                state.applied_index if state is not None else 0,
            )
            self.problem(self._promises.recovered(watch.id, partition, hard_state.term, hard_state.vote, reach))


def _quorums(group: Group) -> list[Sequence[str]]:
    """The sets of voters of which each must have a majority: one, or the old and the new one in a joint
    configuration."""
    configuration = group.raft.configuration
    return [part for part in (configuration.voters, configuration.outgoing) if part]


class _Watch:
    """One life of a node: what it does passes through here. Implements geodyne.ports.PeerNetwork for it."""

    def __init__(self, checks: Checks, machine: Watched, network: PeerNetwork, life: int) -> None:
        assert machine.node is not None
        self.id = machine.id
        self.machine = machine
        self.life = life
        self.node = machine.node
        self.log = DurableLog(machine.node._log, machine.disk.files)
        self.terms: dict[int, int] = {}
        self.commits: dict[int, int] = {}
        self.given_up: set[int] = set()  # in this life
        self.logged: dict[int, int] = {}  # the last index that a group's log has reached
        self.stepped: dict[int, Group] = {}  # since somebody asked
        self._checks = checks
        self._network = network
        checks.recovered(self)
        self._look_at_storage()
        self._look_at_service()

    def send(self, peer: str, message: PeerMessage) -> None:
        if type(message) in PROMISES:
            self._checks.sent(self, peer, message)
        self._network.send(peer, message)

    def connected(self, peer: str) -> bool:
        return self._network.connected(peer)

    def _look_at_storage(self) -> None:
        log, store, checks = self.node._log, self.node._store, self._checks
        append_hard_state, append, destroy, apply = log.set_hard_state, log.append, log.destroy, store.apply
        create, install = store.create, store.install
        left = checks.left(self.id)
        for partition, held in log._index.groups.items():
            self.logged[partition] = held.last_index

        def hard_state_appended(group: int, term: int, vote: str) -> None:
            append_hard_state(group, term, vote)
            self.log.hard_state_appended(group, term, vote)
            if vote == FORGOTTEN:
                checks.forgotten(self, group)

        def appended(group: int, entries: Sequence[Entry]) -> None:
            append(group, entries)
            if entries and entries[-1].term > log._index.groups[group].term:  # a torn write would keep them without it
                checks.problem(f"{self.id} writes entries of group {group} before their term {entries[-1].term}")

        def created(group: int, state: bytes) -> None:
            create(group, state)
            checks.owns(self, group)

        async def installed(group: int, *parts: Any) -> None:
            await install(group, *parts)
            checks.owns(self, group)

        def destroyed(group: int) -> None:
            destroy(group)
            self.log.destroyed(group)
            checks.destroyed(self, group)

        def applied(updates: Sequence[GroupUpdate]) -> None:
            apply(updates)
            for update in updates:
                group = self.node.service.groups.get(update.partition)
                if group is not None:
                    checks.applied(self, update, group.state.applied_index)

        groups = self.node.service.groups
        give_up, gone, hold = groups._give_up, groups._gone, groups.hold

        def given_up(group: int) -> None:
            """The replica lives elsewhere, or nowhere: what is left of it here counts for nothing."""
            checks.given_up(self, group)
            give_up(group)
            self.log.destroyed(group)
            self.commits.pop(group, None)
            self.logged.pop(group, None)
            self.given_up.add(group)

        def gone_for_good(group: int) -> None:
            """The log holds that the replica is given up."""
            gone(group)
            left.add(group)

        def held_again(group: int, *arguments: Any, **more: Any) -> None:
            """What is held again after it was given up has forgotten what it promised."""
            hold(group, *arguments, **more)
            replica = groups.get(group)
            if (group in self.given_up or group in left) and replica is not None:
                self.given_up.discard(group)
                left.discard(group)
                self.log.held_again(group)
                if not replica.raft.newcomer:
                    checks.problem(f"{self.id} holds group {group} again, and counts at once")

        vars(log).update(set_hard_state=hard_state_appended, append=appended, destroy=destroyed)
        vars(groups).update(_give_up=given_up, _gone=gone_for_good, hold=held_again)
        vars(store).update(apply=applied, create=created, install=installed)

    def _look_at_service(self) -> None:
        service, checks = self.node.service, self._checks
        perform, reloaded, take_ack = service._perform, service.reloaded, service.liveness.on_heartbeat_ack
        turn = service._turn

        def turned() -> None:
            for group in service.groups:
                if group._builder is not None:  # a message of this turn may end the leadership before it is proposed
                    checks.problem(f"{self.id}: what was built for group {group.partition} outside a turn is open")
            turn()

        def performed(group: Group, effects: Effects, durable: list[Any]) -> None:
            perform(group, effects, durable)
            checks.stepped(self, group, effects)

        def loaded(group: Group) -> None:
            checks.loaded(self, group.partition, group.state)
            reloaded(group)

        def acknowledged(peer: str, ack: HeartbeatAck, now_ms: int) -> None:
            take_ack(peer, ack, now_ms)
            checks.acknowledged(self, peer)

        tell = service.failure._tell

        def told(group: Group) -> None:
            tell(group)
            checks.last_words(self, group)

        vars(service.liveness).update(on_heartbeat_ack=acknowledged)
        vars(service.failure).update(_tell=told)
        vars(service).update(_perform=performed, reloaded=loaded, _turn=turned)
