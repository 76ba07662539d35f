"""What an operator asks about triggers over the metrics page, or the command line over a control socket.

Beside the operations of the Lambda API these are functions: what runs on the hosts, and as whom, is nothing that a key
for the database gives a right to.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from geodyne.catalog import ControlOperation
from geodyne.errors import ApiError
from geodyne.streams import stream_arn
from geodyne.triggers import functions
from geodyne.triggers.functions import FunctionError, FunctionSpec
from router.api.context import Context
from router.api.control import decided
from router.lambdaapi import mappings
from router.lambdaapi.errors import NOT_FOUND, LambdaError

FUNCTION_NAME: Final = re.compile(r"[a-zA-Z0-9-_]{1,64}", re.ASCII)
RECORD_BYTES_MAX: Final = 32 * 1024  # of a function's record in the catalog

Arguments = Mapping[str, Any]


async def put_function(body: Arguments, context: Context) -> dict[str, Any]:
    """Make or replace a function. Raises FunctionError, ApiError."""
    try:
        spec = FunctionSpec.from_record(body)
        functions.check(spec)
        record = spec.to_record()
    except (TypeError, AttributeError, ValueError) as error:
        if isinstance(error, FunctionError):
            raise
        raise FunctionError(f"this is not the description of a function: {error}") from None
    if not FUNCTION_NAME.fullmatch(spec.name):
        raise FunctionError(f"a function's name is 1 to 64 letters, digits, hyphens and underscores, not {spec.name!r}")
    if len(orjson.dumps(record)) > RECORD_BYTES_MAX:
        raise FunctionError(f"the description of a function has at most {RECORD_BYTES_MAX} bytes")
    return dict(await decided(context, ControlOperation.PUT_FUNCTION, {"function": record}))


async def delete_function(body: Arguments, context: Context) -> dict[str, Any]:
    """Raises ApiError."""
    asked = {"name": str(body.get("name", "")), "force": bool(body.get("force", False))}
    return dict(await decided(context, ControlOperation.DELETE_FUNCTION, asked))


async def list_functions(_body: Arguments, context: Context) -> dict[str, Any]:
    """Raises ApiError."""
    return dict(await decided(context, ControlOperation.FUNCTION_LIST, {}))


async def _create(body: Arguments, context: Context) -> dict[str, Any]:
    """An operator may name the table, and means its newest stream."""
    named = body.get("TableName")
    if named is not None:
        table = context.region_client.catalog.tables.get(str(named))
        if table is None:
            raise LambdaError(NOT_FOUND, f"There is no table {named}")
        if not table.streams or table.stream_view is None:
            raise LambdaError(NOT_FOUND, f"Table {named} has no stream: enable it with UpdateTable")
        arn = stream_arn(context.region, context.account_id, table.name, table.streams[-1].label)
        body = {**body, "EventSourceArn": arn}
    return await mappings.create(body, context, operator=True)


async def _update(body: Arguments, context: Context) -> dict[str, Any]:
    return await mappings.update(str(body.get("UUID", "")), body, context, operator=True)


async def _delete(body: Arguments, context: Context) -> dict[str, Any]:
    return await mappings.delete(str(body.get("UUID", "")), context)


async def _get(body: Arguments, context: Context) -> dict[str, Any]:
    return mappings.get(str(body.get("UUID", "")), context)


async def _list(body: Arguments, context: Context) -> dict[str, Any]:
    return mappings.list_({name: str(value) for name, value in body.items()}, context)


_OPERATIONS: Mapping[str, Callable[[Arguments, Context], Awaitable[dict[str, Any]]]] = {
    "PutFunction": put_function,
    "DeleteFunction": delete_function,
    "ListFunctions": list_functions,
    "CreateEventSourceMapping": _create,
    "UpdateEventSourceMapping": _update,
    "DeleteEventSourceMapping": _delete,
    "GetEventSourceMapping": _get,
    "ListEventSourceMappings": _list,
}


def administration(context: Callable[[], Context | None]) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]:
    """The call `triggers`: {"operation", "body"} to {"result"}, or {"error"}: a sentence for the operator, with its
    `code`. `context` makes one request's surroundings; None while the region is not known yet."""

    async def triggers(arguments: dict[str, Any]) -> dict[str, Any]:
        operation, body = _OPERATIONS.get(str(arguments.get("operation"))), arguments.get("body", {})
        if operation is None or not isinstance(body, dict):
            return {"error": f"operation must be one of {', '.join(sorted(_OPERATIONS))}, body an object"}
        surroundings = context()
        if surroundings is None:
            return {"error": "the region is not ready; try again"}
        try:
            return {"result": await operation(body, surroundings)}
        except LambdaError as error:
            return {"error": error.message, "code": error.code}
        except ApiError as error:
            return {"error": error.reason, "code": error.kind.code}
        except FunctionError as error:
            return {"error": str(error), "code": "FunctionError"}

    return triggers
