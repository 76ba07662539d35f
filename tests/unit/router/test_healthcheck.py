"""A region's own check: what counts as serving, for how long a good check lasts, and when nobody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from geodyne.catalog import HASH_SPACE, ControlOperation, PartitionRecord, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.healthcheck import HEALTH_PARTITIONS, HEALTH_SCHEMA, HEALTH_TABLE
from geodyne.messages import Answer, Call, Control, ControlDone, Found, Get, Moved, Refused, Write, Written
from geodyne.rpc.drive import Reply, completed, failed
from router.healthcheck import ASKED_WITHIN_S, EVERY_S, GOOD_FOR_S, HealthCheck
from tests.unit.rpc.virtualtime import run_virtually

TABLE = TableRecord(
    name=HEALTH_TABLE,
    id="id",
    status=TableStatus.ACTIVE,
    revision=1,
    created_ms=0,
    hash_key=HEALTH_SCHEMA.hash_name,
    hash_type=HEALTH_SCHEMA.hash_type,
    range_key=None,
    range_type=None,
    billing_mode="PAY_PER_REQUEST",
    read_units=0,
    write_units=0,
    partitions=(PartitionRecord(7, 1, 0, HASH_SPACE, ("n",)),),
)
UNANSWERED = ApiError("ServiceUnavailable", "no leader")


class Region:
    """Keeps what is written. `forced` answers calls instead: None takes for ever."""

    def __init__(self, *, made: bool = True) -> None:
        self.ready = True
        self.tables = {HEALTH_TABLE: TABLE} if made else {}
        self.image: bytes | None = None
        self.calls: list[Call] = []
        self.forced: Callable[[Call], Answer | ApiError | None] | None = None

    @property
    def catalog(self) -> Region:
        return self

    def call(self, call: Call, *, timeout_ms: int, request_id: str = "") -> Reply[Answer]:
        self.calls.append(call)
        if self.forced is not None:
            answer = self.forced(call)
            if answer is None:
                return Reply()
            return failed(answer) if isinstance(answer, ApiError) else completed(answer)
        if isinstance(call, Control):
            assert call.operation == ControlOperation.ENSURE_HEALTH
            self.tables = {HEALTH_TABLE: TABLE}
            return completed(ControlDone(2, {}))
        if isinstance(call, Write):
            self.image = call.item
            return completed(Written(0, call.size))
        assert isinstance(call, Get)
        assert call.strong
        return completed(Found(self.image, 1))


def checked(scenario: Callable[[HealthCheck, Region], Awaitable[None]], *, made: bool = True) -> Region:
    region = Region(made=made)

    async def run() -> None:
        check = HealthCheck(region, "us-east-1/router-1")
        try:
            await scenario(check, region)
        finally:
            await check.stop()

    run_virtually(run())
    return region


def test_nothing_is_known_before_the_first_check_has_ended() -> None:
    async def scenario(check: HealthCheck, region: Region) -> None:
        first = check.verdict()
        assert (first.healthy, first.checked, first.age_ms) == (False, False, None)
        await asyncio.sleep(EVERY_S / 2)
        then = check.verdict()
        assert (then.healthy, then.checked, then.error) == (True, True, "")
        assert then.age_ms == 250

    region = checked(scenario)
    assert [type(call) for call in region.calls] == [Write, Get]


def test_the_table_of_the_check_is_made_at_the_first_need() -> None:
    async def scenario(check: HealthCheck, region: Region) -> None:
        check.verdict()
        await asyncio.sleep(EVERY_S / 2)
        assert check.verdict().error == "the table of the check is being made"
        await asyncio.sleep(EVERY_S)
        assert check.verdict().healthy

    assert HEALTH_PARTITIONS == 1
    checked(scenario, made=False)


def test_a_region_serves_for_a_while_after_its_last_good_check_and_again_after_the_next() -> None:
    async def scenario(check: HealthCheck, region: Region) -> None:
        check.verdict()
        await asyncio.sleep(0.1)
        region.forced = lambda call: UNANSWERED
        await asyncio.sleep(GOOD_FOR_S - 0.2)
        assert check.verdict().healthy
        assert check.verdict().error == "no leader"
        await asyncio.sleep(0.3)
        assert not check.verdict().healthy
        region.forced = None
        await asyncio.sleep(EVERY_S)
        assert check.verdict().healthy

    checked(scenario)


def test_a_check_that_hangs_makes_the_region_count_as_down_all_the_same() -> None:
    async def scenario(check: HealthCheck, region: Region) -> None:
        check.verdict()
        await asyncio.sleep(0.1)
        region.forced = lambda call: None
        await asyncio.sleep(GOOD_FOR_S + 0.1)
        verdict = check.verdict()
        assert not verdict.healthy
        assert verdict.error == "none has ended for 2.7 s"

    checked(scenario)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda call: Refused("ServiceUnavailable", "disk full"), "the write was refused: disk full"),
        (lambda call: Moved(1, 5), "the partition of the check is moving"),
        (lambda call: Written(0, 1), "the read was answered by Written"),
        (
            lambda call: Written(0, 1) if isinstance(call, Write) else Found(b"{}", 1),
            "a strong read did not find what was written before it",
        ),
        (
            lambda call: Written(0, 1) if isinstance(call, Write) else Found(None, 0),
            "a strong read did not find what was written before it",
        ),
    ],
)
def test_only_a_write_that_a_strong_read_finds_is_good(answer: Callable[[Call], Answer], error: str) -> None:
    async def scenario(check: HealthCheck, region: Region) -> None:
        region.forced = answer
        check.verdict()
        await asyncio.sleep(0.1)
        verdict = check.verdict()
        assert (verdict.healthy, verdict.checked, verdict.error) == (False, True, error)

    checked(scenario)


def test_nodes_of_an_older_version_leave_it_at_what_the_router_knows() -> None:
    async def scenario(check: HealthCheck, region: Region) -> None:
        region.forced = lambda call: Refused("UnknownOperationException", "no control operation")
        check.verdict()
        await asyncio.sleep(0.1)
        assert check.verdict().healthy
        assert "of a version without" in check.verdict().error
        region.ready = False
        assert not check.verdict().healthy

    checked(scenario, made=False)


def test_checks_have_a_bounded_rate_and_end_when_nobody_asks_any_more() -> None:
    async def scenario(check: HealthCheck, region: Region) -> None:
        for _ in range(100):
            check.verdict()
            await asyncio.sleep(0.01)
        writes = sum(isinstance(call, Write) for call in region.calls)
        assert writes <= 1 / EVERY_S + 1
        await asyncio.sleep(ASKED_WITHIN_S + 2 * EVERY_S)
        ended = len(region.calls)
        await asyncio.sleep(60)
        assert len(region.calls) == ended
        assert not check.verdict().checked
        await asyncio.sleep(0.1)
        assert check.verdict().healthy

    checked(scenario)
