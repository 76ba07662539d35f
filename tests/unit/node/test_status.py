"""What a node tells `geodyne status`: every replica it holds, and the leader only where it is itself."""

from __future__ import annotations

from pathlib import Path

from geodyne.sim.scene import Scene, play


def test_every_replica_is_told_and_the_leader_only_by_itself(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        told = {}
        for node in scene.here.nodes:
            assert node.node is not None
            entries = {entry["id"]: entry for entry in node.node.status()["partitions"]}
            assert set(entries) == set(scene.partitions)
            told[node.id] = entries[scene.partition]
        assert {name for name, entry in told.items() if entry["leader"]} == {scene.leader.id}
        assert told[scene.leader.id]["leader"] == scene.leader.id
        assert len({entry["term"] for entry in told.values()}) == 1

    play(tmp_path, scenario)
