"""`python -m geodyne.sim SEED ...` or `python -m tests.sim FROM..TO`: run schedules by their seeds until one fails."""

from __future__ import annotations

import sys
import time
from collections import Counter

from geodyne.sim.schedule import run_schedule


def main(arguments: list[str]) -> None:
    seeds: list[int] = []
    for argument in arguments:
        first, _, last = argument.partition("..")
        seeds += range(int(first), int(last or first) + 1)
    totals: Counter[str] = Counter()
    started = time.monotonic()
    for seed in seeds:
        print(f"seed {seed}", flush=True)
        totals += run_schedule(seed)
    print(f"{len(seeds)} schedules in {time.monotonic() - started:.1f} s: {dict(totals)}")


if __name__ == "__main__":
    main(sys.argv[1:])
