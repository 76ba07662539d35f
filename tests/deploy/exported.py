"""What the processes of a cluster really export, by asking their own collectors: series and their labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, cast

from prometheus_client import CollectorRegistry, ProcessCollector

from delivery.kinesismetrics import KinesisCollector
from delivery.metrics import DeliveryCollector, Observations
from delivery.service import Status
from geodyne.rpc.faults import PROCESS_FAULTS
from node.metrics import NodeMetrics
from replication.metrics import (
    AppliedFigures,
    ArrivalFigures,
    DestinationFigures,
    ReplicationCollector,
    VerifiedFigures,
    latency_histogram,
)
from router.geo import Geography
from router.globalrole import GlobalEndpoint
from router.healthcheck import HealthCheck, Region
from router.http.requestmetrics import RequestMetrics

# Given by deploy/prometheus.yml and by Prometheus itself, so that no process may use them.
TARGET_LABELS = frozenset({"region", "role", "instance", "job"})
COUNTED = ("_total", "_bucket", "_count", "_sum")

Exported = Mapping[str, frozenset[str]]


def exported_series() -> dict[str, frozenset[str]]:
    """Name of each series, as Prometheus sees it, and the labels that a process gives it."""
    series: dict[str, frozenset[str]] = {"up": frozenset()}
    for metric in _registry().collect():
        for sample in metric.samples:
            if not sample.name.endswith("_created"):
                series[sample.name] = frozenset(sample.labels)
    return series


def _registry() -> CollectorRegistry:
    """The collectors of nodes, routers, replicators, delivery and the global endpoint, each with something to tell."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(PROCESS_FAULTS)
    metrics = NodeMetrics(registry)
    metrics.snapshots.labels("sent", "ok").inc()
    metrics.snapshot_chunks.labels("sent").inc()
    metrics.conflicts.labels("here", "there").inc()
    requests = RequestMetrics(["PutItem"])
    requests.operations["PutItem"].observe("OK", 0.001)
    registry.register(requests)
    registry.register(HealthCheck(cast(Region, None), "router"))  # its counts need no region
    latency = latency_histogram()
    latency.labels("here", "there").observe(0.1)
    registry.register(latency)
    direction = DestinationFigures("here", "there", True, 0.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    arrival = ArrivalFigures("there", "here", 0.0)
    verified = VerifiedFigures("here", "there", 0.0, 0)
    applied = AppliedFigures(0, 0, 0, 0)
    registry.register(
        ReplicationCollector("here", lambda: [direction], lambda: applied, lambda: [arrival], lambda: [verified])
    )
    observations = Observations()
    registry.register(observations.age)
    registry.register(observations.batch)
    mapping = Status("OK", "", 1, 0, 0.0, 0, 0, 0, 0, 0, 0, 0)
    registry.register(DeliveryCollector(lambda: {"mapping": mapping}))
    registry.register(KinesisCollector(dict))
    near = Geography(("here", "there"), {frozenset(("here", "there")): 1.0}, home="here")
    registry.register(GlobalEndpoint(near, {"here": ("127.0.0.1", 1)}, credential=None, wall_s=lambda: 0.0))
    return registry


class Selector(NamedTuple):
    """A series in an expression, the labels that it is selected by, and whether its rate is taken."""

    series: str
    labels: frozenset[str]
    rated: bool


def selectors(expression: str) -> list[Selector]:
    """The series of an expression: all of ours are named geodyne_, process_ or up."""
    found = re.finditer(
        r"(rate\()?\b((?:geodyne|process)_[a-z_]+|up)\b(?:\{([^}]*)\})?", _without_groupings(expression)
    )
    return [
        Selector(match[2], frozenset(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", match[3] or "")), bool(match[1]))
        for match in found
    ]


def result_labels(expression: str, exported: Exported) -> frozenset[str]:
    """The labels of what an expression gives: those of its outermost grouping, or of its series."""
    if groupings := re.findall(r"\bby \(([^)]*)\)", expression):
        return frozenset.intersection(*(frozenset(re.split(r",\s*", group)) for group in groupings)) - {"le"}
    known = [exported.get(selector.series, frozenset()) for selector in selectors(expression)]
    return frozenset.intersection(*known) | TARGET_LABELS if known else frozenset()


def problems(expression: str, shown: frozenset[str], exported: Exported) -> list[str]:
    """Why an expression would give nothing, or a legend that uses the labels `shown` would have a gap."""
    found = [] if selectors(expression) else ["no series of this cluster"]
    for selector in selectors(expression):
        if selector.series not in exported:
            found.append(f"no process exports {selector.series}")
            continue
        labels = exported[selector.series] | TARGET_LABELS
        groups = re.findall(r"\bby \(([^)]*)\)", expression)
        used = selector.labels.union(*(re.split(r",\s*", group) for group in groups))
        found += [f"{selector.series} has no label {label}" for label in sorted(used - labels)]
        if selector.rated != selector.series.endswith(COUNTED):
            found.append(f"{selector.series}: rates are of counters, and counters are shown as rates")
    return found + [f"the result has no label {name}" for name in sorted(shown - result_labels(expression, exported))]


def _without_groupings(expression: str) -> str:
    return re.sub(r"\bby \([^)]*\)", "", expression)
