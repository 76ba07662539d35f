"""Good requests to start from: some for every operation that is there, and random ones that follow the model."""

from __future__ import annotations

import base64
import copy
import random
from typing import Any

from tests.api.wrongtypes import model

HASH_TABLE = "fuzz-hash"  # key pk, a string
RANGE_TABLE = "fuzz-range"  # keys pk, a string, and sk, a number
LOCAL_INDEX = "by-a"  # of the range table: pk, a
GLOBAL_INDEX = "all-by-a"  # of the range table: a, sk
SPARE_TABLES = ("fuzz-spare-0", "fuzz-spare-1")  # made and deleted as it comes
LEGACY = frozenset({"GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan"})
ALTERING = frozenset({"CreateTable", "UpdateTable", "DeleteTable"})
KEYS_MAX = 8  # partition keys in use: conditions and updates then meet items that are there
DEPTH_MAX = 4
COLLECTION_MAX = 3

Body = dict[str, Any]

TABLES: tuple[Body, ...] = (
    {
        "TableName": HASH_TABLE,
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
    },
    {
        "TableName": RANGE_TABLE,
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
            {"AttributeName": "a", "AttributeType": "S"},
        ],
        "LocalSecondaryIndexes": [
            {
                "IndexName": LOCAL_INDEX,
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "a", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["m", "l"]},
            }
        ],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": GLOBAL_INDEX,
                "KeySchema": [{"AttributeName": "a", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        "BillingMode": "PAY_PER_REQUEST",
    },
)

CONDITIONS = (
    "#a = :v",
    "attribute_exists(pk) AND NOT size(#a) > :v",
    "attribute_not_exists(#a) OR contains(l, :v)",
    "#a BETWEEN :v AND :w OR m.x[0] IN (:v, :w)",
    "begins_with(pk, :w) AND attribute_type(#a, :w)",
    "(#a < :v) AND ((m.x <> :w) OR NOT (l[1] >= :v))",
)
UPDATES = (
    "SET #a = :v",
    "SET #a = if_not_exists(#a, :v) + :v, m.x = list_append(l, :w) REMOVE b, l[0] ADD c :v DELETE d :w",
    "ADD #a :v",
    "REMOVE #a, m.x[2].y",
    "SET m = :w, l[5] = #a",
)
PROJECTIONS = ("#a", "pk, #a.x[0], l", "m.x.y, m.z", "pk,sk")
STATEMENTS = (
    f'SELECT * FROM "{HASH_TABLE}" WHERE pk = ?',
    f"SELECT pk, m.x[0] FROM \"{RANGE_TABLE}\" WHERE pk = 'k1' AND sk BETWEEN 1 AND 9 ORDER BY sk DESC",
    f"SELECT * FROM \"{HASH_TABLE}\" WHERE pk IN ['k1', 'k2'] OR begins_with(a, 'x') AND size(l) > 2",
    f"INSERT INTO \"{HASH_TABLE}\" VALUE {{'pk': 'k3', 'm': {{'x': [1, 'a', NULL, TRUE]}}, 's': <<1, 2>>}}",
    f"UPDATE \"{HASH_TABLE}\" SET a = 1 REMOVE m.x WHERE pk = 'k1' RETURNING ALL NEW *",
    f'UPDATE "{HASH_TABLE}" SET l = list_append(l, [1]) WHERE pk = ?',
    f"DELETE FROM \"{HASH_TABLE}\" WHERE pk = 'k4' RETURNING ALL OLD *",
    f"EXISTS(SELECT * FROM \"{HASH_TABLE}\" WHERE pk = 'k1' AND attribute_exists(a))",
)
NUMBERS = (
    "0", "-0", "1", "-1.50", "1e10", "9" * 38, "1" + "0" * 125, "1e-130", "9.9999999999999999999999999999999999999E125",
)  # fmt: skip


def value(chooser: random.Random, depth: int = 0) -> Body:
    """A good attribute value."""
    tags = ("S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS") + (("L", "M") if depth < DEPTH_MAX else ())
    tag = chooser.choice(tags)
    if tag == "L":
        return {"L": [value(chooser, depth + 1) for _ in range(chooser.randrange(COLLECTION_MAX))]}
    if tag == "M":
        return {"M": {name(chooser): value(chooser, depth + 1) for _ in range(chooser.randrange(COLLECTION_MAX))}}
    if tag in ("SS", "NS", "BS"):
        several = {_scalar(tag[0], chooser) for _ in range(chooser.randrange(1, COLLECTION_MAX + 1))}
        return {tag: sorted(several)}
    return {tag: chooser.random() < 0.5 if tag == "BOOL" else True if tag == "NULL" else _scalar(tag, chooser)}


def _scalar(tag: str, chooser: random.Random) -> str:
    if tag == "N":
        return chooser.choice(NUMBERS)
    if tag == "B":
        return base64.b64encode(chooser.randbytes(chooser.randrange(9))).decode()
    return chooser.choice(("x", "k1", "é🐎", "a" * 100, "S"))


def name(chooser: random.Random) -> str:
    return chooser.choice(("a", "b", "c", "d", "l", "m", "x", "size", "pk", "sk", "é"))


def key(chooser: random.Random, table: str) -> Body:
    found: Body = {"pk": {"S": f"k{chooser.randrange(KEYS_MAX)}"}}
    if table == RANGE_TABLE:
        found["sk"] = {"N": str(chooser.randrange(KEYS_MAX))}
    return found


def item(chooser: random.Random, table: str) -> Body:
    more = {name(chooser): value(chooser) for _ in range(chooser.randrange(5))}
    return {**more, **key(chooser, table)}


def good_request(operation: str, chooser: random.Random) -> Body:
    """A request that is meant to be understood; not each is."""
    maker = _MAKERS.get(operation)
    if maker is None or chooser.random() < 0.1:
        return from_model(operation, chooser)
    found: Body = maker(chooser)
    if operation in LEGACY and chooser.random() < 0.15:
        found = _legacy(operation, found, chooser)
    if chooser.random() < 0.2:
        found["ReturnConsumedCapacity"] = chooser.choice(("TOTAL", "INDEXES", "NONE"))
    return found


def _table(chooser: random.Random) -> str:
    return chooser.choice((HASH_TABLE, RANGE_TABLE))


def _with(chooser: random.Random, body: Body, **expressions: tuple[str, ...]) -> Body:
    """Some of the expressions, with the placeholders that they use."""
    for member, texts in expressions.items():
        if chooser.random() < 0.7:
            body[member] = chooser.choice(texts)
    text = " ".join(str(body[member]) for member in expressions if member in body)
    if "#a" in text:
        body["ExpressionAttributeNames"] = {"#a": name(chooser)}
    values = {mark: value(chooser) for mark in (":v", ":w") if mark in text}
    if values:
        body["ExpressionAttributeValues"] = values
    return body


def _legacy(operation: str, body: Body, chooser: random.Random) -> Body:
    """The same operation with the parameters of before there were expressions."""
    kept: Body = {
        name: body[name] for name in ("TableName", "Key", "Item", "Limit", "ExclusiveStartKey") if name in body
    }
    conditions = {name(chooser): _comparison(chooser) for _ in range(chooser.randrange(1, 3))}
    expected = {"Expected": conditions, "ConditionalOperator": chooser.choice(("AND", "OR"))}
    if operation == "UpdateItem":
        update = {"Action": chooser.choice(("PUT", "ADD", "DELETE")), "Value": value(chooser)}
        return {**kept, **expected, "AttributeUpdates": {name(chooser): update}}
    if operation in ("PutItem", "DeleteItem"):
        return {**kept, **expected}
    if operation == "GetItem":
        return {**kept, "AttributesToGet": [name(chooser), "pk"]}
    if operation == "Scan":
        return {**kept, "ScanFilter": conditions, "AttributesToGet": ["pk", "a"]}
    partition = {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "k1"}]}
    return {**kept, "KeyConditions": {"pk": partition}, "QueryFilter": conditions}


def _comparison(chooser: random.Random) -> Body:
    operator = chooser.choice(("EQ", "NE", "IN", "BETWEEN", "BEGINS_WITH", "CONTAINS", "NOT_NULL", "NULL", "GE"))
    several = {"BETWEEN": 2, "IN": 3, "NULL": 0, "NOT_NULL": 0}.get(operator, 1)
    return {"ComparisonOperator": operator, "AttributeValueList": [value(chooser) for _ in range(several)]}


def _get(chooser: random.Random) -> Body:
    table = _table(chooser)
    body = {"TableName": table, "Key": key(chooser, table), "ConsistentRead": chooser.random() < 0.5}
    return _with(chooser, body, ProjectionExpression=PROJECTIONS)


def _put(chooser: random.Random) -> Body:
    table = _table(chooser)
    body = {"TableName": table, "Item": item(chooser, table), "ReturnValues": "ALL_OLD"}
    return _with(chooser, body, ConditionExpression=CONDITIONS)


def _update(chooser: random.Random) -> Body:
    table = _table(chooser)
    body = {"TableName": table, "Key": key(chooser, table), "ReturnValues": "UPDATED_NEW"}
    return _with(chooser, body, UpdateExpression=UPDATES, ConditionExpression=CONDITIONS)


def _delete(chooser: random.Random) -> Body:
    table = _table(chooser)
    return _with(chooser, {"TableName": table, "Key": key(chooser, table)}, ConditionExpression=CONDITIONS)


def _query(chooser: random.Random) -> Body:
    table = _table(chooser)
    conditions = ("pk = :p", "pk = :p AND sk > :n", "sk BETWEEN :n AND :n AND pk = :p", "pk = :p AND a < :p", "a = :p")
    body: Body = {"TableName": table, "KeyConditionExpression": chooser.choice(conditions), "Limit": 3}
    if chooser.random() < 0.3:
        body["IndexName"] = chooser.choice((LOCAL_INDEX, GLOBAL_INDEX))
    body["ScanIndexForward"] = chooser.random() < 0.5
    body = _with(chooser, body, FilterExpression=CONDITIONS, ProjectionExpression=PROJECTIONS)
    values = body.setdefault("ExpressionAttributeValues", {})
    values[":p"] = {"S": f"k{chooser.randrange(KEYS_MAX)}"}
    if ":n" in body["KeyConditionExpression"]:
        values[":n"] = {"N": str(chooser.randrange(KEYS_MAX))}
    if chooser.random() < 0.3:
        body["ExclusiveStartKey"] = key(chooser, table)
    return body


def _scan(chooser: random.Random) -> Body:
    body: Body = {"TableName": _table(chooser), "Limit": chooser.choice((1, 3, 100))}
    if chooser.random() < 0.3:
        body |= {"Segment": 0, "TotalSegments": chooser.choice((1, 2, 1_000_000))}
    return _with(chooser, body, FilterExpression=CONDITIONS, ProjectionExpression=PROJECTIONS)


def _batch_get(chooser: random.Random) -> Body:
    tables = {_table(chooser) for _ in range(2)}
    return {"RequestItems": {table: {"Keys": [key(chooser, table) for _ in range(3)]} for table in sorted(tables)}}


def _batch_write(chooser: random.Random) -> Body:
    table = _table(chooser)
    puts: list[Body] = [{"PutRequest": {"Item": item(chooser, table)}} for _ in range(2)]
    return {"RequestItems": {table: [*puts, {"DeleteRequest": {"Key": key(chooser, table)}}]}}


def _transact_write(chooser: random.Random) -> Body:
    members = {"Put": _put, "Update": _update, "Delete": _delete}
    actions: list[Body] = []
    for _ in range(chooser.randrange(1, 4)):
        kind = chooser.choice(("Put", "Update", "Delete", "ConditionCheck"))
        body = members.get(kind, _delete)(chooser)
        body.pop("ReturnValues", None)
        actions.append({kind: body})
    return {"TransactItems": actions, "ClientRequestToken": f"token-{chooser.randrange(4)}"}


def _transact_get(chooser: random.Random) -> Body:
    gets = [_get(chooser) for _ in range(chooser.randrange(1, 4))]
    for body in gets:
        body.pop("ConsistentRead")
    return {"TransactItems": [{"Get": body} for body in gets]}


def _statement(chooser: random.Random) -> Body:
    text = chooser.choice(STATEMENTS)
    parameters = [value(chooser) for _ in range(text.count("?"))]
    return {"Statement": text, **({"Parameters": parameters} if parameters else {})}


def _create(chooser: random.Random) -> Body:
    body = copy.deepcopy(chooser.choice(TABLES))
    body["TableName"] = chooser.choice(SPARE_TABLES)
    return body


_MAKERS: dict[str, Any] = {
    "GetItem": _get,
    "PutItem": _put,
    "UpdateItem": _update,
    "DeleteItem": _delete,
    "Query": _query,
    "Scan": _scan,
    "BatchGetItem": _batch_get,
    "BatchWriteItem": _batch_write,
    "TransactWriteItems": _transact_write,
    "TransactGetItems": _transact_get,
    "ExecuteStatement": _statement,
    "BatchExecuteStatement": lambda chooser: {"Statements": [_statement(chooser) for _ in range(2)]},
    "ExecuteTransaction": lambda chooser: {"TransactStatements": [_statement(chooser) for _ in range(2)]},
    "CreateTable": _create,
    "DeleteTable": lambda chooser: {"TableName": chooser.choice(SPARE_TABLES)},
    "DescribeTable": lambda chooser: {"TableName": _table(chooser)},
    "UpdateTable": lambda chooser: {"TableName": chooser.choice(SPARE_TABLES), "BillingMode": "PAY_PER_REQUEST"},
}


# --- from the service model -----------------------------------------------------------------------------


def from_model(operation: str, chooser: random.Random) -> Body:
    """Members at random, each of the type that the model gives it."""
    found: Body = _sample(model().operation_model(operation).input_shape, "", chooser, 0)
    if isinstance(found.get("TableName"), str):
        # The tables with the items stay as they are: without them nothing would come far.
        found["TableName"] = chooser.choice(SPARE_TABLES if operation in ALTERING else (HASH_TABLE, RANGE_TABLE))
    return found


def _sample(shape: Any, member: str, chooser: random.Random, depth: int) -> Any:
    if shape.name == "AttributeValue":
        return value(chooser)
    kind = shape.type_name
    if kind == "structure":
        often = 0.5 if depth < DEPTH_MAX else 0.0
        return {
            name: _sample(below, name, chooser, depth + 1)
            for name, below in shape.members.items()
            if name in shape.required_members or chooser.random() < often
        }
    if kind == "list":
        return [_sample(shape.member, member, chooser, depth + 1) for _ in range(chooser.randrange(COLLECTION_MAX))]
    if kind == "map":
        several = range(chooser.randrange(COLLECTION_MAX))
        names = [chooser.choice((HASH_TABLE, "#a", ":v", "pk")) for _ in several]
        return {name: _sample(shape.value, member, chooser, depth + 1) for name in names}
    if kind == "string":
        return _text(shape, member, chooser)
    if kind == "boolean":
        return chooser.random() < 0.5
    return chooser.choice((0, 1, 5, 100)) if kind in ("integer", "long") else 0.5


def _text(shape: Any, member: str, chooser: random.Random) -> str:
    if shape.enum:
        return str(chooser.choice(shape.enum))
    if member.endswith("Expression"):
        return chooser.choice(CONDITIONS + UPDATES + PROJECTIONS)
    if member == "Statement":
        return chooser.choice(STATEMENTS)
    if "Table" in member:
        return chooser.choice((HASH_TABLE, RANGE_TABLE))
    return chooser.choice(("pk", "sk", "a", "#a", ":v", "abc", "2026-01-01"))
