"""TransactWriteItems and TransactGetItems."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.service import Item, Service

NONE = {"Code": "None"}
FAILED = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
TOO_MANY = 101


def put(table: str, pk: str, v: int, **more: Any) -> Item:
    return {"Put": {"TableName": table, "Item": {"pk": {"S": pk}, "v": {"N": str(v)}}, **more}}


def add(table: str, pk: str, amount: int = 1, **more: Any) -> Item:
    values = {":amount": {"N": str(amount)}, **more.pop("values", {})}
    update = {"UpdateExpression": "ADD v :amount", "ExpressionAttributeValues": values}
    return {"Update": {"TableName": table, "Key": {"pk": {"S": pk}}, **update, **more}}


def delete(table: str, pk: str, **more: Any) -> Item:
    return {"Delete": {"TableName": table, "Key": {"pk": {"S": pk}}, **more}}


def check(table: str, pk: str, condition: str, **more: Any) -> Item:
    return {"ConditionCheck": {"TableName": table, "Key": {"pk": {"S": pk}}, "ConditionExpression": condition, **more}}


def get(table: str, pk: str, **more: Any) -> Item:
    return {"Get": {"TableName": table, "Key": {"pk": {"S": pk}}, **more}}


@pytest.fixture
def keys(service: Service) -> list[str]:
    """Five texts that no other test uses: as keys they lie in several partitions."""
    return [service.unique("t") for _ in range(5)]


def write(service: Service, *items: Item, **more: Any) -> dict[str, Any]:
    return service.do("TransactWriteItems", TransactItems=list(items), **more)


def cancelled(service: Service, *items: Item, **more: Any) -> list[Item]:
    """The reasons why a transaction is cancelled."""
    answer = service.call("TransactWriteItems", {"TransactItems": list(items), **more})
    assert (answer.status, answer.code) == (400, "TransactionCanceledException"), answer.body
    reasons: list[Item] = answer.body["CancellationReasons"]
    codes = ", ".join(reason["Code"] for reason in reasons)
    text = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    assert answer.body["Message"] == text
    return reasons


def value(service: Service, table: str, pk: str) -> int | None:
    item = service.get(table, {"pk": {"S": pk}})
    return int(item["v"]["N"]) if item is not None else None


# --- writing ------------------------------------------------------------------------------------------------


def test_all_kinds_of_actions_take_effect_together(service: Service, table: str, keys: list[str]) -> None:
    one, two, three, four, _ = keys
    assert write(service, put(table, one, 1), put(table, two, 2), put(table, three, 3)) == {}
    write(
        service,
        put(table, four, 4),
        add(table, one, 10),
        delete(table, two),
        check(table, three, "v = :three", ExpressionAttributeValues={":three": {"N": "3"}}),
    )
    assert [value(service, table, key) for key in keys] == [11, None, 3, 4, None]


def test_a_failed_condition_cancels_everything_and_says_where(service: Service, table: str, keys: list[str]) -> None:
    one, two, three, *_ = keys
    write(service, put(table, one, 1))
    absent = {"ConditionExpression": "attribute_not_exists(pk)"}
    assert cancelled(service, put(table, two, 2), put(table, one, 5, **absent), add(table, three)) == [
        NONE,
        FAILED,
        NONE,
    ]
    assert [value(service, table, key) for key in (one, two, three)] == [1, None, None]


def test_a_failed_condition_returns_the_item_when_asked_for(service: Service, table: str, keys: list[str]) -> None:
    one, two, *_ = keys
    write(service, put(table, one, 1))
    more = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    reasons = cancelled(
        service,
        check(table, one, "attribute_not_exists(pk)", **more),
        check(table, two, "attribute_exists(pk)", **more),
    )
    assert reasons == [FAILED | {"Item": {"pk": {"S": one}, "v": {"N": "1"}}}, FAILED]


def test_errors_of_evaluation_are_reasons(service: Service, table: str, keys: list[str]) -> None:
    one, two, *_ = keys
    service.do("PutItem", TableName=table, Item={"pk": {"S": one}, "v": {"S": "no number"}})
    missing = {
        "TableName": table,
        "Key": {"pk": {"S": two}},
        "UpdateExpression": "SET a = b",
    }
    assert cancelled(service, add(table, one), {"Update": missing}) == [
        {"Code": "ValidationError", "Message": "An operand in the update expression has an incorrect data type"},
        {
            "Code": "ValidationError",
            "Message": "The provided expression refers to an attribute that does not exist in the item",
        },
    ]


def test_keys_that_do_not_fit_the_schema_are_reasons(service: Service, table: str, keys: list[str]) -> None:
    mismatch = {"Code": "ValidationError", "Message": "The provided key element does not match the schema"}
    wrong = {"Update": add(table, keys[0])["Update"] | {"Key": {"pk": {"N": "1"}}}}
    assert cancelled(service, put(table, keys[0], 1), wrong) == [NONE, mismatch]
    mistyped = {"Put": {"TableName": table, "Item": {"pk": {"N": "1"}}}}
    assert cancelled(service, mistyped) == [
        {
            "Code": "ValidationError",
            "Message": "One or more parameter values were invalid: Type mismatch for key pk expected: S actual: N",
        }
    ]
    own_key = {"TableName": table, "Key": {"pk": {"S": "x"}}, "UpdateExpression": "SET pk = :x"}
    assert cancelled(service, {"Update": own_key | {"ExpressionAttributeValues": {":x": {"S": "y"}}}}) == [
        {
            "Code": "ValidationError",
            "Message": "One or more parameter values were invalid: "
            "Cannot update attribute pk. This attribute is part of the key",
        }
    ]


def test_an_empty_key_fails_the_request(service: Service, table: str) -> None:
    text = "cannot contain an empty string value. Key: pk"
    assert text in service.invalid("TransactWriteItems", TransactItems=[put(table, "", 1)])
    assert text in service.invalid("TransactWriteItems", TransactItems=[delete(table, "")])
    assert text in service.invalid("TransactGetItems", TransactItems=[get(table, "")])


def test_an_action_is_exactly_one(service: Service, table: str) -> None:
    both = put(table, "a", 1) | delete(table, "b")
    assert service.invalid("TransactWriteItems", TransactItems=[both]) == (
        "TransactItems can only contain one of Check, Put, Update or Delete"
    )
    assert service.invalid("TransactWriteItems", TransactItems=[{}]) == (
        "Invalid Request: TransactWriteRequest should contain Delete or Put or Update request"
    )


def test_no_two_actions_are_on_one_item(service: Service, table: str, keys: list[str]) -> None:
    text = "Transaction request cannot include multiple operations on one item"
    pair = [put(table, keys[0], 1), check(table, keys[0], "attribute_exists(pk)")]
    assert service.invalid("TransactWriteItems", TransactItems=pair) == text
    assert service.invalid("TransactGetItems", TransactItems=[get(table, keys[0])] * 2) == text


def test_a_hundred_actions_are_the_most(service: Service, table: str) -> None:
    pks = [service.unique("t") for _ in range(TOO_MANY)]
    assert "length less than or equal to 100" in service.invalid(
        "TransactWriteItems", TransactItems=[put(table, pk, 1) for pk in pks]
    )
    write(service, *(put(table, pk, 1) for pk in pks[1:]))
    found = service.do("TransactGetItems", TransactItems=[get(table, pk) for pk in pks[1:]])
    assert len([one for one in found["Responses"] if one]) == TOO_MANY - 1
    assert "length greater than or equal to 1" in service.invalid("TransactWriteItems", TransactItems=[])


def test_four_megabytes_are_the_most(service: Service, table: str) -> None:
    text = "x" * (390 * 1024)
    large = [
        {"Put": {"TableName": table, "Item": {"pk": {"S": service.unique()}, "v": {"S": text}}}} for _ in range(11)
    ]
    service.invalid("TransactWriteItems", TransactItems=large)
    write(service, *large[:10])
    for action in large:
        key = {"pk": action["Put"]["Item"]["pk"]}
        service.do("DeleteItem", TableName=table, Key=key)


def test_tables_must_be_there(service: Service, table: str, keys: list[str]) -> None:
    missing = ("ResourceNotFoundException", "Requested resource not found")
    actions = [put(table, keys[0], 1), put("no-such-table", "a", 1)]
    assert service.refused("TransactWriteItems", {"TransactItems": actions}) == missing
    assert service.refused("TransactGetItems", {"TransactItems": [get("no-such-table", "a")]}) == missing
    broken = check("no-such-table", "a", "nonsense")
    assert "Invalid ConditionExpression" in service.invalid("TransactWriteItems", TransactItems=[broken])


def test_the_ledger_is_nobodys_table(service: Service, table: str, keys: list[str]) -> None:
    write(service, put(table, keys[0], 1), put(table, keys[1], 1))
    names = service.do("ListTables")["TableNames"]
    assert not [name for name in names if not name[0].isalnum()]
    own = service.do("DescribeTable", TableName=table)["Table"]["TableArn"]
    arn = own.replace(table, "$transactions")
    for operation, body in (
        ("DescribeTable", {"TableName": arn}),
        ("DeleteTable", {"TableName": arn}),
        ("Scan", {"TableName": arn}),
        ("Scan", {"TableName": "$transactions"}),
    ):
        answer = service.call(operation, body)
        assert (answer.status, answer.code in ("ResourceNotFoundException", "ValidationException")) == (400, True)
    for statement in ('SELECT * FROM "$transactions"', """DELETE FROM "$transactions" WHERE id = 'a'"""):
        assert service.call("ExecuteStatement", {"Statement": statement}).status == 400


def test_placeholders_must_be_used(service: Service, table: str, keys: list[str]) -> None:
    unused = put(table, keys[0], 1, ExpressionAttributeNames={"#a": "a"})
    assert service.invalid("TransactWriteItems", TransactItems=[unused]) == (
        "ExpressionAttributeNames can only be specified when using expressions"
    )


def test_transactions_span_tables(service: Service, table: str, sorted_table: str, keys: list[str]) -> None:
    item = {"pk": {"S": keys[0]}, "sk": {"S": "s"}}
    write(service, put(table, keys[0], 1), {"Put": {"TableName": sorted_table, "Item": item}})
    found = service.do(
        "TransactGetItems",
        TransactItems=[get(table, keys[0]), {"Get": {"TableName": sorted_table, "Key": item}}],
    )
    assert found == {"Responses": [{"Item": {"pk": {"S": keys[0]}, "v": {"N": "1"}}}, {"Item": item}]}


def test_items_of_one_collection_are_written_in_one_round(service: Service, sorted_table: str, keys: list[str]) -> None:
    items = [{"pk": {"S": keys[0]}, "sk": {"S": str(number)}} for number in range(10)]
    write(service, *({"Put": {"TableName": sorted_table, "Item": item}} for item in items))
    page = service.do(
        "Query",
        TableName=sorted_table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": keys[0]}},
        ConsistentRead=True,
    )
    assert page["Items"] == items


# --- tokens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4])
def test_a_token_makes_a_transaction_happen_once(service: Service, table: str, keys: list[str], count: int) -> None:
    token = service.unique("token")
    actions = [add(table, key) for key in keys[:count]]
    first = write(service, *actions, ClientRequestToken=token, ReturnConsumedCapacity="TOTAL")
    again = write(service, *actions, ClientRequestToken=token, ReturnConsumedCapacity="TOTAL")
    units = 2.0 * count
    own = {"TableName": table, "CapacityUnits": units}
    assert first == {"ConsumedCapacity": [own | {"WriteCapacityUnits": units}]}
    assert again == {"ConsumedCapacity": [own | {"ReadCapacityUnits": units}]}
    assert [value(service, table, key) for key in keys[:count]] == [1] * count


@pytest.mark.parametrize(("count", "other"), [(1, 1), (4, 4), (1, 4), (4, 1)])
def test_a_token_stands_for_one_request(service: Service, table: str, keys: list[str], count: int, other: int) -> None:
    token = service.unique("token")
    write(service, *(add(table, key) for key in keys[:count]), ClientRequestToken=token)
    answer = service.call(
        "TransactWriteItems",
        {"TransactItems": [add(table, key, 2) for key in keys[:other]], "ClientRequestToken": token},
    )
    assert (answer.status, answer.code) == (400, "IdempotentParameterMismatchException")
    assert "Message" in answer.body
    assert value(service, table, keys[0]) == 1


def test_a_token_does_not_stand_for_the_same_actions_with_another_parameter(
    service: Service, table: str, keys: list[str]
) -> None:
    body: dict[str, Any] = {"TransactItems": [add(table, keys[0])], "ClientRequestToken": service.unique("token")}
    assert service.call("TransactWriteItems", body).status == 200
    answer = service.call("TransactWriteItems", body | {"ReturnConsumedCapacity": "TOTAL"})
    assert (answer.status, answer.code) == (400, "IdempotentParameterMismatchException")


def test_the_order_of_members_does_not_make_another_request(service: Service, table: str, keys: list[str]) -> None:
    token = service.unique("token")
    action = add(table, keys[0])
    turned = {"Update": dict(reversed(action["Update"].items()))}
    for one in (action, turned):
        write(service, one, ClientRequestToken=token)
    assert value(service, table, keys[0]) == 1


@pytest.mark.parametrize("count", [1, 4])
def test_a_cancelled_request_may_be_tried_again_under_its_token(
    service: Service, table: str, keys: list[str], count: int
) -> None:
    token = service.unique("token")
    only = {"ConditionExpression": "attribute_exists(pk)"}
    actions = [add(table, key, **only) for key in keys[:count]]
    assert cancelled(service, *actions, ClientRequestToken=token) == [FAILED] * count
    write(service, *(put(table, key, 1) for key in keys[:count]))
    write(service, *actions, ClientRequestToken=token)
    write(service, *actions, ClientRequestToken=token)
    assert [value(service, table, key) for key in keys[:count]] == [2] * count


def test_tokens_have_up_to_36_characters(service: Service, table: str, keys: list[str]) -> None:
    for token in ("", "x" * 37):
        text = service.invalid("TransactWriteItems", TransactItems=[put(table, keys[0], 1)], ClientRequestToken=token)
        assert "at 'clientRequestToken' failed to satisfy constraint: Member must have length" in text
    write(service, put(table, keys[0], 1), ClientRequestToken=service.unique("x").ljust(36, "x")[:36])


# --- reading ------------------------------------------------------------------------------------------------


def test_items_come_in_the_order_of_the_request(service: Service, table: str, keys: list[str]) -> None:
    one, two, three, *_ = keys
    write(service, put(table, one, 1), put(table, three, 3))
    found = service.do(
        "TransactGetItems",
        TransactItems=[
            get(table, three),
            get(table, two),
            get(table, one, ProjectionExpression="#v", ExpressionAttributeNames={"#v": "v"}),
        ],
        ReturnConsumedCapacity="TOTAL",
    )
    assert found == {
        "ConsumedCapacity": [{"TableName": table, "CapacityUnits": 6.0, "ReadCapacityUnits": 6.0}],
        "Responses": [{"Item": {"pk": {"S": three}, "v": {"N": "3"}}}, {}, {"Item": {"v": {"N": "1"}}}],
    }


def test_a_get_is_required_of_every_element(service: Service) -> None:
    assert service.invalid("TransactGetItems", TransactItems=[{}]) == (
        "1 validation error detected: Value null at 'transactItems.1.member.get' failed to satisfy constraint: "
        "Member must not be null"
    )


# --- capacity -----------------------------------------------------------------------------------------------


def test_units_are_twice_those_of_single_operations(service: Service, table: str, keys: list[str]) -> None:
    one, two, *_ = keys
    big = {"Put": {"TableName": table, "Item": {"pk": {"S": one}, "v": {"S": "x" * 3000}}}}
    answer = write(service, big, check(table, two, "attribute_not_exists(pk)"), ReturnConsumedCapacity="INDEXES")
    assert answer["ConsumedCapacity"] == [
        {
            "TableName": table,
            "CapacityUnits": 8.0,
            "WriteCapacityUnits": 8.0,
            "Table": {"CapacityUnits": 8.0, "WriteCapacityUnits": 8.0},
        }
    ]


# --- at the same time ---------------------------------------------------------------------------------------


def test_transactions_at_the_same_time_lose_nothing(service: Service, table: str, keys: list[str]) -> None:
    """Each adds one to all items; those that meet another are cancelled, and the sums stay equal."""

    def work(worker: int) -> int:
        own = Service(service.endpoint)
        done = 0
        try:
            for _ in range(15):
                answer = own.call("TransactWriteItems", {"TransactItems": [add(table, key) for key in keys]})
                if answer.status == 200:
                    done += 1
                else:
                    codes = {reason["Code"] for reason in answer.body["CancellationReasons"]}
                    assert codes <= {"None", "TransactionConflict"}, answer.body
        finally:
            own.close()
        return done

    with ThreadPoolExecutor(4) as pool:
        done = sum(pool.map(work, range(4)))
    assert done > 0
    assert [value(service, table, key) for key in keys] == [done] * len(keys)


def test_boto3_understands_the_reasons(service: Service, table: str, keys: list[str]) -> None:
    client = service.boto3_client()
    client.transact_write_items(TransactItems=[put(table, keys[0], 1), put(table, keys[1], 1)])
    with pytest.raises(client.exceptions.TransactionCanceledException) as caught:
        client.transact_write_items(TransactItems=[check(table, keys[0], "attribute_not_exists(pk)")])
    assert caught.value.response["CancellationReasons"] == [FAILED]


# --- indexes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def indexed_table(service: Service) -> Iterator[str]:
    """Keys "pk" and "sk"; a local index by "l", a global one by "g"."""

    def index(name: str, *keys: str) -> Item:
        schema = [{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)]
        return {"IndexName": name, "KeySchema": schema, "Projection": {"ProjectionType": "ALL"}}

    name = service.unique("api")
    service.do(
        "CreateTable",
        TableName=name,
        KeySchema=index("", "pk", "sk")["KeySchema"],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk", "l", "g")],
        BillingMode="PAY_PER_REQUEST",
        LocalSecondaryIndexes=[index("by-l", "pk", "l")],
        GlobalSecondaryIndexes=[index("by-g", "g")],
    )
    service.wait_active(name)
    yield name
    service.call("DeleteTable", {"TableName": name})


def indexed(table: str, pk: str, sk: str, **more: Item) -> Item:
    return {"Put": {"TableName": table, "Item": {"pk": {"S": pk}, "sk": {"S": sk}, **more}}}


def test_indexes_follow_and_are_charged_twice_too(service: Service, indexed_table: str, keys: list[str]) -> None:
    one, two, *_ = keys
    answer = write(
        service,
        indexed(indexed_table, one, "1", l={"S": "b"}, g={"S": one}),
        indexed(indexed_table, one, "2", l={"S": "a"}),
        indexed(indexed_table, two, "1"),
        ReturnConsumedCapacity="INDEXES",
        ReturnItemCollectionMetrics="SIZE",
    )
    assert answer == {
        "ConsumedCapacity": [
            {
                "TableName": indexed_table,
                "CapacityUnits": 12.0,
                "WriteCapacityUnits": 12.0,
                "Table": {"CapacityUnits": 6.0, "WriteCapacityUnits": 6.0},
                "LocalSecondaryIndexes": {"by-l": {"CapacityUnits": 4.0, "WriteCapacityUnits": 4.0}},
                "GlobalSecondaryIndexes": {"by-g": {"CapacityUnits": 2.0, "WriteCapacityUnits": 2.0}},
            }
        ],
        "ItemCollectionMetrics": {
            indexed_table: [
                {"ItemCollectionKey": {"pk": {"S": pk}}, "SizeEstimateRangeGB": [0.0, 1.0]} for pk in (one, two)
            ]
        },
    }
    page = service.do(
        "Query",
        TableName=indexed_table,
        IndexName="by-l",
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": one}},
        ConsistentRead=True,
    )
    assert [item["l"]["S"] for item in page["Items"]] == ["a", "b"]


def test_keys_of_indexes_of_the_wrong_type_are_reasons(service: Service, indexed_table: str, keys: list[str]) -> None:
    wrong = indexed(indexed_table, keys[0], "1", l={"N": "1"})
    update = {
        "TableName": indexed_table,
        "Key": {"pk": {"S": keys[1]}, "sk": {"S": "1"}},
        "UpdateExpression": "SET g = :g",
        "ExpressionAttributeValues": {":g": {"N": "1"}},
    }
    put_text = "Type mismatch for Index Key l Expected: S Actual: N IndexName: by-l"
    update_text = "The update expression attempted to update the secondary index key to unsupported type"
    assert [reason["Message"] for reason in cancelled(service, wrong)] == [
        f"One or more parameter values were invalid: {put_text}"
    ]
    assert [reason["Message"] for reason in cancelled(service, {"Update": update})] == [update_text]


def test_an_empty_key_of_an_index_fails_the_request(service: Service, indexed_table: str, keys: list[str]) -> None:
    empty = indexed(indexed_table, keys[0], "1", l={"S": ""})
    text = service.invalid("TransactWriteItems", TransactItems=[empty])
    assert text.endswith("cannot contain an empty string value. IndexName: by-l, IndexKey: l")
