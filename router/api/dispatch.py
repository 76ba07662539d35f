"""Sending a call to the partition that owns its key, and what its answer means to the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from geodyne.catalog import PartitionRecord
from geodyne.errors import ApiError
from geodyne.messages import Answer, Call, Moved, Refused
from router.api.context import Context
from router.api.tablerecords import Place

CallOf = Callable[[PartitionRecord], Call]  # the call for the partition that owns the key now


async def call_partition(context: Context, place: Place, key: bytes, call_of: CallOf, timeout_ms: int) -> Answer:
    """The answer of the partition of a table or index that owns `key` to the call that `call_of` makes for it.

    When the partition has moved, waits for the catalog and asks again, a bounded number of times. Raises ApiError
    for a refusal, for a table that went away meanwhile, and for what the region's client raises.
    """
    partition = place.partition(key)
    answer = await context.region_client.call(call_of(partition), timeout_ms=timeout_ms, request_id=context.request_id)
    if type(answer) is Moved:
        answer = await _follow(context, place, answer, (key, call_of, timeout_ms))
    if type(answer) is Refused:
        raise refusal(answer)
    return answer


async def settle(context: Context, place: Place, sent: Awaitable[Answer], again: tuple[bytes, CallOf, int]) -> Answer:
    """Like `call_partition`, for a call that has been sent already: `again` is how to send it once more."""
    answer = await sent
    if type(answer) is Moved:
        answer = await _follow(context, place, answer, again)
    if type(answer) is Refused:
        raise refusal(answer)
    return answer


async def _follow(context: Context, place: Place, moved: Moved, again: tuple[bytes, CallOf, int]) -> Answer:
    key, call_of, timeout_ms = again
    for _ in range(context.settings.moved_retries_max):
        await context.region_client.wait_revision(moved.revision, context.settings.catalog_timeout_ms)
        place = place.renewed(context.tables, context.region_client.catalog.tables)
        partition = place.partition(key)
        answer = await context.region_client.call(
            call_of(partition), timeout_ms=timeout_ms, request_id=context.request_id
        )
        if type(answer) is not Moved:
            return answer
        moved = answer
    raise ApiError("ServiceUnavailable", "The partition of the requested key is moving. Try again.")


def refusal(refused: Refused) -> ApiError:
    """A node's refusal as the error of the answer, with the item that failed the condition when it was asked for."""
    details: dict[str, Any] = {}
    if refused.item is not None:
        details["Item"] = orjson.loads(refused.item)
    return ApiError(refused.code, refused.message, **details)


def unexpected(answer: Answer) -> ApiError:
    """An answer that no call of the operation can have: the parts do not agree on their contract."""
    return ApiError("InternalServerError", f"Unexpected answer {type(answer).__name__} from a node")
