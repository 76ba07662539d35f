"""What delivery tells Prometheus: read from the running parts at each scrape, so that nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from delivery.runner import Figures
from delivery.service import Status

MAPPINGS_NAMED_MAX = 100  # mappings with a label of their own
OTHERS = "other"  # stands for all beyond them

# From a write to the function's answer about it: a quiet mapping takes milliseconds, one that is held up takes hours.
AGE_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 43_200.0, 86_400.0)
BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 10_000)

_GAUGES: tuple[tuple[str, str, Callable[[Status], float]], ...] = (
    (
        "geodyne_trigger_lag_seconds",
        "Age of the oldest change that was read and that no function has taken; 0 when there is none.",
        lambda status: status.lag_s,
    ),
    (
        "geodyne_trigger_pending_records",
        "Changes that were read and have not ended.",
        lambda status: status.pending_records,
    ),
    (
        "geodyne_trigger_partitions",
        "Partitions at which a mapping runs.",
        lambda status: status.partitions,
    ),
)
_COUNTERS: tuple[tuple[str, str, Callable[[Status], int]], ...] = (
    ("geodyne_trigger_invocations_total", "Calls of functions.", lambda status: status.calls),
    (
        "geodyne_trigger_errors_total",
        "Calls that failed, in part or in whole, or did not reach the function.",
        lambda status: status.failed_calls,
    ),
    ("geodyne_trigger_gaps_total", "Times that changes had been trimmed before they were read.", lambda s: s.gaps),
)
_RECORDS: tuple[tuple[str, Callable[[Status], int]], ...] = (
    ("delivered", lambda status: status.delivered),
    ("filtered", lambda status: status.filtered),
    ("sent_to_destination", lambda status: status.kept),
    ("dropped", lambda status: status.discarded - status.kept),
)


class Observations:
    """What is counted as it happens, over all mappings; in no registry yet."""

    def __init__(self) -> None:
        self.age = Histogram(
            "geodyne_trigger_iterator_age_seconds",
            "Age of the newest record of a batch that a function took, when it had taken it.",
            buckets=AGE_BUCKETS_S,
            registry=None,
        )
        self.batch = Histogram(
            "geodyne_trigger_batch_records", "Records of a call.", buckets=BATCH_BUCKETS, registry=None
        )

    def figures(self) -> Figures:
        """The figures of a mapping, observed."""
        return Figures(on_batch=self.batch.observe, on_age=self.age.observe)


class DeliveryCollector(Collector):
    """Register once per process. The first mappings seen keep labels of their own for as long as they run."""

    def __init__(self, statuses: Callable[[], Mapping[str, Status]]) -> None:
        self._statuses = statuses
        self._named: set[str] = set()

    def collect(self) -> Iterable[Metric]:
        """All families; called by prometheus_client."""
        groups = self._groups()
        for name, text, value in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=("mapping",))
            for label, members in groups.items():
                # The worst of the others: a sum of ages would say nothing.
                gauge.add_metric((label,), max(float(value(status)) for status in members))
            yield gauge
        for name, text, count in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=("mapping",))
            for label, members in groups.items():
                counter.add_metric((label,), sum(count(status) for status in members))
            yield counter
        records = CounterMetricFamily(
            "geodyne_trigger_records_total", "Changes that have ended, by how.", labels=("mapping", "outcome")
        )
        for label, members in groups.items():
            for outcome, count in _RECORDS:
                records.add_metric((label, outcome), sum(count(status) for status in members))
        yield records

    def _groups(self) -> dict[str, list[Status]]:
        statuses = self._statuses()
        self._named &= statuses.keys()
        groups: dict[str, list[Status]] = {}
        for uuid, status in statuses.items():
            if uuid not in self._named and len(self._named) < MAPPINGS_NAMED_MAX:
                self._named.add(uuid)
            groups.setdefault(uuid if uuid in self._named else OTHERS, []).append(status)
        return groups
