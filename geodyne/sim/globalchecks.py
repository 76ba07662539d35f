"""What must hold between regions, looked at when a node applies an entry and when a replicator ships a batch.

- order: the versions of an item grow in every partition that holds it
- identity: a version stands for one image everywhere, and is first seen in the region whose name it bears
- time: no change is applied that lies further in the future of the region that takes it than it may
- no loops: what is shipped was made in the region that ships it, unless a new replica is being filled
- leaving: what a region writes after the time up to which it goes on sending, it sends to nobody
- cursors: one passes a change only when the destination holds that change or a newer one
- watermarks: what a region says has arrived from another up to a time, it holds, or something newer
- comparing: only what a region had sent to some when it was removed differs; what differs is not there, and stays so
- tombstones: none goes before every region holds it or something newer; nothing older comes after it (see order)
- conflicts: what a region keeps as lost for certain is a write of its own that the winner's maker had not applied
- nothing lost: in the end each item has, in every region, the newest version that any region holding it has applied
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from geodyne.catalog import LeavingStage, replica_consumer
from geodyne.model import version as versions
from geodyne.sim.globalregions import Regions
from geodyne.sim.loop import PROCESS
from geodyne.sim.network import Violation
from geodyne.wire import log_v1_pb2 as log
from node.conflictlog import ConflictLog
from node.entries import Decided
from node.group import Group
from node.state import SEQUENCE_SHIFT, GroupState
from replication.apply import APPLY_TIMEOUT_MS
from replication.link import DestinationLink
from replication.values import CLOCK_SKEW_MS_MAX, Watermark
from replication.verify import Comparison, Pair, Verifier
from replication.watermarks import Watermarks

CONSUMER = replica_consumer("")
SLACK_S = 2.0  # of a call that is given up, until what it asked for no longer happens


class Place(NamedTuple):
    """One partition of one region's one life: what a region that was wiped begins with is another one."""

    region: str
    life: int
    partition: int


class Held(NamedTuple):
    """What a place has applied last of a key."""

    version: bytes
    image: bytes | None


class NoLeaderError(Exception):
    """Now nobody can be asked."""


class _Claim(NamedTuple):
    """Somebody said that a destination holds a change or a newer one."""

    destination: str
    life: int
    key: bytes
    version: bytes
    text: str


class _Own:
    """Changes that a place made itself, in the order of its feed, which is that of their versions but for those that it
    made before it was removed, and is sent now that it is back."""

    __slots__ = ("changes", "sequences")

    def __init__(self) -> None:
        self.sequences: list[int] = []
        self.changes: list[tuple[bytes, bytes]] = []  # key, version


class GlobalChecks:
    """All regions of a run. `keys`: those of the table; other rows are not looked at."""

    def __init__(self, regions: Regions, keys: Iterable[bytes]) -> None:
        self._regions = regions
        self._keys = frozenset(keys)
        self._indexes: dict[Place, int] = {}  # applied by any replica
        self._images: dict[tuple[bytes, bytes], bytes | None] = {}  # (key, version)
        self._own: dict[Place, _Own] = {}
        self._passed: dict[tuple[Place, str], int] = {}
        self._said: dict[tuple[str, int, Place], int] = {}  # destination, its life, source: changes below a watermark
        self._graves: dict[bytes, bytes] = {}  # key -> the largest version of a deletion whose tombstone is gone
        self._history: dict[tuple[Place, bytes], list[bytes]] = {}  # versions of a key, as they were applied
        self._known: dict[
            tuple[bytes, bytes], tuple[Place, int]
        ] = {}  # (key, version): how much of which history it had
        self._claims: list[_Claim] = []  # of destinations that have not applied all that they have committed
        # Of replicators: since when, how far off.
        self._walls = {name: [(0.0, one.clock.skew_us)] for name, one in regions.replicators.items()}
        self.held: dict[Place, dict[bytes, Held]] = {}
        self.made: dict[bytes, set[bytes]] = {}  # key -> images that its own region has applied
        self.lives: dict[str, int] = dict.fromkeys(regions.by_name, 0)
        self.gone: set[str] = set()  # regions that had the table taken away, or lost it
        self.arrived = 0  # changes of other regions that were newer
        self.collected = 0  # tombstones
        self.differing = 0  # items, as comparisons said
        self.conflicts = 0  # losses that were certain
        self.problems: list[str] = []

    def problem(self, what: str) -> None:
        if len(self.problems) < 5:
            self.problems.append(f"at {self._regions.loop.now:.3f} s: {what}")

    def check(self) -> None:
        """Raises Violation."""
        claims, self._claims = self._claims, []
        for claim in claims:
            self._claim(claim)
        if self.problems:
            raise Violation("; ".join(self.problems))

    def clock_set(self, region: str, skew_us: int) -> None:
        """The clocks of a region have been set."""
        self._walls[region].append((self._regions.loop.now, skew_us))

    # --- applying ---------------------------------------------------------------------------------------

    def place(self, region: str, partition: int) -> Place:
        return Place(region, self.lives[region], partition)

    def applied(self, partition: int, state: GroupState, decided: Decided) -> None:
        """A replica is about to apply an entry. What some replica has applied before is known."""
        region = PROCESS.get().partition("/")[0]
        payload = decided.payload
        if not region or not (decided.effects or payload.cursors or payload.collected):
            return
        place = self.place(region, partition)
        if decided.index <= self._indexes.get(place, 0):
            return
        self._indexes[place] = decided.index
        for position, effect in enumerate(decided.effects):
            key, row, version = effect[0], effect[1], effect[2]
            if key in self._keys:
                image = row.value if row is not None else None
                if payload.effects[position].HasField("lost"):
                    self._lost(place, key, version, payload.effects[position].lost)
                self._change(place, decided.index << SEQUENCE_SHIFT | position, key, version, image)
                if row is None and not any(name.startswith(CONSUMER) for name in state.definition.consumers):
                    # The table has no other replica: nothing older can arrive, and no tombstone is needed. Whoever
                    # becomes one later begins without the item, and may write it by a clock that is behind.
                    del self.held[place][key]
                    self._graves[key] = max(version, self._graves.get(key, b""))
        for tombstone in payload.collected:
            if tombstone.key in self._keys:
                self._collected(place, state, tombstone.key, tombstone.version)
        for cursor in payload.cursors:
            if cursor.consumer.startswith(CONSUMER) and not cursor.lost:
                self._cursor(place, state, cursor.consumer, cursor.sequence)

    def _change(self, place: Place, sequence: int, key: bytes, version: bytes, image: bytes | None) -> None:
        held = self.held.setdefault(place, {})
        before = held.get(key)
        # A tombstone may come again when it is gone here: from a region that is back, and had it from a third one.
        again = image is None and self._graves.get(key, b"") >= version and before == Held(version, None)
        if before is not None and before.version >= version and not again:
            self.problem(f"{place} applies {_named(key, version)} over {_named(key, before.version)}")
        held[key] = Held(version, image)
        history = self._history.setdefault((place, key), [])
        if versions.region(version) == place.region:
            self._known[key, version] = place, len(history)
        history.append(version)
        origin = versions.region(version)
        known = self._images.setdefault((key, version), image)
        if known != image and origin == place.region and self._forgotten(key, version, origin):
            known = self._images[key, version] = image
        if known != image:
            self.problem(f"{place} has another image of {_named(key, version)}: {image!r}, not {known!r}")
        if origin == place.region:
            own = self._own.setdefault(place, _Own())
            own.sequences.append(sequence)
            own.changes.append((key, version))
            if image is not None:
                self.made.setdefault(key, set()).add(image)
            return
        self.arrived += 1
        ahead_ms = versions.time_us(version) // 1000 - self._latest_us(place.region) // 1000
        if ahead_ms > CLOCK_SKEW_MS_MAX:
            self.problem(f"{place} applies {_named(key, version)} {ahead_ms} ms before its time")

    def _forgotten(self, key: bytes, version: bytes, origin: str) -> bool:
        """A region that was removed, and is back with a clock that was set back, may make a version again. Of the first
        one nothing may be left, then."""
        others = [name for name in self._regions.by_name if name != origin]
        held = [self.of(name).get(key) for name in others]
        return origin in self.gone and all(one is None or one.version != version for one in held)

    def _lost(self, place: Place, key: bytes, won: bytes, lost: log.Lost) -> None:
        """A write of another region is about to take the place of one that was made here, without having seen it."""
        if versions.region(lost.version) != place.region or self.held[place][key].version != lost.version:
            self.problem(f"{place} keeps the loss of {_named(key, lost.version)}, which is not its own to lose")
        if lost.perhaps or (key, won) not in self._known:
            return
        self.conflicts += 1
        maker, count = self._known[key, won]
        if lost.version in self._history[maker, key][:count]:
            self.problem(f"{place} keeps the loss of {_named(key, lost.version)} to {_named(key, won)}, made with it")

    def _latest_us(self, region: str) -> int:
        """The latest that the replicator's clock may have shown when it let a change pass that is applied now."""
        clock, now = self._regions.replicators[region].clock, self._regions.loop.now
        since = now - APPLY_TIMEOUT_MS / 1000 - SLACK_S
        skews = [clock.skew_us]
        settings = self._walls[region]
        for number, (at, skew_us) in enumerate(settings):
            until = settings[number + 1][0] if number + 1 < len(settings) else now
            if until >= since and at <= now:
                skews.append(skew_us)
        return clock.wall_us() - clock.skew_us + max(skews)

    def _cursor(self, place: Place, state: GroupState, consumer: str, sequence: int) -> None:
        """All that this cursor passes now is held by its destination."""
        destination = consumer[len(CONSUMER) :]
        own = self._own.get(place)
        mark = (place, consumer)
        begin = max(self._passed.get(mark, -1), state.cursors.get(consumer, sequence))
        self._passed[mark] = max(begin, sequence)
        if own is None or consumer not in state.definition.consumers:
            return
        for number in range(bisect_right(own.sequences, begin), bisect_right(own.sequences, sequence)):
            key, version = own.changes[number]
            if self._left_out(place.region, version):
                continue
            self._claim(_Claim(destination, self.lives[destination], key, version, f"{place} passes it"))

    def _left_out(self, region: str, version: bytes) -> bool:
        """A region that leaves does not send what it writes from some time on."""
        table = self._regions.table(region)
        leaving = table.leaving if table is not None else None
        fenced = leaving is not None and leaving.stage is LeavingStage.FENCED
        return fenced and leaving is not None and versions.time_us(version) > leaving.through_us

    def _collected(self, place: Place, state: GroupState, key: bytes, version: bytes) -> None:
        """All that the place ships to have the tombstone, or something newer; that nothing older comes is seen then."""
        self.collected += 1
        self._graves[key] = max(version, self._graves.get(key, b""))
        for consumer in state.definition.consumers:
            if consumer.startswith(CONSUMER):
                name = consumer[len(CONSUMER) :]
                self._claim(_Claim(name, self.lives[name], key, version, f"{place} drops the tombstone"))

    def told(self, destination: str, source: str, us: int) -> None:
        """A region knows a new watermark of another one's table: all that was written there up to then is here."""
        table = self._regions.table(source)
        for partition in table.partitions if table is not None else ():
            place = self.place(source, partition.id)
            own, known = self._own.get(place), (destination, self.lives[destination], place)
            if own is None:
                continue
            begin = self._said.get(known, 0)
            for key, version in own.changes[begin:]:
                if versions.time_us(version) <= us and not self._left_out(source, version):
                    begin += 1 if own.changes[begin] == (key, version) else 0
                    text = f"the watermark of {source} passes it"
                    self._claim(_Claim(destination, self.lives[destination], key, version, text))
            self._said[known] = begin

    def _claim(self, claim: _Claim) -> None:
        """What was acknowledged is committed, and held once it is applied."""
        destination = claim.destination
        table = self._regions.table(destination)
        if table is None or claim.life != self.lives[destination]:
            return
        there = [self.held.get(self.place(destination, one.id), {}) for one in table.partitions]
        if any(claim.key in one and one[claim.key].version >= claim.version for one in there):
            return
        if destination in self.gone and self._graves.get(claim.key, b"") >= claim.version:
            return  # deleted before the region was filled anew, and nothing told it
        here = self._regions.by_name[destination]
        for partition in table.partitions:
            leader = here.leader(partition.id)
            group = here.group(leader, partition.id) if leader is not None else None
            if group is None or group.state.applied_index < group.raft.commit_index:
                self._claims.append(claim)
                return
        self.problem(f"{destination} does not hold {_named(claim.key, claim.version)}: {claim.text}")

    # --- shipping ---------------------------------------------------------------------------------------

    def shipped(self, link: DestinationLink, changes: Iterable[Any]) -> None:
        region = PROCESS.get().partition("/")[0]
        replicator = self._regions.replicators[region].replicator
        if replicator is None or replicator._scans[link.region].running:
            return
        for change in changes:
            if versions.region(change.version) != region:
                self.problem(f"{region} sends {_named(change.key, change.version)} on to {link.region}")
            elif change.key in self._keys and self._left_out(region, change.version):
                self.problem(f"{region} leaves, and still sends {_named(change.key, change.version)} to {link.region}")

    # --- comparing --------------------------------------------------------------------------------------

    def differs(self, comparison: Comparison, key: bytes, pair: Pair) -> None:
        """A comparison says that an item differs in two regions, and that it is not on its way."""
        self.differing += 1
        newer = pair.newer
        behind = comparison.own if pair.own is None or pair.own.version < newer.version else comparison.other
        if versions.region(newer.version) not in self.gone:
            self.problem(f"{comparison.own} reports of {comparison.other} a difference of {_named(key, newer.version)}")
        held = self.of(behind).get(key)
        if held is not None and held.version == newer.version:
            self.problem(f"{comparison.own} reports that {behind} lacks {_named(key, newer.version)}, and it does not")

    # --- in the end -------------------------------------------------------------------------------------

    def newest(self) -> dict[bytes, Held]:
        """Of each key, what the regions that have the table must agree on."""
        result: dict[bytes, Held] = {}
        for region in self._regions.by_name:
            for key, held in self.of(region).items():
                if key not in result or result[key].version < held.version:
                    result[key] = held
        return result

    def of(self, region: str) -> Mapping[bytes, Held]:
        """What a region has applied, in the partitions that the table has there now."""
        table = self._regions.table(region)
        rows: dict[bytes, Held] = {}
        for partition in table.partitions if table is not None else ():
            rows.update(self.held.get(self.place(region, partition.id), {}))
        return rows

    def stored(self, region: str) -> dict[bytes, Held]:
        """The rows themselves, tombstones included, of one replica of each partition. Raises NoLeaderError."""
        here, table = self._regions.by_name[region], self._regions.table(region)
        rows: dict[bytes, Held] = {}
        for partition in table.partitions if table is not None else ():
            leader = here.leader(partition.id)
            if leader is None or leader.node is None:
                raise NoLeaderError(f"{region}: partition {partition.id} has no leader")
            for key, row in leader.node._store.range(partition.id, b"", b"\xff" * 64, False, 100_000, tombstones=True):
                if key in self._keys:
                    rows[key] = Held(row.version, row.value)
        return rows

    def difference(self, region: str) -> str:
        """How a region's rows differ from what all must have; "" when they do not. A tombstone may be gone."""
        try:
            newest, stored = self.newest(), self.stored(region)
        except NoLeaderError as error:  # an election: whoever waits looks again
            return str(error)
        for key in sorted(newest.keys() | stored.keys()):
            wanted, found = newest.get(key), stored.get(key)
            if wanted != found and not (found is None and wanted is not None and wanted.image is None):
                texts = [_named(key, one.version) if one is not None else "nothing" for one in (found, wanted)]
                return f"{region} has {texts[0]}, not {texts[1]}"
        return ""


def _named(key: bytes, version: bytes) -> str:
    us = versions.time_us(version) - 1_700_000_000_000_000
    return f"{key[8:].decode('ascii', 'replace')!r} of {us / 1e6:.6f} s in {versions.region(version)}"


@contextmanager
def watched(checks: GlobalChecks) -> Iterator[None]:
    """While it lasts, whatever any node applies and any replicator ships is looked at."""
    decided_of: Callable[[Group, int], Decided] = Group._next_decided
    ship = DestinationLink.ship
    hear = Watermarks.hear
    note = Verifier._note

    def next_decided(group: Group, index: int) -> Decided:
        decided = decided_of(group, index)
        checks.applied(group.partition, group.state, decided)
        return decided

    def shipping(link: DestinationLink, table: str, table_id: str, changes: Any, *rest: Any) -> None:
        checks.shipped(link, changes)
        ship(link, table, table_id, changes, *rest)

    def hearing(watermarks: Watermarks, source: str, said: Watermark) -> None:
        hear(watermarks, source, said)
        us = watermarks.us(said.table_id, source)
        if us:
            checks.told(PROCESS.get().partition("/")[0], source, us)

    def noting(verifier: Verifier, key: bytes, pair: Pair) -> None:
        checks.differs(verifier.state, key, pair)
        note(verifier, key, pair)

    with (
        patch.object(ConflictLog, "_work_soon", lambda log: log._buffer.clear()),  # threads write its files
        patch.object(Verifier, "_note", noting),
        patch.object(Group, "_next_decided", next_decided),
        patch.object(DestinationLink, "ship", shipping),
        patch.object(Watermarks, "hear", hearing),
    ):
        yield
