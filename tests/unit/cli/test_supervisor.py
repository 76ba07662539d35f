"""The supervisor with stand-ins for the processes: start, restart, stop in order, what it tells."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli import child, detach, node, orphans, reports, status, supervisor
from geodyne.cli.__main__ import main
from geodyne.cli.datadir import ClusterDirectory

FAKE_CLUSTER = Path(__file__).with_name("fake_cluster.py")
FAKE_PROCESS = Path(__file__).with_name("fake_process.py")
REPOSITORY = Path(__file__).parents[3]
TOPOLOGY = '[regions.r]\nport = 0\nzones = ["a"]\n'
WAIT_SECONDS_MAX = 20.0


class Cluster:
    """A supervisor under test in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.output = folder / "output.txt"
        (folder / "topology.toml").write_text(TOPOLOGY)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        arguments = ["up", "--topology", str(self.folder / "topology.toml"), "--data-dir", str(self.data_dir)]
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(FAKE_CLUSTER), *arguments],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        return self.process

    def start_and_wait(self) -> None:
        self.start()
        wait_until(lambda: "is ready." in self.text())

    def text(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(WAIT_SECONDS_MAX)

    def run(self) -> dict[str, Any]:
        run = ClusterDirectory(self.data_dir).read_run()
        assert run is not None
        return run

    def pids(self) -> dict[str, int]:
        return {entry["id"]: entry["pid"] for entry in self.run()["processes"]}

    def launch_sibling(self, process_id: str, suffix: str) -> Path:
        file = (self.data_dir / "run" / process_id).with_suffix(suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def order(self) -> list[str]:
        return (self.data_dir / "order.txt").read_text().split()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    return orphans.runs(pid, str(FAKE_PROCESS))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Cluster(tmp_path)
    yield made
    left = ClusterDirectory(made.data_dir).read_run()
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()
    for entry in (left or {}).get("processes", []):
        if entry["pid"] is not None and runs(entry["pid"]):
            os.kill(entry["pid"], signal.SIGKILL)


@pytest.mark.cluster
def test_status_stop_start_and_down_of_the_one_running_cluster(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.start_and_wait()
    assert main(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    processes = {process["id"]: process for process in status["regions"]["r"]["processes"]}
    assert set(processes) == {"r/node-a", "r/router-1", "r/replicator-1", "r/delivery-1"}
    assert set(processes["r/node-a"]) >= {"id", "role", "zone", "pid", "address", "metrics", "state"}
    assert {process["state"] for process in processes.values()} == {"running"}
    assert status["regions"]["r"]["endpoint"] == f"http://{processes['r/router-1']['address']}"
    assert status["partitions"] == [
        {"region": "r", "table": "t", "index": "", "id": 1, "leader": "r/node-a", "replicas": ["r/node-a"]}
    ]
    assert status["global_endpoint"].startswith("http://127.0.0.1:")
    assert status["credentials"] == str(cluster.data_dir / "credentials")
    assert Path(status["credentials"]).stat().st_mode & 0o077 == 0

    assert main(["stop", "r/node-a"]) == 0
    assert not runs(processes["r/node-a"]["pid"])
    capsys.readouterr()
    assert main(["status"]) == 0
    assert "stopped" in capsys.readouterr().out
    assert main(["start", "r/node-a"]) == 0
    assert cluster.pids()["r/node-a"] not in {None, processes["r/node-a"]["pid"]}
    assert main(["stop", "r/nobody"]) == 1
    assert "there is no process r/nobody" in capsys.readouterr().err

    assert main(["down"]) == 0
    assert cluster.wait() == 0
    assert cluster.order()[-1] == "r/node-a"
    assert main(["status"]) == 1
    assert "no cluster is running" in capsys.readouterr().err


@pytest.mark.cluster
def test_starting_a_process_that_cannot_start_fails_soon_with_its_last_words(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.start_and_wait()
    assert main(["stop", "r/node-a"]) == 0
    cluster.launch_sibling("r/node-a", ".fail").touch()
    began = time.monotonic()
    assert main(["start", "r/node-a"]) == 1
    assert time.monotonic() - began < supervisor.READY_AGAIN_SECONDS_MAX / 2
    told = capsys.readouterr().err
    assert "r/node-a ended with exit code 1 3 times before it was ready; last log line: the disk is on fire" in told


@pytest.mark.cluster
def test_a_process_that_dies_is_started_again_visibly(cluster: Cluster) -> None:
    cluster.start_and_wait()
    before = cluster.pids()["r/router-1"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: "r/router-1 is ready again" in cluster.text())
    assert "r/router-1 was ended by SIGKILL; starting it again in 0.2 s" in cluster.text()
    assert cluster.pids()["r/router-1"] != before
    assert main(["down"]) == 0


@pytest.mark.cluster
def test_a_restart_of_a_region_replaces_its_processes_in_order_and_a_router_only_by_one_that_serves(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.start_and_wait()
    before = cluster.pids()
    assert main(["restart", "r"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        [line.split()[0] for line in lines]
        == ["r/node-a", "r/replicator-1", "r/delivery-1", "r/router-1"]
        == cluster.order()
    )
    after = cluster.pids()
    assert after["global/router-1"] == before["global/router-1"]
    for process_id in cluster.order():
        assert not runs(before[process_id])
        assert runs(after[process_id])

    cluster.launch_sibling("r/router-1", ".fail").touch()
    assert main(["restart", "r", "--role", "router"]) == 1
    assert "r/router-1 was not replaced" in capsys.readouterr().err
    assert cluster.pids()["r/router-1"] == after["r/router-1"]
    assert runs(after["r/router-1"])
    cluster.launch_sibling("r/router-1", ".fail").unlink()

    assert main(["restart", "r/router-1", "--json"]) == 0
    (restarted,) = json.loads(capsys.readouterr().out)["restarted"]
    assert (restarted["id"], restarted["pid_before"]) == ("r/router-1", after["r/router-1"])
    assert restarted["pid"] == cluster.pids()["r/router-1"]
    assert main(["stop", "r/router-1"]) == 0
    assert main(["restart", "r/router-1"]) == 1
    assert "r/router-1 is stopped" in capsys.readouterr().err
    assert main(["down"]) == 0


@pytest.mark.cluster
def test_the_port_of_a_router_that_dies_stays_open_and_that_of_a_stopped_one_does_not(cluster: Cluster) -> None:
    cluster.start_and_wait()
    assert main(["status"]) == 0
    launch_file = json.loads((cluster.data_dir / "run" / "r" / "router-1.json").read_text())
    address = (launch_file["listen"]["host"], launch_file["listen"]["port"])
    before = cluster.pids()["r/router-1"]
    os.kill(before, signal.SIGKILL)
    socket.create_connection(address, WAIT_SECONDS_MAX).close()
    wait_until(lambda: "r/router-1 is ready again" in cluster.text())
    assert main(["stop", "r/router-1"]) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, WAIT_SECONDS_MAX)
    assert main(["start", "r/router-1"]) == 0
    socket.create_connection(address, WAIT_SECONDS_MAX).close()
    assert main(["down"]) == 0


@pytest.mark.cluster
def test_a_router_that_leaves_unasked_is_replaced_without_a_wait(cluster: Cluster) -> None:
    cluster.start_and_wait()
    before = cluster.pids()["r/router-1"]
    os.kill(before, signal.SIGTERM)
    wait_until(lambda: "r/router-1 is ready again" in cluster.text())
    assert "r/router-1 is leaving; starting another one in its place" in cluster.text()
    assert not runs(before)
    assert main(["down"]) == 0


@pytest.mark.cluster
def test_a_router_that_leaves_unasked_goes_on_until_another_one_serves_in_its_place(cluster: Cluster) -> None:
    cluster.launch_sibling("r/router-1", ".patient").touch()
    cluster.start_and_wait()
    before = cluster.pids()["r/router-1"]
    os.kill(before, signal.SIGTERM)
    wait_until(lambda: cluster.pids()["r/router-1"] not in {None, before} and not runs(before))
    assert "r/router-1 is leaving; starting another one in its place" in cluster.text()
    assert "starting it again" not in cluster.text()
    assert main(["restart", "r/router-1"]) == 0, "one that is asked to leave is told once more at once"
    assert main(["down"]) == 0
    assert cluster.wait() == 0


@pytest.mark.cluster
def test_a_router_whose_successor_cannot_start_leaves_and_is_started_again_later(cluster: Cluster) -> None:
    cluster.launch_sibling("r/router-1", ".patient").touch()
    cluster.start_and_wait()
    before = cluster.pids()["r/router-1"]
    cluster.launch_sibling("r/router-1", ".fail").touch()
    os.kill(before, signal.SIGTERM)
    wait_until(lambda: "r/router-1 was not replaced" in cluster.text() and not runs(before))
    cluster.launch_sibling("r/router-1", ".fail").unlink()
    wait_until(lambda: "r/router-1 is ready again" in cluster.text())
    assert main(["down"]) == 0


@pytest.mark.cluster
def test_an_added_node_is_kept_over_restarts_and_a_removed_one_stays_away_but_its_data_do_not(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "POLL_SECONDS", 0.02)
    cluster.start_and_wait()
    before = cluster.pids()
    assert main(["node", "add", "--zone", "a", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["node"] == "r/node-a-2"
    assert "r/node-a-2 is starting" in shown.err
    assert {**cluster.pids(), **before} == cluster.pids(), "nobody was restarted"
    told = (cluster.data_dir / "reloads.txt").read_text().split()
    assert set(told) >= {"r/node-a", "r/router-1", "r/replicator-1", "r/delivery-1"}
    assert main(["node", "remove", "r/node-a"]) == 1
    assert "drain it first" in capsys.readouterr().err
    assert main(["node", "drain", "r/node-a"]) == 0
    assert main(["node", "activate", "r/node-a"]) == 0
    assert main(["node", "drain", "r/node-a", "--no-wait"]) == 0
    assert main(["node", "remove", "r/node-a"]) == 0
    assert f"its data directory stays: {cluster.data_dir / 'nodes/r/node-a'}" in capsys.readouterr().out
    assert not runs(before["r/node-a"])
    assert (cluster.data_dir / "nodes/r/node-a").is_dir()
    assert main(["node", "list"]) == 0
    listed = capsys.readouterr().out
    assert "r/node-a-2" in listed
    assert "r/node-a " not in listed
    assert main(["node", "remove", "r/node-a-2", "--force"]) == 1
    assert "is the only node of r" in capsys.readouterr().err
    assert main(["down"]) == 0
    assert cluster.wait() == 0

    cluster.output.unlink()
    cluster.start_and_wait()
    assert "r/node-a-2 was added, r/node-a was removed" in cluster.text()
    assert set(cluster.pids()) == {"r/node-a-2", "r/router-1", "r/replicator-1", "r/delivery-1", "global/router-1"}
    assert main(["node", "add", "--zone", "a", "--name", "node-a"]) == 1
    assert "was the name of a node that was removed" in capsys.readouterr().err
    assert main(["down"]) == 0


@pytest.mark.cluster
def test_without_a_router_or_replicator_nodes_are_listed_and_not_changed(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.start_and_wait()
    for process in ("r/router-1", "r/replicator-1"):
        assert main(["stop", process]) == 0
    capsys.readouterr()
    assert main(["node", "list"]) == 0
    assert "no router or replicator of r answers" in capsys.readouterr().out
    assert main(["node", "drain", "r/node-a"]) == 1
    assert "no router or replicator of r answers" in capsys.readouterr().err
    assert main(["down"]) == 0


@pytest.mark.cluster
def test_ctrl_c_stops_takers_of_requests_before_nodes_and_exits_130(cluster: Cluster) -> None:
    cluster.start_and_wait()
    pids = cluster.pids()
    assert cluster.process is not None
    cluster.process.send_signal(signal.SIGINT)
    assert cluster.wait() == 130
    assert set(cluster.order()[:-1]) == {"global/router-1", "r/router-1", "r/replicator-1", "r/delivery-1"}
    assert cluster.order()[-1] == "r/node-a"
    assert not any(runs(pid) for pid in pids.values())
    assert ClusterDirectory(cluster.data_dir).read_run() is None


@pytest.mark.cluster
def test_a_second_signal_kills_what_does_not_stop(cluster: Cluster) -> None:
    cluster.launch_sibling("r/node-a", ".deaf").touch()
    cluster.start_and_wait()
    node = cluster.pids()["r/node-a"]
    assert cluster.process is not None
    cluster.process.send_signal(signal.SIGTERM)
    wait_until(lambda: len(cluster.order()) == 4 if (cluster.data_dir / "order.txt").exists() else False)
    cluster.process.send_signal(signal.SIGTERM)
    assert cluster.wait() == 0
    assert "r/node-a does not stop; killing it" in cluster.text()
    assert not runs(node)


@pytest.mark.cluster
def test_a_process_that_cannot_start_fails_the_cluster_with_its_last_words(cluster: Cluster) -> None:
    cluster.launch_sibling("r/node-a", ".fail").touch()
    cluster.start()
    assert cluster.wait() == 1
    last = cluster.text().splitlines()[-1]
    assert "r/node-a ended with exit code 1 3 times before it was ready" in last
    assert last.endswith("the disk is on fire")
    assert "Traceback" not in cluster.text()
    assert not ClusterDirectory(cluster.data_dir).is_in_use()


@pytest.mark.cluster
def test_what_a_killed_supervisor_left_behind_is_ended_by_the_next_one(cluster: Cluster) -> None:
    cluster.start_and_wait()
    assert cluster.process is not None
    left = cluster.pids()
    cluster.process.kill()
    cluster.wait()
    assert all(runs(pid) for pid in left.values())
    cluster.output.unlink()
    cluster.start_and_wait()
    assert "ended 5 processes that an earlier supervisor had left behind" in cluster.text()
    assert not set(left.values()) & set(cluster.pids().values())
    assert main(["down"]) == 0


@pytest.mark.cluster
def test_down_ends_the_processes_of_a_killed_supervisor(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.start_and_wait()
    assert cluster.process is not None
    left = cluster.pids()
    cluster.process.kill()
    cluster.wait()
    assert main(["down"]) == 0
    assert "ended 5 processes" in capsys.readouterr().out
    wait_until(lambda: not any(runs(pid) for pid in left.values()))


@pytest.mark.cluster
def test_a_detached_start_returns_when_ready_and_leaves_no_descriptor_open(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detach, "SUPERVISOR", (sys.executable, "-P", str(FAKE_CLUSTER)))
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    arguments = ["up", "--detach", "--topology", str(cluster.folder / "topology.toml")]
    assert main([*arguments, "--data-dir", str(cluster.data_dir)]) == 0
    assert cluster.run()["phase"] == "ready"
    os.close(writer)
    assert os.read(reader, 1) == b"", "someone still holds the other end"
    os.close(reader)
    assert main([*arguments, "--data-dir", str(cluster.data_dir)]) == 1
    assert main(["down"]) == 0


def test_waiting_doubles_up_to_a_bound_and_begins_afresh_after_a_steady_run() -> None:
    backoff = child.Backoff()
    waits = [backoff.after_run(1.0) for _ in range(7)]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.after_run(child.STEADY_SECONDS) == 0.2


def test_of_two_claimed_leaders_the_one_with_the_later_term_is_shown() -> None:
    def report(leader: str, term: int) -> dict[str, Any]:
        return {"partitions": [{"table": "t", "id": 2, "leader": leader, "replicas": ["a", "b"], "term": term}]}

    merged = reports.merge_partitions([("r", report("a", 5)), ("r", report("b", 4)), ("r", {}), ("s", report("", 0))])
    assert [(p["region"], p["id"], p["leader"]) for p in merged] == [("r", 2, "a"), ("s", 2, "")]


def test_members_are_those_of_the_newest_catalog_and_moves_those_of_all_leaders() -> None:
    def report(revision: int, state: str, moves: list[int], short: list[int], newcomers: int) -> dict[str, Any]:
        members = [{"node": "r/node-a", "zone": "a", "state": state, "replicas": 2, "joining": 0}]
        described = [{"partition": id_, "voters": ["x"], "target": ["y", "z"], "waits_for": "z"} for id_ in moves]
        return {
            "catalog": {"revision": revision},
            "members": members,
            "moves": described,
            "short": short,
            "newcomers": newcomers,
        }

    merged = reports.merge_members(
        [("r", report(7, "DRAINING", [1], [3], 1)), ("r", report(6, "ACTIVE", [2], [3, 4], 1)), ("s", {})]
    )
    assert [member["state"] for member in merged["r"]["members"]] == ["DRAINING"]
    assert [move["partition"] for move in merged["r"]["moves"]] == [1, 2]
    assert merged["r"]["short"] == [3, 4]
    assert merged["s"] == {"members": [], "moves": [], "short": [], "newcomers": 0, "clocks": []}
    shown = status.remarks(merged["r"])
    assert [line.strip() for line in shown] == [
        "r/node-a is DRAINING, 2 replicas left",
        "partition 1 moves to y z, waits for z",
        "partition 2 moves to y z, waits for z",
        "2 groups run with a replica less: partitions 3, 4",
        "2 replicas are being rebuilt and do not vote yet",
    ]
    assert status.remarks(merged["s"]) == []
    assert status.leaderless([{"id": 3, "leader": "x"}, {"id": 4, "leader": ""}]) == [
        "  1 groups have no leader: partitions 4"
    ]
    (many,) = status.remarks({"short": list(range(167))})
    assert many.endswith("167 groups run with a replica less: partitions 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...")
