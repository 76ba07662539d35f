"""One run: a region, its clients and its faults, all of it decided by one seed; and what came of it."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest.mock import patch

from geodyne.messages import METADATA_PARTITION
from geodyne.sim.faults import Fault, draw
from geodyne.sim.growth import Growth
from geodyne.sim.injector import Injector
from geodyne.sim.itemclients import TABLE
from geodyne.sim.loop import SimLoop
from geodyne.sim.network import Violation
from geodyne.sim.region import Region, region
from geodyne.sim.storage import ProcessDied
from geodyne.sim.workload import Workload
from node import maintenance, scrub
from node.feed import duty

CALM_S = 1.0  # of clients at work after the faults
SOUND_S = 60.0  # within this all damage is found and healed
UPKEEP_S, CHECKPOINT_S, FEED_LOOK_MS = 0.7, 5.0, 2_000
FILES = Path("/dev/shm")  # noqa: S108 - in memory where there is one: nothing in a run depends on the disk that it runs on
ROT = frozenset(("rot_state", "rot_page", "rot_log"))


class Outcome(NamedTuple):
    """What a seed came to. `problem`: "" when nothing was wrong. `faults`: those that had an effect, by kind."""

    seed: int
    problem: str
    virtual_ms: int
    operations: int
    unknown: int
    leader_changes: int
    steps: int
    faults: dict[str, int]
    digest: str

    @property
    def bitten(self) -> bool:
        """Faults had an effect: a run without any proves nothing."""
        return bool(self.faults)


def run_seed(seed: int, plan: Sequence[Fault] | None = None) -> Outcome:
    """Run a seed, with its own faults or others. Whatever goes wrong is in the outcome."""
    plan = draw(seed) if plan is None else plan
    counts: Counter[str] = Counter()
    loop = SimLoop()
    problem = ""
    digest = [""]
    injected: list[Injector] = []
    with tempfile.TemporaryDirectory(prefix="geodyne-sim-", dir=FILES if FILES.is_dir() else None) as path:
        try:
            with _without_collector():
                _run(loop, _play(seed, plan, Path(path), counts, injected, digest))
        except (Exception, ProcessDied) as error:
            problem = _told(error)
    faults = dict(sorted(injected[0].counts.items())) if injected else {}
    return Outcome(
        seed=seed,
        problem=problem,
        virtual_ms=int(loop.now * 1000),
        operations=counts["operations"],
        unknown=counts["unknown"],
        leader_changes=counts["leader_changes"],
        steps=loop.steps,
        faults={kind: count for kind, count in faults.items() if count},
        digest=digest[0],
    )


def _run(loop: SimLoop, play: Any) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(play)


@cache
def _freeze_modules() -> None:
    """Modules live as long as the process: collections need not look at them."""
    gc.collect()
    gc.freeze()


@contextmanager
def _without_collector() -> Iterator[None]:
    """Garbage is collected between runs: in the midst of one it costs more, and finalizers would run at any time."""
    _freeze_modules()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _play(
    seed: int, plan: Sequence[Fault], path: Path, counts: Counter[str], injected: list[Injector], digest: list[str]
) -> None:
    async with region(seed, path) as here:
        with _paces(any(fault.kind in ROT for fault in plan)):
            random = Random(f"clients of {seed}")
            workload = Workload(here, random, counts)
            try:
                await workload.prepare()
                injector = Injector(here, workload, lambda: _led(here), Growth(here))
                injected.append(injector)
                workload.start()
                await injector.run(plan)
                await injector.end()
                await here.run_for(CALM_S)
                await workload.stop()
                await here.until(lambda: _sound(here), "all damage is found and healed", SOUND_S, 0.5)
                await workload.judge()
                here.check()
            finally:
                groups = {group.partition for node in here.nodes if node.node for group in node.handler.groups}
                counts["leader_changes"] = max(0, here.checks.elections.leaderships - len(groups))
                digest[0] = here.world.digest


def _led(here: Region) -> list[int]:
    """The partitions of which a leader may be meant by a fault."""
    table = here.client.catalog.tables.get(TABLE)
    partitions = [partition.id for partition in table.partitions] if table is not None else []
    return [METADATA_PARTITION, *partitions]


def _sound(here: Region) -> bool:
    """No replica holds damaged rows; reading them tells the node of those that nobody has met yet."""
    for node in here.nodes:
        if not node.rotten or node.node is None:
            continue
        for group in node.handler.groups:
            if group.damaged or not node.reads_well(group.partition):
                return False
    return True


@contextmanager
def _paces(rotten: bool) -> Iterator[None]:
    """Upkeep is a good part of what a run costs: it comes more seldom than in short scenarios. Where damage is to be
    found, replicas are compared within seconds instead of hours."""
    paces: list[tuple[object, str, float]] = [
        (maintenance, "INTERVAL_S", UPKEEP_S),
        (maintenance, "CHECKPOINT_INTERVAL_S", CHECKPOINT_S),
        (duty, "LOOK_MS", FEED_LOOK_MS),
    ]
    if rotten:
        paces += [(scrub, "FIRST_PASS_MS", 2_000), (scrub, "REST_MS", 5_000), (scrub, "RANGE_ROWS", 64)]
    with ExitStack() as stack:
        for module, name, value in paces:
            stack.enter_context(patch.object(module, name, value))
        yield


def _told(error: BaseException) -> str:
    """What was wrong; of what was not expected to be raised also where."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, Violation):
        return text
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return text + "".join(f"\n    {frame.name} in {Path(frame.filename).name}:{frame.lineno}" for frame in frames)
