"""`python -m tests.fuzz`: send spoilt requests until a rule is broken or time is up.

To a `geodyne dev` of its own, whose CPU time and memory are watched too, or to an endpoint that is there already.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.fuzz.fuzzing import REGION, run, running_service, service

SECONDS_DEFAULT = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, help=f"how long (default: {SECONDS_DEFAULT:.0f}, unless --cases is given)"
    )
    parser.add_argument("--cases", type=int, help="how many")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="default: a random one, printed")
    parser.add_argument("--start", type=int, default=0, help="the number of the first case")
    parser.add_argument("--endpoint", help="the URL of a service that runs already (needs --credentials)")
    parser.add_argument("--credentials", type=Path, help="the file with its key pairs")
    parser.add_argument("--region", default=REGION, help=f"its region (default: {REGION})")
    arguments = parser.parse_args()
    if (arguments.endpoint is None) != (arguments.credentials is None):
        parser.error("--endpoint and --credentials go together")
    seconds = SECONDS_DEFAULT if arguments.seconds is None and arguments.cases is None else arguments.seconds
    print(f"seed {arguments.seed}", flush=True)
    with ExitStack() as stack:
        if arguments.endpoint is None:
            running = stack.enter_context(service(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        else:
            running = stack.enter_context(running_service(arguments.endpoint, arguments.credentials, arguments.region))
        outcome = run(running, arguments.seed, start=arguments.start, cases=arguments.cases, seconds=seconds)
    answers = ", ".join(f"{name} {count}" for name, count in outcome.answers.most_common())
    print(f"{outcome.cases} cases; answers: {answers}")
    cpu_s, number = outcome.cpu_s_most
    print(f"most CPU time: {cpu_s:.2f} s, case {number}; most memory: {outcome.peak_megabytes} MB")
    if outcome.failure is not None:
        print(outcome.failure)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
