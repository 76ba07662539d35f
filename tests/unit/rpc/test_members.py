"""What a process learns when its launch file is read again, and what it asks of the region for an operator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from geodyne import topology
from geodyne.cli import launch
from geodyne.errors import ApiError
from geodyne.messages import Answer, Control, ControlDone, Refused, Unknown
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.drive import Reply
from geodyne.rpc.members import Members, member_administration
from geodyne.rpc.nodelink import NodeAddress
from geodyne.settings import ProcessConfig, load, save
from geodyne.topology import Topology

NODES = ("r/node-a", "r/node-b", "r/node-c")


def of(*nodes: str) -> Topology:
    """A region of these nodes, in the zone that ends their name, that began with NODES."""
    shape = topology.parse("[regions.r]")
    founders = {node: node[-1] for node in NODES}
    shape = shape.with_region(shape.regions["r"].with_members({node: node[-1] for node in nodes}, founders))
    addresses = {process.id: f"127.0.0.1:{20_000 + place}" for place, process in enumerate(shape.processes())}
    return shape.resolved(addresses, addresses)


def write(folder: Path, shape: Topology, process_id: str = "r/node-a", cluster: str = "c") -> ProcessConfig:
    options = launch.ClusterOptions(cluster, folder / "credentials", auth=True, capacity="account", log_level="info")
    save(launch.process_config(shape.process(process_id), shape, options, folder), folder / "launch.json")
    return load(folder / "launch.json")


class Told(list[list[str]]):
    async def on_members(self, nodes: Sequence[NodeAddress]) -> None:
        self.append([node.id for node in nodes])


def test_reload_tells_all_nodes_once_when_they_are_others_than_before(tmp_path: Path) -> None:
    async def main() -> None:
        told = Told()
        members = Members(write(tmp_path, of(*NODES)), DelayedLinks())
        assert next(node.address for node in await members.addresses()) == "", "this process needs no way to itself"
        reload = members.admin(told.on_members)["reload"]
        assert await reload({}) == {"nodes": {node: node[-1] for node in NODES}}
        assert told == []
        write(tmp_path, of(*NODES, "r/new-a"))
        await reload({})
        await reload({})
        assert told == [[*NODES, "r/new-a"]]

    asyncio.run(main())


def test_a_launch_file_that_cannot_be_used_changes_nothing_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        told = Told()
        reload = Members(write(tmp_path, of(*NODES)), DelayedLinks()).admin(told.on_members)["reload"]
        for spoil in (
            lambda: write(tmp_path, of(*NODES, "r/new-a"), cluster="other"),
            lambda: write(tmp_path, of(*NODES), process_id="r/node-b"),
            lambda: (tmp_path / "launch.json").write_text("{"),
            (tmp_path / "launch.json").unlink,
        ):
            spoil()
            assert str(tmp_path / "launch.json") in (await reload({}))["error"]
        assert told == []

    asyncio.run(main())


def test_a_change_that_failed_half_way_is_made_by_the_next_reload(tmp_path: Path) -> None:
    async def main() -> None:
        told = Told()

        async def once_in_vain(nodes: Sequence[NodeAddress]) -> None:
            await told.on_members(nodes)
            if len(told) == 1:
                raise OSError("no")

        reload = Members(write(tmp_path, of(*NODES)), DelayedLinks()).admin(once_in_vain)["reload"]
        write(tmp_path, of("r/node-b", "r/node-c", "r/node-a"))
        with pytest.raises(OSError, match="no"):
            await reload({})
        await reload({})
        assert len(told) == 2

    asyncio.run(main())


def test_those_who_may_begin_the_region_stay_the_same_whatever_its_nodes_are(tmp_path: Path) -> None:
    config = write(tmp_path, of("r/node-a", "r/new-b"))
    region = config.topology.regions["r"]
    assert region.founded() == {"r/node-a": "a", "r/node-b": "b", "r/node-c": "c"}
    assert region.members() == {"r/node-a": "a", "r/new-b": "b"}
    assert write(tmp_path, of(*NODES)).topology.regions["r"].founders == {}


class Region:
    def __init__(self, outcome: Answer | ApiError) -> None:
        self.calls: list[Control] = []
        self._outcome = outcome

    def call(self, call: Control, *, timeout_ms: int) -> Reply[Answer]:
        self.calls.append(call)
        reply: Reply[Answer] = Reply()
        if isinstance(self._outcome, ApiError):
            reply.fail(self._outcome)
        else:
            reply.succeed(self._outcome)
        return reply


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [
        (ControlDone(1, {"node": "r/node-a"}), {"result": {"node": "r/node-a"}}),
        (Refused("ValidationException", "drain it first"), {"error": "drain it first"}),
        (Unknown(1, ""), {"error": "the region gave no answer; try again"}),
        (
            ApiError("ServiceUnavailable", "no leader"),
            {"error": "the nodes of the region did not answer: no leader"},
        ),
    ],
)
def test_an_operation_on_nodes_is_answered_with_its_result_or_a_sentence(outcome: Any, answer: dict[str, Any]) -> None:
    region = Region(outcome)
    members = member_administration(region)["members"]
    request = {"operation": "node_drain", "body": {"node": "r/node-a", "force": False}}
    assert asyncio.run(members(request)) == answer  # type: ignore[arg-type]
    assert region.calls == [Control("node_drain", {"node": "r/node-a", "force": False})]


def test_no_other_control_operation_passes() -> None:
    region = Region(ControlDone(1, {}))
    members = member_administration(region)["members"]
    for request in ({"operation": "delete_table", "body": {}}, {"operation": "node_list", "body": 1}, {}):
        assert "error" in asyncio.run(members(request))  # type: ignore[arg-type]
    assert region.calls == []
