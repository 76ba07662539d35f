"""Clients that record what they asked of items and what they were answered, and the verdict on it.

An item is a register of whole numbers with conditional puts and deletes, and a counter at once: the model of
`step`. A put's number is unlike every other put's, and far from it, so that a number tells who wrote it.
"""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

from geodyne.checkers.linearizability import FOREVER, Operation, Verdict, check

TABLE: Final = "histories"
ABSENT: Final = -1  # the value of an item that is not there
BETWEEN_PUTS: Final = 1_000_000  # no key is incremented so often
LIVE_KEYS: Final = 5
OPERATIONS_MAX: Final = 220  # of one key; another one takes its place, so that the checker's search stays short
UNKNOWN_MAX: Final = 12  # of one key: each of them may have happened at any later time
BETWEEN_LOOKS_S: Final = 0.02
SHOWN: Final = 30  # operations, of a history that is wrong
NO_EFFECT: Final = frozenset(  # refused before anything was done
    {"TransactionConflictException", "ThrottlingException", "ProvisionedThroughputExceededException"}
)

READ, QUERY, PUT, PUT_IF, DELETE, DELETE_IF, ADD, TRANSACT = range(8)
KINDS: Final = ("read", "query", "put", "put-if", "delete", "delete-if", "add", "transact")
WEIGHTS: Final = (30, 6, 10, 22, 5, 6, 15, 6)


class Call(NamedTuple):
    """`held`: whether the condition did. `seen`: what the answer says of the item - of before the call, or, for ADD, of
    after it. None: not known."""

    kind: int
    value: int = ABSENT
    expected: int | None = None
    held: bool | None = None
    seen: int | None = None


def step(state: int, call: Call) -> int | None:
    """The model of one item, for the checker."""
    if call.kind == ADD:
        after = (0 if state == ABSENT else state) + 1
        return after if call.seen in (None, after) else None
    if call.seen is not None and call.seen != state:
        return None
    if call.kind in (READ, QUERY):
        return state
    holds = call.expected is None or call.expected == state
    if call.held is not None and call.held != holds:
        return None
    return call.value if holds else state


class Attempted(NamedTuple):
    """An answer as far as it is known: `done` None when it may or may not have happened, False when it has not."""

    done: bool | None
    held: bool | None = None
    seen: int | None = None


class Key:
    """One item's name and history."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.history: list[Operation[Call]] = []
        self.unknown = 0
        self.last_seen = ABSENT  # what some client saw last: what conditional writes expect

    def worn(self) -> bool:
        return len(self.history) >= OPERATIONS_MAX or self.unknown >= UNKNOWN_MAX


class History:
    """The keys that clients work on now, and those that they have left. For several threads."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.keys: list[Key] = []
        self.outcomes: Counter[str] = Counter()
        self._run = uuid.uuid4().hex[:8]  # one seed may be run twice on one table
        self._lock = threading.Lock()
        self._puts = 0
        self._live = [self._fresh() for _ in range(LIVE_KEYS)]

    def _fresh(self) -> Key:
        key = Key(f"item-{self._run}-{len(self.keys)}")
        self.keys.append(key)
        return key

    def choose(self, random: Random) -> Key:
        with self._lock:
            place = random.randrange(LIVE_KEYS)
            if self._live[place].worn():
                self._live[place] = self._fresh()
            return self._live[place]

    def hot(self) -> Key:
        """A key that is in use now."""
        with self._lock:
            return self._live[0]

    def number(self) -> int:
        with self._lock:
            self._puts += 1
            return self._puts * BETWEEN_PUTS

    def note(self, key: Key, call: Call, start: float, end: float, attempted: Attempted) -> None:
        writes = call.kind not in (READ, QUERY)
        with self._lock:
            outcome = {True: "done", False: "refused", None: "unknown"}[attempted.done]
            self.outcomes[f"{KINDS[call.kind]} {outcome}"] += 1
            self.outcomes[outcome] += 1
            if attempted.done is None and writes:
                key.unknown += 1
                key.history.append(Operation(start, FOREVER, call))
            elif attempted.done:
                key.history.append(Operation(start, end, call._replace(held=attempted.held, seen=attempted.seen)))
                if attempted.seen is not None:
                    key.last_seen = attempted.seen
                if writes and attempted.held is not False and call.kind != ADD:
                    key.last_seen = call.value

    def violations(self) -> list[str]:
        """The keys whose histories cannot have happened one operation at a time, with those histories."""
        found = []
        for key in self.keys:
            verdict = check(key.history, ABSENT, step)
            if verdict is not Verdict.LINEARIZABLE:
                found.append(f"{key.name}: {verdict.name}; it went well until about here:\n{ending(key.history)}")
        return found

    def __str__(self) -> str:
        checked = sum(len(key.history) for key in self.keys)
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.outcomes.items()))
        return f"{checked} operations on {len(self.keys)} keys: {counts}"


def until_moment(history: Sequence[Operation[Call]], moment: float) -> list[Operation[Call]]:
    """What was known of the history at that moment."""
    return [
        operation
        if operation.end <= moment
        else Operation(operation.start, FOREVER, operation.call._replace(held=None, seen=None))
        for operation in history
        if operation.start <= moment
    ]


def ending(history: Sequence[Operation[Call]]) -> str:
    """The last operations of the shortest beginning of a history that is no longer as it must be."""
    ends = sorted(operation.end for operation in history if operation.end != FOREVER)

    def is_wrong(place: int) -> bool:
        return check(until_moment(history, ends[place]), ABSENT, step) is not Verdict.LINEARIZABLE

    place = bisect_left(range(len(ends)), True, hi=len(ends) - 1, key=is_wrong)  # once wrong, wrong for ever
    return in_words(sorted(until_moment(history, ends[place]))[-SHOWN:])


def in_words(history: Sequence[Operation[Call]]) -> str:
    first = min((operation.start for operation in history), default=0.0)
    lines = []
    for operation in sorted(history):
        call = operation.call
        end = "never answered" if operation.end == FOREVER else f"{operation.end - first:9.4f}"
        parts = [f"{KINDS[call.kind]:9}"]
        if call.kind not in (READ, QUERY, ADD):
            parts.append(f"value {call.value}")
        if call.expected is not None:
            parts.append(f"if {call.expected}: {call.held}")
        if call.seen is not None:
            parts.append(f"saw {call.seen}")
        lines.append(f"  {operation.start - first:9.4f} - {end}: {' '.join(parts)}")
    return "\n".join(lines)


class Recorder:
    """One client. Its SDK must not send anything twice: what is unknown is to be recorded as unknown."""

    def __init__(self, client: Any, history: History, number: int) -> None:
        self._client = client
        self._history = history
        self._random = Random(f"{history.seed}/{number}")

    def step(self, number: int) -> None:
        key = self._history.choose(self._random)
        call = self._next_call(key)
        start = time.monotonic()
        attempted = attempt(self._client, key.name, call)
        self._history.note(key, call, start, time.monotonic(), attempted)

    def _next_call(self, key: Key) -> Call:
        kind = self._random.choices(range(len(KINDS)), WEIGHTS)[0]
        if kind in (READ, QUERY, ADD):
            return Call(kind)
        expected = None
        if kind in (PUT_IF, DELETE_IF, TRANSACT):
            expected = key.last_seen if self._random.random() < 0.85 else ABSENT
        return Call(kind, ABSENT if kind in (DELETE, DELETE_IF) else self._history.number(), expected)

    def look(self, number: int) -> None:
        """A step of a client that only reads, now and then: where an old leader is cut off with a router, the others
        come no further than their next write, and only such a one asks what the old leader still knows."""
        self.read(self._history.choose(self._random))
        time.sleep(BETWEEN_LOOKS_S)

    def read(self, key: Key) -> bool:
        """A strong read. False when it was not answered."""
        start = time.monotonic()
        attempted = attempt(self._client, key.name, Call(READ))
        self._history.note(key, Call(READ), start, time.monotonic(), attempted)
        return bool(attempted.done)


def attempt(client: Any, name: str, call: Call) -> Attempted:
    """Ask once. Raises what no fault of the cluster can explain."""
    try:
        return _ASK[call.kind](client, {"pk": {"S": name}}, call)
    except ClientError as error:
        return _refusal(error, call)
    except (EndpointConnectionError, ConnectTimeoutError):
        return Attempted(False)
    except BotoCoreError:  # the connection broke, or the time is up
        return Attempted(None)


def _refusal(error: ClientError, call: Call) -> Attempted:
    code = error.response["Error"]["Code"]
    if code == "ConditionalCheckFailedException":
        return Attempted(True, held=False, seen=value_of(error.response.get("Item")))
    if code == "TransactionCanceledException":
        (reason,) = error.response["CancellationReasons"]
        if reason["Code"] == "ConditionalCheckFailed":
            return Attempted(True, held=False, seen=value_of(reason.get("Item")))
        assert reason["Code"] == "TransactionConflict", reason
        return Attempted(False)
    if code in NO_EFFECT:
        return Attempted(False)
    if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 or code == "TransactionInProgressException":
        return Attempted(None)
    raise AssertionError(f"{KINDS[call.kind]}: {error}") from error


def value_of(item: dict[str, Any] | None) -> int:
    return ABSENT if not item else int(item["v"]["N"])


def _condition(call: Call) -> dict[str, Any]:
    if call.expected is None:
        return {}
    if call.expected == ABSENT:
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
    else:
        value = {":expected": {"N": str(call.expected)}}
        condition = {"ConditionExpression": "v = :expected", "ExpressionAttributeValues": value}
    return {**condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def _read(client: Any, key: dict[str, Any], call: Call) -> Attempted:
    answer = client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)
    return Attempted(True, seen=value_of(answer.get("Item")))


def _query(client: Any, key: dict[str, Any], call: Call) -> Attempted:
    answer = client.query(
        TableName=TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": key["pk"]},
        ConsistentRead=True,
    )
    return Attempted(True, seen=value_of(next(iter(answer["Items"]), None)))


def _put(client: Any, key: dict[str, Any], call: Call) -> Attempted:
    item = {**key, "v": {"N": str(call.value)}}
    answer = client.put_item(TableName=TABLE, Item=item, ReturnValues="ALL_OLD", **_condition(call))
    return Attempted(True, held=True, seen=value_of(answer.get("Attributes")))


def _delete(client: Any, key: dict[str, Any], call: Call) -> Attempted:
    answer = client.delete_item(TableName=TABLE, Key=key, ReturnValues="ALL_OLD", **_condition(call))
    return Attempted(True, held=True, seen=value_of(answer.get("Attributes")))


def _add(client: Any, key: dict[str, Any], call: Call) -> Attempted:
    answer = client.update_item(
        TableName=TABLE,
        Key=key,
        UpdateExpression="ADD v :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
        ReturnValues="UPDATED_NEW",
    )
    return Attempted(True, seen=value_of(answer["Attributes"]))


def _transact(client: Any, key: dict[str, Any], call: Call) -> Attempted:
    put = {"TableName": TABLE, "Item": {**key, "v": {"N": str(call.value)}}, **_condition(call)}
    client.transact_write_items(TransactItems=[{"Put": put}])
    return Attempted(True, held=True)


_ASK: Final = {
    READ: _read,
    QUERY: _query,
    PUT: _put,
    PUT_IF: _put,
    DELETE: _delete,
    DELETE_IF: _delete,
    ADD: _add,
    TRANSACT: _transact,
}
