"""CreateTable and DeleteTable.

The definition that travels is the part of `geodyne.catalog.TableRecord` that the user decides: name, hash_key,
hash_type, range_key, range_type, billing_mode, read_units, write_units, deletion_protection, table_class,
stream_view, tags, extra and indexes (router.api.indexdefinitions).  The rest - id, partitions, revision, status, the
stream's label - is the node's to decide.
"""

from __future__ import annotations

from typing import Any

import orjson

from geodyne.catalog import ControlOperation
from geodyne.errors import ApiError, validation
from router.api.context import Context
from router.api.control import check_not_busy, control
from router.api.describe import describe
from router.api.indexdefinitions import check_together, global_indexes, key_names, local_indexes
from router.api.keydefinitions import attribute_types, check_all_used, table_keys
from router.api.parameters import Body
from router.api.quotas import check_new_table
from router.api.refusals import INVALID, not_supported
from router.api.shapes import is_table_name, validator
from router.api.tablerecords import not_found
from router.api.tags import tags_of
from router.api.throughput import PROVISIONED, new_ceilings, new_index_units, raised_warm, table_units, warm_units

_check_create = validator("CreateTable")
_check_delete = validator("DeleteTable")

_CREATE_REFUSED = (
    "VectorIndexes",
    "ResourcePolicy",
    "GlobalTableSourceArn",
    "GlobalTableSettingsReplicationMode",
)


async def create_table(body: Body, context: Context) -> bytes:
    """CreateTable. Raises ApiError."""
    _check_create(body)
    definition = _definition(body, context)
    if definition["name"] in context.region_client.catalog.tables:
        raise ApiError("ResourceInUseException", f"Table already exists: {definition['name']}")
    check_new_table(definition, context.region_client.catalog.tables)
    record = await control(context, ControlOperation.CREATE_TABLE, {"definition": definition})
    return orjson.dumps({"TableDescription": describe(record, context)})


async def delete_table(body: Body, context: Context) -> bytes:
    """DeleteTable. Raises ApiError."""
    _check_delete(body)
    name = context.tables.name_of(body["TableName"])
    record = context.region_client.catalog.tables.get(name)
    if record is None:
        raise not_found(name)
    check_not_busy(record, deleting=True)
    if record.deletion_protection:
        raise validation(
            "Resource cannot be deleted as it is currently protected against deletion. "
            "Disable deletion protection first."
        )
    deleted = await control(context, ControlOperation.DELETE_TABLE, {"name": name})
    return orjson.dumps({"TableDescription": describe(deleted, context)})


# --- the definition -------------------------------------------------------------------------------------


def _definition(body: Body, context: Context) -> dict[str, Any]:
    """The definition that the request asks for, checked in the service's order."""
    name = _name(body, context)
    mode = body.get("BillingMode") or PROVISIONED
    units = table_units(mode, body.get("ProvisionedThroughput"))
    keys_and_indexes = _keys_and_indexes(body, mode)
    for parameter in _CREATE_REFUSED:
        if body.get(parameter) is not None:
            raise not_supported(parameter)
    check_encryption(body)
    extra = new_ceilings(mode, body.get("OnDemandThroughput"))
    extra |= raised_warm(body.get("WarmThroughput"), warm_units(mode, units, {}))
    if body.get("TableClass") is not None:
        extra["table_class_named"] = True
    return {
        "name": name,
        **keys_and_indexes,
        "billing_mode": mode,
        "read_units": units[0],
        "write_units": units[1],
        "deletion_protection": body.get("DeletionProtectionEnabled") is True,
        "table_class": body.get("TableClass") or "STANDARD",
        "stream_view": _stream_view(body.get("StreamSpecification")),
        "tags": tags_of(body.get("Tags") or []),
        "extra": extra,
    }


def _name(body: Body, context: Context) -> str:
    name: str = body["TableName"]
    if name.startswith("arn:"):
        name = context.tables.name_of(name)
        if not is_table_name(name):
            raise validation(f"{INVALID}Invalid table name in TableArn: {name}")
    return name


def _keys_and_indexes(body: Body, mode: str) -> dict[str, Any]:
    """The keys of the table and its indexes, for which exactly the right attributes must be defined."""
    types = attribute_types(body["AttributeDefinitions"])
    keys = table_keys(body["KeySchema"], types)
    local, wide = body.get("LocalSecondaryIndexes"), body.get("GlobalSecondaryIndexes")
    indexes = local_indexes(local, keys, types) + global_indexes(wide, types, mode, new_index_units)
    check_together(indexes)
    check_all_used(types, keys.names + key_names(indexes), indexed=bool(indexes))
    hash_key, hash_type = keys.hash_keys[0]
    range_key, range_type = keys.range_keys[0] if keys.range_keys else (None, None)
    return {
        "hash_key": hash_key,
        "hash_type": hash_type,
        "range_key": range_key,
        "range_type": range_type,
        "indexes": indexes,
    }


def _stream_view(stream: dict[str, Any] | None) -> str | None:
    if stream is None:
        return None
    view: str | None = stream.get("StreamViewType")
    if stream["StreamEnabled"]:
        if view is None:
            raise validation(f"{INVALID}Table is being created with a stream enabled, UpdateViewType is required")
    elif view is not None:
        raise validation(
            f"{INVALID}Table is being created with a stream disabled, UpdateViewType should not be specified"
        )
    return view


def check_encryption(body: Body) -> None:
    """Raises ValidationException: data is not encrypted with keys of the user's. Saying so explicitly is allowed."""
    encryption = body.get("SSESpecification")
    if encryption is None:
        return
    kind, key = encryption.get("SSEType"), encryption.get("KMSMasterKeyId")
    if kind == "AES256":
        raise validation(f"{INVALID}SSEType AES256 is not supported")
    if key is not None and kind is None:
        raise validation(f"{INVALID}SSEType KMS is required if KMSMasterKeyId is specified")
    if encryption.get("Enabled") or key is not None:
        raise not_supported("SSESpecification")
