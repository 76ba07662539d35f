"""What replication needs of its own region: a copy of the catalog and calls that find their leader.

`geodyne.rpc.region.RegionClient` is the real one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Protocol

from geodyne.catalog import TableRecord
from geodyne.messages import Answer, Call


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
