"""Any sequence of operations is answered as a plain model of the documentation answers it, wherever it is performed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.model import steps as s
from tests.model.generate import FAMILIES, sequence, tables_of
from tests.model.outcomes import Region, Seen
from tests.model.reference import Outcome, Reference
from tests.model.replay import check, difference, shortened

STEPS = 40
SEEDS = 25
SEEDS_OF_THREE_ZONES = 8
FIRST_LONG_SEED = 1_000
SEEDS_LONG = 1_500


@pytest.mark.parametrize("family", FAMILIES)
def test_one_process_answers_as_documented(family: str, single_process: Region) -> None:
    single_process.make_tables(tables_of(family))
    for seed in range(SEEDS):
        check(single_process, family, seed, STEPS)


@pytest.mark.cluster
@pytest.mark.parametrize("family", FAMILIES)
def test_three_zones_answer_as_documented_and_as_one_process_to_the_letter(
    family: str, single_process: Region, three_zones: Region
) -> None:
    for region in (single_process, three_zones):
        region.make_tables(tables_of(family))
    for seed in range(SEEDS_OF_THREE_ZONES):
        texts = [check(region, family, seed, STEPS) for region in (single_process, three_zones)]
        assert texts[0] == texts[1], f"other texts of errors: --family {family} --seed {seed} --steps {STEPS}"


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_one_process_answers_many_sequences_as_documented(family: str, single_process: Region) -> None:
    single_process.make_tables(tables_of(family))
    for seed in range(FIRST_LONG_SEED, FIRST_LONG_SEED + SEEDS_LONG):
        check(single_process, family, seed, STEPS)


class Faulty:
    """Answers as the reference does, but for a fault in what it is asked or in what it answers."""

    def __init__(self, of_step: Callable[[Any], Any], of_outcome: Callable[[s.Step, Outcome], Outcome]) -> None:
        self._of_step, self._of_outcome = of_step, of_outcome
        self._reference = Reference()

    def clear(self, names: set[str]) -> None:
        self._reference = Reference()

    def perform(self, step: s.Step, expected: Outcome) -> Seen:
        return Seen(self._of_outcome(step, self._reference.apply(self._of_step(step))))


def _same(value: Any) -> Any:
    return value


def _unchanged(step: s.Step, outcome: Outcome) -> Outcome:
    return outcome


def _without_condition(step: Any) -> Any:
    return step._replace(condition=None) if isinstance(step, s.Delete) else step


def _forward(step: Any) -> Any:
    return step._replace(backward=False) if isinstance(step, s.Query) else step


def _cheaper(step: s.Step, outcome: Outcome) -> Outcome:
    units = outcome.get("units", {})
    return {**outcome, "units": dict.fromkeys(units, 1.0)} if isinstance(step, s.Get) and units else outcome


FAULTS = {
    "a delete ignores its condition": (_without_condition, _unchanged),
    "a query only goes forward": (_forward, _unchanged),
    "every read costs one unit": (_same, _cheaper),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_shown_in_a_few_steps(fault: str) -> None:
    region = Faulty(*FAULTS[fault])
    found = next(
        steps for seed in range(SEEDS) if difference(region, "items", steps := sequence(seed, "items", STEPS), [])
    )
    steps, _ = shortened(region, "items", found)
    assert len(steps) <= 3


def test_a_sequence_is_the_same_for_the_same_seed() -> None:
    steps = sequence(5, "transactions", STEPS)
    assert sequence(5, "transactions", STEPS) == steps
    assert sequence(6, "transactions", STEPS) != steps
