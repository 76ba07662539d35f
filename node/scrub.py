"""Comparing the replicas of a partition with each other, range of keys by range of keys, in the background.

The leader of a partition logs an entry that names a range of some hundred rows. Each replica, once it has applied that
entry and before it applies another, digests what its state holds in the range, so all digests are of the same moment
without holding up anything. The followers tell the leader, and a replica that differs from a majority is healed.
Reading the rows checks them as well, so each replica also finds by itself what its own disk has damaged.

Bounded by rows and bytes a second over all partitions that a node leads. A pass over a partition is followed by a long
rest, so a quiet partition costs an entry for each range, a few times a day.
"""

from __future__ import annotations

import logging
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING

from geodyne.model.expiry import Expiry
from geodyne.peermessages import ScrubDigest
from node.storage.port import LocalEntry, StorageError
from node.storage.sqlite import StateStore

if TYPE_CHECKING:
    from node.applying import Scrubbed
    from node.group import Group
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.storage")

RANGE_ROWS = 256
RANGE_BYTES = 256 * 1024
DIGEST_ROWS_MAX = 4 * RANGE_ROWS  # rows may come into the range after the leader chose it; equal on all replicas
RANGES_PER_STEP = 4  # a step each second: at most 1,024 rows or about 1 MB of values
ANSWERS_MS_MAX = 10_000  # how long the digests of the others are waited for
FIRST_PASS_MS = 60_000  # after a partition was first led here
REST_MS = 6 * 3_600_000  # between two passes over a partition
KEYS_END = b"\xff" * 64
DIGEST_BYTES = 16


class _Pass:
    """Where a leader is with one partition."""

    __slots__ = ("after", "digests", "due_ms", "index", "term")

    def __init__(self, due_ms: int) -> None:
        self.due_ms = due_ms
        self.term = 0
        self.after = b""  # the next range begins here
        self.index = 0  # of the entry whose digests are awaited, 0: none
        self.digests: dict[str, bytes] = {}


class Scrub:
    """The comparisons that one node leads and takes part in."""

    def __init__(self, service: NodeService, store: StateStore) -> None:
        self._service = service
        self._store = store
        self._passes: dict[int, _Pass] = {}  # one for each partition that is led here

    # --- every replica -----------------------------------------------------------------------------------

    def applied(self, group: Group, scrubbed: Scrubbed) -> None:
        """The state is as of the entry that asks for a digest."""
        try:
            digest = self._digest(group, scrubbed.low, scrubbed.high)
        except StorageError as error:
            logger.warning("not scrubbed", extra={"partition": group.partition, "reason": str(error)})
            return
        if group.leading:
            self._take(group, group.raft.node_id, scrubbed.index, digest)
        elif group.raft.leader and self._service.network.connected(group.raft.leader):
            message = ScrubDigest(group.partition, scrubbed.index, digest, False)
            self._service.network.send(group.raft.leader, message)

    def _digest(self, group: Group, low: bytes, high: bytes) -> bytes:
        digest = blake2b(digest_size=DIGEST_BYTES)
        state, indexes = group.state, group.local_indexes
        # Rows that the index does not have yet are not missed.
        whole = state.definition.ttl and self._store.expiries_filled(group.partition)
        expiry = Expiry(state.definition.ttl) if whole else None
        digest.update(b"%d %d %d %d" % (state.items, state.bytes, state.feed_head, state.feed_floor))
        for key, row in self._store.range(group.partition, low, high, False, DIGEST_ROWS_MAX, tombstones=True):
            value = row.value
            length = -1 if value is None else len(value)
            digest.update(b"%d %d %d %d " % (len(key), len(row.version), row.size, length))
            if indexes is not None and not all(map(partial(self._holds, group), indexes.derive(key, row).entries)):
                self._service.healing.found(group.partition, "an entry of a local index")
            if expiry is not None and not self._store.expires(group.partition, expiry.second(value), key):
                self._service.healing.found(group.partition, "an entry of the index of what expires")
            digest.update(key + row.version)
            if value is not None:
                digest.update(value)
        return digest.digest()

    def _holds(self, group: Group, entry: LocalEntry) -> bool:
        """Whether the entry that follows from a row is there. One that follows from none is not looked for."""
        end = entry.key + b"\0"
        return self._store.entries(group.partition, entry.slot, entry.key, end, False, 1) == [entry]

    def on_digest(self, group: Group, peer: str, message: ScrubDigest) -> None:
        if not message.differs:
            self._take(group, peer, message.index, message.digest)
        elif peer == group.raft.leader:
            self._service.healing.found(group.partition, "the state, by comparison with the other replicas,")

    # --- the leader --------------------------------------------------------------------------------------

    def step(self) -> None:
        """Every second: judge what is overdue, and compare some more ranges."""
        now_ms = self._service.now_ms()
        left = RANGES_PER_STEP
        for group in self._service.groups:
            if not group.serving or not group.leading:
                self._passes.pop(group.partition, None)
                continue
            one = self._passes.get(group.partition)
            if one is None:
                one = self._passes[group.partition] = _Pass(now_ms + FIRST_PASS_MS)
            if one.due_ms > now_ms or not left:
                continue
            left -= 1
            if one.index:
                self._judge(group, one)
            self._next_range(group, one, now_ms)

    def _next_range(self, group: Group, one: _Pass, now_ms: int) -> None:
        low = one.after
        try:
            rows = self._store.range(
                group.partition, low, KEYS_END, False, RANGE_ROWS, tombstones=True, bytes_max=RANGE_BYTES
            )
        except StorageError as error:
            logger.warning("not scrubbed", extra={"partition": group.partition, "reason": str(error)})
            one.due_ms, one.after = now_ms + FIRST_PASS_MS, b""
            return
        size = sum(len(row.value or b"") for _, row in rows)
        last = len(rows) < RANGE_ROWS and size < RANGE_BYTES
        high = KEYS_END if last else rows[-1][0] + b"\0"
        one.digests = {}
        one.index = group.log_scrub(low, high, self._service.clock.wall_us())
        one.after = b"" if last else high
        one.due_ms = now_ms + (REST_MS if last else ANSWERS_MS_MAX)
        self._service.touch(group)

    def _take(self, group: Group, node: str, index: int, digest: bytes) -> None:
        one = self._passes.get(group.partition)
        if one is None or index != one.index or not group.serving:
            return
        one.digests[node] = digest
        if all(voter in one.digests for voter in group.raft.voters):
            self._judge(group, one)
            if one.after:
                one.due_ms = 0  # go on with the next range

    def _judge(self, group: Group, one: _Pass) -> None:
        """Compare what has come; a replica that a majority of the voters contradicts is healed."""
        digests, index, one.index, one.digests = one.digests, one.index, 0, {}
        voters = group.raft.voters
        result = "equal" if all(voter in digests for voter in voters) else "incomplete"
        if len(set(digests.values())) > 1:
            result = "different"
            self._differing(group, index, digests)
        self._service.metrics.scrubs.labels(result).inc()

    def _differing(self, group: Group, index: int, digests: dict[str, bytes]) -> None:
        voters = group.raft.voters
        counts = {digest: sum(digests.get(voter) == digest for voter in voters) for digest in digests.values()}
        right = next((digest for digest, count in counts.items() if 2 * count > len(voters)), None)
        odd = sorted(node for node, digest in digests.items() if digest != right)
        logger.error(
            "replicas differ",
            extra={"partition": group.partition, "index": index, "differing": odd, "healed": right is not None},
        )
        if right is None:
            return
        for node in odd:
            if node == group.raft.node_id:
                self._service.healing.found(group.partition, "the state, by comparison with the other replicas,")
            else:
                self._service.network.send(node, ScrubDigest(group.partition, index, right, True))

    def forget(self, partition: int) -> None:
        """The replica is gone."""
        self._passes.pop(partition, None)
