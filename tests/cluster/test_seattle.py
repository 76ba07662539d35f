"""Real data through an unmodified SDK and command line: a year of hourly temperatures, written here, read there."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.cluster.clusters import NO_PROFILE, Cluster
from tests.cluster.tables import REGIONS, await_same_everywhere, create_table, make_global, with_clients
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TABLE = "seattle-temps"
DAY = "2010/06/21"
AWS = Path(sys.executable).with_name("aws")


def readings() -> dict[tuple[str, str], Decimal]:
    """(day, hour) -> degrees Fahrenheit. Found without importing the package, which would load pandas."""
    package = importlib.util.find_spec("vega_datasets")
    assert package is not None
    assert package.submodule_search_locations
    file = Path(package.submodule_search_locations[0]) / "_data" / "seattle-temps.csv"
    with file.open(newline="") as rows:
        found = {tuple(row["date"].split(" ")): Decimal(row["temp"]) for row in csv.DictReader(rows)}
    return {(day, hour): degrees for (day, hour), degrees in found.items()}


def load(cluster: Cluster, rows: dict[tuple[str, str], Decimal]) -> None:
    keys = cluster.keys
    resource = boto3.session.Session(keys.access_key_id, keys.secret_access_key, region_name="us-east-1").resource(
        "dynamodb", endpoint_url=cluster.endpoint("us-east-1")
    )
    with resource.Table(TABLE).batch_writer() as batch:
        for (day, hour), degrees in rows.items():
            batch.put_item(Item={"date": day, "hour": hour, "temp": degrees})
    resource.meta.client.close()


def query_with_boto3(client: Any) -> list[dict[str, Any]]:
    pages = client.get_paginator("query").paginate(
        TableName=TABLE,
        KeyConditionExpression="#d = :day",
        ExpressionAttributeNames={"#d": "date"},
        ExpressionAttributeValues={":day": {"S": DAY}},
        PaginationConfig={"PageSize": 7},
    )
    return [item for page in pages for item in page["Items"]]


def query_with_the_aws_cli(cluster: Cluster, region: str) -> list[dict[str, Any]]:
    keys = cluster.keys
    done = subprocess.run(
        [
            *(str(AWS), "dynamodb", "query", "--table-name", TABLE, "--output", "json"),
            *("--endpoint-url", cluster.endpoint(region), "--region", region),
            *("--key-condition-expression", "#d = :day", "--expression-attribute-names", '{"#d": "date"}'),
            *("--expression-attribute-values", json.dumps({":day": {"S": DAY}})),
        ],
        env={
            **os.environ,
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
            "AWS_CONFIG_FILE": NO_PROFILE,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["Items"])


def test_a_year_of_readings_written_in_one_region_is_read_in_order_in_the_others(world: Cluster) -> None:
    rows = readings()
    assert len(rows) > 8_700
    home = world.client("us-east-1")
    create_table(home, TABLE, sort_key="hour", hash_key="date")
    make_global(world, "us-east-1", TABLE)
    assert len(world.partitions("us-east-1", TABLE)) >= 4
    load(world, rows)

    expected = [
        {"date": {"S": day}, "hour": {"S": hour}, "temp": {"N": format(degrees.normalize(), "f")}}
        for (day, hour), degrees in sorted(rows.items())
        if day == DAY
    ]
    assert len(expected) == 24
    seoul = world.client("ap-northeast-2")
    until("the day is in ap-northeast-2", lambda: len(query_with_boto3(seoul)) == 24)
    assert query_with_boto3(seoul) == expected
    seoul.close()
    ireland = world.client("eu-west-1")
    until("the day is in eu-west-1", lambda: len(query_with_boto3(ireland)) == 24)
    assert query_with_the_aws_cli(world, "eu-west-1") == expected
    ireland.close()
    home.close()

    def whole_table(clients: dict[str, Any]) -> None:
        assert len(await_same_everywhere(clients, TABLE, ("date", "hour"))) == len(rows)

    with_clients(world, whole_table, REGIONS)
