"""What a node tells Prometheus. Observed per batch, never per item; no label grows with users' data."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

CONSUMER_KINDS = ("replica", "index", "trigger", "kinesis", "other")  # of the change feed
_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class NodeMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._of_feeds_and_expiry(registry)
        self._of_damage_disks_and_clocks(registry)
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
        self.snapshot_chunks = Counter(
            "geodyne_snapshot_chunks",
            "Parts of snapshots that were acknowledged, or taken",
            ["direction"],
            registry=registry,
        )
        self.index_entries = Counter(
            "geodyne_index_entries",
            "Entries that global indexes have taken from partitions led here",
            registry=registry,
        )
        self.index_retries = Counter(
            "geodyne_index_retries", "Times that entries for global indexes had to be sent again", registry=registry
        )
        self.index_lag_seconds = Gauge(
            "geodyne_index_lag_seconds",
            "Age of the oldest change, of the partitions led here, that is on its way to a global index",
            registry=registry,
        )
        self.transactions_recovered = Counter(
            "geodyne_transactions_recovered",
            "Parts of transactions that were brought to an end without their coordinator",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("committed", "cancelled"):
            self.transactions_recovered.labels(outcome)
        self.replicas_moving = Gauge(
            "geodyne_replicas_moving", "Partitions led here whose replicas are on their way", registry=registry
        )
        self.groups_short = Gauge(
            "geodyne_groups_short",
            "Partitions led here that have fewer voters alive than the region has zones for, up to three",
            registry=registry,
        )
        self.newcomers = Gauge(
            "geodyne_newcomers", "Replicas here that count for nothing until they have caught up", registry=registry
        )
        self.checkpoints = Counter("geodyne_checkpoints", "Completed checkpoints of the state", registry=registry)

    def _of_damage_disks_and_clocks(self, registry: CollectorRegistry) -> None:
        self.damage = Counter(
            "geodyne_damage_found",
            "Times that something read from the state or the log was not as written",
            registry=registry,
        )
        self.damaged_replicas = Gauge(
            "geodyne_damaged_replicas", "Replicas here that wait to be healed by their leaders", registry=registry
        )
        self.heals = Counter("geodyne_healed_replicas", "Damaged replicas that a snapshot replaced", registry=registry)
        self.scrubs = Counter(
            "geodyne_scrubs",
            "Ranges of rows whose replicas were compared, by their leader",
            ["result"],
            registry=registry,
        )
        for result in ("equal", "different", "incomplete"):
            self.scrubs.labels(result)
        self.storage_failures = Counter(
            "geodyne_storage_failures",
            "Times that a write or fsync failed and the node started anew from its disk",
            registry=registry,
        )
        self.disk_full = Gauge(
            "geodyne_disk_full", "1 while the node waits for space, or refuses writes to keep some", registry=registry
        )
        self.disk_free_bytes = Gauge(
            "geodyne_disk_free_bytes", "Free space where the node's data lies", registry=registry
        )
        self.clock_offset_seconds = Gauge(
            "geodyne_clock_offset_seconds",
            "This node's wall clock less the median of its region's; 0 while too few of them are known",
            registry=registry,
        )
        self.clock_wrong = Gauge(
            "geodyne_clock_wrong", "1 while the node stands back from leading because of its clock", registry=registry
        )

    def _of_feeds_and_expiry(self, registry: CollectorRegistry) -> None:
        self.ttl_deleted = Counter(
            "geodyne_ttl_deleted_items", "Items that were deleted because their time had come", registry=registry
        )
        self.ttl_overdue_seconds = Gauge(
            "geodyne_ttl_overdue_seconds",
            "For how long the oldest item that has expired, of the partitions led here, has been due",
            registry=registry,
        )
        self.ttl_filling = Gauge(
            "geodyne_ttl_filling", "Replicas here whose index of what expires is not complete yet", registry=registry
        )
        self.feed_lag_seconds = Gauge(
            "geodyne_feed_lag_seconds",
            "Age of the oldest change, of the partitions led here, that a kind of consumer has not passed",
            ["consumer"],
            registry=registry,
        )
        self.feed_lag_bytes = Gauge(
            "geodyne_feed_lag_bytes",
            "Changes of the partitions led here that consumers have not passed, by their kind",
            ["consumer"],
            registry=registry,
        )
        for kind in CONSUMER_KINDS:
            self.feed_lag_seconds.labels(kind)
            self.feed_lag_bytes.labels(kind)
        self.feed_bytes = Gauge("geodyne_feed_bytes", "Changes that the partitions led here retain", registry=registry)
        self.feeds_full = Gauge(
            "geodyne_feeds_full",
            "Partitions led here that refuse writes because global indexes are too far behind",
            registry=registry,
        )
        self.tombstones = Gauge(
            "geodyne_tombstones",
            "Tombstones in partitions led here, as of the last look through each",
            registry=registry,
        )
        self.tombstones_collected = Counter(
            "geodyne_tombstones_collected",
            "Tombstones that went because every region has what they hide",
            registry=registry,
        )
        self.conflicts = Counter(
            "geodyne_conflicts",
            "Writes made here that lost to another region's which had not seen them, in tables that keep conflicts",
            ["lost", "won"],
            registry=registry,
        )
        self.conflicts_dropped = Counter(
            "geodyne_conflicts_dropped", "Records of conflicts that this node could not keep", registry=registry
        )
        self.feed_places_lost = Counter(
            "geodyne_feed_places_lost",
            "Times that the change feed of a partition outgrew its bound before a replica had read it",
            registry=registry,
        )
