"""Clients that read and write the items of one table in every way that the API has, and record what they were told.

Items are registers (attribute v) and counters (attribute n) in a few collections, so that all clients meet at them.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from geodyne.sim.histories import Histories, value_of, with_count, with_old
from geodyne.sim.items import Step
from geodyne.sim.routers import Body
from geodyne.sim.sdk import Sdk

TABLE = "Items"
PKS = ("p0", "p1")
REGISTERS = ("r0", "r1", "r2")
COUNTERS = ("c0", "c1")
SORT_KEYS = (*COUNTERS, *REGISTERS)
ITEMS = tuple(f"{pk}/{sk}" for pk in PKS for sk in SORT_KEYS)
PAGE_LIMIT = 3  # so that a scan is several pages
PAGES_MAX = 100
RACERS = 2  # reads beside one write
RACE_S = (0.0, 0.001, 0.003, 0.02, 0.1)  # how long after it
LOCAL_INDEX, GLOBAL_INDEX = "local-by-v", "global-by-v"

KINDS = (
    *(
        "put",
        "put old",
        "cas",
        "cas",
        "cas update",
        "drop",
        "delete",
        "delete old",
        "add",
        "add",
        "add",
        "batch",
        "race",
    ),
    *("get", "get", "get", "get", "get stale", "query", "scan", "race"),
)


def definition(indexed: bool) -> Body:
    """CreateTable of the table that the clients use."""

    def key(*names: str) -> list[Body]:
        return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"), strict=False)]

    def index(name: str, *names: str, projection: str) -> Body:
        return {"IndexName": name, "KeySchema": key(*names), "Projection": {"ProjectionType": projection}}

    names = ("pk", "sk", "v") if indexed else ("pk", "sk")
    body: Body = {
        "TableName": TABLE,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in names],
        "KeySchema": key("pk", "sk"),
    }
    if indexed:
        body["LocalSecondaryIndexes"] = [index(LOCAL_INDEX, "pk", "v", projection="KEYS_ONLY")]
        body["GlobalSecondaryIndexes"] = [index(GLOBAL_INDEX, "v", projection="ALL")]
    return body


class ItemClient:
    """One client. `values` of registers are never used twice."""

    def __init__(
        self, sdk: Sdk, random: Random, histories: Histories, name: str, indexed: bool, together: bool
    ) -> None:
        """`together`: it uses transactions too."""
        self._sdk = sdk
        self._random = random
        self._histories = histories
        self._name = name
        self._kinds = KINDS + ("query local", "query global") * indexed + ("together", "get together") * together
        self._number = 0
        self._last: dict[str, str] = {}

    async def step(self) -> None:
        """One operation, whatever it takes."""
        random = self._random
        kind = random.choice(self._kinds)
        pk, sk = random.choice(PKS), random.choice(COUNTERS if kind == "add" else REGISTERS)
        item = f"{pk}/{sk}"
        if kind in {"put", "put old"}:
            await self._write("PutItem", item, Step("put", self._value()), old=kind == "put old")
        elif kind in {"delete", "delete old"}:
            await self._write("DeleteItem", item, Step("delete"), old=kind == "delete old")
        elif kind in {"cas", "cas update", "drop"}:
            value = "" if kind == "drop" else self._value()
            operation = {"cas": "PutItem", "cas update": "UpdateItem", "drop": "DeleteItem"}[kind]
            await self._write(operation, item, Step("cas", value, self._last.get(item, "")))
        elif kind == "add":
            await self._write("UpdateItem", item, Step("add"))
        elif kind == "batch":
            await self._batch(pk)
        elif kind == "race":
            await self._race(pk, sk)
        elif kind == "together":
            await self._together()
        elif kind == "get together":
            await self._get_together()
        elif kind in {"get", "get stale"}:
            await self._get(pk, random.choice(SORT_KEYS), strong=kind == "get")
        elif kind == "query global":
            await self._query_global()
        else:
            await self._pages(kind, pk)

    async def read_all(self) -> bool:
        """A strong read of every item; false when there was no answer."""
        return await self._pages("scan", "")

    # --- writes -------------------------------------------------------------------------------------------

    def _value(self) -> str:
        self._number += 1
        return f"{self._name}.{self._number}"

    async def _write(self, operation: str, item: str, call: Step, old: bool = False) -> None:
        body = _writing(operation, item, call)
        if old:
            body["ReturnValues"] = "ALL_OLD"
        attempts = await self._sdk.call(operation, body)
        answered = with_count if call.kind == "add" else with_old if old else None
        code = self._histories.wrote({item: call}, attempts, answered)
        if code == "" and call.kind != "add":
            self._last[item] = call.value

    async def _race(self, pk: str, sk: str) -> None:
        """A write that is not tried again, and reads by others while it is under way: what one of them has seen may
        not be lost."""
        item, call = f"{pk}/{sk}", Step("put", self._value())

        async def write() -> None:
            body = _writing("PutItem", item, call)
            self._histories.wrote({item: call}, await self._sdk.call("PutItem", body, attempts_max=1))

        async def look(number: int, after_s: float) -> None:
            await asyncio.sleep(after_s)
            await self._get(pk, sk, strong=True, first=number)

        waits_s = sorted(self._random.choice(RACE_S) for _ in range(RACERS))
        await asyncio.gather(write(), *(look(number, after_s) for number, after_s in enumerate(waits_s)))

    async def _batch(self, pk: str) -> None:
        """Puts and a deletion in one BatchWriteItem: each for itself. What the answer hands back may have happened."""
        calls = {f"{pk}/{sk}": Step("put", self._value()) for sk in REGISTERS[1:]}
        calls[f"{pk}/{REGISTERS[0]}"] = Step("delete")
        requests = [
            {"PutRequest": {"Item": _item(item, call.value)}} if call.value else {"DeleteRequest": {"Key": _key(item)}}
            for item, call in calls.items()
        ]
        for attempt in await self._sdk.call("BatchWriteItem", {"RequestItems": {TABLE: requests}}):
            back = [_key_of(one) for one in attempt.body.get("UnprocessedItems", {}).get(TABLE, ())]
            done = {item: call for item, call in calls.items() if item not in back}
            left = {item: call for item, call in calls.items() if item in back}
            if done:
                self._histories.wrote(done, [attempt])
            if left:
                self._histories.wrote(left, [attempt._replace(code=None)])

    async def _together(self) -> None:
        """Two registers in one transaction, on condition of what one of them was."""
        one, two = self._random.sample([f"{pk}/{sk}" for pk in PKS for sk in REGISTERS], 2)
        calls = {one: Step("cas", self._value(), self._last.get(one, "")), two: Step("put", self._value())}
        items = [{"Put": _writing("PutItem", item, call)} for item, call in calls.items()]
        for attempt in await self._sdk.call("TransactWriteItems", {"TransactItems": items}):
            if attempt.code == "TransactionCanceledException":
                reasons = [reason["Code"] for reason in attempt.body["CancellationReasons"]]
                if reasons[0] == "ConditionalCheckFailed":
                    refused = {one: calls[one]}
                    self._histories.wrote(refused, [attempt._replace(code="ConditionalCheckFailedException")])
            elif self._histories.wrote(calls, [attempt]) == "":
                self._last.update({item: call.value for item, call in calls.items()})

    # --- reads --------------------------------------------------------------------------------------------

    async def _get(self, pk: str, sk: str, strong: bool, first: int = 0) -> None:
        item = f"{pk}/{sk}"
        body = {"TableName": TABLE, "Key": _key(item), "ConsistentRead": strong}
        last = (await self._sdk.call("GetItem", body, first))[-1]
        if last.code != "":
            return
        value = value_of(last.body.get("Item"))
        if strong:
            self._histories.read(last.start, last.end, {item: value})
            self._last[item] = value
        else:
            self._histories.read_stale(last.end, {item: value})

    async def _get_together(self) -> None:
        items = self._random.sample(ITEMS, 2)
        gets = [{"Get": {"TableName": TABLE, "Key": _key(item)}} for item in items]
        last = (await self._sdk.call("TransactGetItems", {"TransactItems": gets}))[-1]
        if last.code == "":
            found = [value_of(one.get("Item")) for one in last.body["Responses"]]
            self._histories.read(last.start, last.end, dict(zip(items, found, strict=True)))

    async def _pages(self, kind: str, pk: str) -> bool:
        """All pages of a strong Query or Scan: each item as of some time after the first was asked for."""
        body: Body = {"TableName": TABLE, "ConsistentRead": True, "Limit": PAGE_LIMIT}
        wanted = [item for item in ITEMS if item.startswith(pk)]
        if kind != "scan":
            body |= {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}}
        if kind == "query local":
            body |= {"IndexName": LOCAL_INDEX, "Select": "SPECIFIC_ATTRIBUTES", "ProjectionExpression": "pk, sk, v"}
            wanted = [f"{pk}/{sk}" for sk in REGISTERS]
        operation = "Scan" if kind == "scan" else "Query"
        start = self._sdk.now_s()
        found: dict[str, str] = {}
        for _ in range(PAGES_MAX):
            last = (await self._sdk.call(operation, body))[-1]
            if last.code != "":
                return False
            for one in last.body["Items"]:
                found[f"{one['pk']['S']}/{one['sk']['S']}"] = value_of(one)
            if "LastEvaluatedKey" not in last.body:
                break
            body["ExclusiveStartKey"] = last.body["LastEvaluatedKey"]
        self._histories.read(start, last.end, {item: found.get(item, "") for item in wanted})
        return True

    async def _query_global(self) -> None:
        """What it finds was once there; it may lag."""
        value = self._last.get(self._random.choice(ITEMS)) or "none"
        values = {":v": {"S": value}}
        body = {"TableName": TABLE, "IndexName": GLOBAL_INDEX, "KeyConditionExpression": "v = :v"}
        last = (await self._sdk.call("Query", body | {"ExpressionAttributeValues": values}))[-1]
        if last.code == "":
            found = {f"{one['pk']['S']}/{one['sk']['S']}": value_of(one) for one in last.body["Items"]}
            self._histories.read_stale(last.end, found)


def _key(item: str) -> Body:
    pk, _, sk = item.partition("/")
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _item(item: str, value: str) -> Body:
    return {**_key(item), "v": {"S": value}}


def _key_of(request: Any) -> str:
    """Of an element of UnprocessedItems."""
    key = request["PutRequest"]["Item"] if "PutRequest" in request else request["DeleteRequest"]["Key"]
    return f"{key['pk']['S']}/{key['sk']['S']}"


def _writing(operation: str, item: str, call: Step) -> Body:
    """The body of a single write."""
    body: Body = {"TableName": TABLE}
    values: Body = {}
    if operation == "PutItem":
        body["Item"] = _item(item, call.value)
    else:
        body["Key"] = _key(item)
    if call.kind == "add":
        body |= {"UpdateExpression": "ADD n :one", "ReturnValues": "UPDATED_NEW"}
        values[":one"] = {"N": "1"}
    elif operation == "UpdateItem":
        body["UpdateExpression"] = "SET v = :v"
        values[":v"] = {"S": call.value}
    if call.kind == "cas":
        body["ConditionExpression"] = "v = :expected" if call.expected else "attribute_not_exists(pk)"
        if call.expected:
            values[":expected"] = {"S": call.expected}
    if values:
        body["ExpressionAttributeValues"] = values
    return body
