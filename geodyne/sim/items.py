"""Calls on items, as a router would make them, recorded as histories for the checker."""

from __future__ import annotations

from typing import NamedTuple

from geodyne.catalog import TableRecord
from geodyne.checkers.linearizability import FOREVER, Operation, Verdict, check
from geodyne.errors import ApiError
from geodyne.messages import Answer, Found, Get, Moved, Page, Range, Refused, ReturnValues, Write, WriteKind, Written
from geodyne.model.keys import KeySchema, encode_key, hash_bound, hash_of
from geodyne.model.values import dumps, item_size, loads
from geodyne.rpc.region import RegionClient
from geodyne.sim.network import Violation
from geodyne.sim.region import Region

SCHEMA = KeySchema("pk", "S")
UNKNOWN = "unknown"
TIMEOUT_MS = 6_000
MOVED_MAX = 100


class Step(NamedTuple):
    """One operation on one item: its value is the text of attribute v ("" for an absent item), counted by attribute n.

    `answer` None: not known. `old` None: not asked for.
    """

    kind: str  # put, cas, add, delete, read
    value: str = ""
    expected: str = ""
    answer: str | None = None
    old: str | None = None


def step(state: str, call: Step) -> str | None:
    """The model of one item for the checker."""
    if call.old is not None and call.old != state:
        return None
    if call.kind == "put":
        return call.value
    if call.kind == "delete":
        return ""
    if call.kind == "cas":
        holds = state == call.expected
        if call.answer is not None and (call.answer == "ok") != holds:
            return None
        return call.value if holds else state
    if call.kind == "add":
        after = str(int(state or "0") + 1)
        return after if call.answer in {None, after} else None
    return state if call.answer in {None, state} else None


class Items:
    """The items of one table, through one client; every operation goes into `histories`."""

    def __init__(self, region: Region, histories: dict[str, list[Operation[Step]]], client: RegionClient) -> None:
        self._region = region
        self._client = client
        self.histories = histories
        self.unknown = 0
        self.known = 0

    def table(self, name: str = "T") -> TableRecord:
        return self._client.catalog.tables[name]

    async def put(self, pk: str, value: str, old: bool = False) -> str:
        returns = ReturnValues.ALL_OLD if old else ReturnValues.NONE
        return await self._do(pk, Step("put", value), putting(0, pk, value, returns=returns))

    async def cas(self, pk: str, expected: str, value: str) -> str:
        condition = "v = :expected" if expected else "attribute_not_exists(pk)"
        values = {":expected": {"S": expected}} if expected else {}
        write = putting(0, pk, value, condition=condition, values=values)
        return await self._do(pk, Step("cas", value, expected), write)

    async def delete(self, pk: str, old: bool = False) -> str:
        returns = ReturnValues.ALL_OLD if old else ReturnValues.NONE
        write = _write(WriteKind.DELETE, pk, {"pk": {"S": pk}}, returns=returns)._replace(item=b"", size=0)
        return await self._do(pk, Step("delete"), write)

    async def add(self, pk: str) -> str:
        return await self._do(pk, Step("add"), addition(0, pk))

    async def read(self, pk: str, strong: bool = True) -> str:
        get = Get(0, 0, key_of(pk), strong)
        if strong:
            return await self._do(pk, Step("read"), get)
        try:
            answer = await self._call(pk, get)
        except ApiError:
            return UNKNOWN
        assert isinstance(answer, Found)
        return _value(answer.item)

    async def scan(self, pks: list[str], slot: int = 0) -> None:
        """A strong range read of each partition, recorded as a read of each of these keys. With a `slot`, of that local
        index: it has those items that have its attribute."""
        start = self._region.loop.time()
        found: dict[str, str] = {}
        for partition in self.table().partitions:
            low, high = hash_bound(partition.low), hash_bound(partition.high)
            after: bytes | None = None
            while True:
                call = Range(partition.id, partition.epoch, low, high, after, False, 3, 1 << 20, True, slot=slot)
                try:
                    answer = await self._client.call(call, timeout_ms=TIMEOUT_MS)
                except ApiError:
                    return
                if not isinstance(answer, Page):
                    return
                for item in answer.items:
                    found[loads(item)["pk"]["S"]] = _value(item)
                if answer.last_key is None:
                    break
                after = answer.last_key
        end = self._region.loop.time()
        for pk in pks:
            self._record(pk, start, end, Step("read", answer=found.get(pk, "")))

    # --- inside -----------------------------------------------------------------------------------------

    async def _do(self, pk: str, call: Step, request: Write | Get) -> str:
        start = self._region.loop.time()
        try:
            answer = await self._call(pk, request)
        except ApiError as error:
            if error.kind.definite or call.kind == "read":
                return UNKNOWN  # it had no effect
            self.unknown += 1
            self._record(pk, start, FOREVER, call)
            return UNKNOWN
        self.known += 1
        call = _answered(call, answer)
        self._record(pk, start, self._region.loop.time(), call)
        return call.answer or ""

    async def _call(self, pk: str, request: Write | Get) -> Answer:
        for _ in range(MOVED_MAX):
            partition = self.table().partition_of(hash_of(request.key))
            request = request._replace(partition=partition.id, epoch=partition.epoch)
            answer = await self._client.call(request, timeout_ms=TIMEOUT_MS)
            if not isinstance(answer, Moved):
                return answer
            await self._client.wait_revision(answer.revision + 1, 100)
        raise Violation(f"{pk} is nowhere: {answer}")

    def _record(self, pk: str, start: float, end: float, call: Step) -> None:
        self.histories.setdefault(pk, []).append(Operation(start, end, call))


def key_of(pk: str) -> bytes:
    return encode_key(SCHEMA, {"pk": {"S": pk}})


def putting(partition: int, pk: str, value: str, **rest: object) -> Write:
    """PutItem of an item whose attribute v is `value`."""
    write = _write(WriteKind.PUT, pk, {"pk": {"S": pk}, "v": {"S": value}}, **rest)
    return write._replace(partition=partition, epoch=1)


def addition(partition: int, pk: str) -> Write:
    """UpdateItem that adds one to attribute n and returns it."""
    write = _write(
        WriteKind.UPDATE,
        pk,
        {"pk": {"S": pk}},
        update="ADD n :one",
        values={":one": {"N": "1"}},
        returns=ReturnValues.UPDATED_NEW,
    )
    return write._replace(partition=partition, epoch=1)


def _write(kind: WriteKind, pk: str, item: dict, **rest: object) -> Write:  # type: ignore[type-arg]
    return Write(0, 0, kind, key_of(pk), dumps(item), item_size(item), **rest)  # type: ignore[arg-type]


def _value(item: bytes | None) -> str:
    if item is None:
        return ""
    attributes = loads(item)
    return str(attributes["v"]["S"] if "v" in attributes else attributes["n"]["N"])


def _answered(call: Step, answer: Answer) -> Step:
    if isinstance(answer, Found):
        return call._replace(answer=_value(answer.item))
    if isinstance(answer, Refused):
        if call.kind == "cas" and answer.code == "ConditionalCheckFailedException":
            return call._replace(answer="failed")
        raise Violation(f"{call}: {answer}")
    if not isinstance(answer, Written):
        raise Violation(f"{call}: {answer}")
    if call.kind == "add":
        assert answer.attributes is not None
        return call._replace(answer=str(loads(answer.attributes)["n"]["N"]))
    old = _value(answer.attributes) if answer.attributes is not None else None
    if answer.size_before == 0:
        old = ""
    return call._replace(answer="ok", old=old)


def judge(histories: dict[str, list[Operation[Step]]]) -> None:
    """Raises Violation for a key whose history is not linearizable, or could not be judged."""
    for pk, history in histories.items():
        verdict = check(history, "", step)
        if verdict is not Verdict.LINEARIZABLE:
            lines = "\n".join(f"  {op.start:.4f} {op.end:.4f} {op.call}" for op in sorted(history))
            raise Violation(f"{pk}: {verdict.name}\n{lines}")
