"""boto3 as applications use it: client, resource, conditions builder, batch writer, waiters and paginators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from boto3.dynamodb.conditions import Attr, Key
from boto3.dynamodb.types import Binary
from botocore.exceptions import ClientError

from tests.clients.tables import ORDER_INDEXES, definition
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TAKES_SEVERAL_BATCHES = 60  # BatchWriteItem takes 25


@pytest.fixture(scope="module")
def resource(region: Cluster, endpoint: str) -> Iterator[Any]:
    keys = region.keys
    session = boto3.session.Session(keys.access_key_id, keys.secret_access_key, region_name="us-east-1")
    resource = session.resource("dynamodb", endpoint_url=endpoint)
    yield resource
    resource.meta.client.close()


@pytest.fixture(scope="module")
def things(resource: Any, table: str) -> Any:
    return resource.Table(table)


@pytest.fixture(scope="module")
def orders(resource: Any, make_table: Callable[..., str]) -> Any:
    """Nine orders of one customer, in a table with a local and a global index."""
    orders = resource.Table(make_table(**ORDER_INDEXES))
    with orders.batch_writer() as batch:
        for n in range(9):
            order = {"pk": "c1", "sk": f"o{n}", "total": 100 - n, "note": f"n{n}", "paid": n % 2 == 0}
            batch.put_item(Item={**order, "status": "open" if n < 6 else "done", "placed": f"2026-01-0{n + 1}"})
    return orders


def test_a_table_lives_from_creation_to_deletion_under_waiters_and_paginators(client: Any) -> None:
    name = "clients-life"
    created = client.create_table(TableName=name, **definition())["TableDescription"]
    assert created["TableStatus"] == "CREATING"
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    pages = client.get_paginator("list_tables").paginate(PaginationConfig={"PageSize": 1})
    assert name in {found for page in pages for found in page["TableNames"]}
    with pytest.raises(client.exceptions.ResourceInUseException):
        client.create_table(TableName=name, **definition())
    client.delete_table(TableName=name)
    client.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="Requested resource not found"):
        client.get_item(TableName=name, Key={"pk": {"S": "a"}, "sk": {"S": "b"}})


def test_every_type_comes_back_as_it_went(things: Any) -> None:
    item = {
        "pk": "types",
        "sk": "all",
        "text": "grüße \U0001f30d",
        "empty": "",
        "digits": Decimal("12345678901234567890123456789012345678"),
        "small": Decimal("-1E-130"),
        "large": Decimal("1.5E+37"),  # boto3 reads no number of more than 38 digits, zeros included
        "bytes": Binary(bytes(range(256))),
        "yes": True,
        "nothing": None,
        "texts": {"a", "b"},
        "numbers": {Decimal(1), Decimal("2.5")},
        "blobs": {Binary(b"\x00"), Binary(b"\xff")},
        "list": ["x", Decimal(1), [], {}],
        "map": {"deep": {"deeper": [{"deepest": True}]}},
    }
    things.put_item(Item=item)
    assert things.get_item(Key={"pk": "types", "sk": "all"}, ConsistentRead=True)["Item"] == item


def test_the_resource_reads_its_attributes_from_the_description(things: Any) -> None:
    things.reload()
    assert (things.table_status, things.key_schema[0]["AttributeName"]) == ("ACTIVE", "pk")
    assert things.billing_mode_summary["BillingMode"] == "PAY_PER_REQUEST"


def test_updates_return_what_they_are_asked_for(things: Any) -> None:
    key = {"pk": "updates", "sk": "1"}
    first = things.update_item(
        Key=key,
        UpdateExpression="SET #n = if_not_exists(#n, :zero) + :one, tags = :tags",
        ExpressionAttributeNames={"#n": "n"},
        ExpressionAttributeValues={":zero": 0, ":one": 1, ":tags": {"a", "b"}},
        ReturnValues="ALL_NEW",
    )
    assert first["Attributes"] == {**key, "n": 1, "tags": {"a", "b"}}
    second = things.update_item(
        Key=key,
        UpdateExpression="ADD n :one DELETE tags :gone",
        ExpressionAttributeValues={":one": 1, ":gone": {"a"}},
        ReturnValues="UPDATED_NEW",
    )
    assert second["Attributes"] == {"n": 2, "tags": {"b"}}
    assert things.delete_item(Key=key, ReturnValues="ALL_OLD")["Attributes"] == {**key, "n": 2, "tags": {"b"}}


def test_a_failed_condition_built_by_the_builder_carries_the_item(things: Any) -> None:
    item = {"pk": "condition", "sk": "1", "n": 5}
    things.put_item(Item=item, ConditionExpression=Attr("pk").not_exists() & Attr("sk").not_exists())
    with pytest.raises(things.meta.client.exceptions.ConditionalCheckFailedException) as caught:
        things.put_item(
            Item={**item, "n": 6},
            ConditionExpression=Attr("n").gt(5) | Attr("n").between(6, 9) | Attr("other").begins_with("x"),
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert caught.value.response["Error"]["Message"] == "The conditional request failed"
    # The resource turns only answers into Python's types, not errors.
    assert caught.value.response["Item"] == {"pk": {"S": "condition"}, "sk": {"S": "1"}, "n": {"N": "5"}}
    things.put_item(Item={**item, "n": 6}, ConditionExpression=Attr("n").is_in([4, 5]) & ~Attr("gone").exists())


def test_the_batch_writer_splits_what_is_too_much_for_one_request(things: Any) -> None:
    with things.batch_writer(overwrite_by_pkeys=["pk", "sk"]) as batch:
        for n in range(TAKES_SEVERAL_BATCHES):
            batch.put_item(Item={"pk": "batch", "sk": f"{n:03}", "n": n})
        batch.delete_item(Key={"pk": "batch", "sk": "000"})
    found = things.query(KeyConditionExpression=Key("pk").eq("batch"), ConsistentRead=True)
    assert [item["n"] for item in found["Items"]] == list(range(1, TAKES_SEVERAL_BATCHES))


def test_key_conditions_of_the_builder_select_ranges_in_both_directions(things: Any) -> None:
    with things.batch_writer() as batch:
        for n in range(10):
            batch.put_item(Item={"pk": "ranges", "sk": f"k{n}", "n": n})

    def found(condition: Any, **more: Any) -> list[int]:
        answer = things.query(KeyConditionExpression=Key("pk").eq("ranges") & condition, ConsistentRead=True, **more)
        return [int(item["n"]) for item in answer["Items"]]

    assert found(Key("sk").begins_with("k")) == list(range(10))
    assert found(Key("sk").between("k3", "k5")) == [3, 4, 5]
    assert found(Key("sk").lt("k2")) == [0, 1]
    assert found(Key("sk").gte("k8"), ScanIndexForward=False) == [9, 8]
    assert found(Key("sk").gt("k0"), FilterExpression=Attr("n").gt(6), ProjectionExpression="n") == [7, 8, 9]


def test_paginators_walk_queries_and_scans_to_their_end(client: Any, things: Any, table: str) -> None:
    with things.batch_writer() as batch:
        for n in range(12):
            batch.put_item(Item={"pk": "pages", "sk": f"{n:02}", "n": n})
    query = client.get_paginator("query").paginate(
        TableName=table,
        KeyConditionExpression="pk = :p",
        ExpressionAttributeValues={":p": {"S": "pages"}},
        ConsistentRead=True,
        PaginationConfig={"PageSize": 5},
    )
    pages = list(query)
    assert [page["Count"] for page in pages] == [5, 5, 2]
    assert pages[0]["LastEvaluatedKey"] == {"pk": {"S": "pages"}, "sk": {"S": "04"}}
    scan = client.get_paginator("scan").paginate(
        TableName=table, ConsistentRead=True, FilterExpression="pk = :p",
        ExpressionAttributeValues={":p": {"S": "pages"}}, PaginationConfig={"PageSize": 4},
    )  # fmt: skip
    assert sorted(int(item["n"]["N"]) for page in scan for item in page["Items"]) == list(range(12))


def test_batch_reads_answer_what_is_there(client: Any, things: Any, table: str) -> None:
    things.put_item(Item={"pk": "reads", "sk": "1", "n": 1})
    keys = [{"pk": {"S": "reads"}, "sk": {"S": sk}} for sk in ("1", "2")]
    answer = client.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
    assert answer["Responses"] == {table: [{"pk": {"S": "reads"}, "sk": {"S": "1"}, "n": {"N": "1"}}]}
    assert answer["UnprocessedKeys"] == {}
    with pytest.raises(ClientError, match="Provided list of item keys contains duplicates"):
        client.batch_get_item(RequestItems={table: {"Keys": [keys[0], keys[0]]}})


def test_capacity_is_reported_by_the_documented_arithmetic(client: Any, table: str) -> None:
    item = {"pk": {"S": "capacity"}, "sk": {"S": "1"}, "body": {"S": "x" * 5_000}}
    put = client.put_item(TableName=table, Item=item, ReturnConsumedCapacity="TOTAL")
    assert put["ConsumedCapacity"] == {"TableName": table, "CapacityUnits": 5.0}
    key = {"pk": item["pk"], "sk": item["sk"]}
    strong = client.get_item(TableName=table, Key=key, ConsistentRead=True, ReturnConsumedCapacity="INDEXES")
    assert strong["ConsumedCapacity"] == {"TableName": table, "CapacityUnits": 2.0, "Table": {"CapacityUnits": 2.0}}


def test_legacy_parameters_still_work(client: Any, table: str) -> None:
    key = {"pk": {"S": "legacy"}, "sk": {"S": "1"}}
    client.update_item(TableName=table, Key=key, AttributeUpdates={"n": {"Value": {"N": "1"}, "Action": "ADD"}})
    with pytest.raises(client.exceptions.ConditionalCheckFailedException):
        client.put_item(TableName=table, Item=key, Expected={"n": {"Exists": False}})
    found = client.query(
        TableName=table,
        KeyConditions={"pk": {"ComparisonOperator": "EQ", "AttributeValueList": [key["pk"]]}},
        QueryFilter={"n": {"ComparisonOperator": "GE", "AttributeValueList": [{"N": "1"}]}},
        AttributesToGet=["n"],
        ConsistentRead=True,
    )
    assert found["Items"] == [{"n": {"N": "1"}}]


def test_a_local_index_sorts_strongly_and_fetches_what_it_does_not_hold(orders: Any) -> None:
    asked = {"IndexName": "by-total", "KeyConditionExpression": Key("pk").eq("c1"), "ConsistentRead": True}
    projected = orders.query(**asked)["Items"]
    assert [int(item["total"]) for item in projected] == list(range(92, 101))
    assert set(projected[0]) == {"pk", "sk", "total", "note"}
    whole = orders.query(**asked, Select="ALL_ATTRIBUTES", Limit=2, ScanIndexForward=False)
    assert [item["placed"] for item in whole["Items"]] == ["2026-01-01", "2026-01-02"]
    assert set(whole["LastEvaluatedKey"]) == {"pk", "sk", "total"}


def test_a_global_index_follows_the_table(client: Any, orders: Any) -> None:
    def open_orders() -> list[str]:
        found = orders.query(IndexName="by-status", KeyConditionExpression=Key("status").eq("open"))
        return [item["sk"] for item in found["Items"]]

    until("the index holds what was written", lambda: open_orders() == [f"o{n}" for n in range(6)])
    orders.update_item(
        Key={"pk": "c1", "sk": "o8"},
        UpdateExpression="SET #s = :open",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":open": "open"},
    )
    until("the entry has moved", lambda: open_orders() == [*(f"o{n}" for n in range(6)), "o8"])
    with pytest.raises(ClientError, match="Consistent reads are not supported on global secondary indexes"):
        orders.query(IndexName="by-status", KeyConditionExpression=Key("status").eq("x"), ConsistentRead=True)


def test_a_global_index_can_be_added_to_a_table_that_has_items(client: Any, make_table: Callable[..., str]) -> None:
    name = make_table()
    client.put_item(TableName=name, Item={"pk": {"S": "a"}, "sk": {"S": "1"}, "g": {"S": "x"}})
    index = {
        "IndexName": "by-g",
        "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }
    updated = client.update_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "g", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[{"Create": index}],
    )["TableDescription"]
    assert updated["TableStatus"] == "UPDATING"
    assert updated["GlobalSecondaryIndexes"][0]["IndexStatus"] == "CREATING"

    def status() -> str:
        described = client.describe_table(TableName=name)["Table"]
        return str(described["GlobalSecondaryIndexes"][0]["IndexStatus"])

    def found() -> list[dict[str, Any]]:
        asked = {"KeyConditionExpression": "g = :g", "ExpressionAttributeValues": {":g": {"S": "x"}}}
        return list(client.query(TableName=name, IndexName="by-g", **asked)["Items"])

    until("the index is ACTIVE", lambda: status() == "ACTIVE")
    # A read of a global index is eventually consistent: a follower may answer a heartbeat later than the leader filled.
    until("the index holds the item", lambda: found() == [{"pk": {"S": "a"}, "sk": {"S": "1"}, "g": {"S": "x"}}])


def test_a_transaction_writes_all_or_says_why_not(client: Any, table: str) -> None:
    def put(sk: str, **more: Any) -> dict[str, Any]:
        return {"Put": {"TableName": table, "Item": {"pk": {"S": "tx"}, "sk": {"S": sk}}, **more}}

    unless_there = {
        "ConditionExpression": "attribute_not_exists(pk)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    client.transact_write_items(TransactItems=[put("1"), put("2", **unless_there)], ClientRequestToken="once")
    client.transact_write_items(TransactItems=[put("1"), put("2", **unless_there)], ClientRequestToken="once")
    with pytest.raises(client.exceptions.IdempotentParameterMismatchException):
        client.transact_write_items(TransactItems=[put("1")], ClientRequestToken="once")
    with pytest.raises(client.exceptions.TransactionCanceledException) as caught:
        client.transact_write_items(TransactItems=[put("3"), put("2", **unless_there)])
    reasons = caught.value.response["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed"]
    assert reasons[1]["Item"] == {"pk": {"S": "tx"}, "sk": {"S": "2"}}
    gets = [{"Get": {"TableName": table, "Key": {"pk": {"S": "tx"}, "sk": {"S": sk}}}} for sk in "123"]
    answer = client.transact_get_items(TransactItems=gets)["Responses"]
    assert [response.get("Item", {}).get("sk") for response in answer] == [{"S": "1"}, {"S": "2"}, None]


def test_partiql_statements_read_and_write(client: Any, table: str) -> None:
    statement = f"""INSERT INTO "{table}" VALUE {{'pk': ?, 'sk': '1', 'n': 1}}"""
    client.execute_statement(Statement=statement, Parameters=[{"S": "partiql"}])
    with pytest.raises(client.exceptions.DuplicateItemException):
        client.execute_statement(Statement=statement, Parameters=[{"S": "partiql"}])
    client.execute_statement(Statement=f"""UPDATE "{table}" SET n = n + 1 WHERE pk = 'partiql' AND sk = '1'""")
    select = f"""SELECT n FROM "{table}" WHERE pk = 'partiql' AND sk = '1'"""
    assert client.execute_statement(Statement=select, ConsistentRead=True)["Items"] == [{"n": {"N": "2"}}]
    batch = client.batch_execute_statement(Statements=[{"Statement": select, "ConsistentRead": True}])
    assert batch["Responses"] == [{"TableName": table, "Item": {"n": {"N": "2"}}}]


def test_tags_are_kept_with_the_table(client: Any, table: str) -> None:
    arn = client.describe_table(TableName=table)["Table"]["TableArn"]
    client.tag_resource(ResourceArn=arn, Tags=[{"Key": "team", "Value": "a"}, {"Key": "stage", "Value": "test"}])
    client.untag_resource(ResourceArn=arn, TagKeys=["stage"])

    def tags() -> list[dict[str, str]]:
        pages = client.get_paginator("list_tags_of_resource").paginate(ResourceArn=arn)
        return [tag for page in pages for tag in page["Tags"]]

    until("the tags are there", lambda: tags() == [{"Key": "team", "Value": "a"}])


def test_what_is_not_there_says_so_by_name(client: Any, table: str) -> None:
    with pytest.raises(ClientError) as caught:
        client.list_backups()
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"
