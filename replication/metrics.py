"""What a replicator tells Prometheus: read from the running parts at each scrape, so that nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_LABELS = ("source", "destination")

# Seconds from a write to its application in another region: one way across an ocean up to a long outage.
LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)


class DestinationFigures(NamedTuple):
    """One direction of replication at this instant; `source` is this replicator's region."""

    source: str
    destination: str
    connected: bool
    lag_s: float
    pending_records: int
    held_records: int
    changes: int
    batches: int
    backfill_rows: int
    scans: int
    partitions: int
    caught_up: int  # of the partitions
    bytes_in_flight: int
    encoded_bytes: int
    sent_bytes: int


class AppliedFigures(NamedTuple):
    """What this region took from others since the process started."""

    received: int
    applied: int
    held_batches: int
    failed_batches: int


class ArrivalFigures(NamedTuple):
    """What is known here of what a source wrote: all of it up to `watermark_s`, in Unix time; 0: not known."""

    source: str
    destination: str
    watermark_s: float


class VerifiedFigures(NamedTuple):
    """What comparing with another region found last: the oldest such time over the tables, and the sum."""

    source: str
    destination: str
    verified_s: float
    differing: int


_GAUGES: tuple[tuple[str, str, Callable[[DestinationFigures], float]], ...] = (
    (
        "geodyne_replication_lag_seconds",
        "Age of the oldest change read here and not yet applied there; 0 when there is none.",
        lambda f: f.lag_s,
    ),
    (
        "geodyne_replication_pending_records",
        "Changes read here and not yet applied there; what is still in the feed is not counted.",
        lambda f: f.pending_records,
    ),
    (
        "geodyne_replication_held_changes",
        "Changes that wait because their version lies in the destination's future. Above 0: a clock is wrong.",
        lambda f: f.held_records,
    ),
    (
        "geodyne_replication_connected",
        "1 while the stream to the destination's replicator is up.",
        lambda f: f.connected,
    ),
    (
        "geodyne_replication_bytes_in_flight",
        "Bytes of changes shipped and not yet answered.",
        lambda f: f.bytes_in_flight,
    ),
    (
        "geodyne_replication_backfills",
        "Partition scans to the destination that are under way.",
        lambda f: f.scans,
    ),
)
_COUNTERS: tuple[tuple[str, str, Callable[[DestinationFigures], float]], ...] = (
    (
        "geodyne_replicated_changes_total",
        "Changes that the destination answered as applied or older than its own.",
        lambda f: f.changes,
    ),
    ("geodyne_replicated_batches_total", "Batches of such changes.", lambda f: f.batches),
    (
        "geodyne_replication_backfill_rows_total",
        "Rows that scans have shipped and the destination has answered.",
        lambda f: f.backfill_rows,
    ),
    (
        "geodyne_replication_encoded_bytes_total",
        "Bytes of batches for the destination as they were encoded.",
        lambda f: f.encoded_bytes,
    ),
    (
        "geodyne_replication_sent_bytes_total",
        "Bytes of those batches as they were sent: packed where that saves bytes.",
        lambda f: f.sent_bytes,
    ),
)
_APPLIED: tuple[tuple[str, str, Callable[[AppliedFigures], int]], ...] = (
    ("geodyne_replication_received_changes_total", "Changes that came from other regions.", lambda f: f.received),
    ("geodyne_replication_applied_changes_total", "Those of them that were newer.", lambda f: f.applied),
    (
        "geodyne_replication_held_batches_total",
        "Batches held because they came from the future.",
        lambda f: f.held_batches,
    ),
    ("geodyne_replication_failed_batches_total", "Batches that could not be applied.", lambda f: f.failed_batches),
)


def latency_histogram() -> Histogram:
    """How long changes take to another region; in no registry yet."""
    return Histogram(
        "geodyne_replication_latency_seconds",
        "From the newest write of a batch to the receipt that it is applied.",
        _LABELS,
        buckets=LATENCY_BUCKETS_S,
        registry=None,
    )


class ReplicationCollector(Collector):
    """Register once per process."""

    def __init__(
        self,
        region: str,
        figures: Callable[[], Sequence[DestinationFigures]],
        applied: Callable[[], AppliedFigures],
        arrivals: Callable[[], Sequence[ArrivalFigures]],
        verified: Callable[[], Sequence[VerifiedFigures]] = tuple,
    ) -> None:
        self._region = region
        self._figures = figures
        self._applied = applied
        self._arrivals = arrivals
        self._verified = verified

    def collect(self) -> Iterable[Metric]:
        """All families; called by prometheus_client."""
        figures = self._figures()
        for name, text, value in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=_LABELS)
            for f in figures:
                gauge.add_metric((f.source, f.destination), float(value(f)))
            yield gauge
        for name, text, value in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=_LABELS)
            for f in figures:
                counter.add_metric((f.source, f.destination), float(value(f)))
            yield counter
        watermark = GaugeMetricFamily(
            "geodyne_replication_watermark_seconds",
            "All that the source wrote up to this Unix time is applied in the destination, in every table that both "
            "have; 0: not known yet. Told by the destination.",
            labels=_LABELS,
        )
        for arrival in self._arrivals():
            watermark.add_metric((arrival.source, arrival.destination), arrival.watermark_s)
        yield watermark
        verified_at = GaugeMetricFamily(
            "geodyne_verification_time_seconds",
            "When the table that has waited longest was last compared with its replica there (Unix time).",
            labels=_LABELS,
        )
        differing = GaugeMetricFamily(
            "geodyne_verification_differing_items",
            "Items found to differ when their tables were last compared, less those that were repaired then.",
            labels=_LABELS,
        )
        for source, destination, verified_s, count_differing in self._verified():
            verified_at.add_metric((source, destination), verified_s)
            differing.add_metric((source, destination), count_differing)
        yield verified_at
        yield differing
        applied = self._applied()
        for name, text, count in _APPLIED:
            total = CounterMetricFamily(name, text, labels=("destination",))
            total.add_metric((self._region,), float(count(applied)))
            yield total
