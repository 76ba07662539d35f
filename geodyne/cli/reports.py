"""What the nodes of a cluster report, merged into one account. Reports are pairs (region, answer of GET /status)."""

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
