"""The topology file: what it means, and that every mistake in it gets one line that says where it is."""

from __future__ import annotations

import json

import pytest

from geodyne import topology
from geodyne.network import LinkQuality
from geodyne.topology import Topology, TopologyError, parse


def test_the_default_cluster_has_three_regions_of_three_zones_on_the_documented_ports() -> None:
    cluster = topology.default()
    assert {name: region.port for name, region in cluster.regions.items()} == {
        "us-east-1": 8000,
        "eu-west-1": 8001,
        "ap-northeast-2": 8002,
    }
    assert cluster.global_port == 8100
    assert [node.id for node in cluster.regions["eu-west-1"].nodes] == [
        "eu-west-1/node-a",
        "eu-west-1/node-b",
        "eu-west-1/node-c",
    ]
    assert len({process.id for process in cluster.processes()}) == 3 * 6 + 1


def test_default_round_trips_between_regions_lie_between_70_and_180_ms() -> None:
    cluster = topology.default()
    names = list(cluster.regions)
    trips = [cluster.region_round_trip_ms(a, b) for a in names for b in names if a != b]
    assert len(trips) == 6
    assert all(70 <= trip <= 180 for trip in trips)


def test_nodes_start_before_routers_and_the_global_endpoint_comes_last() -> None:
    roles = [process.role for process in topology.default().processes()]
    assert roles == ["node"] * 9 + ["router"] * 3 + ["replicator"] * 3 + ["delivery"] * 3 + ["global"]


def test_zones_may_hold_several_nodes_and_regions_several_routers() -> None:
    cluster = parse("[regions.r1]\nzones = { a = 2, b = 1, c = 1 }\nrouters = 2\n")
    region = cluster.regions["r1"]
    assert [(n.id, n.zone) for n in region.nodes] == [
        ("r1/node-a", "a"),
        ("r1/node-a-2", "a"),
        ("r1/node-b", "b"),
        ("r1/node-c", "c"),
    ]
    assert [(r.id, r.zone) for r in region.routers] == [("r1/router-1", "a"), ("r1/router-2", "b")]


def test_delay_is_zero_inside_a_zone_and_half_a_round_trip_each_way_elsewhere() -> None:
    cluster = parse("zone_round_trip_ms = 2\n[regions.one]\n[regions.two]\n[round_trip_ms]\none.two = 90\n")
    one, two = cluster.regions["one"], cluster.regions["two"]
    assert cluster.one_way_ms(one.routers[0], one.nodes[0]) == 0
    assert cluster.one_way_ms(one.routers[0], one.nodes[1]) == 1
    assert cluster.one_way_ms(one.replicators[0], two.replicators[0]) == 45
    assert cluster.one_way_ms(cluster.global_router, two.routers[0]) == 45
    assert cluster.one_way_ms(cluster.global_router, one.routers[0]) == 0


def test_one_number_sets_the_round_trip_between_all_regions() -> None:
    cluster = parse("round_trip_ms = 5\n[regions.us-east-1]\n[regions.eu-west-1]\n")
    assert cluster.region_round_trip_ms("us-east-1", "eu-west-1") == 5


def test_an_unnamed_pair_of_known_regions_keeps_its_measured_round_trip() -> None:
    cluster = parse("[regions.us-east-1]\n[regions.eu-west-1]\n[regions.elsewhere]\n")
    assert cluster.region_round_trip_ms("eu-west-1", "us-east-1") == 76
    assert cluster.region_round_trip_ms("elsewhere", "us-east-1") == topology.UNKNOWN_ROUND_TRIP_MS


def test_jitter_loss_and_bandwidth_are_of_all_pairs_or_of_those_that_are_named() -> None:
    cluster = parse(
        "jitter_ms = 4\n[regions.a]\n[regions.b]\n[regions.c]\n[loss]\na.b = 0.02\n[bandwidth_mbit]\nc.a = 50\n"
    )
    unknown = topology.UNKNOWN_ROUND_TRIP_MS
    assert cluster.region_quality("b", "a") == LinkQuality(unknown, 4, 0.02)
    assert cluster.region_quality("a", "c") == LinkQuality(unknown, 4, 0, 50)
    assert cluster.region_quality("b", "c") == LinkQuality(unknown, 4)
    assert cluster.region_quality("a", "a").clear


def test_a_topology_survives_the_way_through_json() -> None:
    cluster = parse(
        'loss = 0.01\nzone_round_trip_ms = 1\n[regions.x-1]\nzones = ["a"]\n[regions.y-1]\n[global]\nlocation = "y-1"\n'
    )
    resolved = cluster.resolved(
        {p.id: f"127.0.0.1:{n}" for n, p in enumerate(cluster.processes(), 1000)},
        {p.id: f"127.0.0.1:{n}" for n, p in enumerate(cluster.processes(), 2000)},
    )
    assert Topology.from_json(json.loads(json.dumps(resolved.to_json()))) == resolved


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("regions = 3", "line 1: regions: a table is expected"),
        ("", "regions: between 1 and 16 regions are needed, not 0"),
        ("[regions.a]\nprot = 8000", "line 2: regions.a.prot: unknown key"),
        ("colour = 1\n[regions.a]", "line 1: colour: unknown key"),
        ("[regions.a]\nport = 8000\n\n[regions.b]\nport = 8000", "line 5: regions.b.port: port 8000 is already taken"),
        ("[regions.a]\nport = 8000\n[global]\nport = 8000", "line 4: global.port: port 8000 is already taken"),
        ("[regions.a]\nport = 70000", "line 2: regions.a.port: a whole number from 0 to 65535"),
        ("[regions.a]\nport = true", "line 2: regions.a.port: a whole number"),
        ('[regions.a]\nport = "8000"', "line 2: regions.a.port: a whole number"),
        ('[regions.a]\nzones = ["a", "b"]', "line 2: regions.a.zones: 1 zone or 3 to 6 zones are needed, not 2"),
        ('[regions.a]\nzones = ["a", "a", "b"]', "line 2: regions.a.zones: a zone is named twice"),
        ("[regions.a]\nzones = { a = 0 }", "line 2: regions.a.zones.a: a whole number from 1"),
        ("[regions.a]\nzones = { A-1 = 1 }", "line 2: regions.a.zones: a zone's name"),
        ("[regions.a]\nrouters = 0", "line 2: regions.a.routers: a whole number from 1 to 16"),
        ("[regions.Virginia]", "line 1: regions.Virginia: a region's name is like us-east-1"),
        ("[regions.global]", "line 1: regions.global: a region's name"),
        ("[regions.a]\n[regions.b]\n[round_trip_ms]\na.b = -1", "line 4: round_trip_ms.a.b: milliseconds from 0"),
        ("[regions.a]\n[regions.b]\n[round_trip_ms]\na.c = 1", "line 4: round_trip_ms.a.c: 'c' is not a region"),
        ("[regions.a]\n[round_trip_ms]\na.a = 1", "line 3: round_trip_ms.a.a: a region has no distance to itself"),
        (
            "[regions.a]\n[regions.b]\n[round_trip_ms]\na.b = 1\nb.a = 1",
            "line 5: round_trip_ms.b.a: this pair of regions is given twice",
        ),
        ("loss = 0.6\n[regions.a]\n[regions.b]", "line 1: loss: must be a number from 0 to 0.5, not 0.6"),
        (
            "[regions.a]\n[regions.b]\n[jitter_ms]\na.b = true",
            "line 4: jitter_ms.a.b: must be a number from 0 to 10000",
        ),
        ("[regions.a]\n[regions.b]\n[bandwidth_mbit]\na.b = 0.001", "line 4: bandwidth_mbit.a.b: must be 0"),
        ("zone_round_trip_ms = nan\n[regions.a]", "line 1: zone_round_trip_ms: milliseconds"),
        ('[regions.a]\n[global]\nlocation = "b"', "line 3: global.location: 'b' is not a region"),
        ("[regions.a]\n[regions.a]", "not valid TOML: "),
        ("[regions", "not valid TOML: "),
    ],
)
def test_a_mistake_in_the_file_is_named_with_key_and_line(text: str, expected: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(text)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)
