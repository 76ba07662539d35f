"""Transactions on lists in a simulated region, as a router carries them out, recorded for the checker of
serializability. A coordinator may die at any of its calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import orjson

from geodyne.catalog import TableRecord
from geodyne.checkers.serializability import FOREVER, Outcome, Transaction, check
from geodyne.errors import ApiError
from geodyne.ledger import LEDGER_TABLE
from geodyne.messages import Answer, Call
from geodyne.rpc.region import RegionClient
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import Violation
from geodyne.sim.region import REGION, Region, region
from router.api.context import Api
from router.api.registry import OPERATIONS

Body = dict[str, Any]
EPOCH_MS = 1_700_000_000_000
RECOVERED_S = 7.0  # by then nothing is prepared any more, whoever died: five seconds, and two to do it


class Died(BaseException):
    """The coordinator's process is gone: nothing of it runs any more."""


class Mortal:
    """A way to the region that ends with the process that uses it, at its n-th call, or takes long at one of them."""

    def __init__(self, client: RegionClient, calls_left: int, sleeps: tuple[int, float]) -> None:
        self._client = client
        self._calls_left = calls_left
        self._sleeps_left, self._sleeps_s = sleeps
        self.catalog = client.catalog

    def call(self, call: Call, *, timeout_ms: int, request_id: str = "") -> Awaitable[Answer]:
        if self._calls_left <= 0:
            raise Died
        self._calls_left -= 1
        self._sleeps_left -= 1
        if self._sleeps_left == -1:
            return self._later(call, timeout_ms, request_id)
        return self._client.call(call, timeout_ms=timeout_ms, request_id=request_id)

    async def _later(self, call: Call, timeout_ms: int, request_id: str) -> Answer:
        await asyncio.sleep(self._sleeps_s)
        return await self._client.call(call, timeout_ms=timeout_ms, request_id=request_id)

    def wait_revision(self, revision: int, timeout_ms: int) -> Awaitable[object]:
        return self._client.wait_revision(revision, timeout_ms)


class Lists:
    """Items of table T, each a list to which transactions append their numbers. One router's view."""

    def __init__(
        self, here: Region, client: RegionClient, history: list[Transaction], counts: Counter[str], name: str = "lists"
    ) -> None:
        """`name`: no other router has it; requests are numbered under it."""
        self.here = here
        self.history = history
        self.counts = counts
        self._client = client
        self._name = name
        self._requests = 0

    async def run(
        self, operation: str, body: Body, calls_left: int = 1 << 30, sleeps: tuple[int, float] = (-1, 0.0)
    ) -> Body:
        """An operation of the API, with whatever it raises."""
        self._requests += 1
        api = Api(
            Mortal(self._client, calls_left, sleeps),
            region=REGION,
            now_ms=lambda: EPOCH_MS + int(self.here.loop.time() * 1000),
        )
        context = api.context(f"{self._name}/{self._requests}")
        answer = await OPERATIONS[operation].handler(body, context)
        decoded: Body = orjson.loads(answer)
        return decoded

    async def append(
        self,
        value: str,
        keys: Sequence[str],
        lengths: Mapping[str, int] | None = None,
        *,
        dies_at: int = 1 << 30,
    ) -> Outcome:
        """TransactWriteItems that appends to each of `keys` and checks how long other lists are."""
        lengths = lengths or {}
        items = [{"Update": appending(key, value)} for key in keys]
        items += [{"ConditionCheck": checking(key, length)} for key, length in lengths.items()]
        start = self.here.loop.time()
        outcome = await self._outcome(self.run("TransactWriteItems", {"TransactItems": items}, dies_at), "write")
        end = self.here.loop.time() if outcome is not Outcome.UNKNOWN else FOREVER
        self.history.append(Transaction(start, end, outcome, value, tuple(keys), {}, lengths))
        return outcome

    async def append_once(self, value: str, keys: Sequence[str], others: Sequence[Lists], *, dies_at: int) -> Outcome:
        """The same under one token, tried by one router after the other until it succeeds; the first may die."""
        items = [{"Update": appending(key, value)} for key in keys]
        body: Body = {"TransactItems": items, "ClientRequestToken": value}
        start = self.here.loop.time()
        outcomes: list[Outcome] = []
        for lists in (self, *others):
            outcomes.append(await lists._outcome(lists.run("TransactWriteItems", body, dies_at), "token"))
            dies_at = 1 << 30
            if outcomes[-1] is Outcome.COMMITTED:
                break
        known = set(outcomes)
        outcome = outcomes[-1] if Outcome.COMMITTED in known or Outcome.UNKNOWN not in known else Outcome.UNKNOWN
        end = self.here.loop.time() if outcome is not Outcome.UNKNOWN else FOREVER
        self.history.append(Transaction(start, end, outcome, value, tuple(keys)))
        return outcome

    async def append_alone(self, value: str, key: str) -> Outcome:
        """UpdateItem."""
        start = self.here.loop.time()
        outcome = await self._outcome(self.run("UpdateItem", appending(key, value)), "single")
        end = self.here.loop.time() if outcome is not Outcome.UNKNOWN else FOREVER
        self.history.append(Transaction(start, end, outcome, value, (key,)))
        return outcome

    async def read(self, keys: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
        """TransactGetItems, or of one item a GetItem; None when there was no answer."""
        start = self.here.loop.time()
        try:
            if len(keys) == 1:
                got = [await self.run("GetItem", {"TableName": "T", "Key": _key(keys[0]), "ConsistentRead": True})]
            else:
                gets = [{"Get": {"TableName": "T", "Key": _key(key)}} for key in keys]
                got = (await self.run("TransactGetItems", {"TransactItems": gets}))["Responses"]
        except ApiError as error:
            self.counts[f"read {error.kind.code}"] += 1
            return None
        self.counts["reads"] += 1
        found = {key: _list(one.get("Item")) for key, one in zip(keys, got, strict=True)}
        self.history.append(Transaction(start, self.here.loop.time(), Outcome.COMMITTED, reads=found))
        return found

    async def _outcome(self, running: Awaitable[Body], kind: str) -> Outcome:
        try:
            await running
        except Died:
            self.counts[f"{kind} died"] += 1
            return Outcome.UNKNOWN
        except ApiError as error:
            code = error.kind.code
            for reason in error.details.get("CancellationReasons", ()):
                self.counts[f"{kind} {reason['Code']}"] += reason["Code"] != "None"
            self.counts[f"{kind} {code}"] += 1
            return Outcome.CANCELLED if error.kind.definite else Outcome.UNKNOWN
        self.counts[f"{kind} done"] += 1
        return Outcome.COMMITTED

    async def final(self, keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The lists when nothing is under way."""
        found: dict[str, tuple[str, ...]] = {}
        for key in keys:
            one = await self.read([key])
            if one is None:
                raise Violation(f"{key} cannot be read in peace")
            found.update(one)
        return found


def appending(key: str, value: str) -> Body:
    """UpdateItem's members, or those of an Update action."""
    return {
        "TableName": "T",
        "Key": _key(key),
        "UpdateExpression": "SET l = list_append(if_not_exists(l, :none), :value)",
        "ExpressionAttributeValues": {":none": {"L": []}, ":value": {"L": [{"S": value}]}},
    }


def checking(key: str, length: int) -> Body:
    """A ConditionCheck on how long a list is."""
    if not length:
        return {"TableName": "T", "Key": _key(key), "ConditionExpression": "attribute_not_exists(l)"}
    return {
        "TableName": "T",
        "Key": _key(key),
        "ConditionExpression": "size(l) = :length",
        "ExpressionAttributeValues": {":length": {"N": str(length)}},
    }


def _key(key: str) -> Body:
    return {"pk": {"S": key}}


def _list(item: Body | None) -> tuple[str, ...]:
    return tuple(value["S"] for value in item["l"]["L"]) if item is not None and "l" in item else ()


def judge(history: Sequence[Transaction], final: Mapping[str, Sequence[str]]) -> None:
    """Raises Violation for a history that is not strictly serializable."""
    problems = check(history, final)
    if problems:
        raise Violation("\n".join(problems))


def held(here: Region) -> list[str]:
    """What is prepared anywhere, on serving leaders and in the state of any replica."""
    found = []
    for node in here.nodes:
        for group in node.node.service.groups if node.alive and node.node is not None else ():
            if group.serving and group.participant.busy:
                found.append(f"{node.id}: partition {group.partition} holds {group.participant._held}")
            found += [f"{node.id}: {one}" for one in group.window.transactions.prepared.values()]
    return found


def partitions_of(here: Region) -> list[int]:
    """Those of the table and of the ledger."""
    tables = here.client.catalog.tables
    records: list[TableRecord] = [tables[name] for name in ("T", LEDGER_TABLE) if name in tables]
    return [partition.id for table in records for partition in table.partitions]


def play(path: Path, scenario: Callable[[Region, Lists], Awaitable[None]], seed: int = 1) -> None:
    """A scenario on an empty table T, at the end of which the history is judged."""

    async def run() -> None:
        async with region(seed, path, small=False) as here:
            await here.create_table()
            lists = Lists(here, here.clients[0].region, [], Counter())
            await lists.append("first", ["a", "b", "c", "d", "e"])  # makes the ledger
            await scenario(here, lists)
            here.world.heal()
            await here.until(lambda: not held(here), "nothing is prepared", 3 * RECOVERED_S)
            await here.settle(partitions_of(here))
            keys = sorted({key for one in lists.history for key in (*one.writes, *one.reads)})
            judge(lists.history, await lists.final(keys))
            here.check()

    run_simulated(run())


def number_of(random: Random) -> str:
    """A value that nothing else appends."""
    return f"{random.getrandbits(48):x}"


async def settled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """All of them, within what any request may take."""
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
