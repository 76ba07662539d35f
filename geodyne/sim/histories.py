"""What the clients of a simulated region were told, and whether that can be, item by item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from geodyne.checkers.linearizability import FOREVER, Operation
from geodyne.sim.items import Step, judge
from geodyne.sim.network import Violation
from geodyne.sim.sdk import Attempt

Item = Mapping[str, Mapping[str, Any]]
REFUSED = "ConditionalCheckFailedException"
# What a client may be told instead of an answer, in a region that is in trouble. Anything else is a bug.
NO_EFFECT = frozenset(
    {
        REFUSED,
        "TransactionConflictException",
        "TransactionCanceledException",
        "TransactionInProgressException",
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
    }
)


class StaleRead(NamedTuple):
    """What an eventually consistent read found, at `end`."""

    end: float
    value: str


class Histories:
    """By item: what was asked and answered. `steps` is for the checker of linearizability."""

    def __init__(self) -> None:
        self.steps: dict[str, list[Operation[Step]]] = {}
        self.stale: dict[str, list[StaleRead]] = {}
        self.unknown = 0

    def wrote(
        self,
        calls: Mapping[str, Step],
        attempts: Sequence[Attempt],
        answered: Callable[[Step, Any], Step] | None = None,
    ) -> str:
        """The attempts of one write of these items; `answered` puts what the answer says into a step. Returns the last
        one's code, "unknown" when there is none. Raises Violation for an answer that cannot be."""
        for attempt in attempts:
            if attempt.code is None:
                self.unknown += 1
                for item, call in calls.items():
                    self._add(item, attempt.start, FOREVER, call)
            elif attempt.code == "":
                for item, call in calls.items():
                    done = call._replace(answer="ok") if answered is None else answered(call, attempt.body)
                    self._add(item, attempt.start, attempt.end, done)
            elif attempt.code not in NO_EFFECT:
                raise Violation(f"{calls}: {attempt.body}")
            elif attempt.code == REFUSED:
                for item, call in calls.items():
                    self._add(item, attempt.start, attempt.end, call._replace(answer="failed"))
        return "unknown" if attempts[-1].code is None else attempts[-1].code

    def read(self, start: float, end: float, found: Mapping[str, str]) -> None:
        """A strong read, or several of one request, each at some time of its own."""
        for item, value in found.items():
            self._add(item, start, end, Step("read", answer=value))

    def read_stale(self, end: float, found: Mapping[str, str]) -> None:
        for item, value in found.items():
            self.stale.setdefault(item, []).append(StaleRead(end, value))

    def judge(self) -> None:
        """Raises Violation for an item whose history is not linearizable, or of which a value was read that nobody
        can have written by then."""
        judge(self.steps)
        for item, reads in self.stale.items():
            for read in reads:
                if not self._possible(item, read):
                    raise Violation(f"{item}: {read} was never written")

    def _possible(self, item: str, read: StaleRead) -> bool:
        if read.value == "":
            return True
        begun = [op.call for op in self.steps.get(item, ()) if op.start <= read.end and op.call.answer != "failed"]
        if any(call.kind in {"put", "cas"} and call.value == read.value for call in begun):
            return True
        return read.value.isdigit() and int(read.value) <= sum(call.kind == "add" for call in begun)

    def _add(self, item: str, start: float, end: float, call: Step) -> None:
        self.steps.setdefault(item, []).append(Operation(start, end, call))


def value_of(item: Item | None) -> str:
    """The value of an item, as geodyne.sim.items.Step has it."""
    if not item:
        return ""
    return str(item["v"]["S"] if "v" in item else item["n"]["N"])


def with_old(call: Step, body: Mapping[str, Any]) -> Step:
    """The answer of a write that returns ALL_OLD."""
    return call._replace(answer="ok", old=value_of(body.get("Attributes")))


def with_count(call: Step, body: Mapping[str, Any]) -> Step:
    """The answer of an addition that returns UPDATED_NEW."""
    return call._replace(answer=str(body["Attributes"]["n"]["N"]))
