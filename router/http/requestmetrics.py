"""Counts and latencies of requests, by operation and outcome.

prometheus_client's own counters take a lock and walk all buckets for each observation (4 µs a request for one of
each); these are plain numbers, touched by the loop's thread only, and become samples when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SUCCESS = "OK"


class OperationMetrics:
    """One operation's numbers. `codes` has an entry for each error code seen: the catalogue bounds it."""

    __slots__ = ("buckets", "codes", "name", "seconds")

    def __init__(self, name: str) -> None:
        self.name = name
        self.codes: dict[str, int] = {SUCCESS: 0}
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.seconds = 0.0

    def observe(self, code: str, seconds: float) -> None:
        codes = self.codes
        codes[code] = codes.get(code, 0) + 1
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self.seconds += seconds


class RequestMetrics(Collector):
    """`geodyne_requests_total{operation,code}`, `geodyne_request_seconds{operation}`, `geodyne_requests_in_flight`."""

    def __init__(self, operations: Iterable[str]) -> None:
        self.operations = {name: OperationMetrics(name) for name in operations}
        self.unknown = OperationMetrics("Unknown")  # requests that never got as far as naming one
        self.in_flight = 0

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "geodyne_requests", "Requests answered, by operation and error code.", labels=("operation", "code")
        )
        seconds = HistogramMetricFamily(
            "geodyne_request_seconds", "Time from the last byte of a request to its answer.", labels=("operation",)
        )
        for operation in (*self.operations.values(), self.unknown):
            total = sum(operation.buckets)
            if not total:
                continue
            for code, count in operation.codes.items():
                requests.add_metric((operation.name, code), count)
            below, buckets = 0, []
            for bound, count in zip(BUCKETS_S, operation.buckets, strict=False):
                below += count
                buckets.append((str(bound), float(below)))
            buckets.append(("+Inf", float(total)))
            seconds.add_metric((operation.name,), buckets, operation.seconds)
        yield requests
        yield seconds
        yield GaugeMetricFamily("geodyne_requests_in_flight", "Requests being served.", self.in_flight)
