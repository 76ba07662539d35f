"""A sequence performed beside the reference; the first difference; the shortest sequence that still shows one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from tests.model import steps as s
from tests.model.expressions import Tree
from tests.model.generate import sequence, tables_of
from tests.model.outcomes import Seen
from tests.model.reference import Outcome, Reference
from tests.model.schema import TABLES

TRIALS_MAX = 400  # replays for shrinking
FILLING = re.compile(r"'(x{100,})'")


class Performer(Protocol):
    """What performs steps: a running region, or something that only says that it is one."""

    def clear(self, names: set[str]) -> None: ...

    def perform(self, step: s.Step, expected: Outcome) -> Seen: ...


class Difference(NamedTuple):
    step: s.Step
    expected: Outcome
    found: Seen


def difference(
    region: Performer, family: str, steps: Sequence[s.Step], messages: list[str | None]
) -> Difference | None:
    """Perform the steps on cleared tables. `messages` receives the text of each error, None for a success."""
    region.clear(tables_of(family))
    reference = Reference()
    for step in steps:
        expected = reference.apply(step)
        found = region.perform(step, expected)
        messages.append(found.message)
        if found.outcome != expected:
            return Difference(step, expected, found)
    return None


def shortened(region: Performer, family: str, steps: list[s.Step]) -> tuple[list[s.Step], Difference]:
    """Leave out what is not needed for a difference: halves, then quarters, then single steps."""
    found = difference(region, family, steps, [])
    assert found is not None, "the difference did not come again"
    trials, size = 0, max(1, len(steps) // 2)
    while trials < TRIALS_MAX:
        first, shorter = 0, False
        while first < len(steps) and trials < TRIALS_MAX:
            fewer = steps[:first] + steps[first + size :]
            trials += 1
            again = difference(region, family, fewer, []) if fewer else None
            if again is None:
                first += size
            else:
                steps, found, shorter = fewer, again, True
        if size == 1 and not shorter:
            break
        size = size if shorter else max(1, size // 2)
    for place in range(len(steps)):
        candidates = list(_simpler(steps[place]))
        while candidates and trials < TRIALS_MAX:
            simpler = [*steps[:place], candidates.pop(0), *steps[place + 1 :]]
            trials += 1
            again = difference(region, family, simpler, []) if simpler[place] != steps[place] else None
            if again is not None:
                steps, found, candidates = simpler, again, list(_simpler(simpler[place]))
    return steps, found


def _simpler(step: s.Step) -> Iterator[s.Step]:
    """The step with one thing less."""
    if isinstance(step, s.Query | s.Scan):
        yield from (step._replace(filter=tree) for tree in _parts(step.filter))
    if isinstance(step, s.Put | s.Update | s.Delete):
        yield from (step._replace(condition=tree) for tree in _parts(step.condition))
    if isinstance(step, s.Put):
        keys = TABLES[step.table].keys
        for name in step.item:
            if name not in keys:
                yield step._replace(item={other: value for other, value in step.item.items() if other != name})
    if isinstance(step, s.Update):
        yield from (step._replace(changes=fewer) for fewer in _each_left_out(step.changes))
    if isinstance(step, s.BatchWrite | s.TransactWrite) and len(step.writes) > 1:
        yield from (step._replace(writes=fewer) for fewer in _each_left_out(step.writes))
    if isinstance(step, s.Query | s.Scan | s.Get):
        yield step._replace(projection=None)


def _parts(tree: Tree | None) -> tuple[Tree | None, ...]:
    return () if tree is None else (None, *(tree[1:] if tree[0] in ("and", "or", "not") else ()))


def _each_left_out(parts: tuple[Any, ...]) -> Iterator[Any]:
    return (parts[:place] + parts[place + 1 :] for place in range(len(parts)))


def explained(family: str, seed: int, length: int, steps: Sequence[s.Step], found: Difference) -> str:
    """What a person needs: the command, the short sequence, the request, both answers."""
    operation, body = s.request_of(found.step)
    text = (
        f"replay with: python -m tests.model --family {family} --seed {seed} --steps {length}\n"
        f"shortest sequence: {s.shown(steps)}\n"
        f"request: {operation} {body}\n"
        f"documented: {found.expected}\nanswered:   {found.found.outcome} {found.found.message or ''}"
    )
    return FILLING.sub(lambda run: f"'x' * {len(run[1])}", text)


def check(region: Performer, family: str, seed: int, length: int) -> list[str | None]:
    """Perform the sequence of a seed; returns the errors' texts. Raises AssertionError with the short sequence."""
    steps = sequence(seed, family, length)
    messages: list[str | None] = []
    if difference(region, family, steps, messages) is not None:
        raise AssertionError(explained(family, seed, length, *shortened(region, family, steps)))
    return messages
