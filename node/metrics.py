"""What a node tells Prometheus. Observed per batch, never per item; no label grows with users' data."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class NodeMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.leader_partitions = Gauge(
            "geodyne_leader_partitions", "Partitions that this node leads and serves", registry=registry
        )
        self.partitions = Gauge("geodyne_partitions", "Partition replicas on this node", registry=registry)
        self.role_changes = Counter(
            "geodyne_raft_term_changes", "Changes of role or leader over all groups", registry=registry
        )
        self.fsync_seconds = Histogram(
            "geodyne_fsync_seconds", "Time until a log append was durable", buckets=_SECONDS, registry=registry
        )
        self.log_bytes = Gauge("geodyne_log_bytes", "Size of the log's segments on disk", registry=registry)
        self.apply_effects = Counter("geodyne_applied_effects", "Item changes applied to SQLite", registry=registry)
        self.snapshots = Counter(
            "geodyne_snapshots", "Snapshots by direction and result", ["direction", "result"], registry=registry
        )
        self.checkpoints = Counter("geodyne_checkpoints", "Completed checkpoints of the state", registry=registry)
