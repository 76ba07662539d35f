"""What ReturnItemCollectionMetrics=SIZE adds to the answer of a write to a table with local indexes."""

from __future__ import annotations

from typing import Any

import orjson

from geodyne.messages import Item, Written
from router.api.tablerecords import Table

_GB = 1024**3

Metrics = dict[str, Any]


def wants_metrics(body: dict[str, Any], table: Table) -> bool:
    """Whether to answer with metrics: a table without local indexes has no item collections."""
    return bool(table.local_indexes) and body.get("ReturnItemCollectionMetrics") == "SIZE"


def collection_metrics(table: Table, key: Item, written: Written) -> Metrics | None:
    """The item collection that a write went to and its size, between two whole numbers of GB; None when the node did
    not say it. `key` holds at least the partition key."""
    if written.collection_bytes < 0:
        return None
    low = written.collection_bytes // _GB
    name = table.record.hash_key
    return {"ItemCollectionKey": {name: key[name]}, "SizeEstimateRangeGB": [float(low), float(low + 1)]}


def metrics_member(metrics: Metrics | None) -> bytes:
    return b"" if metrics is None else b'"ItemCollectionMetrics":' + orjson.dumps(metrics)
