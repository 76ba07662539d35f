"""Which processes `geodyne restart` replaces, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.cli.errors import CommandError
from geodyne.cli.restart import chosen


def processes(*entries: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"id": process_id, "role": role, "pid": 1} for process_id, role in entries]


STATUS = {
    "regions": {
        "r": {"processes": processes(("r/router-1", "router"), ("r/node-a", "node"), ("r/node-b", "node"))},
        "s": {"processes": processes(("s/replicator-1", "replicator"), ("s/router-1", "router"), ("s/node-a", "node"))},
    },
    "global_processes": processes(("global/router-1", "global")),
}


@pytest.mark.parametrize(
    ("what", "role", "expected"),
    [
        (None, None, "r/node-a r/node-b r/router-1 s/node-a s/replicator-1 s/router-1 global/router-1"),
        (None, "router", "r/router-1 s/router-1"),
        ("s", None, "s/node-a s/replicator-1 s/router-1"),
        ("r", "node", "r/node-a r/node-b"),
        ("r/node-b", None, "r/node-b"),
        ("global", None, "global/router-1"),
    ],
)
def test_region_by_region_and_in_each_those_that_take_requests_last(
    what: str | None, role: str | None, expected: str
) -> None:
    assert [process["id"] for process in chosen(STATUS, what, role)] == expected.split()


@pytest.mark.parametrize(
    ("what", "role", "text"),
    [
        ("t", None, "there is no process or region t; there are r, r/router-1, "),
        ("r", "replicator", "there is no replicator r; there are r, "),
    ],
)
def test_what_is_not_there_is_named(what: str, role: str | None, text: str) -> None:
    with pytest.raises(CommandError, match=text):
        chosen(STATUS, what, role)
