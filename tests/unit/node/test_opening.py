"""What a node says when its data cannot be used: what is wrong, where, and the way out."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from geodyne.clock import SystemClock
from node import compose
from node.compose import Node, NodePlace, open_node
from node.storage.port import StateDamaged, StorageError, WalCorrupt

ZONES = {"r/node-a": "a", "r/node-b": "b", "r/node-c": "c"}


def opened(data_dir: Path, members: dict[str, str]) -> Node:
    place = NodePlace("c1", "r", "r/node-a", members, data_dir)
    return open_node(
        place, clock=SystemClock(), random=Random(1), registry=CollectorRegistry(), fatal=pytest.fail, inline_sync=True
    )


@pytest.mark.parametrize("damage", [WalCorrupt, StateDamaged])
def test_damage_is_told_with_the_way_to_have_the_node_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: type[StorageError]
) -> None:
    def fail(*_: object) -> Node:
        raise damage("segment 7: damaged record at offset 9")

    monkeypatch.setattr(compose, "_open", fail)
    with pytest.raises(damage, match=r"damaged record at offset 9.*Move .*/n away: .* rebuilt from the others"):
        opened(tmp_path / "n", ZONES)
    with pytest.raises(damage, match=r"damaged record at offset 9. Restore .*/n from a backup"):
        opened(tmp_path / "n", {"r/node-a": "a"})


def test_an_error_of_the_operating_system_names_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> Node:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(compose, "open_directory", full)
    with pytest.raises(StorageError, match=r"data directory .*/n cannot be used: No space left on device"):
        opened(tmp_path / "n", ZONES)
