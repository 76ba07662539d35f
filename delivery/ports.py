"""What delivery needs of its region: one partition's stream for one bookmark, and calls that find their leader.

`geodyne.rpc.region.RegionClient` is the real Region; `delivery/stream.py` makes partitions of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Protocol

from geodyne.catalog import TableRecord
from geodyne.messages import Answer, Call, Shards, StreamPage


class StreamUnavailable(Exception):
    """Just now there is no answer; the text says why. Asking again is the cure."""


class PartitionStream(Protocol):
    """The stream of one partition, read for one bookmark. All methods raise StreamUnavailable."""

    async def read(self, after: int, *, limit: int, max_bytes: int, wait_ms: int) -> StreamPage:
        """`after` may be FROM_COMMITTED: from the bookmark."""

    async def commit(self, sequence: int) -> None:
        """Returns when the bookmark is durable. One that is further on already stays there."""

    async def shards(self) -> Shards: ...


class CatalogCopy(Protocol):
    """A copy of the region's catalog; it may lag behind."""

    @property
    def tables(self) -> Mapping[str, TableRecord]: ...

    @property
    def revision(self) -> int: ...


class Region(Protocol):
    """The region's nodes as one. `call` resends through elections until `timeout_ms` and raises ApiError after that."""

    @property
    def catalog(self) -> CatalogCopy: ...

    def call(self, call: Call, *, timeout_ms: int) -> Awaitable[Answer]: ...
