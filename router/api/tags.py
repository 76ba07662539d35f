"""TagResource, UntagResource and ListTagsOfResource. What is tagged is named by its ARN; here that is a table.

Limits and rules of tags: Developer Guide, "Tagging resources"; 50 a table, keys are not repeated and do not begin
with "aws:".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from geodyne.catalog import SYSTEM_PREFIX, ControlOperation, TableRecord, TableStatus
from geodyne.errors import ApiError, validation
from geodyne.limits import TAGS_MAX
from router.api.context import Context
from router.api.control import control
from router.api.parameters import Body
from router.api.shapes import validator
from router.api.tablerecords import ARN_PARTITION, ARN_PARTS

NO_BODY = b""  # the model has no output for the operations that change tags

_check_tag = validator("TagResource")
_check_untag = validator("UntagResource")
_check_list = validator("ListTagsOfResource")

_TAG_CHARACTERS = re.compile(r"[\w\s.:/=+\-@]*").fullmatch


async def tag_resource(body: Body, context: Context) -> bytes:
    """TagResource: adds tags, or gives them new values. Raises ApiError."""
    record = _resource(body, context, "TagResource", _check_tag)
    if not body["Tags"]:
        raise validation("Atleast one Tag needs to be provided as Input.")
    added = tags_of(body["Tags"])
    check_count(record.tags | added)
    await _change(record, context, {"add": added, "remove": []})
    return NO_BODY


async def untag_resource(body: Body, context: Context) -> bytes:
    """UntagResource. Keys that are not there are no error. Raises ApiError."""
    record = _resource(body, context, "UntagResource", _check_untag)
    if not body["TagKeys"]:
        raise validation("Atleast one Tag Key needs to be provided as Input.")
    await _change(record, context, {"add": {}, "remove": list(dict.fromkeys(body["TagKeys"]))})
    return NO_BODY


async def list_tags_of_resource(body: Body, context: Context) -> bytes:
    """ListTagsOfResource. All tags of a table fit in one page, so no token was ever given out. Raises ApiError."""
    record = _resource(body, context, "ListTagsOfResource", _check_list)
    if body.get("NextToken") is not None:
        raise validation("Invalid NextToken provided as input")
    return orjson.dumps({"Tags": [{"Key": key, "Value": value} for key, value in record.tags.items()]})


def tags_of(tags: Iterable[dict[str, str]]) -> dict[str, str]:
    """The tags of a request by key. Raises ValidationException for keys or values that no tag may have."""
    found: dict[str, str] = {}
    for tag in tags:
        key, value = tag["Key"], tag["Value"]
        if key.startswith("aws:"):
            raise validation(f"Tag Key cannot be prefixed with aws:, Key: {key}")
        if key in found:
            raise validation(f"Duplicate Tag Keys provided as input: Duplicate Tag Key found {key}")
        if not _TAG_CHARACTERS(key):
            raise validation(f"Tag Key contains characters that are not allowed, Key: {key}")
        if not _TAG_CHARACTERS(value):
            raise validation(f"Tag Value contains characters that are not allowed, Key: {key}")
        found[key] = value
    check_count(found)
    return found


def check_count(tags: dict[str, str]) -> None:
    """Raises ValidationException for more tags than a resource can have."""
    if len(tags) > TAGS_MAX:
        raise validation("Number of Tags exceed the current limit for the provided ResourceArn")


async def _change(record: TableRecord, context: Context, change: dict[str, Any]) -> None:
    body = {"name": record.name, "table_id": record.id, **change}
    await control(context, ControlOperation.TAG_TABLE, body)


# --- the resource ---------------------------------------------------------------------------------------


def _resource(body: Body, context: Context, operation: str, check: Any) -> TableRecord:
    """The table that a request names. The ARN is looked at before everything but the types of the members."""
    if type(body) is dict and body.get("ResourceArn") in (None, ""):
        check({**body, "ResourceArn": "-"})
        raise validation("Invalid TableArn")
    check(body)
    arn: str = body["ResourceArn"]
    name = _table_name(arn, context, operation)
    record = None if name.startswith(SYSTEM_PREFIX) else context.region_client.catalog.tables.get(name)
    if record is None or record.status == TableStatus.DELETING:
        raise ApiError("ResourceNotFoundException", f"Requested resource not found: ResourcArn: {arn} not found")
    return record


def _table_name(arn: str, context: Context, operation: str) -> str:
    """Another service's or account's resource is denied; any other ARN but a table's of this region is invalid."""
    parts = arn.split(":", ARN_PARTS - 1)
    if parts[0] != "arn" or len(parts) != ARN_PARTS:
        raise _invalid(arn)
    _, partition, service, region, account, resource = parts
    if service != "dynamodb" or account != context.account_id:
        raise ApiError(
            "AccessDeniedException",
            f"User: {_user(context)} is not authorized to perform: dynamodb:{operation} on resource: {arn}",
        )
    kind, _, name = resource.partition("/")
    if partition != ARN_PARTITION or region != context.region or kind != "table" or not name or "/" in name:
        raise _invalid(arn)
    return name


def _user(context: Context) -> str:
    name = getattr(context.principal, "profile", None) or "anonymous"
    return f"arn:{ARN_PARTITION}:iam::{context.account_id}:user/{name}"


def _invalid(arn: str) -> ApiError:
    return validation(f"Invalid TableArn: Invalid ResourceArn provided as input {arn}")
