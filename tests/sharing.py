"""How `pytest -n` shares the tests out among its workers: a file is one piece of work.

What starts no real processes is computing alone, and runs beside anything. Clusters of real processes measure how long
clients were kept waiting, so no two tests that bound such a time run at once: all of those are one piece, taken first.
That leaves the other workers the rest: computing, then the clusters whose tests only say what must hold in the end.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TIMED = "tests that bound times"
# They assert no times, and use none of the clusters that several files share (tests/cluster/conftest.py): pieces of
# their own, those that take longest first. Any other file of tests/cluster belongs to TIMED.
UNTIMED = (
    "tests/cluster/test_disassociation.py",
    "tests/cluster/test_triggers.py",
    "tests/cluster/test_nodes.py",
    "tests/cluster/test_stream_mirror.py",
    "tests/cluster/test_kinesis.py",
    "tests/cluster/test_disks.py",
    "tests/cluster/test_wrong_clock.py",
    "tests/cluster/test_verify.py",
    "tests/cluster/test_upgrade.py",
    "tests/cluster/test_dev.py",
    "tests/cluster/test_unread_answers.py",
    "tests/cluster/test_lambda_signatures.py",
)
CLIENTS = "clients"  # one cluster for all files of tests/clients


def piece_of(nodeid: str) -> str:
    """What a test is given out with: TIMED, CLIENTS, or its file's path."""
    file = nodeid.partition("::")[0]
    if file.startswith("tests/clients/"):
        return CLIENTS
    return TIMED if file.startswith("tests/cluster/") and file not in UNTIMED else file


def in_order(pieces: Iterable[str]) -> list[str]:
    """TIMED, then what only computes as it was collected, then the other real processes."""
    last = (*UNTIMED, CLIENTS)
    ranks = {TIMED: -1, **{piece: 1 + rank for rank, piece in enumerate(last)}}
    return sorted(pieces, key=lambda piece: ranks.get(piece, 0))


class Sharing(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives the pieces out in the order of the collection; a worker that is about to run out takes the next one."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # which is by the number of tests

    def _split_scope(self, nodeid: str) -> str:
        return piece_of(nodeid)


def in_the_order_of_pieces(items: list[pytest.Item]) -> list[pytest.Item]:
    """Collected tests so that each piece is together, and the pieces are in their order."""
    pieces: dict[str, list[pytest.Item]] = {}
    for item in items:
        pieces.setdefault(piece_of(item.nodeid), []).append(item)
    return [item for piece in in_order(pieces) for item in pieces[piece]]
