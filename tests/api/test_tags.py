"""Tags of tables over the wire."""

from __future__ import annotations

from collections.abc import Callable

from tests.api.service import Item, Service


def pairs(**values: str) -> list[Item]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def test_tags_are_kept_replaced_and_removed(service: Service, make_table: Callable[..., str]) -> None:
    name = make_table(Tags=pairs(team="a"))
    arn = service.do("DescribeTable", TableName=name)["Table"]["TableArn"]
    assert service.do("ListTagsOfResource", ResourceArn=arn) == {"Tags": pairs(team="a")}
    answer = service.call("TagResource", {"ResourceArn": arn, "Tags": pairs(team="b", cost="1")})
    assert (answer.status, answer.body) == (200, b"")
    found = service.do("ListTagsOfResource", ResourceArn=arn)["Tags"]
    assert sorted(found, key=lambda tag: str(tag["Key"])) == pairs(cost="1", team="b")
    answer = service.call("UntagResource", {"ResourceArn": arn, "TagKeys": ["team", "absent"]})
    assert (answer.status, answer.body) == (200, b"")
    assert service.do("ListTagsOfResource", ResourceArn=arn) == {"Tags": pairs(cost="1")}
    assert service.do("DescribeTable", TableName=name)["Table"]["TableStatus"] == "ACTIVE"


def test_boto3_reads_the_empty_answer(service: Service, make_table: Callable[..., str]) -> None:
    client = service.boto3_client()
    arn = client.describe_table(TableName=make_table())["Table"]["TableArn"]
    client.tag_resource(ResourceArn=arn, Tags=pairs(a="1", b="2"))
    client.untag_resource(ResourceArn=arn, TagKeys=["a"])
    pages = client.get_paginator("list_tags_of_resource").paginate(ResourceArn=arn)
    assert [tag for page in pages for tag in page["Tags"]] == pairs(b="2")
    client.close()


def test_a_table_has_fifty_tags_at_most(service: Service, make_table: Callable[..., str]) -> None:
    arn = service.do("DescribeTable", TableName=make_table())["Table"]["TableArn"]
    service.call("TagResource", {"ResourceArn": arn, "Tags": pairs(**{f"k{n}": "" for n in range(50)})})
    assert len(service.do("ListTagsOfResource", ResourceArn=arn)["Tags"]) == 50
    assert "exceed" in service.invalid("TagResource", ResourceArn=arn, Tags=pairs(one="more"))
    replaced = service.call("TagResource", {"ResourceArn": arn, "Tags": pairs(k0="new")})
    assert replaced.status == 200


def test_an_arn_must_name_a_table(service: Service, table: str) -> None:
    arn = service.do("DescribeTable", TableName=table)["Table"]["TableArn"]
    assert service.refused("ListTagsOfResource", {"ResourceArn": f"{arn}-gone"}) == (
        "ResourceNotFoundException",
        f"Requested resource not found: ResourcArn: {arn}-gone not found",
    )
    assert service.refused("ListTagsOfResource", {"ResourceArn": table})[0] == "ValidationException"
    other = arn.replace(":dynamodb:", ":s3:")
    assert service.refused("ListTagsOfResource", {"ResourceArn": other})[0] == "AccessDeniedException"
