"""What an operation is given: the way to the nodes, and the facts of the region and of the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from geodyne.catalog import TableRecord
from geodyne.messages import Answer, Call, Count
from geodyne.streams import ACCOUNT_ID
from router.api.tablerecords import TableCache


class CatalogView(Protocol):
    """The part of the catalog's copy that operations read."""

    @property
    def revision(self) -> int: ...

    @property
    def tables(self) -> Mapping[str, TableRecord]: ...

    @property
    def mappings(self) -> Mapping[str, dict[str, Any]]:
        """The records of event source mappings by UUID."""

    @property
    def functions(self) -> Mapping[str, dict[str, Any]]:
        """The records of functions by name."""

    def counts(self, partition: int, slot: int = 0) -> Count:
        """Items and bytes of a partition, or of a local index's entries in it, as last told by its leader."""


class RegionClient(Protocol):
    """The region's nodes, as geodyne.rpc.region reaches them."""

    @property
    def catalog(self) -> CatalogView: ...

    def call(self, call: Call, *, timeout_ms: int, request_id: str = "") -> Awaitable[Answer]:
        """Send at once; awaiting gives the answer. Raises ApiError when no answer came in time."""

    def wait_revision(self, revision: int, timeout_ms: int) -> Awaitable[object]:
        """Done once the catalog's copy is at `revision` or later, or when the time is over."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Deadlines in milliseconds. `regions` are all regions of the cluster; `endpoint` is this one's host:port. The Time
    to Live of a table may be changed once in `ttl_change_interval_ms`."""

    read_timeout_ms: int = 5_000
    write_timeout_ms: int = 10_000
    control_timeout_ms: int = 20_000
    catalog_timeout_ms: int = 5_000
    moved_retries_max: int = 5
    ttl_change_interval_ms: int = 0
    regions: tuple[str, ...] = ()
    endpoint: str = ""


class Context:
    """One request's surroundings. Plain slots: one is made for every request."""

    __slots__ = (
        "account_id",
        "now_ms",
        "principal",
        "region",
        "region_client",
        "request_id",
        "settings",
        "tables",
    )

    def __init__(self, api: Api, request_id: str, principal: Any) -> None:
        self.region_client = api.region_client
        self.tables = api.tables
        self.settings = api.settings
        self.region = api.region
        self.account_id = api.account_id
        self.now_ms = api.now_ms
        self.request_id = request_id
        self.principal = principal


class Api:
    """What all requests of one router share."""

    __slots__ = ("account_id", "now_ms", "region", "region_client", "settings", "tables")

    def __init__(
        self,
        region_client: RegionClient,
        *,
        region: str,
        now_ms: Callable[[], int],
        settings: ApiSettings | None = None,
        account_id: str = ACCOUNT_ID,
    ) -> None:
        self.region_client = region_client
        self.region = region
        self.now_ms = now_ms
        self.settings = settings or ApiSettings()
        self.account_id = account_id
        self.tables = TableCache(region, account_id)

    def context(self, request_id: str = "", principal: Any = None) -> Context:
        return Context(self, request_id, principal)
