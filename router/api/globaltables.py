"""The six operations of global tables of version 2017.11.29, which there are none of.

Replicas are those of version 2019.11.21, made by UpdateTable; that version's tables are not known to these operations
(AWS developer guide, "Global tables version 2017.11.29"). So there is nothing to list, each name is unknown, and a new
one is refused.
"""

from __future__ import annotations

import orjson

from geodyne.errors import ApiError, validation
from router.api.context import Context
from router.api.parameters import Body
from router.api.refusals import INVALID
from router.api.shapes import validator

_check_create = validator("CreateGlobalTable")
_check_update = validator("UpdateGlobalTable")
_check_describe = validator("DescribeGlobalTable")
_check_list = validator("ListGlobalTables")
_check_update_settings = validator("UpdateGlobalTableSettings")
_check_describe_settings = validator("DescribeGlobalTableSettings")


async def create_global_table(body: Body, context: Context) -> bytes:
    """CreateGlobalTable: refused. Raises ApiError."""
    _check_create(body)
    name = body["GlobalTableName"]
    if name not in context.region_client.catalog.tables:
        raise ApiError(
            "TableNotFoundException", f"Table not found: Table: '{name}' not found in region: '{context.region}'."
        )
    raise validation(
        f"{INVALID}Global tables of version 2017.11.29 cannot be created. "
        "Use UpdateTable with ReplicaUpdates for version 2019.11.21"
    )


async def update_global_table(body: Body, context: Context) -> bytes:
    """UpdateGlobalTable. Raises ApiError."""
    _check_update(body)
    raise _unknown(body)


async def describe_global_table(body: Body, context: Context) -> bytes:
    """DescribeGlobalTable. Raises ApiError."""
    _check_describe(body)
    raise _unknown(body)


async def list_global_tables(body: Body, context: Context) -> bytes:
    """ListGlobalTables: none, whatever there is of version 2019.11.21. Raises ApiError."""
    _check_list(body)
    return orjson.dumps({"GlobalTables": []})


async def update_global_table_settings(body: Body, context: Context) -> bytes:
    """UpdateGlobalTableSettings. Raises ApiError."""
    _check_update_settings(body)
    raise _unknown(body)


async def describe_global_table_settings(body: Body, context: Context) -> bytes:
    """DescribeGlobalTableSettings. Raises ApiError."""
    _check_describe_settings(body)
    raise _unknown(body)


def _unknown(body: Body) -> ApiError:
    return ApiError("GlobalTableNotFoundException", f"Global table not found: '{body['GlobalTableName']}'")
