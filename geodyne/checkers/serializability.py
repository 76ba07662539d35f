"""Whether a history of transactions could have happened one at a time, each between its call and its answer.

Every object is a list, and every write appends a value that nothing else appends (Kingsbury and Alvaro, "Elle", 2020):
so the order of the versions of an object, who wrote and who read each, can be read off the lists. From that follows the
direct serialization graph of Adya (1999): an edge from the writer of a version to whoever reads it or writes the next
one, and from a reader to the writer of the next. A history is strictly serializable exactly if that graph, together
with an edge from every transaction that ended to each that began later, has no cycle.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

FOREVER = float("inf")

Versions = Mapping[str, Sequence[Hashable]]
NO_LISTS: Versions = {}
NO_LENGTHS: Mapping[str, int] = {}


class Outcome(Enum):
    COMMITTED = 1
    CANCELLED = 2
    UNKNOWN = 3  # it may have happened at any time after its call, or never


class Transaction(NamedTuple):
    """`appended`: the value that it appends to each object of `writes`, None when it writes nothing. `reads`: what it
    found (or, of a condition: what must have been there) in other objects, whole lists; `lengths`: the same, when only
    how long a list was is known. Times are on one clock, any unit; `end` of an unknown outcome is FOREVER."""

    start: float
    end: float
    outcome: Outcome
    appended: Hashable = None
    writes: tuple[str, ...] = ()
    reads: Versions = NO_LISTS
    lengths: Mapping[str, int] = NO_LENGTHS


def check(history: Sequence[Transaction], final: Versions) -> list[str]:
    """What is wrong with a history; empty when it is strictly serializable. `final`: the lists as they are in the end,
    when nothing is under way. Raises ValueError for a transaction that ends before it starts."""
    problems = [*_atomicity(history, final), *_reads(history, final)]
    return problems or _cycle(history, final)


def _atomicity(history: Sequence[Transaction], final: Versions) -> Iterator[str]:
    """Each transaction is in all of its lists once, or in none."""
    known = {transaction.appended for transaction in history if transaction.appended is not None}
    for key, values in final.items():
        if len(set(values)) != len(values):
            yield f"{key}: something was done twice: {list(values)}"
        strangers = [value for value in values if value not in known]
        if strangers:
            yield f"{key}: nobody appended {strangers}"
    for transaction in history:
        if transaction.end < transaction.start:
            raise ValueError(f"{transaction} ends before it starts")
        found = [transaction.appended in final.get(key, ()) for key in transaction.writes]
        if transaction.outcome is Outcome.COMMITTED and not all(found):
            yield f"an acknowledged transaction is lost: {transaction}"
        elif transaction.outcome is Outcome.CANCELLED and any(found):
            yield f"a cancelled transaction took effect: {transaction}"
        elif any(found) and not all(found):
            yield f"half of a transaction took effect: {transaction}"


def _reads(history: Sequence[Transaction], final: Versions) -> Iterator[str]:
    """Each list that was read is one that there was: a beginning of the final one."""
    for transaction in history:
        for key, values in transaction.reads.items():
            if list(final.get(key, ())[: len(values)]) != list(values):
                yield f"{key}: never was {list(values)}, which was read by {transaction}"


def _cycle(history: Sequence[Transaction], final: Versions) -> list[str]:
    happened = [transaction for transaction in history if _happened(transaction, final)]
    edges = _edges(happened, final)
    path = _find_cycle(edges)
    return [] if path is None else ["not serializable:", *(_named(node, happened) for node in path)]


def _happened(transaction: Transaction, final: Versions) -> bool:
    if transaction.outcome is Outcome.UNKNOWN:
        return any(transaction.appended in final.get(key, ()) for key in transaction.writes)
    return transaction.outcome is Outcome.COMMITTED


def _edges(happened: Sequence[Transaction], final: Versions) -> list[list[int]]:
    """Nodes are the transactions, then the moments at which one ended, in order."""
    count = len(happened)
    ends = sorted(transaction.end for transaction in happened if transaction.end != FOREVER)
    edges: list[list[int]] = [[] for _ in range(count + len(ends))]
    writers = {
        (key, transaction.appended): number for number, transaction in enumerate(happened) for key in transaction.writes
    }
    for key, values in final.items():
        for before, after in pairwise(values):
            edges[writers[key, before]].append(writers[key, after])
    for moment in range(len(ends) - 1):
        edges[count + moment].append(count + moment + 1)
    for number, transaction in enumerate(happened):
        lengths = {**{key: len(values) for key, values in transaction.reads.items()}, **transaction.lengths}
        for key, length in lengths.items():
            values = final.get(key, ())
            if length:
                edges[writers[key, values[length - 1]]].append(number)
            if length < len(values):
                edges[number].append(writers[key, values[length]])
        if transaction.end != FOREVER:
            edges[number].append(count + bisect_left(ends, transaction.end))
        ended_before = bisect_left(ends, transaction.start)
        if ended_before:
            edges[count + ended_before - 1].append(number)
    return [[to for to in targets if to != number] for number, targets in enumerate(edges)]


def _find_cycle(edges: Sequence[Sequence[int]]) -> list[int] | None:
    """A cycle of the graph, None when there is none. Depth first, without recursion: histories are long."""
    open_, done = 1, 2
    colour = [0] * len(edges)
    for root in range(len(edges)):
        if colour[root]:
            continue
        path, rest = [root], [iter(edges[root])]
        colour[root] = open_
        while path:
            node = next(rest[-1], None)
            if node is None:
                colour[path.pop()] = done
                rest.pop()
            elif colour[node] == open_:
                return [*path[path.index(node) :], node]
            elif not colour[node]:
                colour[node] = open_
                path.append(node)
                rest.append(iter(edges[node]))
    return None


def _named(node: int, happened: Sequence[Transaction]) -> str:
    return f"  {happened[node]}" if node < len(happened) else "  ... ended before the next began"
