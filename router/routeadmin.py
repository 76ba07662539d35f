"""What an operator asks the global endpoint over its metrics page: which policies are in force, where requests go."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from geodyne.errors import ApiError
from geodyne.routing import RoutingError
from router.globalrole import GlobalEndpoint
from router.policies import Client

log = logging.getLogger("geodyne.global")

OPERATIONS: Final = ("show", "set", "reset", "find")

AdminCall = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def described(endpoint: GlobalEndpoint) -> dict[str, Any]:
    """Regions, policies and what places clients."""
    book = endpoint.routes
    routing = book.routing
    return {
        "regions": endpoint.status(),
        "policy": {**routing.policy.to_json(), "source": book.source(None)},
        "tables": {
            table: {**policy.to_json(), "source": book.source(table)} for table, policy in routing.tables.items()
        },
        "location": endpoint.geography.home,
        **{
            name: value
            for name, value in routing.to_json().items()
            if name in ("places", "networks", "keys", "trusted_proxies")
        },
        "changes_survive_restarts": book.durable,
    }


def administration(endpoint: GlobalEndpoint) -> AdminCall:
    """The call `routes`: {"operation", ...} to {"result"} or {"error"}, a sentence for the operator.

    show    nothing
    set     policy (geodyne.routing.policy_from), table: without it the endpoint's own
    reset   table: back to what the configuration says
    find    table, from (region or place), address, access_key_id: where such a request would go now
    """

    async def routes(arguments: dict[str, Any]) -> dict[str, Any]:
        operation, table = arguments.get("operation"), arguments.get("table")
        if operation not in OPERATIONS or not isinstance(table, str | None):
            return {"error": f"operation must be one of {', '.join(OPERATIONS)}, table a name"}
        try:
            if operation == "set":
                policy = await endpoint.routes.put(table, arguments.get("policy"))
                log.info("routing policy set", extra={"table": table or "", "routing": policy.to_json()})
            elif operation == "reset":
                policy = await endpoint.routes.reset(table)
                log.info("routing policy reset", extra={"table": table or "", "routing": policy.to_json()})
            elif operation == "find":
                return {"result": _found(endpoint, table, arguments)}
        except (RoutingError, ApiError) as error:
            return {"error": str(error) if isinstance(error, RoutingError) else error.message}
        except OSError as error:
            return {"error": f"the change could not be kept, so nothing has changed: {error.strerror}"}
        return {"result": described(endpoint)}

    return routes


def _found(endpoint: GlobalEndpoint, table: str | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    place, address, key = (str(arguments.get(name) or "") for name in ("from", "address", "access_key_id"))
    origin = endpoint.placement.origin(place.encode(), address, b"", key)
    if place and origin.reason != "header":
        raise RoutingError(f"{place!r} is neither a region nor a place that is configured")
    named = [] if table is None else [table]
    route = endpoint.decide(named, origin, Client(f"{key} {origin.address}", ""))
    return {
        "table": table,
        "origin": origin.region,
        "origin_reason": origin.reason,
        "policy": route.rule.policy.to_json(),
        "routes": [{"region": choice.region, "reason": choice.reason} for choice in route.choices],
        "regions": [
            {
                "region": region,
                "healthy": endpoint.health[region].healthy,
                "has_table": table is None or set(route.names) <= endpoint.health[region].tables,
                "round_trip_ms": endpoint.geography.round_trip_ms(origin.region, region),
            }
            for region in route.order
        ],
    }
