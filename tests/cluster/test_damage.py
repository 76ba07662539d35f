"""A node's disk has changed bits of its state database or its log while the node was down; clients never see it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "damage"
ITEMS = 40


def names() -> list[str]:
    return [f"item-{number}" for number in range(ITEMS)]


def values(client: Any, *, strong: bool) -> list[str]:
    return [
        client.get_item(TableName=TABLE, Key={"pk": {"S": name}}, ConsistentRead=strong)["Item"]["v"]["S"]
        for name in names()
    ]


def state_of(world: Cluster, node: str) -> Path:
    found = [path for path in world.data_dir.rglob("state.db") if node.replace("/", "-") in str(path).replace("/", "-")]
    assert len(found) == 1, found
    return found[0]


def damaged_rows(path: Path) -> int:
    """Change a byte of every item of the test, and leave their checksums."""
    database = sqlite3.connect(path, isolation_level=None)
    changed = database.execute(
        "UPDATE items SET value=CAST(replace(CAST(value AS TEXT), 'right', 'wrong') AS BLOB) "
        "WHERE instr(CAST(value AS TEXT), 'right-item')"
    ).rowcount
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return changed


def damaged_file(path: Path) -> int:
    path.write_bytes(b"\xee" * path.stat().st_size)
    return 1


def damaged_log(path: Path) -> int:
    """Change a byte in the middle of each file of the log: what lies behind it says that it had been durable."""
    files = sorted((path.parent / "log").glob("*.log"))
    for file in files:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0x10
        file.write_bytes(data)
    return len(files)


@pytest.mark.parametrize("damage", [damaged_rows, damaged_file, damaged_log])
def test_a_node_with_damaged_files_serves_none_of_it_and_is_healed_by_the_others(world: Cluster, damage: Any) -> None:
    client = world.client(REGION)
    if TABLE not in client.list_tables()["TableNames"]:
        create_table(client, TABLE)
    expected = [f"right-{name}" for name in names()]
    for name in names():
        client.put_item(TableName=TABLE, Item={"pk": {"S": name}, "v": {"S": f"right-{name}"}})
    node = next(process for process in world.processes(REGION, "node") if process.zone == "b")
    world.stop_processes([node.id])
    assert damage(state_of(world, node.id)) > 0
    world.start_processes([node.id])
    world.await_running()

    there = world.client(REGION, zone="b")
    until("its replicas answer", lambda: answers(there))
    for _ in range(3):
        assert values(there, strong=False) == expected
        assert values(there, strong=True) == expected
    # It counts again: with it, another one can be spared.
    other = next(process for process in world.processes(REGION, "node") if process.zone == "c")
    world.stop_processes([other.id])
    try:
        until("it is counted on again", lambda: answers(there))
        assert values(client, strong=True) == expected
        for name in names():
            client.put_item(TableName=TABLE, Item={"pk": {"S": name}, "v": {"S": f"right-{name}"}})
    finally:
        world.start_processes([other.id])
    there.close()
    client.close()


def answers(client: Any) -> bool:
    try:
        values(client, strong=False)
    except (client.exceptions.InternalServerError, KeyError):  # KeyError: the replica is at the beginning of its log
        return False
    return True
