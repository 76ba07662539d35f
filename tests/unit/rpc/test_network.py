"""What one process makes of the state of the network: paths are shaped and cut, and what has a duration ends here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from geodyne.network import Cut, LinkQuality, NetworkState, Pause
from geodyne.rpc.delay import DelayedLinks, Direction
from geodyne.rpc.network import RegionNetwork
from geodyne.settings import Endpoint, ProcessConfig
from geodyne.topology import GLOBAL, Topology, parse
from tests.unit.rpc.virtualtime import run_virtually

EAST, WEST = "us-east-1", "eu-west-1"
TOPOLOGY = parse(f"""
round_trip_ms = 80
loss = 0.01
[regions.{EAST}]
[regions.{WEST}]
""")
ADDRESSES = {process.id: f"10.0.0.1:{9000 + number}" for number, process in enumerate(TOPOLOGY.processes())}


class Links(DelayedLinks):
    """Remembers what was asked of each path and opens nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.qualities: dict[str, LinkQuality] = {}
        self.blocked: dict[str, Direction] = {}

    async def via(self, target: str, one_way_ms: float, *, always: bool = False) -> str:
        assert always
        return f"forwarded:{target.rpartition(':')[2]}"

    def set_quality(self, target: str, quality: LinkQuality) -> None:
        self.qualities[target] = quality

    def set_blocked(self, target: str, direction: Direction) -> None:
        self.blocked[target] = direction


class LoopClock:
    """The lease clock of the running loop."""

    def wall_us(self) -> int:
        raise AssertionError("what ends at a time must not hang on a clock that is set")

    def lease_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1_000)


class Rig:
    """A process that has a path to the other region, or from the global endpoint to both."""

    def __init__(self, process: str = f"{EAST}/replicator-1", file: str = "") -> None:
        self.topology: Topology = TOPOLOGY.resolved(ADDRESSES, ADDRESSES)
        spec = self.topology.process(process)
        here = Endpoint("127.0.0.1", 0)
        self.links = Links()
        self.states: list[NetworkState] = []
        config = ProcessConfig(
            "cluster", process, spec.role, spec.region, spec.zone, here, here, self.topology, network_file=file
        )
        self.network = RegionNetwork(config, self.links, LoopClock())

    async def start(self, *regions: str) -> None:
        for region in regions:
            assert (await self.network.dial(self.topology.regions[region].replicators[0])).startswith("forwarded:")
        self.network.start(self.states.append)

    def quality(self, region: str) -> LinkQuality:
        return self.links.qualities[ADDRESSES[f"{region}/replicator-1"]]

    def blocked(self, region: str) -> Direction:
        return self.links.blocked[ADDRESSES[f"{region}/replicator-1"]]


def test_a_path_is_as_in_the_topology_until_it_is_set() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.start(WEST)
        assert rig.quality(WEST) == LinkQuality(80, loss=0.01)
        rig.network.put(NetworkState().with_quality(WEST, EAST, LinkQuality(300, 5)))
        assert rig.quality(WEST) == LinkQuality(300, 5)
        rig.network.put(NetworkState())
        assert rig.quality(WEST) == LinkQuality(80, loss=0.01)
        rig.network.close()

    run_virtually(main())


def test_a_cut_blocks_the_direction_that_it_names_seen_from_who_dials() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.start(WEST)
        assert rig.blocked(WEST) == Direction(0)
        for cuts, blocked in (
            ([Cut(EAST, WEST)], Direction.OUT),
            ([Cut(WEST, EAST)], Direction.IN),
            ([Cut(EAST, WEST), Cut(WEST, EAST)], Direction.BOTH),
            ([Cut(EAST, GLOBAL), Cut(GLOBAL, EAST)], Direction(0)),
        ):
            rig.network.put(NetworkState().with_cuts(cuts))
            assert rig.blocked(WEST) == blocked

    run_virtually(main())


def test_the_global_endpoint_has_the_paths_of_its_location_and_cuts_of_its_own() -> None:
    async def main() -> None:
        rig = Rig("global/router-1")
        await rig.start(EAST, WEST)
        assert rig.quality(EAST) == LinkQuality()
        assert rig.quality(WEST) == LinkQuality(80, loss=0.01)
        state = NetworkState().with_quality(EAST, WEST, LinkQuality(300)).with_cuts([Cut(EAST, GLOBAL)])
        rig.network.put(state)
        assert rig.quality(WEST) == LinkQuality(300)
        assert (rig.blocked(EAST), rig.blocked(WEST)) == (Direction.IN, Direction(0))

    run_virtually(main())


def test_what_has_a_duration_ends_each_at_its_time_and_whoever_must_know_is_told() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.start(WEST)
        now_ms = LoopClock().lease_ms()
        rig.network.put(
            NetworkState().with_cuts([Cut(EAST, WEST, now_ms + 2_000)]).with_pause(Pause("t", "", now_ms + 5_000))
        )
        await asyncio.sleep(1.9)  # of virtual time
        assert rig.blocked(WEST) == Direction.OUT
        await asyncio.sleep(0.2)
        assert rig.blocked(WEST) == Direction(0)
        assert rig.states[-1].pauses
        await asyncio.sleep(3)
        assert rig.states[-1] == rig.network.state == NetworkState()

    run_virtually(main())


def test_a_process_that_starts_begins_with_what_is_kept_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    file.write_text(json.dumps(NetworkState().with_cuts([Cut(EAST, WEST)]).to_json()), encoding="utf-8")

    async def main(path: Path) -> Direction:
        rig = Rig(file=str(path))
        await rig.start(WEST)
        return rig.blocked(WEST)

    assert run_virtually(main(file)) == Direction.OUT
    assert run_virtually(main(tmp_path / "missing")) == Direction(0)


@pytest.mark.parametrize("text", ["", "[]", '{"cuts": 3}', "\x00"])
def test_a_file_that_cannot_be_read_cuts_nothing_and_is_reported(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "network.json"
    file.write_text(text, encoding="utf-8")

    async def main() -> None:
        rig = Rig(file=str(file))
        await rig.start(WEST)
        assert rig.blocked(WEST) == Direction(0)

    run_virtually(main())
    assert "cannot be read" in caplog.text


def test_the_admin_call_takes_a_whole_state_and_refuses_what_is_none() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.start(WEST)
        call = rig.network.admin()["network"]
        asked = NetworkState().with_cuts([Cut(EAST, WEST)])
        assert await call(asked.to_json()) == {"result": asked.to_json()}
        assert "error" in await call({"cuts": []})
        assert await call({}) == {"result": asked.to_json()}
        assert rig.blocked(WEST) == Direction.OUT

    run_virtually(main())
