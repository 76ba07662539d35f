"""`geodyne sim`: a region with its clients and its faults on a virtual clock, seed after seed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

from geodyne.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from geodyne.sim.campaign import Progress
    from geodyne.sim.faults import Fault
    from geodyne.sim.run import Outcome

    Subparsers = argparse._SubParsersAction[Any]

SEEDS_MAX = 10_000_000  # of one command
JOBS_MAX = 256
TELL_EVERY_S = 10.0


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "sim",
        help="simulate a region, or several, under faults",
        description="Run a whole region, its clients and its faults in one process on a virtual clock, once for each "
        "seed, and check what must hold. The same seed gives the same run. What is printed depends on the sources and "
        "the seeds alone; times and paths go to standard error.",
        epilog="exit codes: 0 nothing was wrong, 1 a violation (the last line replays it), 2 wrong usage, "
        "130 ended by Ctrl-C (the same command goes on)",
    )
    parser.add_argument(
        "--seeds", metavar="A..B", type=_seeds, required=True, help="which runs, both ends included; or one number"
    )
    parser.add_argument("--jobs", metavar="N", type=_jobs, default=1, help="processes to use (default: 1)")
    parser.add_argument(
        "--global",
        dest="regions",
        action="store_true",
        help="two or three regions that replicate a table to each other, instead of one region",
    )
    parser.add_argument("--plan", metavar="FAULTS", help="with one seed: these faults instead of its own, as printed")
    parser.add_argument("--show-plan", action="store_true", help="print the faults of the seeds and run nothing")
    parser.add_argument(
        "--resume", metavar="FILE", help="where progress is kept (default: a file of its own in the user's cache)"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the progress of an earlier, interrupted command")
    parser.add_argument("--keep-going", action="store_true", help="run the other seeds too when one has failed")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for the fewest faults that still fail")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of text")
    parser.set_defaults(run=run, wrong_usage=parser.error)


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        seeds = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, nor A..B") from None
    if seeds.start < 0 or not 0 < len(seeds) <= SEEDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: from 0 on, at least one and at most {SEEDS_MAX:,} seeds")
    return seeds


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= JOBS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {JOBS_MAX}")
    return int(text)


class _Kind(NamedTuple):
    """What is simulated: the faults of a seed, reading a list of them, a run; and the option that chooses it."""

    draw: Callable[[int], tuple[Fault, ...]]
    plan_of: Callable[[str], tuple[Fault, ...]]
    run_seed: Callable[..., Outcome]
    option: str


def _kind(arguments: argparse.Namespace) -> _Kind:
    if arguments.regions:
        from geodyne.sim import globalfaults, globalrun

        return _Kind(globalfaults.draw, globalfaults.plan_of, globalrun.run_seed, " --global")
    from geodyne.sim import faults, run

    return _Kind(faults.draw, faults.plan_of, run.run_seed, "")


def run(arguments: argparse.Namespace) -> int:
    import os
    import sys

    if arguments.plan is not None and len(arguments.seeds) > 1:
        print("geodyne: --plan goes with one seed", file=sys.stderr)
        return EXIT_USAGE
    kind = _kind(arguments)
    plan = None
    if arguments.plan is not None:
        try:
            plan = kind.plan_of(arguments.plan)
        except ValueError as error:
            arguments.wrong_usage(f"argument --plan: {error}")
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        _run_again()
    if arguments.show_plan:
        return _show(arguments.seeds, kind)
    if plan is not None:
        return _replay(arguments, plan, kind)
    return _campaign(arguments, kind)


HASH_SEED = "0"
EXIT_USAGE = 2


def _run_again() -> None:
    """The order of a set of strings follows from a number that a process draws at its start: fix it."""
    import os
    import sys

    sys.stdout.flush()
    environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
    os.execve(sys.executable, [sys.executable, "-P", "-m", "geodyne.cli", *sys.argv[1:]], environment)  # noqa: S606 - itself


def _show(seeds: range, kind: _Kind) -> int:
    from geodyne.sim.faults import text_of

    for seed in seeds:
        print(f"seed {seed}: {text_of(kind.draw(seed))}")
    return EXIT_OK


def _replay(arguments: argparse.Namespace, plan: tuple[Fault, ...], kind: _Kind) -> int:
    from geodyne.sim.faults import text_of
    from geodyne.sim.report import Tally

    tally = Tally()
    outcome = kind.run_seed(arguments.seeds.start, plan)
    tally.add(outcome)
    _print(arguments, outcome)
    if outcome.problem:
        _print_problem(arguments, outcome, outcome.seed, f"{kind.option} --plan '{text_of(plan)}'")
        return EXIT_FAILED
    return EXIT_OK


def _campaign(arguments: argparse.Namespace, kind: _Kind) -> int:
    import sys
    import time

    from geodyne.sim.campaign import outcomes
    from geodyne.sim.report import Tally

    progress = _progress(arguments)
    tally = Tally()
    first: Outcome | None = None
    began, told, done = time.monotonic(), time.monotonic(), 0

    def tell(seed: int) -> None:
        nonlocal told, done
        done += 1
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            print(f"{done} seeds in {told - began:.0f} s, at {seed}", file=sys.stderr, flush=True)

    finished = False
    try:
        for outcome in outcomes(arguments.seeds, arguments.jobs, progress, tell, kind.run_seed):
            tally.add(outcome)
            _print(arguments, outcome)
            if outcome.problem:
                first = first or outcome
                if not arguments.keep_going:
                    break
        finished = True
    except KeyboardInterrupt:
        print(f"ended; the same command goes on from {progress.path}", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        progress.close(keep=not finished)
    print(f"{done} seeds in {time.monotonic() - began:.1f} s", file=sys.stderr)
    _print_tally(arguments, tally)
    if first is None:
        return EXIT_OK
    _shrink_and_print(arguments, first, kind)
    return EXIT_FAILED


def _progress(arguments: argparse.Namespace) -> Progress:
    import os
    import sys
    from pathlib import Path

    from geodyne.sim.campaign import Progress, fingerprint

    seeds = f"{arguments.seeds.start}..{arguments.seeds.stop - 1}"
    kind = "-global" if arguments.regions else ""
    path: Path
    if arguments.resume:
        path = Path(arguments.resume)
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = cache / "geodyne" / f"sim{kind}-{seeds}.jsonl"
    try:
        if arguments.fresh:
            path.unlink(missing_ok=True)
        progress = Progress(path, f"{fingerprint()}{kind} {seeds}")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}; choose another file with --resume") from None
    print(f"progress: {path}, {len(progress.done)} seeds done", file=sys.stderr)
    return progress


def _shrink_and_print(arguments: argparse.Namespace, outcome: Outcome, kind: _Kind) -> None:
    import sys

    from geodyne.sim.faults import text_of
    from geodyne.sim.shrink import shrink

    seed, options, shown = outcome.seed, kind.option, outcome
    if not arguments.no_shrink:
        plan = kind.draw(seed)
        tries: dict[Sequence[Fault], Outcome] = {}

        def fails(faults: Sequence[Fault]) -> bool:
            print(f"trying {len(faults)} of {len(plan)} faults", file=sys.stderr, flush=True)
            tries[tuple(faults)] = kind.run_seed(seed, faults)
            return bool(tries[tuple(faults)].problem)

        fewest = shrink(plan, fails)
        if fewest in tries:
            shown, options = tries[fewest], f"{kind.option} --plan '{text_of(fewest)}'"
    _print_problem(arguments, shown, seed, options)


# --- output -----------------------------------------------------------------------------------------------------


def _print(arguments: argparse.Namespace, outcome: Outcome) -> None:
    import json

    from geodyne.sim.report import line_of

    print(json.dumps(outcome._asdict()) if arguments.json else line_of(outcome), flush=True)


def _print_tally(arguments: argparse.Namespace, tally: Any) -> None:
    import json

    print(json.dumps(tally.as_json()) if arguments.json else "\n".join(tally.lines()))


def _print_problem(arguments: argparse.Namespace, outcome: Outcome, seed: int, options: str) -> None:
    """The last line is the command that does it again."""
    import json

    replay = f"replay: geodyne sim --seeds {seed}..{seed}{options}"
    if arguments.json:
        print(json.dumps({"seed": seed, "problem": outcome.problem}))
    else:
        print(f"seed {seed}: {outcome.problem}")
    print(replay, flush=True)
