"""One run of several regions, decided by one seed: a table with replicas, writers everywhere, faults, and the end."""

from __future__ import annotations

import asyncio
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from geodyne.sim.faults import Fault
from geodyne.sim.globalchecks import GlobalChecks, watched
from geodyne.sim.globalfaults import draw, shape
from geodyne.sim.globalinjector import GlobalInjector
from geodyne.sim.globalmoves import MOVE_MS_MAX, Moves, moving
from geodyne.sim.globalregions import TABLE, Regions, regions
from geodyne.sim.globalworkload import KEYS, Writers
from geodyne.sim.loop import SimLoop
from geodyne.sim.network import Violation
from geodyne.sim.run import FILES, Outcome, _run, _told, _without_collector
from geodyne.sim.storage import ProcessDied
from node import maintenance
from node.catalog import writemodes
from node.feed import duty, tombstones
from replication import apply, collecting, comparing

READY_S = 30.0  # within this the table is in all regions, at first
CALM_S = 1.0  # of clients at work after the faults
RUN_S_MAX = 300.0  # of virtual time, before what is still waited for will never come
CLOSE_S_MAX = 60.0
EQUAL_S = 90.0  # within this of the end of the writes all regions are equal: half a minute for clocks, the rest to ship
LOOK_S = 0.5
VERIFY_LOOK_S = 0.1
UPKEEP_S, CHECKPOINT_S, FEED_LOOK_MS = 1.0, 8.0, 1_000
MARKS_EVERY_MS, TOMBSTONES_REST_MS = 1_000, 1_000
COMPARING: dict[str, float] = {  # replication.comparing
    "BACKGROUND_REST_S": 0.05,
    "FIRST_MS": 3_000,
    "AGAIN_MS": 4_000,
    "UNKNOWN_AGAIN_MS": 2_000,
    "LOOK_S": 0.5,
    "NEEDED_FIRST_MS": 5_000,
    "NEEDED_AGAIN_MS": 3_000,
    "PATIENCE_S": 5.0,  # as NEEDED_FIRST_MS, longer than a batch that was let in may take to be applied
}
APPLY_MS = 1_500  # less than a node is gone: batches fail


def run_seed(seed: int, plan: Sequence[Fault] | None = None) -> Outcome:
    """Run a seed, with its own faults or others. Whatever goes wrong is in the outcome."""
    plan = draw(seed) if plan is None else plan
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    loop = SimLoop()
    problem = ""
    digest = [""]
    with tempfile.TemporaryDirectory(prefix="geodyne-sim-", dir=FILES if FILES.is_dir() else None) as path:
        try:
            with _without_collector():
                _run(loop, _play(seed, plan, Path(path), counts, faults, digest))
        except (Exception, ProcessDied) as error:
            problem = _told(error)
    return Outcome(
        seed=seed,
        problem=problem,
        virtual_ms=int(loop.now * 1000),
        operations=counts["operations"],
        unknown=counts["unknown"],
        leader_changes=counts["leader_changes"],
        steps=loop.steps,
        faults={kind: count for kind, count in sorted(faults.items()) if count},
        digest=digest[0],
    )


async def _play(
    seed: int, plan: Sequence[Fault], path: Path, counts: Counter[str], faults: Counter[str], digest: list[str]
) -> None:
    with ExitStack() as stack:
        for module, name, value in (
            (maintenance, "INTERVAL_S", UPKEEP_S),
            (maintenance, "CHECKPOINT_INTERVAL_S", CHECKPOINT_S),
            (duty, "LOOK_MS", FEED_LOOK_MS),
            (apply, "APPLY_TIMEOUT_MS", APPLY_MS),
            *((comparing, name, value) for name, value in COMPARING.items()),
            (collecting, "TELL_EVERY_MS", MARKS_EVERY_MS),
            (writemodes, "MOVE_MS_MAX", MOVE_MS_MAX),
            (tombstones, "REST_MS", TOMBSTONES_REST_MS),
        ):
            stack.enter_context(patch.object(module, name, value))
        async with regions(seed, path, shape(seed), CLOSE_S_MAX) as all_:
            checks = GlobalChecks(all_, KEYS)
            stack.enter_context(watched(checks))
            injector = GlobalInjector(all_, checks)
            writers = Writers(all_, seed, counts)
            moves = Moves(all_, checks, seed) if moving(seed, plan) else None
            try:
                async with asyncio.timeout(RUN_S_MAX):
                    await _events(all_, plan, checks, injector, writers, moves)
            except TimeoutError as error:
                raise Violation(f"it is not over after {RUN_S_MAX:.0f} s: {_waits(error)}; {all_.told()}") from None
            finally:
                counts.update(
                    arrived=checks.arrived,
                    collected=checks.collected,
                    conflicts=checks.conflicts,
                    leader_changes=all_.leader_changes,
                )
                faults.update(injector.counts)
                digest[0] = all_.world.digest


async def _events(
    all_: Regions,
    plan: Sequence[Fault],
    checks: GlobalChecks,
    injector: GlobalInjector,
    writers: Writers,
    moves: Moves | None,
) -> None:
    await writers.prepare(READY_S)
    if moves is not None:
        await moves.begin()
    writers.start()
    await injector.run(plan)
    checks.check()
    await injector.end()
    if moves is not None:
        await moves.end()
    await all_.run_for(CALM_S)
    await writers.stop()
    names = [name for name in all_.by_name if name not in injector.removed]
    await _equal(all_, checks, names)
    await compared(all_, names)
    writers.judge(checks)
    checks.check()


def _waits(error: BaseException) -> str:
    """Where a run was when its time was up."""
    cause = error.__cause__ or error.__context__
    frames = traceback.extract_tb(cause.__traceback__ if cause is not None else None)
    return ", in ".join(f"{frame.name} ({Path(frame.filename).name}:{frame.lineno})" for frame in reversed(frames[-4:]))


async def _equal(all_: Regions, checks: GlobalChecks, names: Sequence[str]) -> None:
    """Raises Violation unless, within a bound, all regions hold what they must."""
    until = all_.loop.time() + EQUAL_S
    while True:
        differences = [text for name in names if (text := checks.difference(name))]
        if not differences and all_.steady(names):
            return
        checks.check()
        if all_.loop.time() > until:
            troubles = "; ".join(
                f"{name}: {one.replicator.status()['destinations']}"
                for name, one in all_.replicators.items()
                if one.replicator is not None
            )
            raise Violation(
                f"not equal within {EQUAL_S:.0f} s: {'; '.join(differences[:3]) or all_.told()}. {troubles}"[:3000]
            )
        await all_.run_for(LOOK_S)


async def compared(all_: Regions, names: Sequence[str]) -> None:
    """Raises Violation unless the product says of each pair of regions, within a bound, that they are equal."""
    until = all_.loop.time() + EQUAL_S
    for name in names[:-1]:
        while verdicts := await _verdicts(all_, name):
            if "different" in verdicts.values():
                raise Violation(f"{name} finds a difference where there is none: {verdicts}")
            if set(verdicts.values()) == {"equal"}:
                break
            if all_.loop.time() > until:
                raise Violation(f"{name} cannot be compared within {EQUAL_S:.0f} s: {verdicts}")


async def _verdicts(all_: Regions, name: str) -> dict[str, str]:
    """Of a comparison with each other region, as an administrator has it made. Empty: there is none to compare with."""
    replicator = all_.replicators[name].replicator
    assert replicator is not None
    request = {"operation": "start", "table": TABLE}
    while (answer := replicator.comparing.administer(request))["result"]["running"]:
        request = {"operation": "show", "table": TABLE}
        await all_.run_for(VERIFY_LOOK_S)
    return {each["regions"][1]: each["verdict"] for each in answer["result"]["comparisons"]}
