"""What a campaign says: a line a seed, totals and medians. It depends on the seeds and the sources alone."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from geodyne.sim.run import Outcome


def line_of(outcome: Outcome) -> str:
    faults = ", ".join(f"{kind} {count}" for kind, count in outcome.faults.items()) or "none"
    verdict = "VIOLATION" if outcome.problem else "passed" if outcome.bitten else "not counted"
    return (
        f"seed {outcome.seed}: {verdict}, {outcome.virtual_ms / 1000:.1f} s, {outcome.operations} operations "
        f"({outcome.unknown} unknown), {outcome.leader_changes} leader changes, "
        f"{sum(outcome.faults.values())} faults of {len(outcome.faults)} kinds ({faults}), {outcome.digest}"
    )


class Tally:
    """Totals and medians of the seeds that count."""

    def __init__(self) -> None:
        self.failed: list[int] = []
        self.passed = 0
        self.not_counted: list[int] = []
        self.faults: Counter[str] = Counter()
        self._figures: dict[str, list[float]] = {name: [] for name in FIGURES}

    def add(self, outcome: Outcome) -> None:
        if outcome.problem:
            self.failed.append(outcome.seed)
            return
        if not outcome.bitten:
            self.not_counted.append(outcome.seed)
            return
        self.passed += 1
        self.faults.update(outcome.faults)
        for name, value in figures_of(outcome).items():
            self._figures[name].append(value)

    def medians(self) -> dict[str, float]:
        return {name: round(median(values), 1) if values else 0.0 for name, values in self._figures.items()}

    def totals(self) -> dict[str, float]:
        sums = {name: round(sum(values), 1) for name, values in self._figures.items()}
        return {**sums, KINDS_OF_FAULTS: len(self.faults)}  # most seeds have the same ones

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "failed": self.failed,
            "not_counted": self.not_counted,
            "median": self.medians(),
            "total": self.totals(),
            "faults": dict(sorted(self.faults.items())),
        }

    def lines(self) -> list[str]:
        without = f" {' '.join(map(str, self.not_counted))}" if self.not_counted else ""
        return [
            f"passed: {self.passed}; violations: {len(self.failed)}; "
            f"not counted, for no fault had an effect: {len(self.not_counted)}{without}",
            f"median: {_told(self.medians())}",
            f"total: {_told(self.totals())}",
            f"faults: {', '.join(f'{kind} {count}' for kind, count in sorted(self.faults.items())) or 'none'}",
        ]


KINDS_OF_FAULTS = "kinds of faults"
FIGURES = ("virtual seconds", "operations", "unknown outcomes", "faults", KINDS_OF_FAULTS, "leader changes")


def figures_of(outcome: Outcome) -> dict[str, float]:
    values = (
        outcome.virtual_ms / 1000,
        outcome.operations,
        outcome.unknown,
        sum(outcome.faults.values()),
        len(outcome.faults),
        outcome.leader_changes,
    )
    return dict(zip(FIGURES, values, strict=True))


def _told(figures: dict[str, float]) -> str:
    return ", ".join(f"{value:,.1f} {name}".replace(".0 ", " ") for name, value in figures.items())
