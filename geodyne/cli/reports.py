"""What a cluster's processes report, merged into one account. Reports are pairs (region, answer of GET /status)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Report = tuple[str, Mapping[str, Any]]


def merge_partitions(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """One entry for each partition.

    A node names the leader only for what it leads itself; of two that claim it the later term counts.
    """
    merged: dict[tuple[str, str, int], dict[str, Any]] = {}
    terms: dict[tuple[str, str, int], int] = {}
    for region, report in reports:
        for partition in report.get("partitions", []):
            key = (region, str(partition.get("table", "")), int(partition.get("id", 0)))
            entry = merged.setdefault(
                key, {"region": region, "table": key[1], "index": "", "id": key[2], "leader": "", "replicas": []}
            )
            entry["index"] = entry["index"] or str(partition.get("index", ""))
            entry["replicas"] = entry["replicas"] or list(partition.get("replicas", []))
            term = int(partition.get("term", 0))
            if partition.get("leader") and term >= terms.get(key, 0):
                entry["leader"] = partition["leader"]
                terms[key] = term
    return [merged[key] for key in sorted(merged)]


def merge_members(reports: Sequence[Report]) -> dict[str, dict[str, Any]]:
    """By region: `members` as the newest catalog has them, `moves` under way, the groups that are `short` of replicas,
    how many replicas are `newcomers`, which do not vote until they have caught up, and how far the nodes' `clocks` are
    off."""
    merged: dict[str, dict[str, Any]] = {}
    revisions: dict[str, int] = {}
    for region, report in reports:
        entry = merged.setdefault(region, {"members": [], "moves": [], "short": [], "newcomers": 0, "clocks": []})
        revision = int(report.get("catalog", {}).get("revision", 0))
        if report.get("members") and revision >= revisions.get(region, -1):
            revisions[region] = revision
            entry["members"] = list(report["members"])
        entry["moves"] += report.get("moves", [])
        entry["short"] = sorted({*entry["short"], *report.get("short", [])})
        if "clock" in report:
            entry["clocks"].append(dict(report["clock"]))
        entry["newcomers"] += int(report.get("newcomers", 0))
    return merged


def merge_watermarks(reports: Sequence[Report], now_us: int) -> list[dict[str, Any]]:
    """Of replicators: one entry for each table and pair of regions. All that the source wrote in the table up to
    `watermark_us` (microseconds since the epoch) is applied in the destination, `behind_s` ago; both None while that is
    not known. `now_us`: of the clock that `behind_s` is told by, which is not the one the source writes by."""
    known: dict[tuple[str, str, str], int] = {}
    for region, report in reports:
        for table, sources in report.get("watermarks", {}).items():
            for source, us in sources.items():
                key = str(table), str(source), region
                known[key] = max(int(us), known.get(key, 0))  # of two replicators each knows what it has heard
    return [
        {
            "table": table,
            "source": source,
            "destination": destination,
            "watermark_us": us or None,
            "behind_s": max(0, now_us - us) / 1e6 if us else None,
        }
        for (table, source, destination), us in sorted(known.items())
    ]


def merge_replication(reports: Sequence[Report]) -> dict[str, list[dict[str, Any]]]:
    """Of replicators: by source region one entry for each destination: whether it is `connected` and why not
    (`reason`), `lag_s` of the oldest change that waits, `held_changes` that lie in its future, and `troubles` by table
    (and partition). Of two replicators of a region the first one counts that is connected."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for region, report in reports:
        for destination, link in report.get("destinations", {}).items():
            entry: dict[str, Any] = {
                "destination": str(destination),
                "connected": bool(link["connected"]),
                "reason": str(link["reason"]),
                "lag_s": float(link["lag_s"]),
                "held_changes": int(link["held_records"]),
                # What a partition stumbled over last is still told when it has long caught up.
                "troubles": dict(link["troubles"]) if link["lag_s"] or link["caught_up"] < link["partitions"] else {},
            }
            for work in report.get("transitions", []):
                if error := work["errors"].get(destination):
                    entry["troubles"][work["table"]] = error
            known = merged.setdefault((region, destination), entry)
            if entry["connected"] and not known["connected"]:
                merged[region, destination] = entry
    by_region: dict[str, list[dict[str, Any]]] = {}
    for region, destination in sorted(merged):
        by_region.setdefault(region, []).append(merged[region, destination])
    return by_region
