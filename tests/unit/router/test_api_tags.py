"""Tags of tables: adding, replacing, removing, listing, and the ARNs that name no table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.messages import Control
from tests.unit.router.fake_region import Client, table

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/things"


@pytest.fixture
def client() -> Client:
    client = Client()
    table(client, Tags=[{"Key": "team", "Value": "a"}])
    return client


def tags(client: Client) -> dict[str, str]:
    found = client("ListTagsOfResource", ResourceArn=ARN)
    assert set(found) == {"Tags"}
    return {tag["Key"]: tag["Value"] for tag in found["Tags"]}


def pairs(**values: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def test_tags_are_added_replaced_and_removed(client: Client) -> None:
    assert client.raw("TagResource", {"ResourceArn": ARN, "Tags": pairs(team="b", cost="")}) == b""
    call = client.region.calls[-1]
    assert isinstance(call, Control)
    assert call.operation == "tag_table"
    assert call.body["table_id"] == client.region.catalog.tables["things"].id
    assert tags(client) == {"team": "b", "cost": ""}
    assert client.raw("UntagResource", {"ResourceArn": ARN, "TagKeys": ["team", "absent"]}) == b""
    assert tags(client) == {"cost": ""}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "Atleast one Tag needs to be provided as Input."),
        (pairs(a="1") * 2, "Duplicate Tag Keys provided as input: Duplicate Tag Key found a"),
        ([{"Key": "aws:x", "Value": "1"}], "Tag Key cannot be prefixed with aws:, Key: aws:x"),
        ([{"Key": "a?", "Value": "1"}], "Tag Key contains characters that are not allowed, Key: a?"),
        ([{"Key": "a", "Value": "<"}], "Tag Value contains characters that are not allowed, Key: a"),
        (
            [{"Key": str(number), "Value": ""} for number in range(50)],
            "Number of Tags exceed the current limit for the provided ResourceArn",
        ),
    ],
)
def test_wrong_tags_are_refused(client: Client, given: list[dict[str, str]], message: str) -> None:
    assert client.refused("TagResource", ResourceArn=ARN, Tags=given) == ("ValidationException", message)
    assert tags(client) == {"team": "a"}


def test_no_keys_are_no_input(client: Client) -> None:
    assert client.refused("UntagResource", ResourceArn=ARN, TagKeys=[]) == (
        "ValidationException",
        "Atleast one Tag Key needs to be provided as Input.",
    )


NOT_FOUND = f"Requested resource not found: ResourcArn: {ARN}s not found"
INVALID = "Invalid TableArn: Invalid ResourceArn provided as input "


@pytest.mark.parametrize(
    ("arn", "code", "message"),
    [
        ("", "ValidationException", "Invalid TableArn"),
        ("things", "ValidationException", f"{INVALID}things"),
        (f"{ARN}/index/idx", "ValidationException", f"{INVALID}{ARN}/index/idx"),
        (ARN.replace(":table/", ":backup/"), "ValidationException", INVALID + ARN.replace(":table/", ":backup/")),
        (ARN.replace("us-east-1", "mars-1"), "ValidationException", INVALID + ARN.replace("us-east-1", "mars-1")),
        (f"{ARN}s", "ResourceNotFoundException", NOT_FOUND),
        (ARN.replace(":dynamodb:", ":s3:"), "AccessDeniedException", "ListTagsOfResource on resource: arn:aws:s3:"),
        (ARN.replace("0:table", "1:table"), "AccessDeniedException", "is not authorized to perform: dynamodb:List"),
    ],
)
def test_an_arn_must_name_a_table(client: Client, arn: str, code: str, message: str) -> None:
    found_code, found = client.refused("ListTagsOfResource", ResourceArn=arn)
    assert (found_code, message in str(found)) == (code, True), found


def test_no_table_of_the_system_is_a_resource(client: Client) -> None:
    record = client.region.catalog.tables["things"]
    client.region.catalog.tables["$things"] = replace(record, name="$things")
    arn = ARN.replace("things", "$things")
    assert client.refused("ListTagsOfResource", ResourceArn=arn)[0] == "ResourceNotFoundException"


@pytest.mark.parametrize("body", [{}, {"ResourceArn": None}])
def test_an_arn_is_required(client: Client, body: dict[str, Any]) -> None:
    assert client.refused("ListTagsOfResource", **body) == ("ValidationException", "Invalid TableArn")


def test_the_shape_is_checked_before_the_resource(client: Client) -> None:
    code, message = client.refused("TagResource", ResourceArn=f"{ARN}s", Tags=[{"Key": "", "Value": "v"}])
    assert (code, message) == (
        "ValidationException",
        "1 validation error detected: Value '' at 'tags.1.member.key' failed to satisfy constraint: Member must have "
        "length greater than or equal to 1",
    )
    assert client.refused("ListTagsOfResource", ResourceArn=3)[0] == "SerializationException"


def test_a_token_that_was_never_given_out_is_refused(client: Client) -> None:
    assert client.refused("ListTagsOfResource", ResourceArn=ARN, NextToken="x")[0] == "ValidationException"
