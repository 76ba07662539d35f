"""Places: who waits, and who is next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.places import Places

TURNS = 5  # of the loop, until everything that can go on has


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Line:
    """Takers of one place, by name, in the order in which they got it."""

    def __init__(self) -> None:
        self.places = Places(1)
        self.got: list[str] = []

    def comes(self, name: str, urgent: Callable[[], bool] = lambda: False) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._take(name, urgent))

    async def _take(self, name: str, urgent: Callable[[], bool]) -> None:
        await self.places.take(urgent)
        self.got.append(name)


def test_what_has_become_urgent_goes_before_what_came_earlier() -> None:
    async def scenario() -> None:
        line, urgent = Line(), set[str]()
        for name in "abcd":
            line.comes(name, lambda name=name: name in urgent)  # type: ignore[misc]
        await turns()
        assert line.got == ["a"]
        urgent.add("c")
        for expected in ("ac", "acb", "acbd"):
            line.places.give_back()
            await turns()
            assert "".join(line.got) == expected

    asyncio.run(scenario())


def test_one_that_gives_up_waiting_takes_no_place() -> None:
    async def scenario() -> None:
        line = Line()
        _, gives_up, _ = (line.comes(name) for name in "abc")
        await turns()
        gives_up.cancel()
        line.places.give_back()
        await turns()
        assert line.got == ["a", "c"]

    asyncio.run(scenario())


def test_a_place_that_is_given_to_one_that_gives_up_goes_to_the_next() -> None:
    async def scenario() -> None:
        line = Line()
        _, gives_up, _ = (line.comes(name) for name in "abc")
        await turns()
        line.places.give_back()
        gives_up.cancel()
        await turns()
        assert line.got == ["a", "c"]

    asyncio.run(scenario())


def test_one_that_cannot_wait_is_counted_all_the_same() -> None:
    async def scenario() -> None:
        line = Line()
        line.places.take_now()
        line.places.take_now()
        line.comes("a")
        await turns()
        line.places.give_back()
        await turns()
        assert line.got == []
        line.places.give_back()
        await turns()
        assert line.got == ["a"]

    asyncio.run(scenario())
