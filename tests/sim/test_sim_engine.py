"""What the simulation is made of: virtual time, processes that stop, disks that fail, fault lists."""

from __future__ import annotations

import asyncio
import errno
from contextvars import Context
from pathlib import Path
from random import Random

import pytest

from geodyne.peermessages import Append, Entry, Heartbeat
from geodyne.sim.disorder import Disorder
from geodyne.sim.faults import FAULTY_S, KINDS, Fault, draw, parse, plan_of, text_of
from geodyne.sim.loop import PROCESS, SimClock, SimLoop, Stuck, run_simulated
from geodyne.sim.shrink import TRIES_MAX, shrink
from geodyne.sim.storage import DiskTrouble, ProcessDied, SimDisk

# --- the loop ---------------------------------------------------------------------------------------------------


def here() -> SimLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


def test_timers_of_one_time_run_in_the_order_in_which_they_were_made() -> None:
    async def scenario() -> list[int]:
        order: list[int] = []
        for number in range(50):
            here().call_at(1.0, order.append, number)
        await asyncio.sleep(2)
        return order

    assert run_simulated(scenario()) == list(range(50))


def test_time_jumps_to_the_next_timer_and_a_cancelled_one_does_not_count() -> None:
    async def scenario() -> float:
        here().call_later(500, lambda: None).cancel()
        await asyncio.sleep(1000)
        return here().time()

    assert run_simulated(scenario()) == 1000


def test_a_loop_that_spins_or_waits_for_nothing_is_caught() -> None:
    async def spin() -> None:
        while here().time() < 1:  # noqa: ASYNC110 - on purpose
            await asyncio.sleep(0)

    async def wait() -> None:
        await here().create_future()

    for scenario in (spin, wait):
        with pytest.raises(Stuck):
            run_simulated(scenario())


def test_nothing_of_a_stopped_process_runs_until_it_goes_on_and_then_all_of_it_in_order() -> None:
    async def scenario() -> None:
        ran: list[str] = []
        context = Context()
        context.run(PROCESS.set, "node")
        loop = here()
        loop.stop_process("node")
        for number in range(3):
            loop.call_later(number, ran.append, f"node {number}", context=context)
        loop.call_later(1.5, ran.append, "other")
        await asyncio.sleep(5)
        assert ran == ["other"]
        assert loop.continue_process("node") == 3
        await asyncio.sleep(0)
        assert ran == ["other", "node 0", "node 1", "node 2"]

    run_simulated(scenario())


def test_a_process_can_be_interrupted_between_any_two_callbacks() -> None:
    async def scenario() -> None:
        ran: list[int] = []
        here().after_steps(3, lambda: ran.append(-1))
        for number in range(5):
            here().call_soon(ran.append, number)
        await asyncio.sleep(1)
        assert sorted(ran) == [-1, 0, 1, 2, 3, 4]
        assert 0 < ran.index(-1) < 5

    run_simulated(scenario())


def test_a_lease_clock_that_drifts_never_goes_back() -> None:
    async def scenario() -> None:
        clock = SimClock(here(), rate=1.004, lease_offset_ms=7, skew_us=0)
        before = clock.lease_ms()
        for rate in (0.992, 1.008, 0.992):
            clock.drift(rate)
            assert clock.lease_ms() >= before
            await asyncio.sleep(10)
            assert abs(clock.lease_ms() - before - 10_000 * rate) <= 1
            before = clock.lease_ms()

    run_simulated(scenario())


# --- messages and disks -----------------------------------------------------------------------------------------


def test_only_messages_of_consensus_are_lost_doubled_and_late() -> None:
    append = Append(1, 1, 0, 0, (Entry(1, 1, b""),), 0)
    beat = Heartbeat(1, 2)
    disorder = Disorder(Random(1), lost=1.0, doubled=0.0, late=0.0)
    assert disorder.disturb([append, beat, append]) == ([beat], [])
    assert disorder.disturbed == 2
    kept, late = Disorder(Random(1), lost=0.0, doubled=1.0, late=0.0).disturb([append, beat])
    assert (kept, [message for _, message in late]) == ([append, beat], [append])
    kept, late = Disorder(Random(1), lost=0.0, doubled=0.0, late=1.0).disturb([append, beat])
    assert (kept, [message for _, message in late]) == ([beat], [append])


def test_a_full_disk_takes_a_part_and_a_failed_fsync_makes_nothing_durable(tmp_path: Path) -> None:
    trouble = DiskTrouble()
    disk = SimDisk(Random(1), trouble)
    file = disk.create(tmp_path / "log")
    file.write(b"x" * 100)
    trouble.sync_error = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    trouble.clear()
    file.sync()
    assert disk.files[tmp_path / "log"].synced == 0  # what the failed one was to write is given up for good
    other = disk.create(tmp_path / "other")
    other.write(b"x" * 100)
    other.sync()
    trouble.write_error = errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        other.write(b"y" * 100)
    assert 100 <= (tmp_path / "other").stat().st_size <= 200
    assert disk.files[tmp_path / "other"].synced == 100
    assert disk.space(tmp_path).free_bytes == 0
    assert trouble.failures == 2


def test_a_process_dies_in_the_middle_of_a_write(tmp_path: Path) -> None:
    deaths: list[str] = []
    trouble = DiskTrouble()
    trouble.on_death = lambda: deaths.append("dead")
    file = SimDisk(Random(4), trouble).create(tmp_path / "log")
    trouble.writes_left = 1
    file.write(b"x" * 50)
    with pytest.raises(ProcessDied):
        file.write(b"y" * 50)
    assert deaths == ["dead"]
    assert 50 <= (tmp_path / "log").stat().st_size < 100


def test_what_a_killed_process_did_not_fsync_is_still_lost_with_the_power_in_the_next_life(tmp_path: Path) -> None:
    first = tmp_path / "a"
    first.mkdir()
    disk = SimDisk(Random(1))
    file = disk.create(first / "log")
    disk.sync_directory(first)
    file.write(b"x" * 10)
    file.sync()
    file.write(b"y" * 1000)
    second = SimDisk(Random(2), synced=disk.durable_sizes(first, first))
    second.open(first / "log")
    copy = tmp_path / "b"
    copy.mkdir()
    (copy / "log").write_bytes((first / "log").read_bytes())
    second.lose_power(copy, first)
    left = (copy / "log").read_bytes()
    assert len(left) < 1010
    assert left[:10] == b"x" * 10


# --- fault lists ------------------------------------------------------------------------------------------------


def test_a_list_of_faults_is_text_and_comes_back() -> None:
    for seed in range(20):
        assert plan_of(text_of(draw(seed))) == draw(seed)
    assert plan_of(text_of(())) == ()


@pytest.mark.parametrize("text", ["1:kill:a:0", "1:fire:a:0:1", "1:kill:z:0:1", "-1:kill:a:0:1", "1:kill:a:nan:1", "x"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


def test_seeds_have_faults_of_every_kind_and_each_seed_enough_of_them() -> None:
    plans = [draw(seed) for seed in range(300)]
    assert {fault.kind for plan in plans for fault in plan} == set(KINDS)
    assert all(len(plan) >= 13 and plan == tuple(sorted(plan, key=lambda fault: fault.at_s)) for plan in plans)
    assert all(0 <= fault.at_s <= FAULTY_S for plan in plans for fault in plan)
    assert sum(len({fault.kind for fault in plan}) >= 4 for plan in plans) == 300


def test_shrinking_finds_the_few_faults_that_matter_within_its_bound() -> None:
    plan = [Fault(float(number), "kill", "a", 0.0, number) for number in range(20)]
    tries: list[int] = []

    def fails(faults: object) -> bool:
        assert isinstance(faults, tuple)
        tries.append(len(faults))
        return {3, 17} <= {fault.number for fault in faults}

    assert [fault.number for fault in shrink(plan, fails)] == [3, 17]
    assert len(tries) <= TRIES_MAX
    tries.clear()
    shrink(plan, fails, tries_max=3)
    assert len(tries) == 3


def test_a_failure_that_needs_no_fault_shrinks_to_nothing() -> None:
    assert shrink([1, 2, 3, 4], lambda faults: True) == ()
