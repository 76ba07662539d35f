"""`geodyne verify`: under writes nothing seems to differ; what a disk forgot is found, named, and brought back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from geodyne.cli.datadir import ClusterDirectory
from geodyne.cli.verify import EXIT_DIFFERENT, EXIT_EQUAL, EXIT_UNKNOWN
from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table, make_global
from tests.cluster.traffic import Traffic

pytestmark = pytest.mark.cluster

HOME, AWAY = REGIONS = ("us-east-1", "eu-west-1")
TOPOLOGY = "round_trip_ms = 20\n" + "".join(f'[regions.{name}]\nzones = ["a"]\n' for name in REGIONS)
NODE = f"{AWAY}/node-a"
TABLE = "verified"
ITEMS = 600
LOST = 4


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Cluster]:
    """Two regions of one node each."""
    cluster = Cluster(tmp_path / "data", TOPOLOGY)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def test_what_a_disk_forgot_is_found_and_brought_back_and_nothing_else_seems_to_differ(pair: Cluster) -> None:
    client = pair.client(HOME)
    create_table(client, TABLE)
    make_global(pair, HOME, TABLE, REGIONS)
    for number in range(ITEMS):
        client.put_item(TableName=TABLE, Item=_item(number))
    away = pair.client(AWAY)

    def write(number: int) -> None:
        (client, away)[number % 2].put_item(TableName=TABLE, Item=_item(number % ITEMS, str(number)))

    with Traffic("writer in both regions", write):
        for _ in range(3):
            assert _verify(pair)[0] == EXIT_EQUAL
    pair.stop_processes([NODE])
    assert _verify(pair)[0] == EXIT_UNKNOWN
    _forget(ClusterDirectory(pair.data_dir).node_data(NODE) / "state.db")
    pair.start_processes([NODE])
    pair.await_running()

    code, (found,) = _verify(pair)
    assert (code, found["differing"]) == (EXIT_DIFFERENT, LOST)
    assert found["first"]["versions"][1] is None
    missing = found["first"]["key"]
    assert "Item" not in away.get_item(TableName=TABLE, Key=missing, ConsistentRead=True)
    code, (found,) = _verify(pair, "--repair")
    assert (code, found["repaired"]) == (EXIT_EQUAL, LOST)
    code, (found,) = _verify(pair, "--region", AWAY)
    assert (code, found["rows"]) == (EXIT_EQUAL, ITEMS)
    items = [each.get_item(TableName=TABLE, Key=missing, ConsistentRead=True)["Item"] for each in (client, away)]
    assert items[0] == items[1]


def _item(number: int, value: str = "") -> dict[str, Any]:
    return {"pk": {"S": f"item-{number}"}, "value": {"S": value.rjust(400)}}


def _verify(cluster: Cluster, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and what was compared."""
    done = cluster.run("verify", TABLE, "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["comparisons"]


def _forget(path: Path) -> None:
    """Take rows out of the database of a node that does not run."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        rows = database.execute("SELECT rowid FROM items WHERE length(value) > 400 ORDER BY key").fetchall()
        for (row,) in rows[10 : 10 + LOST * 50 : 50]:
            database.execute("DELETE FROM items WHERE rowid = ?", (row,))
