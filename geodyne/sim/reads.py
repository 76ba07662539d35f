"""Strong reads of leaders that are none any more.

Once an entry of a later term is committed, nothing that a leader of an earlier one looks up is certain to be the
newest. It may look, and it may ask; it must not answer. What it looked up before that moment it may answer after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from geodyne.messages import Answer, NotLeader, Refused
from node.group import Group


class _Late(NamedTuple):
    """Stands for whoever asks for something that can no longer be known here."""

    asker: Any
    found: Callable[[], None]

    def answer(self, answer: Answer) -> None:
        if not isinstance(answer, NotLeader | Refused):
            self.found()
        self.asker.answer(answer)


@contextmanager
def watched_reads(committed_term: Callable[[int], int], problem: Callable[[str], None]) -> Iterator[None]:
    """All groups of all nodes. `committed_term`: the term of a partition's last committed entry, of all nodes'."""
    real = Group.confirm_reads

    def confirm_reads(group: Group, now_ms: Callable[[], int]) -> bool:
        if group._reads and committed_term(group.partition) > group.raft.term:
            node, partition, term = group.raft.node_id, group.partition, group.raft.term

            def found() -> None:
                problem(f"{node} answers a read of group {partition} in term {term}: a later one has committed")

            group._reads[:] = [(_Late(asker, found), answer) for asker, answer in group._reads]  # type: ignore[misc]
        return real(group, now_ms)

    with patch.object(Group, "confirm_reads", confirm_reads):
        yield
