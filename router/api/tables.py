"""CreateTable and DeleteTable, and the way of a control operation to the metadata group.

The definition that travels is the part of `geodyne.catalog.TableRecord` that the user decides: name, hash_key,
hash_type, range_key, range_type, billing_mode, read_units, write_units, deletion_protection, table_class,
stream_view, tags.  The rest - id, partitions, revision, status, the stream's label - is the node's to decide.
"""

from __future__ import annotations

from typing import Any

import orjson

from geodyne.catalog import ControlOperation, TableRecord, TableStatus
from geodyne.errors import ApiError, validation
from geodyne.limits import KEY_NAME_BYTES_MAX, TAGS_MAX
from geodyne.messages import Control, ControlDone, Refused
from router.api.context import Context
from router.api.describe import describe
from router.api.dispatch import refusal, unexpected
from router.api.parameters import Body, not_supported
from router.api.shapes import is_table_name, validator
from router.api.tablerecords import not_found

INVALID = "One or more parameter values were invalid: "
THROUGHPUT_UNITS_MAX = 1_000_000_000_000  # of one member; the account's quota is lower

_check_create = validator("CreateTable")
_check_delete = validator("DeleteTable")

_INDEXES = ("LocalSecondaryIndexes", "GlobalSecondaryIndexes", "VectorIndexes")
_CREATE_REFUSED = (
    *_INDEXES,
    "ResourcePolicy",
    "OnDemandThroughput",
    "WarmThroughput",
    "GlobalTableSourceArn",
    "GlobalTableSettingsReplicationMode",
)


async def create_table(body: Body, context: Context) -> bytes:
    """CreateTable. Raises ApiError."""
    _check_create(body)
    definition = _definition(body, context)
    if definition["name"] in context.region_client.catalog.tables:
        raise ApiError("ResourceInUseException", f"Table already exists: {definition['name']}")
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


async def control(context: Context, operation: ControlOperation, body: dict[str, Any]) -> TableRecord:
    """Let the metadata group decide; returns the table as it is then, once this router's catalog knows it too.

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
    return TableRecord.from_json(answer.body["table"])


def check_not_busy(record: TableRecord, *, deleting: bool = False) -> None:
    """Raises ResourceInUseException while an earlier change of the table is under way."""
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


# --- the definition -------------------------------------------------------------------------------------


def _definition(body: Body, context: Context) -> dict[str, Any]:
    """The definition that the request asks for, checked in the service's order."""
    name = body["TableName"]
    if name.startswith("arn:"):
        name = context.tables.name_of(name)
        if not is_table_name(name):
            raise validation(f"{INVALID}Invalid table name in TableArn: {name}")
    billing_mode, read_units, write_units = _billing(body)
    keys = _key_attributes(body)
    for parameter in _CREATE_REFUSED:
        if body.get(parameter) is not None:
            raise not_supported(parameter)
    check_encryption(body)
    return {
        "name": name,
        **keys,
        "billing_mode": billing_mode,
        "read_units": read_units,
        "write_units": write_units,
        "deletion_protection": body.get("DeletionProtectionEnabled") is True,
        "table_class": body.get("TableClass") or "STANDARD",
        "stream_view": _stream_view(body.get("StreamSpecification")),
        "tags": _tags(body.get("Tags") or []),
    }


def _billing(body: Body) -> tuple[str, int, int]:
    mode = body.get("BillingMode") or "PROVISIONED"
    throughput = body.get("ProvisionedThroughput")
    if mode == "PAY_PER_REQUEST":
        if throughput is not None:
            raise validation(
                f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is "
                "PAY_PER_REQUEST"
            )
        return mode, 0, 0
    if throughput is None:
        raise validation(
            f"{INVALID}ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED"
        )
    return mode, *throughput_units(throughput)


def throughput_units(throughput: dict[str, Any]) -> tuple[int, int]:
    """Read and write units of a ProvisionedThroughput. Raises ValidationException beyond all bounds."""
    read_units, write_units = int(throughput["ReadCapacityUnits"]), int(throughput["WriteCapacityUnits"])
    for member, units in (("ReadCapacityUnits", read_units), ("WriteCapacityUnits", write_units)):
        if units > THROUGHPUT_UNITS_MAX:
            raise validation(f"Given value {units} for {member} is out of bounds")
    return read_units, write_units


def _key_attributes(body: Body) -> dict[str, str | None]:
    """The table's key from its schema and its attribute definitions, which must name exactly the same attributes."""
    types = _attribute_types(body["AttributeDefinitions"])
    elements = body["KeySchema"]
    names = [element["AttributeName"] for element in elements]
    _check_key_schema(elements, names, types)
    indexed = any(body.get(name) is not None for name in _INDEXES)
    if len(types) != len(names) and not indexed:
        raise validation(
            f"{INVALID}Number of attributes in KeySchema does not exactly match number of attributes defined in "
            "AttributeDefinitions"
        )
    sort_key = names[1] if len(names) > 1 else None
    return {
        "hash_key": names[0],
        "hash_type": types[names[0]],
        "range_key": sort_key,
        "range_type": None if sort_key is None else types[sort_key],
    }


def _attribute_types(definitions: list[dict[str, str]]) -> dict[str, str]:
    types: dict[str, str] = {}
    for definition in definitions:
        name = definition["AttributeName"]
        if name in types:
            raise validation(f"{INVALID}Duplicate AttributeName in AttributeDefinitions: {name}")
        types[name] = definition["AttributeType"]
    return types


def _check_key_schema(elements: list[dict[str, str]], names: list[str], types: dict[str, str]) -> None:
    missing = [name for name in names if name not in types]
    if missing and len(names) == 1 and types:
        raise validation(
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. "
            f"Keys: [{', '.join(names)}], AttributeDefinitions: [{', '.join(types)}]"
        )
    if missing or len(types) < len(names):
        raise validation("Invalid KeySchema: Some index key attribute have no definition")
    if elements[0]["KeyType"] != "HASH":
        raise validation("Invalid KeySchema: The first KeySchemaElement is not a HASH key type")
    if len(elements) > 1:
        if names[0] == names[1]:
            raise validation("Both the Hash Key and the Range Key element in the KeySchema have the same name")
        if elements[1]["KeyType"] != "RANGE":
            raise validation("Invalid KeySchema: The second KeySchemaElement is not a RANGE key type")
    for name in names:
        if len(name.encode()) > KEY_NAME_BYTES_MAX:
            raise validation(f"{INVALID}Key attribute name is longer than {KEY_NAME_BYTES_MAX} bytes: {name}")


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
    """Data is not encrypted with keys of the user's; saying so explicitly is allowed."""
    encryption = body.get("SSESpecification")
    if encryption is not None and (encryption.get("Enabled") or encryption.get("KMSMasterKeyId")):
        raise not_supported("SSESpecification")


def _tags(tags: list[dict[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for tag in tags:
        key = tag["Key"]
        if key.startswith("aws:"):
            raise validation(f"Tag Key cannot be prefixed with aws:, Key: {key}")
        if key in found:
            raise validation(f"Duplicate Tag Keys provided as input: Duplicate Tag Key found {key}")
        found[key] = tag["Value"]
    if len(found) > TAGS_MAX:
        raise validation("Number of Tags exceed the current limit for the provided ResourceArn")
    return found
