"""A region's part in comparing regions: digests of ranges of keys, versions of items, writing items anew.

The same for the own region and, as commands over the stream, for another one that asks. Keys, versions and digests
travel as hexadecimal digits. What is asked and answered (replication.values.Operation):

    DIGESTS  {"bounds": [key, ...]}  {"marks": {region: us}, "digests": [[rows, digest, whether it is all], ...]}
    ITEMS    {"low", "high"}         {"marks", "items": [[key, version, digest], ...], "next": key or null}
             {"keys": [key, ...]}    likewise
    RENEW    {"items": [[key, version], ...]}    {"renewed": count}

`marks` are the watermarks (replication.watermarks) of before the rows were read: what they cover and is not among the
rows is not here. A region of which another knows a watermark other than 0 has nodes that all know these calls: older
ones make no promise (stream format 5, decision 0021). So nothing but empty DIGESTS is asked of any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from geodyne.catalog import PartitionRecord, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.messages import DIGEST_MODULUS, Applied, Digested, DigestRows, Renew, RowDigest
from geodyne.model.keys import hash_bound, hash_of
from replication.link import DestinationLink, LinkDownError
from replication.ports import Region
from replication.values import Command, Operation, Result
from replication.watermarks import Watermarks, sources_of

CALL_TIMEOUT_MS = 5_000
RANGE_SLICES_MAX = 8  # looked at in one range of the other region's, which has one here: beyond, it differs anyway
BOUNDS_MAX = 33
KEYS_MAX = 64  # of one question


class NoAnswerError(Exception):
    """A region cannot be asked now; the text says why."""


class RangeDigest(NamedTuple):
    rows: int
    digest: int
    whole: bool  # False: there are more rows than were looked at


class Items(NamedTuple):
    """`following`: where the next page begins, None: it was the last."""

    marks: Mapping[str, int]
    members: Collection[str]  # that this region sees, of before the rows were read
    rows: Mapping[bytes, RowDigest]
    following: bytes | None = None


class OwnItems:
    """The own region's rows. All methods raise NoAnswerError."""

    def __init__(self, own: str, region: Region, watermarks: Watermarks) -> None:
        self._own = own
        self._region = region
        self._watermarks = watermarks

    def table(self, name: str, table_id: str = "") -> TableRecord:
        """The table, while it is one that can be compared."""
        table = self._region.catalog.tables.get(name)
        if table is None or table.status is TableStatus.DELETING or (table_id and table.id != table_id):
            raise NoAnswerError(f"{self._own} has no such table")
        return table

    def marks(self, table: TableRecord) -> dict[str, int]:
        """By source: up to when everything that it wrote is here, in microseconds; 0: not known."""
        return {source: self._watermarks.us(table.id, source) for source in sources_of(table, self._own)}

    def members(self, table: TableRecord) -> Collection[str]:
        """The regions whose changes are taken here, as the catalog is now."""
        return frozenset(self.table(table.name, table.id).replicas)

    async def slice(self, table: TableRecord, low: bytes) -> tuple[RangeDigest, bytes]:
        """The next few rows from `low` on, and where they end (geodyne.model.keys.KEYS_END: all have been seen)."""
        partition = table.partition_of(hash_of(low.ljust(8, b"\0")))
        high = hash_bound(partition.high)
        found = await self._digested(partition, low, high, listed=False)
        digest = RangeDigest(found.rows, int.from_bytes(found.digest, "big"), True)
        return digest, high if found.last_key is None else found.last_key + b"\0"

    async def digest(self, table: TableRecord, low: bytes, high: bytes) -> RangeDigest:
        """Of [low, high), as far as RANGE_SLICES_MAX reach."""
        rows = total = 0
        for _ in range(RANGE_SLICES_MAX):
            found, end = await self._slice_within(table, low, high)
            rows += found.rows
            total = (total + int.from_bytes(found.digest, "big")) % DIGEST_MODULUS
            if end >= high:
                return RangeDigest(rows, total, True)
            low = end
        return RangeDigest(rows, total, False)

    async def page(self, table: TableRecord, low: bytes, high: bytes) -> Items:
        """The next rows of [low, high), tombstones included."""
        marks, members = self.marks(table), self.members(table)
        found, end = await self._slice_within(table, low, high, listed=True)
        return Items(marks, members, {row.key: row for row in found.listed}, end if end < high else None)

    async def items(self, table: TableRecord, keys: Sequence[bytes]) -> Items:
        """The rows of these keys that are here, tombstones included."""
        marks, members = self.marks(table), self.members(table)
        rows: dict[bytes, RowDigest] = {}
        for key in keys:
            found, _ = await self._slice_within(table, key, key + b"\0", listed=True)
            rows.update((row.key, row) for row in found.listed)
        return Items(marks, members, rows)

    async def renew(self, table: TableRecord, rows: Sequence[RowDigest]) -> int:
        """Write them anew where they are still of these versions; returns how many were."""
        groups: dict[int, tuple[PartitionRecord, list[RowDigest]]] = {}
        for row in rows:
            partition = table.partition_of(hash_of(row.key))
            groups.setdefault(partition.id, (partition, []))[1].append(row)
        count = 0
        for partition, wanted in groups.values():
            answer = await self._call(Renew(partition.id, partition.epoch, tuple(wanted)))
            count += answer.applied if isinstance(answer, Applied) else 0
        return count

    async def _slice_within(
        self, table: TableRecord, low: bytes, high: bytes, *, listed: bool = False
    ) -> tuple[Digested, bytes]:
        partition = table.partition_of(hash_of(low.ljust(8, b"\0")))
        end = min(high, hash_bound(partition.high))
        found = await self._digested(partition, low, end, listed=listed)
        return found, end if found.last_key is None else found.last_key + b"\0"

    async def _digested(self, partition: PartitionRecord, low: bytes, high: bytes, *, listed: bool) -> Digested:
        answer = await self._call(DigestRows(partition.id, partition.epoch, low, high, listed))
        if not isinstance(answer, Digested):
            raise NoAnswerError(f"partition {partition.id} of {self._own}: {type(answer).__name__}")
        return answer

    async def _call(self, call: DigestRows | Renew) -> object:
        try:
            return await self._region.call(call, timeout_ms=CALL_TIMEOUT_MS)
        except ApiError as error:
            raise NoAnswerError(f"partition {call.partition} of {self._own}: {error.message}") from None

    async def on_command(self, command: Command) -> Result:
        """What another region asks. An error becomes part of the result."""
        try:
            table = self.table(command.table, command.table_id)
            body = await self._answer(table, command.operation, command.definition)
        except NoAnswerError as error:
            return Result(command.id, False, error_code="ServiceUnavailable", error_message=str(error))
        except (KeyError, ValueError, TypeError) as error:
            return Result(command.id, False, error_code="ValidationException", error_message=repr(error))
        return Result(command.id, True, table.status.value, table.replicas, body=body)

    async def _answer(self, table: TableRecord, operation: Operation, asked: Mapping[str, Any]) -> dict[str, Any]:
        if operation is Operation.RENEW:
            rows = [RowDigest(bytes.fromhex(key), bytes.fromhex(version), b"") for key, version in asked["items"]]
            return {"renewed": await self.renew(table, rows[:KEYS_MAX])}
        if operation is Operation.DIGESTS:
            marks = self.marks(table)
            bounds = [bytes.fromhex(bound) for bound in asked["bounds"][:BOUNDS_MAX]]
            digests = [await self.digest(table, low, high) for low, high in pairwise(bounds)]
            return {"marks": marks, "digests": [[each.rows, f"{each.digest:x}", each.whole] for each in digests]}
        if "keys" in asked:
            page = await self.items(table, [bytes.fromhex(key) for key in asked["keys"][:KEYS_MAX]])
        else:
            page = await self.page(table, bytes.fromhex(asked["low"]), bytes.fromhex(asked["high"]))
        items = [[row.key.hex(), row.version.hex(), row.digest.hex()] for row in page.rows.values()]
        return {"marks": page.marks, "items": items, "next": page.following.hex() if page.following else None}


class PeerItems:
    """Another region's rows, asked for through its replicator. All methods raise NoAnswerError."""

    def __init__(self, link: DestinationLink) -> None:
        self._link = link

    @property
    def region(self) -> str:
        return self._link.region

    async def digests(self, table: TableRecord, bounds: Sequence[bytes]) -> tuple[Mapping[str, int], list[RangeDigest]]:
        """The region's watermarks, and the digests of the ranges between each two bounds."""
        body = await self._ask(Operation.DIGESTS, table, {"bounds": [bound.hex() for bound in bounds]})
        digests = [RangeDigest(int(rows), int(digest, 16), bool(whole)) for rows, digest, whole in body["digests"]]
        return body["marks"], digests

    async def page(self, table: TableRecord, low: bytes, high: bytes) -> Items:
        """As OwnItems.page."""
        return await self._items(table, {"low": low.hex(), "high": high.hex()})

    async def items(self, table: TableRecord, keys: Sequence[bytes]) -> Items:
        """As OwnItems.items."""
        return await self._items(table, {"keys": [key.hex() for key in keys]})

    async def renew(self, table: TableRecord, rows: Sequence[RowDigest]) -> int:
        """As OwnItems.renew."""
        body = await self._ask(Operation.RENEW, table, {"items": [[row.key.hex(), row.version.hex()] for row in rows]})
        return int(body["renewed"])

    async def _items(self, table: TableRecord, asked: dict[str, Any]) -> Items:
        result = await self._asked(Operation.ITEMS, table, asked)
        body = result.body
        rows = {}
        for key, version, digest in body["items"]:
            row = RowDigest(bytes.fromhex(key), bytes.fromhex(version), bytes.fromhex(digest))
            rows[row.key] = row
        return Items(
            body["marks"], frozenset(result.members), rows, bytes.fromhex(body["next"]) if body["next"] else None
        )

    async def _ask(self, operation: Operation, table: TableRecord, asked: dict[str, Any]) -> Mapping[str, Any]:
        return (await self._asked(operation, table, asked)).body

    async def _asked(self, operation: Operation, table: TableRecord, asked: dict[str, Any]) -> Result:
        if not self._link.compares:
            raise NoAnswerError(f"{self.region} is not connected, or of an older version")
        try:
            result = await self._link.command(operation, table.name, table.id, definition=asked)
        except LinkDownError as error:
            raise NoAnswerError(str(error)) from None
        if not result.present:
            raise NoAnswerError(f"{self.region}: {result.error_message}")
        return result
