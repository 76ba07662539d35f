"""What Kinesis destinations tell Prometheus, read at each scrape: over all destinations of the region."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from delivery.kinesisservice import KinesisReport

_COUNTERS: tuple[tuple[str, str, Callable[[KinesisReport], int]], ...] = (
    ("geodyne_kinesis_records_total", "Changes that data streams have taken.", lambda report: report.delivered),
    ("geodyne_kinesis_throttled_records_total", "Records that data streams put off.", lambda report: report.throttled),
    ("geodyne_kinesis_repeated_records_total", "Records that were sent again.", lambda report: report.repeated),
    ("geodyne_kinesis_failed_records_total", "Changes that will never be taken.", lambda report: report.failed),
    ("geodyne_kinesis_gaps_total", "Times that changes had been trimmed before they were read.", lambda r: r.gaps),
)


class KinesisCollector(Collector):
    """Register once per process. A destination's numbers go when it does: counters may fall then."""

    def __init__(self, reports: Callable[[], Mapping[str, KinesisReport]]) -> None:
        self._reports = reports

    def collect(self) -> Iterable[Metric]:
        """All families; called by prometheus_client."""
        reports = self._reports().values()
        yield GaugeMetricFamily(
            "geodyne_kinesis_destinations", "Kinesis destinations that changes go to.", value=len(reports)
        )
        yield GaugeMetricFamily(
            "geodyne_kinesis_oldest_unreplicated_seconds",
            "Age of the oldest change that was read and that no data stream has; 0 when there is none.",
            value=max((report.age_s for report in reports), default=0.0),
        )
        for name, text, count in _COUNTERS:
            yield CounterMetricFamily(name, text, value=sum(count(report) for report in reports))
