"""Where the nearest replica of a table is: a page beside the metrics of a regional router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from geodyne.catalog import SYSTEM_PREFIX, ReplicaStatus, TableRecord
from geodyne.topology import Topology


class Catalog(Protocol):
    @property
    def tables(self) -> Mapping[str, TableRecord]: ...


def nearest_page(
    catalog: Callable[[], Catalog | None], topology: Topology, region: str
) -> Callable[[Mapping[str, str]], tuple[int, dict[str, Any]]]:
    """GET /nearest?table=T&from=REGION: the replicas of a table, nearest first, as this region's catalog knows them.

    Distances only: whether another region is up, the global endpoint knows. `from` is this region when it is left out;
    `catalog` gives None while it is not known yet.
    """

    def nearest(query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        name, origin = query.get("table", ""), query.get("from", region)
        if origin not in topology.regions:
            return 400, {"error": f"{origin!r} is not a region of this cluster"}
        known = catalog()
        if known is None:
            return 503, {"error": "the region's catalog is not known yet"}
        table = None if name.startswith(SYSTEM_PREFIX) else known.tables.get(name)
        if table is None:
            return 404, {"error": f"region {region} has no table {name!r}"}
        status: Mapping[str, str] = table.replicas or {region: ReplicaStatus.ACTIVE.value}
        replicas = sorted(
            (topology.region_round_trip_ms(origin, other), other) for other in status if other in topology.regions
        )
        return 200, {
            "table": name,
            "from": origin,
            "nearest": next((one for _, one in replicas if status[one] == ReplicaStatus.ACTIVE), None),
            "replicas": [
                {"region": one, "status": str(status[one]), "round_trip_ms": distance} for distance, one in replicas
            ],
        }

    return nearest
