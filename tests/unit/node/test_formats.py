"""Data of each format that was ever released are read; data of a newer one are refused, and left as they are."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from pathlib import Path
from zlib import crc32

import pytest

from node.compose import NoPeers
from node.storage import schema, wal_format
from node.storage.directory import NEWEST_FORMAT
from node.storage.port import WrongFormat
from node.storage.sqlite import StateStore
from node.storage.sqlite_connection import quick_check
from tests.unit.node.formatfixture import FIXTURES, name_of_today, unpacked
from tests.unit.node.test_kill_at_every_write import Client, opened

ARCHIVES = sorted(FIXTURES.glob("*.tar.xz"))


def test_there_is_a_directory_of_the_present_formats() -> None:
    """Whoever changes a format adds one, and keeps the older ones."""
    assert name_of_today() in {archive.name.removesuffix(".tar.xz") for archive in ARCHIVES}


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name)
def test_what_a_killed_node_of_that_version_left_is_read_and_written(tmp_path: Path, archive: Path) -> None:
    values = unpacked(archive, tmp_path)

    async def run() -> None:
        node = opened(tmp_path)
        node.start(NoPeers())
        client = Client(node)
        table = await client.until_active()
        assert {pk: await client.read(table, pk) for pk in values} == values
        await client.put(table, "later", "value")
        assert await client.read(table, "later") == "value"
        assert await quick_check(node._store.path) == []
        await node.stop()

    asyncio.run(run())
    asyncio.run(run())


def _newer_directory(directory: Path) -> None:
    path = directory / "FORMAT"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": NEWEST_FORMAT + 1}))


def _newer_state(directory: Path) -> None:
    database = sqlite3.connect(directory / "state.db")
    database.execute(f"PRAGMA user_version={schema.NEWEST_VERSION + 1}")
    database.close()


def _newer_log(directory: Path) -> None:
    segment = max((directory / "log").iterdir())
    content = bytearray(segment.read_bytes())
    header = wal_format.decode_header(bytes(content))
    assert header is not None
    end = header.end - 4
    content[8:10] = (wal_format.SEGMENT_VERSION + 1).to_bytes(2, "little")
    content[end : header.end] = crc32(content[:end]).to_bytes(4, "little")
    segment.write_bytes(content)


@pytest.mark.parametrize("change", [_newer_directory, _newer_state, _newer_log])
def test_a_newer_format_is_refused_and_nothing_is_touched(tmp_path: Path, change: object) -> None:
    unpacked(ARCHIVES[-1], tmp_path)
    assert callable(change)
    change(tmp_path)

    def contents() -> dict[str, bytes]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        own = ("LOCK", "INCARNATION", "state.db-shm")  # of each start
        return {str(path): path.read_bytes() for path in files if path.name not in own and path.stat().st_size}

    before = contents()
    with pytest.raises(WrongFormat, match=r"reads? (up to |format)"):
        opened(tmp_path)
    after = contents()
    assert {path: after.get(path) for path in before} == before


def test_an_upgrade_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = sqlite3.connect(tmp_path / "state.db")
    for statement in schema.TABLES:
        database.execute(statement)
    database.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
    database.execute("PRAGMA user_version=1")
    database.commit()
    database.close()
    with caplog.at_level(logging.INFO, "geodyne.node.storage"):
        StateStore.open(tmp_path / "state.db").discard()
        StateStore.open(tmp_path / "state.db").discard()
    assert [record.getMessage() for record in caplog.records] == ["state database upgraded"]
