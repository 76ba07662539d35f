"""ExecuteStatement and BatchExecuteStatement as clients see them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.api.service import Item, Service

FOLLOWED_S_MAX = 20.0


def run(service: Service, statement: str, *parameters: Item, **more: Any) -> dict[str, Any]:
    given = {"Parameters": list(parameters)} if parameters else {}
    return service.do("ExecuteStatement", Statement=statement, **given, **more)


def test_an_item_through_its_life(service: Service, table: str, key: Item) -> None:
    pk = key["pk"]
    insert = f"INSERT INTO \"{table}\" VALUE {{'pk': ?, 'n': 1, 'tags': <<'b', 'a'>>, 'list': [1, {{'k': NULL}}]}}"
    assert run(service, insert, pk) == {"Items": []}
    assert service.refused("ExecuteStatement", {"Statement": insert, "Parameters": [pk]}) == (
        "DuplicateItemException",
        "Duplicate primary key exists in table",
    )
    update = f"UPDATE \"{table}\" SET n = n + ? SET tags = set_add(tags, <<'c'>>) WHERE pk = ? RETURNING MODIFIED NEW *"
    changed = {"n": {"N": "3"}, "tags": {"SS": ["a", "b", "c"]}}
    assert run(service, update, {"N": "2"}, pk) == {"Items": [changed]}
    item = {"pk": pk, **changed, "list": {"L": [{"N": "1"}, {"M": {"k": {"NULL": True}}}]}}
    assert run(service, f'SELECT * FROM "{table}" WHERE pk = ?', pk, ConsistentRead=True) == {"Items": [item]}
    delete = f'DELETE FROM "{table}" WHERE pk = ? AND n = ? RETURNING ALL OLD *'
    assert service.refused("ExecuteStatement", {"Statement": delete, "Parameters": [pk, {"N": "4"}]}) == (
        "ConditionalCheckFailedException",
        "The conditional request failed",
    )
    assert run(service, delete, pk, {"N": "3"}) == {"Items": [item]}
    assert run(service, delete, pk, {"N": "3"}) == {"Items": []}


def test_the_failed_item_comes_with_the_error_on_request(service: Service, table: str, key: Item) -> None:
    service.do("PutItem", TableName=table, Item={**key, "n": {"N": "1"}})
    body = {
        "Statement": f'UPDATE "{table}" SET n = 2 WHERE pk = ? AND n = 7',
        "Parameters": [key["pk"]],
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    answer = service.call("ExecuteStatement", body)
    assert answer.code == "ConditionalCheckFailedException"
    assert answer.body["Item"] == {**key, "n": {"N": "1"}}


def test_a_query_goes_on_with_its_token(service: Service, sorted_table: str) -> None:
    pk = {"S": service.unique()}
    for number in range(5):
        service.do("PutItem", TableName=sorted_table, Item={"pk": pk, "sk": {"S": str(number)}})
    statement = f"SELECT sk FROM \"{sorted_table}\" WHERE pk = ? AND sk > '0' ORDER BY sk DESC"
    first = run(service, statement, pk, Limit=3, ConsistentRead=True)
    assert [item["sk"]["S"] for item in first["Items"]] == ["4", "3", "2"]
    assert first["LastEvaluatedKey"] == {"pk": pk, "sk": {"S": "2"}}
    rest = run(service, statement, pk, NextToken=first["NextToken"], ConsistentRead=True)
    assert [item["sk"]["S"] for item in rest["Items"]] == ["1"]
    assert "NextToken" not in rest
    other = {"Statement": statement, "Parameters": [{"S": "other"}], "NextToken": first["NextToken"]}
    assert service.refused("ExecuteStatement", other)[0] == "ValidationException"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("", None),
        ("x" * 8193, None),
        ("SHOW TABLES", "Statement wasn't well formed, can't be processed: Expected data manipulation"),
        ('UPDATE "{table}" SET n = 1', "Where clause does not contain a mandatory equality on all key attributes"),
        ('SELECT * FROM "{table}" WHERE pk = ?', "Number of parameters in request and statement don't match."),
    ],
)
def test_what_is_refused(service: Service, table: str, statement: str, message: str | None) -> None:
    text = service.invalid("ExecuteStatement", Statement=statement.replace("{table}", table))
    if message is not None:
        assert text == message


def test_a_parameter_of_a_wrong_json_type_is_told_first(service: Service, table: str) -> None:
    body = {"Statement": "nonsense", "Parameters": [{"S": 1}]}
    assert service.refused("ExecuteStatement", body)[0] == "SerializationException"


def test_a_missing_table(service: Service) -> None:
    assert service.refused("ExecuteStatement", {"Statement": 'SELECT * FROM "no-such-table"'}) == (
        "ResourceNotFoundException",
        "Requested resource not found",
    )


def test_batches_through_boto3(service: Service, table: str) -> None:
    client = service.boto3_client()
    first, second = service.unique(), service.unique()
    statement = f"INSERT INTO \"{table}\" VALUE {{'pk': ?}}"
    written = client.batch_execute_statement(
        Statements=[{"Statement": statement, "Parameters": [{"S": pk}]} for pk in (first, second, first)]
    )
    assert written["Responses"][:2] == [{"TableName": table}, {"TableName": table}]
    assert written["Responses"][2]["Error"]["Code"] == "DuplicateItem"
    read = client.batch_execute_statement(
        Statements=[
            {"Statement": f'SELECT * FROM "{table}" WHERE pk = ?', "Parameters": [{"S": pk}], "ConsistentRead": True}
            for pk in (second, service.unique())
        ],
        ReturnConsumedCapacity="TOTAL",
    )
    assert read["Responses"] == [{"TableName": table, "Item": {"pk": {"S": second}}}, {"TableName": table}]
    assert read["ConsumedCapacity"] == [{"TableName": table, "CapacityUnits": 2.0}]


def test_boto3_pages_through_a_statement(service: Service, sorted_table: str) -> None:
    client = service.boto3_client()
    pk = {"S": service.unique()}
    for number in range(4):
        client.put_item(TableName=sorted_table, Item={"pk": pk, "sk": {"S": str(number)}})
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = client.execute_statement(
            Statement=f'SELECT * FROM "{sorted_table}" WHERE pk = ?',
            Parameters=[pk],
            Limit=1,
            ConsistentRead=True,
            **token,
        )
        found += [item["sk"]["S"] for item in page["Items"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == ["0", "1", "2", "3"]


@pytest.fixture(scope="module")
def indexed_table(service: Service) -> Iterator[str]:
    """Keys "pk" and "sk"; a local index by "weight" that keeps keys only, a global one by "team" and "weight"."""
    name = service.unique("api")
    types = {"pk": "S", "sk": "S", "team": "S", "weight": "N"}
    service.do(
        "CreateTable",
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=_keys("pk", "sk"),
        AttributeDefinitions=[{"AttributeName": at, "AttributeType": kind} for at, kind in types.items()],
        LocalSecondaryIndexes=[
            {
                "IndexName": "by-weight",
                "KeySchema": _keys("pk", "weight"),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        GlobalSecondaryIndexes=[
            {"IndexName": "by-team", "KeySchema": _keys("team", "weight"), "Projection": {"ProjectionType": "ALL"}}
        ],
    )
    service.wait_active(name)
    for number in range(6):
        item = {
            "pk": {"S": "a"},
            "sk": {"S": str(number)},
            "team": {"S": "odd" if number % 2 else "even"},
            "weight": {"N": str(100 - number)},
            "note": {"S": f"note {number}"},
        }
        service.do("PutItem", TableName=name, Item=item)
    yield name
    service.call("DeleteTable", {"TableName": name})


def _keys(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"), strict=True)]


def _eventually(service: Service, statement: str, count: int) -> list[Item]:
    """The items of a statement once there are `count`: a global index follows its table."""
    end = time.monotonic() + FOLLOWED_S_MAX
    while True:
        items: list[Item] = run(service, statement)["Items"]
        if len(items) == count or time.monotonic() > end:
            return items


def test_a_local_index_is_read_in_its_order_and_fetches_what_it_lacks(service: Service, indexed_table: str) -> None:
    source = f'"{indexed_table}"."by-weight"'
    found = run(service, f"SELECT * FROM {source} WHERE pk = 'a' AND weight < 97", ConsistentRead=True)["Items"]
    assert found == [
        {"pk": {"S": "a"}, "sk": {"S": str(number)}, "weight": {"N": str(100 - number)}} for number in (5, 4)
    ]
    statement = f"SELECT note FROM {source} WHERE pk = 'a' AND sk <> '5' ORDER BY weight"
    assert [item["note"]["S"] for item in run(service, statement, ConsistentRead=True)["Items"]] == [
        f"note {number}" for number in (4, 3, 2, 1, 0)
    ]


def test_a_global_index_is_queried_and_scanned(service: Service, indexed_table: str) -> None:
    source = f'"{indexed_table}"."by-team"'
    found = _eventually(service, f"SELECT sk FROM {source} WHERE team = 'odd' ORDER BY weight DESC", 3)
    assert found == [{"sk": {"S": sk}} for sk in "135"]
    both = _eventually(service, f"SELECT sk FROM {source} WHERE team IN ['odd', 'even'] ORDER BY weight DESC", 6)
    assert both == [{"sk": {"S": sk}} for sk in "012345"]
    assert len(_eventually(service, f"SELECT * FROM {source} WHERE weight > 96", 4)) == 4
    first = run(service, f"SELECT sk FROM {source} WHERE team = 'even'", Limit=2)
    assert set(first["LastEvaluatedKey"]) == {"pk", "sk", "team", "weight"}
    rest = run(service, f"SELECT sk FROM {source} WHERE team = 'even'", NextToken=first["NextToken"])
    assert first["Items"] + rest["Items"] == [{"sk": {"S": sk}} for sk in "420"]
    assert service.invalid("ExecuteStatement", Statement=f"SELECT * FROM {source}", ConsistentRead=True) == (
        "Consistent reads are not supported on global secondary indexes"
    )


def test_a_batch_reads_no_index(service: Service, indexed_table: str) -> None:
    statement = f'SELECT * FROM "{indexed_table}"."by-team" WHERE team = \'odd\' AND weight = 99'
    (response,) = service.do("BatchExecuteStatement", Statements=[{"Statement": statement}])["Responses"]
    assert response["Error"]["Code"] == "ValidationError"


# --- transactions ---------------------------------------------------------------------------------------


def transact(service: Service, *statements: tuple[str, list[Item]], **more: Any) -> dict[str, Any]:
    return service.do("ExecuteTransaction", TransactStatements=_elements(statements), **more)


def _elements(statements: Sequence[tuple[str, list[Item]]]) -> list[dict[str, Any]]:
    return [
        {"Statement": text, "Parameters": parameters} if parameters else {"Statement": text}
        for text, parameters in statements
    ]


def cancelled(service: Service, *statements: tuple[str, list[Item]]) -> list[str]:
    """The codes of the reasons for which a transaction was cancelled."""
    answer = service.call("ExecuteTransaction", {"TransactStatements": _elements(statements)})
    assert (answer.status, answer.code) == (400, "TransactionCanceledException"), answer.body
    codes = [reason["Code"] for reason in answer.body["CancellationReasons"]]
    assert answer.message == (
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{', '.join(codes)}]"
    )
    return codes


def test_a_transaction_writes_all_or_nothing(service: Service, table: str, sorted_table: str) -> None:
    first, second = {"S": service.unique()}, {"S": service.unique()}
    insert = (f"INSERT INTO \"{table}\" VALUE {{'pk': ?, 'n': 1}}", [first])
    other = (f"INSERT INTO \"{sorted_table}\" VALUE {{'pk': ?, 'sk': 'x'}}", [second])
    assert transact(service, insert, other) == {"Responses": [{}, {}]}
    update = (f'UPDATE "{table}" SET n = n + 1 WHERE pk = ?', [first])
    assert cancelled(service, update, other) == ["None", "DuplicateItem"]
    exists = f"EXISTS(SELECT * FROM \"{sorted_table}\" WHERE pk = ? AND sk = 'x' AND n IS MISSING)"
    delete = (f'DELETE FROM "{table}" WHERE pk = ? AND n = 7', [first])
    assert cancelled(service, (exists, [second]), delete) == ["None", "ConditionalCheckFailed"]
    assert cancelled(service, (exists, [first]), update) == ["ConditionalCheckFailed", "None"]
    assert service.get(table, {"pk": first}) == {"pk": first, "n": {"N": "1"}}
    transact(service, (exists, [second]), update)
    assert service.get(table, {"pk": first}) == {"pk": first, "n": {"N": "2"}}


def test_a_transaction_reads_items_together(service: Service, table: str) -> None:
    pk = {"S": service.unique()}
    service.do("PutItem", TableName=table, Item={"pk": pk, "n": {"N": "1"}, "m": {"M": {"k": {"S": "v"}}}})
    whole = (f'SELECT * FROM "{table}" WHERE pk = ?', [{"S": service.unique()}])
    parts = (f'SELECT m.k, n FROM "{table}" WHERE pk = ? AND n = 1', [pk])
    assert transact(service, whole, parts) == {"Responses": [{}, {"Item": {"k": {"S": "v"}, "n": {"N": "1"}}}]}


def test_a_token_makes_a_transaction_happen_once(service: Service, table: str) -> None:
    pk, token = {"S": service.unique()}, service.unique()
    service.do("PutItem", TableName=table, Item={"pk": pk, "n": {"N": "1"}})
    update = (f'UPDATE "{table}" SET n = n + 1 WHERE pk = ?', [pk])
    for _ in range(2):
        transact(service, update, ClientRequestToken=token)
    assert service.get(table, {"pk": pk}) == {"pk": pk, "n": {"N": "2"}}
    changed = {
        "TransactStatements": _elements([(update[0].replace("n + 1", "n + 2"), [pk])]),
        "ClientRequestToken": token,
    }
    assert service.refused("ExecuteTransaction", changed)[0] == "IdempotentParameterMismatchException"


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["SELECT * FROM \"{t}\" WHERE pk = 'a'", "DELETE FROM \"{t}\" WHERE pk = 'b'"], None),
        (["DELETE FROM \"{t}\" WHERE pk = 'b'", "DELETE FROM \"{t}\" WHERE pk = 'b'"], None),
        (["EXISTS(SELECT * FROM \"{t}\" WHERE pk = 'a')"], None),
        (
            ['SELECT * FROM "{t}" WHERE n = 1'],
            "Select statements within ExecuteTransaction must specify the primary key in the where clause.",
        ),
        (
            ["UPDATE \"{t}\" SET n = 1 WHERE pk IN ['a']"],
            "Where clause does not contain a mandatory equality on all key attributes",
        ),
    ],
)
def test_what_a_transaction_may_not_be(
    service: Service, table: str, statements: list[str], message: str | None
) -> None:
    elements = _elements([(text.replace("{t}", table), []) for text in statements])
    text = service.invalid("ExecuteTransaction", TransactStatements=elements)
    if message is not None:
        assert text == message


def test_an_index_of_several_key_attributes(service: Service) -> None:
    name = service.unique("api")
    types = {"pk": "S", "a": "S", "b": "N", "c": "S", "d": "N"}
    service.do(
        "CreateTable",
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": at, "AttributeType": kind} for at, kind in types.items()],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "wide",
                "KeySchema": [
                    {"AttributeName": at, "KeyType": kind}
                    for at, kind in (("a", "HASH"), ("b", "HASH"), ("c", "RANGE"), ("d", "RANGE"))
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    try:
        service.wait_active(name)
        for number in range(8):
            item = {
                "pk": {"S": str(number)},
                "a": {"S": "a"},
                "b": {"N": str(number % 2)},
                "c": {"S": "xy"[number // 4]},
            }
            service.do("PutItem", TableName=name, Item={**item, "d": {"N": str(number)}})
        source = f'"{name}"."wide"'

        def found(condition: str, count: int) -> list[str]:
            items = _eventually(service, f"SELECT pk FROM {source} WHERE {condition}", count)
            return [item["pk"]["S"] for item in items]

        assert found("a = 'a' AND b = 1", 4) == ["1", "3", "5", "7"]
        assert found("b = 0 AND a = 'a' AND c = 'y' AND d > 4", 1) == ["6"]
        assert found("a = 'a' AND b IN [1, 0] AND c = 'x' AND d <> 2 ORDER BY c, d", 3) == ["0", "1", "3"]
        assert sorted(found("a = 'a' AND d >= 5", 3)) == ["5", "6", "7"]  # no equality on b: a scan
    finally:
        service.call("DeleteTable", {"TableName": name})
