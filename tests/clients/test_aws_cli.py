"""The AWS CLI, as people type it: commands, their JMESPath queries, waiters, skeleton files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

COMMAND_S_MAX = 90.0
KEYS = ("AttributeName=pk,KeyType=HASH", "AttributeName=sk,KeyType=RANGE")
TYPES = ("AttributeName=pk,AttributeType=S", "AttributeName=sk,AttributeType=N")
EXIT_CODE_OF_A_SERVICE_ERROR = 255

Aws = Callable[..., Any]


class CommandFailed(Exception):
    """The command ended with an error; the text is what it wrote to stderr."""


@pytest.fixture(scope="module")
def aws(environment: dict[str, str]) -> Aws:
    """Run `aws dynamodb ...`; returns its parsed output, None when it writes none."""

    def run(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "awscli", "dynamodb", *arguments, "--output", "json"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        if done.returncode != 0:
            assert done.returncode == EXIT_CODE_OF_A_SERVICE_ERROR, done.stderr
            raise CommandFailed(done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


@pytest.fixture(scope="module")
def cli_table(aws: Aws) -> Any:
    """A table made, waited for and deleted by the command line; keys "pk" S and "sk" N."""
    name = "clients-cli"
    created = aws(
        "create-table", "--table-name", name, "--key-schema", *KEYS, "--attribute-definitions", *TYPES,
        "--billing-mode", "PAY_PER_REQUEST", "--query", "TableDescription.[TableName,TableStatus]",
    )  # fmt: skip
    assert created == [name, "CREATING"]
    aws("wait", "table-exists", "--table-name", name)
    yield name
    aws("delete-table", "--table-name", name)
    aws("wait", "table-not-exists", "--table-name", name)
    with pytest.raises(CommandFailed, match="ResourceNotFoundException"):
        aws("describe-table", "--table-name", name)


def text(value: object) -> str:
    return json.dumps(value)


def test_an_item_is_written_updated_queried_and_deleted(aws: Aws, cli_table: str) -> None:
    key = text({"pk": {"S": "a"}, "sk": {"N": "1"}})
    aws("put-item", "--table-name", cli_table, "--item", text({"pk": {"S": "a"}, "sk": {"N": "1"}, "n": {"N": "1"}}))
    updated = aws(
        "update-item", "--table-name", cli_table, "--key", key,
        "--update-expression", "SET #n = #n + :one", "--expression-attribute-names", '{"#n":"n"}',
        "--expression-attribute-values", '{":one":{"N":"1"}}', "--return-values", "UPDATED_NEW",
    )  # fmt: skip
    assert updated == {"Attributes": {"n": {"N": "2"}}}
    found = aws(
        "query", "--table-name", cli_table, "--key-condition-expression", "pk = :p AND sk > :zero",
        "--expression-attribute-values", '{":p":{"S":"a"},":zero":{"N":"0"}}', "--consistent-read",
        "--query", "Items[].n.N",
    )  # fmt: skip
    assert found == ["2"]
    deleted = aws("delete-item", "--table-name", cli_table, "--key", key, "--return-values", "ALL_OLD")
    assert deleted["Attributes"]["n"] == {"N": "2"}


def test_a_failed_condition_is_an_error_of_the_command(aws: Aws, cli_table: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        aws(
            "put-item", "--table-name", cli_table, "--item", '{"pk":{"S":"x"},"sk":{"N":"1"}}',
            "--condition-expression", "attribute_exists(pk)",
        )  # fmt: skip
    assert (
        str(caught.value)
        .strip()
        .endswith(
            "An error occurred (ConditionalCheckFailedException) when calling the PutItem operation: "
            "The conditional request failed"
        )
    )


def test_a_scan_is_paged_by_the_command_itself(aws: Aws, cli_table: str) -> None:
    items = [{"PutRequest": {"Item": {"pk": {"S": "scan"}, "sk": {"N": str(n)}}}} for n in range(7)]
    assert aws("batch-write-item", "--request-items", text({cli_table: items})) == {"UnprocessedItems": {}}
    scan = ("scan", "--table-name", cli_table, "--consistent-read", "--filter-expression", "pk = :p")
    values = ("--expression-attribute-values", '{":p":{"S":"scan"}}')
    assert aws(*scan, *values, "--page-size", "2", "--query", "length(Items)") == 7
    first = aws(*scan, *values, "--max-items", "3")
    assert (len(first["Items"]), "NextToken" in first) == (3, True)
    rest = aws(*scan, *values, "--starting-token", first["NextToken"])
    assert sorted(int(item["sk"]["N"]) for item in first["Items"] + rest["Items"]) == list(range(7))


def test_a_skeleton_file_is_filled_in_and_sent(aws: Aws, cli_table: str, tmp_path: Path) -> None:
    skeleton = aws("put-item", "--generate-cli-skeleton")
    assert {"TableName", "Item", "ReturnConsumedCapacity"} <= set(skeleton)
    file = tmp_path / "input.json"
    item = {"pk": {"S": "skeleton"}, "sk": {"N": "1"}}
    file.write_text(text({"TableName": cli_table, "Item": item, "ReturnConsumedCapacity": "TOTAL"}))
    answer = aws("put-item", "--cli-input-json", f"file://{file}")
    assert answer == {"ConsumedCapacity": {"TableName": cli_table, "CapacityUnits": 1.0}}


def test_a_transaction_is_written_or_cancelled_with_its_reasons(aws: Aws, cli_table: str) -> None:
    def put(number: int, **more: str) -> dict[str, Any]:
        item = {"pk": {"S": "tx"}, "sk": {"N": str(number)}}
        return {"Put": {"TableName": cli_table, "Item": item, **more}}

    aws("transact-write-items", "--transact-items", text([put(1), put(2)]))
    with pytest.raises(CommandFailed, match=r"reasons \[None, ConditionalCheckFailed\]"):
        aws(
            "transact-write-items",
            "--transact-items",
            text([put(3), put(2, ConditionExpression="attribute_not_exists(sk)")]),
        )
    gets = [{"Get": {"TableName": cli_table, "Key": put(n)["Put"]["Item"]}} for n in (1, 3)]
    found = aws("transact-get-items", "--transact-items", text(gets), "--query", "Responses[].Item.sk.N")
    assert found == ["1"]


def test_partiql_statements_are_executed(aws: Aws, cli_table: str) -> None:
    aws("execute-statement", "--statement", f"""INSERT INTO "{cli_table}" VALUE {{'pk': 'ql', 'sk': 1, 'n': 'x'}}""")
    select = f"""SELECT n FROM "{cli_table}" WHERE pk = ? AND sk = ?"""
    found = aws(
        "execute-statement", "--consistent-read", "--statement", select, "--parameters", '[{"S":"ql"},{"N":"1"}]'
    )
    assert found["Items"] == [{"n": {"S": "x"}}]


def test_tables_are_listed_described_and_tagged(aws: Aws, cli_table: str) -> None:
    assert cli_table in aws("list-tables", "--query", "TableNames")
    arn = aws("describe-table", "--table-name", cli_table, "--query", "Table.TableArn")
    aws("tag-resource", "--resource-arn", arn, "--tags", "Key=team,Value=a")
    assert aws("list-tags-of-resource", "--resource-arn", arn)["Tags"] == [{"Key": "team", "Value": "a"}]
    assert aws("get-item", "--table-name", arn, "--key", '{"pk":{"S":"none"},"sk":{"N":"1"}}') is None


def test_a_table_is_switched_to_provisioned_capacity(aws: Aws, cli_table: str) -> None:
    aws(
        "update-table", "--table-name", cli_table, "--billing-mode", "PROVISIONED",
        "--provisioned-throughput", "ReadCapacityUnits=7,WriteCapacityUnits=6",
    )  # fmt: skip
    aws("wait", "table-exists", "--table-name", cli_table)
    throughput = aws("describe-table", "--table-name", cli_table, "--query", "Table.ProvisionedThroughput")
    assert (throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]) == (7, 6)
