"""What is printed when a cluster is ready: only what the reader can do from where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geodyne import topology
from geodyne.cli import announce, launch
from geodyne.cli.reports import Report, merge_replication, merge_watermarks
from geodyne.cli.status import as_text, remarks


def announced(*, detached: bool = False, commands: Path | None = None) -> str:
    cluster = topology.default()
    ports = dict.fromkeys(launch.internal_purposes(cluster), 20000)
    return announce.ready(
        launch.on_loopback(cluster, ports), Path("/d/credentials"), "ID", "SECRET", detached=detached, commands=commands
    )


def test_a_detached_cluster_is_not_said_to_end_with_ctrl_c() -> None:
    assert announced().splitlines()[-1].startswith("Ctrl-C or `geodyne down` stops it")
    assert "Ctrl-C" not in announced(detached=True)
    assert announced(detached=True).splitlines()[-1].startswith("`geodyne down` stops it")


def test_where_the_commands_lie_is_said_when_path_does_not_know_them() -> None:
    assert "  export PATH='/a place/bin':$PATH" in announced(commands=Path("/a place/bin")).splitlines()
    assert "PATH" not in announced()


def test_up_to_when_everything_has_arrived_is_shown_by_table_and_pair_of_regions() -> None:
    reports: list[Report] = [
        ("eu-west-1", {"watermarks": {"t": {"us-east-1": 1_790_000_000_250_000}, "u": {"us-east-1": 0}}}),
        ("us-east-1", {"watermarks": {"t": {"eu-west-1": 1_790_000_003_000_000}}}),
        ("eu-west-1", {"watermarks": {"t": {"us-east-1": 1_790_000_000_000_000}}}),
        ("ap-south-1", {"region": "ap-south-1"}),
    ]
    merged = merge_watermarks(reports, 1_790_000_002_000_000)
    entry = {"table": "t", "source": "us-east-1", "destination": "eu-west-1"}
    assert merged == [
        {"table": "t", "source": "eu-west-1", "destination": "us-east-1", "watermark_us": 1_790_000_003_000_000}
        | {"behind_s": 0.0},
        {**entry, "watermark_us": 1_790_000_000_250_000, "behind_s": 1.75},
        {**entry, "table": "u", "watermark_us": None, "behind_s": None},
    ]
    status = {
        "regions": {},
        "global_endpoint": "",
        "global_processes": [],
        "partitions": [],
        "credentials": "",
        "data_dir": "",
    }
    lines = [" ".join(line.split()) for line in as_text({**status, "watermarks": merged}).splitlines()]
    assert "table from to everything there up to behind" in lines
    assert "t us-east-1 eu-west-1 2026-09-21 14:13:20 UTC 1.8 s" in lines
    assert "u us-east-1 eu-west-1 not known" in lines
    assert not any("everything there" in line for line in as_text({**status, "watermarks": []}).splitlines())


def test_a_partition_without_a_leader_is_shown_as_such() -> None:
    place = {"region": "us-east-1", "table": "t", "index": "i", "id": 1}
    partition = {**place, "leader": "", "replicas": ["us-east-1/node-a"]}
    cluster = {"regions": {}, "global_endpoint": "", "global_processes": [], "credentials": "", "data_dir": ""}
    text = as_text({**cluster, "partitions": [partition]})
    assert any(line.split() == ["us-east-1", "t", "i", "1", "none", "us-east-1/node-a"] for line in text.splitlines())


def link(**what: Any) -> dict[str, Any]:
    """What a replicator tells of a destination that has everything, but for `what`."""
    fine: dict[str, Any] = {"connected": True, "reason": "", "lag_s": 0.0, "held_records": 0, "troubles": {}}
    return {**fine, "partitions": 2, "caught_up": 2, **what}


def held_up(*reports: Report) -> dict[str, list[str]]:
    return {region: remarks({"replication": entries}) for region, entries in merge_replication(reports).items()}


def test_what_keeps_changes_from_another_region_is_told_by_the_region_that_made_them() -> None:
    gone = link(connected=False, reason="no route", lag_s=12.3)
    ahead = link(held_records=40, lag_s=7.0, troubles={"t/1": "from the future"})
    no_table = link(lag_s=2.0, caught_up=0, troubles={"t/2": "table t is not here", "t/1": "table t is not here"})
    assert held_up(("a", {"destinations": {"b": gone, "c": ahead}}), ("b", {"destinations": {"c": no_table}})) == {
        "a": [
            "  replication to b: not connected: no route; 12.3 s behind",
            "  replication to c: 40 changes lie in its future, a clock is wrong; 7.0 s behind",
        ],
        "b": ["  replication to c: table t is not here (t/1, t/2); 2.0 s behind"],
    }


def test_why_a_replica_is_not_made_is_told() -> None:
    work = {"table": "t", "errors": {"b": "there is a table of that name"}}
    report = {"destinations": {"b": link(partitions=0, caught_up=0)}, "transitions": [work]}
    assert held_up(("a", report)) == {"a": ["  replication to b: there is a table of that name (t)"]}


def test_nothing_is_told_of_trouble_that_is_over() -> None:
    over = link(troubles={"t/1": "feed: The request did not complete in time"})
    assert held_up(("a", {"destinations": {"b": over}}), ("b", {})) == {"a": []}


def test_of_two_replicators_of_a_region_the_one_that_is_connected_counts() -> None:
    broken = {"destinations": {"b": link(connected=False, reason="closed")}}
    assert held_up(("a", broken), ("a", {"destinations": {"b": link()}}), ("a", broken)) == {"a": []}
