"""`python -m tests.model --family items --seed 7`: perform generated sequences beside the reference.

On a fresh `geodyne dev`, or on the endpoint named with --endpoint. `--seeds 100` goes on from the seed, up to the first
difference.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.api.service import endpoint
from tests.model.generate import FAMILIES, tables_of
from tests.model.outcomes import Region
from tests.model.replay import check

STEPS = 40


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--family", choices=sorted(FAMILIES), default="items")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--endpoint", help="of a region that checks no signatures; without it one is started")
    arguments = parser.parse_args()
    with _endpoint(arguments.endpoint) as url:
        region = Region(url)
        region.make_tables(tables_of(arguments.family))
        began = time.monotonic()
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            try:
                check(region, arguments.family, seed, arguments.steps)
            except AssertionError as difference:
                print(difference)
                return 1
        seconds = time.monotonic() - began
        print(f"{arguments.seeds} sequences of {arguments.steps} steps in {seconds:.1f} s: no difference")
        region.close()
    return 0


@contextmanager
def _endpoint(named: str | None) -> Iterator[str]:
    if named:
        yield named
        return
    with tempfile.TemporaryDirectory() as folder, endpoint(Path(folder)) as url:
        yield url


if __name__ == "__main__":
    sys.exit(main())
