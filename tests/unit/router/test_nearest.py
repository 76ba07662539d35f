"""The page that tells where the nearest replica of a table is."""

from __future__ import annotations

from dataclasses import replace

from geodyne import topology
from router.nearest import nearest_page
from tests.unit.router.test_healthcheck import TABLE

EAST, WEST, SEOUL = "us-east-1", "eu-west-1", "ap-northeast-2"


class Catalog:
    def __init__(self) -> None:
        self.tables = {
            "t": replace(TABLE, name="t", replicas={EAST: "ACTIVE", WEST: "CREATING", SEOUL: "ACTIVE"}),
            "own": replace(TABLE, name="own"),
            TABLE.name: TABLE,
        }


PAGE = nearest_page(Catalog, topology.default(), EAST)


def test_replicas_are_told_nearest_first_and_only_an_active_one_is_the_nearest() -> None:
    assert PAGE({"table": "t", "from": WEST}) == (
        200,
        {
            "table": "t",
            "from": WEST,
            "nearest": EAST,
            "replicas": [
                {"region": WEST, "status": "CREATING", "round_trip_ms": 0.0},
                {"region": EAST, "status": "ACTIVE", "round_trip_ms": 76.0},
                {"region": SEOUL, "status": "ACTIVE", "round_trip_ms": 180.0},
            ],
        },
    )
    assert PAGE({"table": "t"})[1]["nearest"] == EAST


def test_a_table_of_this_region_alone_is_here_wherever_the_client_is() -> None:
    code, answer = PAGE({"table": "own", "from": SEOUL})
    assert (code, answer["nearest"]) == (200, EAST)


def test_what_cannot_be_told_has_a_status_of_its_own() -> None:
    assert PAGE({"table": "other"})[0] == 404
    assert PAGE({})[0] == 404
    assert PAGE({"table": TABLE.name})[0] == 404
    assert PAGE({"table": "t", "from": "mars"})[0] == 400
    assert nearest_page(lambda: None, topology.default(), EAST)({"table": "t"})[0] == 503
