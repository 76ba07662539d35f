"""Several handlers at once without tasks: each runs to its first wait before any of them is waited for.

What they wait for are answers of nodes, and calls are sent before they are awaited: so all first calls travel
together. Whatever drives the caller (geodyne.rpc.drive, or a task) drives them.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Handed:
    """Waits for what another coroutine asked its driver for."""

    __slots__ = ("_awaited",)

    def __init__(self, awaited: object) -> None:
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._awaited)


async def together(coroutines: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results of all, in order. The first exception, in that order, ends the others where they wait."""
    results: dict[int, _T] = {}
    waiting: dict[int, object] = {}
    try:
        for at, coroutine in enumerate(coroutines):
            _advance(at, coroutine, None, waiting, results)
        for at, coroutine in enumerate(coroutines):
            while at in waiting:
                error: BaseException | None = None
                try:
                    await _Handed(waiting.pop(at))
                except BaseException as raised:
                    error = raised
                _advance(at, coroutine, error, waiting, results)
    finally:
        for coroutine in coroutines:
            coroutine.close()
    return [results[at] for at in range(len(coroutines))]


def _advance(
    at: int,
    coroutine: Coroutine[Any, Any, _T],
    error: BaseException | None,
    waiting: dict[int, object],
    results: dict[int, _T],
) -> None:
    try:
        waiting[at] = coroutine.send(None) if error is None else coroutine.throw(error)
    except StopIteration as stop:
        results[at] = stop.value
