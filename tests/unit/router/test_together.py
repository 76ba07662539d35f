"""Several handlers at once: all begin before any is waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from geodyne.rpc.drive import Reply, drive
from router.api.together import together


def test_all_begin_before_the_first_answer() -> None:
    replies: list[Reply[int]] = [Reply() for _ in range(3)]
    begun: list[int] = []

    async def handler(number: int) -> int:
        begun.append(number)
        return await replies[number] * 10

    done: list[Any] = []
    drive(together([handler(number) for number in range(3)]), lambda value, error: done.append((value, error)))
    assert begun == [0, 1, 2]
    for number in (2, 0, 1):
        assert not done
        replies[number].succeed(number)
    assert done == [([0, 10, 20], None)]


def test_a_handler_may_wait_several_times_or_not_at_all() -> None:
    async def run() -> list[int]:
        async def handler(waits: int) -> int:
            for _ in range(waits):
                await asyncio.sleep(0)
            return waits

        return await together([handler(2), handler(0), handler(1)])

    assert asyncio.run(run()) == [2, 0, 1]


def test_an_exception_ends_the_others() -> None:
    first: Reply[None] = Reply()
    second: Reply[None] = Reply()
    closed: list[str] = []

    async def fails() -> None:
        await first

    async def waits() -> None:
        try:
            await second
        finally:
            closed.append("second")

    done: list[Any] = []
    drive(together([fails(), waits()]), lambda value, error: done.append(error))
    first.fail(ValueError("broken"))
    assert [type(error) for error in done] == [ValueError]
    assert closed == ["second"]


def test_cancelling_reaches_whoever_waits() -> None:
    async def run() -> None:
        async def handler() -> None:
            await asyncio.get_running_loop().create_future()

        task = asyncio.ensure_future(together([handler(), handler()]))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
