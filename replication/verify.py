"""Comparing a table of this region with the same table of another, while both are written to.

The root of the tree is the table, its leaves are ranges of some hundred rows, as the own region's nodes slice them; a
question to the other region holds a few leaves. Where a leaf differs, versions are compared item by item.

Must hold:
- What is on its way is no difference. An item differs only if the side that has the older version, or none, had by its
  watermark everything that the newer one's region had written up to then, before it was read; and if both sides read
  the same a second time. What cannot be settled so within a time is neither equal nor different.
- Deletions for an item's time are no difference before the watermark is well beyond the moment at which they were seen.
- What a region made that the side which lacks it has removed since, nobody sends any more: it differs if neither side
  changes for the whole of that time, which is longer than a change that was taken earlier may take to be applied.
- Without watermarks nothing is said to be equal: a replica may be under construction.
- A tombstone on one side and nothing on the other is no difference: they are collected at different times.
- Repair never overwrites: the side that has the newer version writes what it has under a new version, if it still has
  it, and that is shipped as every write. The old version would be refused where it is missing, as deleted and
  collected long ago (decision 0022).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from geodyne.catalog import TableRecord
from geodyne.messages import DIGEST_MODULUS, RowDigest
from geodyne.model import version as versions
from geodyne.model.keys import KEYS_END, hash_of, readable_key
from geodyne.ports import Clock
from replication.digests import KEYS_MAX, Items, NoAnswerError, OwnItems, PeerItems, RangeDigest

log = logging.getLogger(__name__)

LEAVES_A_QUESTION = 16
PENDING_MAX = 512  # items that seem to differ and are not settled yet; then they are settled before it goes on
FOUND_MAX = 1_000  # items that differ, after which a comparison ends: the regions differ, and by much
PATIENCE_S = 10.0  # how long something on its way is waited for
LOOK_AGAIN_S = 0.25
# A watermark says nothing of deletions for an item's time: their versions follow that of the image, however old it is.
# One that was seen has been sent once the watermark is so far beyond: more than clocks of nodes that lead are apart.
EXPIRED_BEYOND_US = 5_000_000


class Verdict(StrEnum):
    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


class Standing(Enum):
    """What is known of an item that seems to differ."""

    OPEN = "it may be on its way"
    OWED = "the side that has less has been sent everything, this included"
    ORPHANED = "it was made in a region from which the side that has less takes nothing any more"


@dataclass(slots=True)
class Pair:
    """One item, as two regions have it."""

    own: RowDigest | None
    other: RowDigest | None
    seen_us: int = field(default=0, compare=False)  # wall clock: when it was so already

    @property
    def same(self) -> bool:
        """Whether clients see the same."""
        return _live(self.own) == _live(self.other)

    @property
    def newer(self) -> RowDigest:
        rows = [row for row in (self.own, self.other) if row is not None]
        return max(rows, key=lambda row: row.version)

    @property
    def expired(self) -> bool:
        """Whether one side may have deleted for its time what the other still has (decision 0019)."""
        newer = self.newer
        older = self.other if newer is self.own else self.own
        if newer.digest or older is None:
            return False
        return versions.time_us(newer.version) == versions.time_us(older.version) + 1


@dataclass(slots=True)
class Comparison:
    """How far one comparison has come, and what it found."""

    table: str
    own: str
    other: str
    repair: bool = False
    part: float = 0.0  # of the hash space
    rows: int = 0  # of the own region that were looked at
    own_digest: int = 0  # of the whole table, once `part` is 1; changes with every write
    other_digest: int = 0
    differing: int = 0  # found
    repaired: int = 0  # of them: are the same now
    unsettled: int = 0  # seemed to differ, and could not be told from what is on its way
    first: dict[str, Any] | None = None  # the first that differs
    verdict: Verdict | None = None  # None: it goes on
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "regions": [self.own, self.other],
            "repair": self.repair,
            "part": round(self.part, 4),
            "rows": self.rows,
            "digests": [f"{self.own_digest:032x}", f"{self.other_digest:032x}"] if self.part == 1.0 else None,
            "differing": self.differing,
            "repaired": self.repaired,
            "unsettled": self.unsettled,
            "first": self.first,
            "verdict": self.verdict and self.verdict.value,
            "reason": self.reason,
        }


class Verifier:
    """One comparison of one table with one other region."""

    def __init__(
        self,
        table: TableRecord,
        own: OwnItems,
        other: PeerItems,
        own_region: str,
        clock: Clock,
        *,
        repair: bool = False,
        rest_s: float = 0.0,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`rest_s`: between two questions, to bound the rate. `repair`: what differs is made the same."""
        self._table = table
        self._own = own
        self._other = other
        self._clock = clock
        self._rest_s = rest_s
        self._patience_s = patience_s
        self._pending: dict[bytes, Pair] = {}
        self.state = Comparison(table.name, own_region, other.region, repair)

    async def run(self) -> Comparison:
        """To its end; a region that does not answer is the verdict "unknown", never an error."""
        state = self.state
        try:
            if await self._known():
                await self._compare_all()
        except NoAnswerError as error:
            state.reason = str(error)
        left = state.differing - state.repaired
        if left:
            state.verdict = Verdict.DIFFERENT
        elif state.reason or state.unsettled:
            state.verdict = Verdict.UNKNOWN
            state.reason = state.reason or "changes are on their way, and do not arrive"
        else:
            state.verdict = Verdict.EQUAL
        return state

    async def _known(self) -> bool:
        """Whether each side knows that it has what the other wrote, up to some time: else nothing can be said."""
        until_ms = self._clock.lease_ms() + self._patience_s * 1_000
        while True:
            here = self._own.marks(self._table).get(self._other.region, 0)
            there = (await self._other.digests(self._table, []))[0].get(self.state.own, 0)
            if here and there:
                return True
            if self._clock.lease_ms() >= until_ms:
                side = self.state.own if not here else self._other.region
                self.state.reason = f"{side} does not know up to when the other region's writes are there"
                return False
            await asyncio.sleep(LOOK_AGAIN_S)

    # --- the tree

    async def _compare_all(self) -> None:
        state = self.state
        low = b""
        while low < KEYS_END:
            bounds, leaves = [low], list[RangeDigest]()
            while low < KEYS_END and len(leaves) < LEAVES_A_QUESTION:
                leaf, low = await self._own.slice(self._table, low)
                leaves.append(leaf)
                bounds.append(low)
            _, others = await self._other.digests(self._table, bounds)
            if len(others) != len(leaves):
                raise NoAnswerError(f"{self._other.region} answered with {len(others)} digests of {len(leaves)}")
            for number, (mine, theirs) in enumerate(zip(leaves, others, strict=True)):
                state.rows += mine.rows
                state.own_digest = (state.own_digest + mine.digest) % DIGEST_MODULUS
                state.other_digest = (state.other_digest + theirs.digest) % DIGEST_MODULUS
                if mine != theirs:
                    await self._compare_items(bounds[number], bounds[number + 1])
            state.part = min(hash_of(low.ljust(8, b"\0")) / (1 << 64), 0.9999)
            if state.differing - state.repaired >= FOUND_MAX:
                await self._settle()
                return
            await asyncio.sleep(self._rest_s)
        await self._settle()
        state.part = 1.0

    async def _compare_items(self, low: bytes, high: bytes) -> None:
        """Two lists side by side, as far as both pages reach, page by page."""
        following: bytes | None = low
        while following is not None:
            own = await self._own.page(self._table, following, high)
            other = await self._other.page(self._table, following, high)
            reached = min((each for each in (own.following, other.following) if each is not None), default=None)
            for key in own.rows.keys() | other.rows.keys():
                pair = Pair(own.rows.get(key), other.rows.get(key), self._clock.wall_us())
                if not pair.same and (reached is None or key < reached):
                    self._pending[key] = pair
            following = reached
            if len(self._pending) >= PENDING_MAX:
                await self._settle()
                if self.state.differing - self.state.repaired >= FOUND_MAX:
                    return

    # --- what seems to differ

    async def _settle(self) -> None:
        """Tell what differs from what is on its way."""
        found: dict[bytes, Pair] = {}
        orphaned: dict[bytes, Pair] | None = None  # have been so in all looks, unchanged
        until_ms = self._clock.lease_ms() + self._patience_s * 1_000
        while self._pending:
            left: dict[bytes, Pair] = {}
            for key, pair, standing in await self._look(self._pending):
                if pair.same:
                    del self._pending[key]
                elif standing is Standing.OWED and pair == self._pending[key]:
                    found[key] = self._pending.pop(key)
                else:
                    if standing is Standing.ORPHANED and (orphaned is None or orphaned.get(key) == pair):
                        left[key] = pair
                    self._pending[key] = pair
            orphaned = left
            if self._pending and self._clock.lease_ms() >= until_ms:
                found |= orphaned
                self.state.unsettled += len(self._pending.keys() - orphaned.keys())
                self._pending.clear()
            elif self._pending:
                await asyncio.sleep(LOOK_AGAIN_S)
        for key in sorted(found):
            self._note(key, found[key])
        if found and self.state.repair:
            await self._repair(found)

    async def _look(self, keys: Iterable[bytes]) -> list[tuple[bytes, Pair, Standing]]:
        """Each item as it is now, and what may still come to the side that has less."""
        result = []
        wanted = sorted(keys)
        for start in range(0, len(wanted), KEYS_MAX):
            part = wanted[start : start + KEYS_MAX]
            other = await self._other.items(self._table, part)
            own = await self._own.items(self._table, part)
            for key in part:
                pair = Pair(own.rows.get(key), other.rows.get(key), self._clock.wall_us())
                known = self._pending.get(key)
                if known is not None and known == pair:
                    pair.seen_us = known.seen_us
                result.append((key, pair, Standing.OPEN if pair.same else self._standing(pair, own, other)))
        return result

    def _standing(self, pair: Pair, own: Items, other: Items) -> Standing:
        newer = pair.newer
        origin = versions.region(newer.version)
        behind = pair.own is None or pair.own.version < newer.version
        region, side = (self.state.own, own) if behind else (self._other.region, other)
        sent_us = versions.time_us(newer.version)
        if pair.expired:
            sent_us = max(sent_us, pair.seen_us + EXPIRED_BEYOND_US)
        if origin == region or side.marks.get(origin, 0) >= sent_us:
            return Standing.OWED
        return Standing.OPEN if origin in side.members else Standing.ORPHANED

    def _note(self, key: bytes, pair: Pair) -> None:
        self.state.differing += 1
        if self.state.first is None:
            self.state.first = {
                "key": readable_key(self._table.key_schema, key),
                "versions": [_described(pair.own), _described(pair.other)],
            }
            log.error("regions differ", extra={"other": self._other.region, "table": self._table.name})

    # --- repair

    async def _repair(self, found: Mapping[bytes, Pair]) -> None:
        """Have each side that has a newer version write it anew, and wait until the other has it."""
        own: list[RowDigest] = []
        other: list[RowDigest] = []
        for pair in found.values():
            (own if self._repairs(pair) else other).append(pair.newer)
        for start in range(0, len(own), KEYS_MAX):
            await self._own.renew(self._table, own[start : start + KEYS_MAX])
        for start in range(0, len(other), KEYS_MAX):
            await self._other.renew(self._table, other[start : start + KEYS_MAX])
        left = set(found)
        until_ms = self._clock.lease_ms() + self._patience_s * 1_000
        while left and self._clock.lease_ms() < until_ms:
            await asyncio.sleep(LOOK_AGAIN_S)
            same = {key for key, pair, _ in await self._look(left) if pair.same}
            left -= same
            self.state.repaired += len(same)

    def _repairs(self, pair: Pair) -> bool:
        """Whether the own region has what is right. Images of one version that differ: the version's region has, else
        the first of the two by name."""
        if pair.own is None or pair.other is None or pair.own.version != pair.other.version:
            return pair.newer is pair.own
        origin = versions.region(pair.own.version)
        regions = (self.state.own, self._other.region)
        return (origin if origin in regions else min(regions)) == self.state.own


def _live(row: RowDigest | None) -> RowDigest | None:
    return row if row is not None and row.digest else None


def _described(row: RowDigest | None) -> dict[str, Any] | None:
    if row is None:
        return None
    time_us, region = versions.time_us(row.version), versions.region(row.version)
    return {"time_us": time_us, "region": region, "deleted": not row.digest, "digest": row.digest.hex()}
