"""What is printed when a cluster is ready: only what the reader can do from where they are."""

from __future__ import annotations

from pathlib import Path

from geodyne import topology
from geodyne.cli import announce, launch
from geodyne.cli.status import as_text


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


def test_a_partition_without_a_leader_is_shown_as_such() -> None:
    place = {"region": "us-east-1", "table": "t", "index": "i", "id": 1}
    partition = {**place, "leader": "", "replicas": ["us-east-1/node-a"]}
    cluster = {"regions": {}, "global_endpoint": "", "global_processes": [], "credentials": "", "data_dir": ""}
    text = as_text({**cluster, "partitions": [partition]})
    assert any(line.split() == ["us-east-1", "t", "i", "1", "none", "us-east-1/node-a"] for line in text.splitlines())
