"""Event source mappings through boto3's lambda client and `geodyne trigger`, with functions that run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.api.service import Service

WAIT_S_MAX = 30.0
NOBODY = "00000000-0000-4000-8000-000000000000"
FUNCTION = """\
import os

def handler(event, context):
    with open(os.environ["OUT"], "a") as out:
        for record in event["Records"]:
            keys = record["dynamodb"]["Keys"]
            out.write(f"{context.function_name} {record['eventName']} {keys['pk']['S']}\\n")
"""

Trigger = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def client(service: Service) -> Any:
    return service.boto3_client("lambda")


@pytest.fixture(scope="module")
def register(
    tmp_path_factory: pytest.TempPathFactory, service: Service, trigger: Trigger
) -> Callable[[], tuple[str, Path]]:
    """Makes functions that write what they get into a file: name and file."""

    def make() -> tuple[str, Path]:
        directory = tmp_path_factory.mktemp("function")
        (directory / "writes.py").write_text(FUNCTION)
        name, out = service.unique("writes"), directory / "out"
        where = ["--handler", "writes:handler", "--path", str(directory), "--env", f"OUT={out}", "--timeout-s", "30"]
        assert trigger("function", "add", name, *where)[0] == 0
        return name, out

    return make


@pytest.fixture(scope="module")
def streamed(service: Service, make_table: Callable[..., str]) -> tuple[str, str]:
    """A table and the ARN of its stream."""
    table = make_table(StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"})
    return table, service.do("DescribeTable", TableName=table)["Table"]["LatestStreamArn"]


def until(look: Callable[[], Any]) -> Any:
    """What `look` returns once that is true; asks as fast as answers come, because they take their time."""
    end = time.monotonic() + WAIT_S_MAX
    while not (found := look()):
        assert time.monotonic() < end
    return found


def settled(client: Any, uuid: str) -> Any:
    def look() -> Any:
        mapping = client.get_event_source_mapping(UUID=uuid)
        return mapping if mapping["State"] in ("Enabled", "Disabled") else None

    return until(look)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def put(service: Service, table: str, key: str) -> None:
    service.do("PutItem", TableName=table, Item={"pk": {"S": key}})


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_a_mapping_calls_its_function_from_where_it_begins_until_it_is_disabled_and_goes_on_there(
    service: Service, client: Any, register: Callable[[], tuple[str, Path]], streamed: tuple[str, str]
) -> None:
    table, arn = streamed
    name, out = register()
    before, first, second = (service.unique() for _ in range(3))
    put(service, table, before)
    created = client.create_event_source_mapping(EventSourceArn=arn, FunctionName=name, StartingPosition="TRIM_HORIZON")
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 202
    uuid = created["UUID"]
    put(service, table, first)
    until(lambda: {f"{name} INSERT {before}", f"{name} INSERT {first}"} <= set(lines(out)))
    assert settled(client, uuid)["State"] == "Enabled"
    client.update_event_source_mapping(UUID=uuid, Enabled=False)
    assert settled(client, uuid)["State"] == "Disabled"
    put(service, table, second)
    client.update_event_source_mapping(UUID=uuid, Enabled=True)
    until(lambda: f"{name} INSERT {second}" in lines(out))
    settled(client, uuid)
    deleted = client.delete_event_source_mapping(UUID=uuid)
    assert (deleted["State"], deleted["ResponseMetadata"]["HTTPStatusCode"]) == ("Deleting", 202)
    until(lambda: uuid not in [one["UUID"] for one in client.list_event_source_mappings()["EventSourceMappings"]])


def test_a_filter_decides_what_a_function_gets(
    service: Service, client: Any, register: Callable[[], tuple[str, Path]], streamed: tuple[str, str]
) -> None:
    table, arn = streamed
    name, out = register()
    wanted, other = service.unique("wanted"), service.unique("other")
    pattern = json.dumps({"dynamodb": {"Keys": {"pk": {"S": [{"prefix": "wanted"}]}}}})
    uuid = client.create_event_source_mapping(
        EventSourceArn=arn,
        FunctionName=name,
        StartingPosition="TRIM_HORIZON",
        FilterCriteria={"Filters": [{"Pattern": pattern}]},
    )["UUID"]
    put(service, table, other)
    put(service, table, wanted)
    until(lambda: lines(out))
    assert set(lines(out)) == {f"{name} INSERT {wanted}"}
    settled(client, uuid)
    client.delete_event_source_mapping(UUID=uuid)


def test_pages_and_filters_of_a_list(
    client: Any, register: Callable[[], tuple[str, Path]], streamed: tuple[str, str]
) -> None:
    _, arn = streamed
    made = set()
    for _ in range(3):
        created = client.create_event_source_mapping(
            EventSourceArn=arn, FunctionName=register()[0], StartingPosition="LATEST", Enabled=False
        )
        made.add(created["UUID"])
    pages = client.get_paginator("list_event_source_mappings").paginate(
        EventSourceArn=arn, PaginationConfig={"PageSize": 1}
    )
    found = [[one["UUID"] for one in page["EventSourceMappings"]] for page in pages]
    assert all(len(page) <= 1 for page in found)
    assert made <= {uuid for page in found for uuid in page}
    for uuid in made:
        mapping = settled(client, uuid)
        of_function = client.list_event_source_mappings(FunctionName=mapping["FunctionArn"])["EventSourceMappings"]
        assert [one["UUID"] for one in of_function] == [uuid]
        client.delete_event_source_mapping(UUID=uuid)


def test_errors_reach_the_client_under_their_names(
    client: Any, register: Callable[[], tuple[str, Path]], streamed: tuple[str, str]
) -> None:
    _, arn = streamed
    name, _ = register()
    create = {"EventSourceArn": arn, "FunctionName": name, "StartingPosition": "LATEST"}
    with pytest.raises(client.exceptions.ResourceNotFoundException) as missing:
        client.create_event_source_mapping(**{**create, "FunctionName": "none"})
    assert code_of(missing) == ("ResourceNotFoundException", 404)
    with pytest.raises(client.exceptions.InvalidParameterValueException) as invalid:
        client.create_event_source_mapping(**{**create, "BatchSize": 10_001})
    assert code_of(invalid) == ("InvalidParameterValueException", 400)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_event_source_mapping(UUID=NOBODY)
    uuid = client.create_event_source_mapping(**create)["UUID"]
    with pytest.raises(client.exceptions.ResourceConflictException) as conflict:
        client.create_event_source_mapping(**create)
    assert code_of(conflict) == ("ResourceConflictException", 409)
    assert uuid in conflict.value.response["Error"]["Message"]
    with pytest.raises(ClientError) as unknown:
        client.list_functions()
    assert code_of(unknown) == ("UnknownOperationException", 404)
    settled(client, uuid)
    client.delete_event_source_mapping(UUID=uuid)


def test_the_command_line_manages_mappings(
    service: Service, client: Any, trigger: Trigger, register: Callable[[], tuple[str, Path]], streamed: tuple[str, str]
) -> None:
    table, arn = streamed
    name, out = register()
    code, shown, errors = trigger("create", "--table", table, "--function", name, "--batch-size", "7", "--json")
    assert (code, errors) == (0, "")
    mapping = json.loads(shown)
    uuid = mapping["UUID"]
    assert (mapping["EventSourceArn"], mapping["State"], mapping["BatchSize"]) == (arn, "Enabled", 7)
    key = service.unique()
    put(service, table, key)
    until(lambda: f"{name} INSERT {key}" in lines(out))
    assert trigger("disable", uuid)[:2] == (0, f"mapping {uuid} is Disabled\n")
    assert trigger("update", uuid, "--max-retries", "2", "--filter", '{"eventName": ["REMOVE"]}')[0] == 0
    assert client.get_event_source_mapping(UUID=uuid)["MaximumRetryAttempts"] == 2
    assert uuid in trigger("list", "--function", name)[1]
    assert "MaximumRetryAttempts" in trigger("show", uuid)[1]
    assert trigger("function", "remove", name)[0] == 1
    assert trigger("delete", uuid)[:2] == (0, f"mapping {uuid} is deleted\n")
    assert trigger("function", "remove", name)[:2] == (0, f"function {name} is removed\n")
    assert trigger("show", uuid)[::2] == (1, "geodyne: The resource you requested does not exist.\n")
