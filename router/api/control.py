"""The way of a control operation to the metadata group, and what a table that is changing answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import ControlOperation, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.messages import Control, ControlDone, Refused
from router.api.context import Context
from router.api.dispatch import refusal, unexpected


async def control(context: Context, operation: ControlOperation, body: dict[str, Any]) -> TableRecord:
    """`decided`, for an operation on a table; returns the table as it is then. Raises ApiError."""
    return TableRecord.from_json((await decided(context, operation, body))["table"])


async def decided(context: Context, operation: ControlOperation, body: dict[str, Any]) -> Mapping[str, Any]:
    """Let the metadata group decide; returns what it answers, once this router's catalog knows it too.

    Raises ApiError for a refusal, or when no answer came in time.
    """
    settings = context.settings
    answer = await context.region_client.call(
        Control(str(operation), body), timeout_ms=settings.control_timeout_ms, request_id=context.request_id
    )
    if type(answer) is Refused:
        raise refusal(answer)
    if type(answer) is not ControlDone:
        raise unexpected(answer)
    await context.region_client.wait_revision(answer.revision, settings.catalog_timeout_ms)
    return answer.body


def check_not_busy(record: TableRecord, *, deleting: bool = False) -> None:
    """Raises ResourceInUseException while an earlier change of the table is under way."""
    if record.leaving is not None and record.leaving.deletes:
        record = replace(record, status=TableStatus.DELETING)
    doing = {
        TableStatus.CREATING: "created",
        TableStatus.UPDATING: "updated",
        TableStatus.DELETING: "deleted",
    }.get(record.status)
    if doing is None:
        return
    if deleting and record.status == TableStatus.DELETING:
        raise ApiError("ResourceInUseException", f"Table is being deleted: {record.name}")
    raise ApiError(
        "ResourceInUseException",
        f"Attempt to change a resource which is still in use: Table is being {doing}: {record.name}",
    )
