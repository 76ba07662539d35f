"""Many seeds: one after the other or side by side, told in their order, and taken up again where they were left."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import geodyne
from geodyne.sim.run import Outcome, run_seed

RUNS_OF_A_PROCESS = 200  # then another takes its place: whatever a run leaves behind stays bounded
SEEDS_AHEAD_MAX = 4  # of a process that works, beyond the one that is told next
SOURCES = ("geodyne", "node", "router", "replication")


def fingerprint() -> str:
    """Of everything that decides what a seed does: the sources, and the Python that runs them."""
    root = Path(geodyne.__file__).parent.parent
    digest = hashlib.blake2b(sys.version.encode(), digest_size=12)
    for package in SOURCES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class Progress:
    """The outcomes so far, a line each, in a file: what an interrupted campaign goes on from."""

    def __init__(self, path: Path, identity: str) -> None:
        """A file of other sources or other seeds is begun anew. Raises OSError."""
        self.path = path
        self.done: dict[int, Outcome] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        if lines and lines[0] == identity:
            for line in lines[1:]:
                outcome = _decoded(line)
                if outcome is None:
                    break  # the last line of a run that was killed
                self.done[outcome.seed] = outcome
        else:
            lines = []
        self._file = path.open("w", encoding="utf-8")
        self._file.write(identity + "\n")
        for outcome in self.done.values():
            self.note(outcome)

    def note(self, outcome: Outcome) -> None:
        self._file.write(json.dumps(outcome) + "\n")
        self._file.flush()

    def close(self, *, keep: bool) -> None:
        self._file.close()
        if not keep:
            self.path.unlink(missing_ok=True)


def _decoded(line: str) -> Outcome | None:
    try:
        values: list[Any] = json.loads(line)
        return Outcome(*values)
    except (ValueError, TypeError):
        return None


Run = Callable[[int], Outcome]


def outcomes(
    seeds: Iterable[int], jobs: int, progress: Progress, told: Callable[[int], None], run: Run | None = None
) -> Iterator[Outcome]:
    """What each seed came to, in order. `told` hears of every seed that is done, whenever that is. `run`: a function of
    a module, for other processes are to find it; None: that of one region."""
    run = run or run_seed
    wanted = list(seeds)
    missing = [seed for seed in wanted if seed not in progress.done]
    running = _side_by_side(missing, jobs, run) if jobs > 1 else map(run, missing)
    for seed in wanted:
        outcome = progress.done.get(seed)
        if outcome is None:
            outcome = next(running)
            progress.note(outcome)
            told(seed)
        yield outcome


def _side_by_side(seeds: list[int], jobs: int, run: Run) -> Iterator[Outcome]:
    processes = multiprocessing.get_context("spawn")
    with processes.Pool(jobs, _leave_interrupts_alone, maxtasksperchild=RUNS_OF_A_PROCESS) as pool:
        # Not `imap` over all of them: its results would pile up behind a seed that takes long.
        waiting = [pool.apply_async(run, (seed,)) for seed in seeds[: jobs * SEEDS_AHEAD_MAX]]
        begun = len(waiting)
        while waiting:
            outcome = waiting.pop(0).get()
            if begun < len(seeds):
                waiting.append(pool.apply_async(run, (seeds[begun],)))
                begun += 1
            yield outcome


def _leave_interrupts_alone() -> None:
    """Ctrl-C is for the process that tells: it ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
