import asyncio

import pytest

from geodyne.rpc.drive import Reply, completed, drive, failed, gather


class Outcome:
    def __init__(self) -> None:
        self.calls: list[tuple[object, BaseException | None]] = []

    def __call__(self, value: object, error: BaseException | None) -> None:
        self.calls.append((value, error))


def test_a_coroutine_that_needs_no_wait_is_done_when_drive_returns():
    done = Outcome()

    async def handler() -> int:
        return await completed(41) + 1

    assert drive(handler(), done).done
    assert done.calls == [(42, None)]


def test_the_answer_runs_the_coroutine_in_place():
    done = Outcome()
    first: Reply[int] = Reply()
    second: Reply[int] = Reply()

    async def handler() -> int:
        return await first + await second

    drive(handler(), done)
    first.succeed(1)
    assert done.calls == []
    second.succeed(2)
    assert done.calls == [(3, None)]


def test_an_error_is_raised_where_the_coroutine_waits():
    done = Outcome()
    reply: Reply[int] = Reply()

    async def handler() -> str:
        try:
            await reply
        except KeyError:
            return "caught"
        return "missed"

    drive(handler(), done)
    reply.fail(KeyError("x"))
    assert done.calls == [("caught", None)]


def test_an_uncaught_error_goes_to_on_done():
    done = Outcome()

    async def handler() -> None:
        await failed(ValueError("bad"))

    drive(handler(), done)
    assert done.calls[0][0] is None
    assert isinstance(done.calls[0][1], ValueError)


def test_only_the_first_answer_counts():
    done = Outcome()
    reply: Reply[int] = Reply()

    async def handler() -> int:
        return await reply

    drive(handler(), done)
    reply.succeed(1)
    reply.succeed(2)
    reply.fail(ValueError())
    assert done.calls == [(1, None)]


def test_a_reply_has_one_waiter():
    reply: Reply[int] = Reply()

    async def handler() -> int:
        return await reply

    first, second = Outcome(), Outcome()
    drive(handler(), first)
    drive(handler(), second)
    assert isinstance(second.calls[0][1], RuntimeError)
    reply.succeed(1)
    assert first.calls == [(1, None)]


def test_a_driven_coroutine_may_await_what_asyncio_offers():
    async def main() -> list[tuple[object, BaseException | None]]:
        finished = asyncio.Event()
        done = Outcome()
        lock = asyncio.Lock()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def task() -> int:
            return 7

        async def handler() -> int:
            async with lock:
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
                inner = await asyncio.ensure_future(task())
            finished.set()
            return inner + await future

        drive(handler(), done)
        await finished.wait()
        future.set_result(1)
        await asyncio.sleep(0)
        return done.calls

    assert asyncio.run(main()) == [(8, None)]


def test_a_task_may_await_a_reply_and_may_be_cancelled():
    async def main() -> None:
        reply: Reply[int] = Reply()
        abandoned: Reply[int] = Reply()

        async def wait_for(one: Reply[int]) -> int:
            return await one

        task = asyncio.ensure_future(wait_for(reply))
        cancelled = asyncio.ensure_future(wait_for(abandoned))
        await asyncio.sleep(0)
        cancelled.cancel()
        reply.succeed(5)
        abandoned.succeed(6)
        assert await task == 5
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    asyncio.run(main())


def test_drive_called_from_a_task_still_uses_no_future():
    async def main() -> None:
        reply: Reply[int] = Reply()
        done = Outcome()

        async def handler() -> int:
            return await reply

        drive(handler(), done)
        reply.succeed(3)
        assert done.calls == [(3, None)]

    asyncio.run(main())


def test_gather_keeps_the_order_and_waits_for_all():
    replies: list[Reply[int]] = [Reply(), completed(2), Reply()]
    done = Outcome()

    async def handler() -> list[int]:
        return await gather(replies)

    drive(handler(), done)
    replies[2].succeed(3)
    assert done.calls == []
    replies[0].succeed(1)
    assert done.calls == [([1, 2, 3], None)]


def test_gather_raises_the_first_error():
    error = ValueError("x")
    assert gather([completed(1), failed(error)]).error is error
    assert gather([]).value == []


def test_cancel_ends_the_coroutine_where_it_waits():
    reply: Reply[int] = Reply()
    done = Outcome()
    cleaned = []

    async def handler() -> int:
        try:
            return await reply
        finally:
            cleaned.append(True)

    driven = drive(handler(), done)
    driven.cancel()
    reply.succeed(1)
    assert cleaned == [True]
    assert len(done.calls) == 1
    assert isinstance(done.calls[0][1], asyncio.CancelledError)


def test_an_on_done_that_raises_does_not_stop_whoever_brought_the_answer(caplog):
    reply: Reply[int] = Reply()

    async def handler() -> int:
        return await reply

    def broken(value: object, error: BaseException | None) -> None:
        raise RuntimeError("defect")

    drive(handler(), broken)
    reply.succeed(1)
    assert "the end of a driven coroutine raised" in caplog.text


def test_something_that_cannot_be_awaited_is_an_error_inside_the_coroutine():
    class Odd:
        def __await__(self):
            yield "odd"

    done = Outcome()

    async def handler() -> None:
        await Odd()

    drive(handler(), done)
    assert isinstance(done.calls[0][1], RuntimeError)
