"""A small data directory in the formats of today, kept so that later versions show that they read it.

`python -m tests.unit.node.formatfixture` writes a new one, named by the formats of directory, state and log. It is as a
killed node leaves it: the log ends beyond the state, and part of the state is in SQLite's own log.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

from geodyne.messages import Control, ControlDone
from node.compose import NoPeers
from node.storage import schema, wal_format
from node.storage.directory import FORMAT
from tests.unit.node.test_kill_at_every_write import Client, opened

FIXTURES = Path(__file__).parent.parent / "storage" / "fixtures"
ITEMS = 24
MANIFEST = "manifest.json"  # pk -> value of each item


def name_of_today() -> str:
    return f"directory{FORMAT}-state{schema.SCHEMA_VERSION}-log{wal_format.SEGMENT_VERSION}"


async def _live(directory: Path, copy: Path) -> dict[str, str]:
    node = opened(directory)
    node.start(NoPeers())
    client = Client(node)
    await client.until_leading()
    definition = {"name": "T", "hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None}
    definition["partitions"] = 2  # type: ignore[assignment]
    assert isinstance(await client.call(Control("create_table", {"definition": definition})), ControlDone)
    table = await client.until_active()
    values: dict[str, str] = {}
    for number in range(ITEMS):
        pk, value = f"item-{number % (ITEMS - 4)}", f"value {number}"
        await client.put(table, pk, value)
        values[pk] = value
        if number == ITEMS // 2:
            await node._maintenance.checkpoint()
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("*-shm", "LOCK"))
    await node.stop()
    return values


def write(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "node"
        values = asyncio.run(_live(Path(folder) / "live", copy))
        (copy / MANIFEST).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
        with tarfile.open(target, "w:xz") as archive:
            archive.add(copy, "node")


def unpacked(archive: Path, target: Path) -> dict[str, str]:
    """The data directory at `target`; returns what it must hold."""
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            if member.isfile():
                path = target / Path(member.name).relative_to("node")
                path.parent.mkdir(parents=True, exist_ok=True)
                content = packed.extractfile(member)
                assert content is not None
                path.write_bytes(content.read())
    values: dict[str, str] = json.loads((target / MANIFEST).read_text())
    return values


if __name__ == "__main__":
    write(FIXTURES / f"{name_of_today()}.tar.xz")
