"""A node with one rule taken out: `python -m tests.cluster.sabotagednode RULE --config FILE`.

Histories that are always fine prove something only if those of such nodes are not.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from unittest.mock import patch

from geodyne.messages import Write, WriteId
from node.group import Asker, Group


def confirm_reads(group: Group, now_ms: Callable[[], int]) -> bool:
    """Answer from what is here, whoever may lead by now."""
    reads, group._reads = group._reads, []
    for asker, answer in reads:
        asker.answer(answer)
    return False


_write = Group.write


def write(group: Group, call: Write, write_id: WriteId | None, asker: Asker, wall_us: int) -> None:
    """Answer before anybody else has the entry."""
    _write(group, call, write_id, asker, wall_us)
    for index in list(group._waiting):
        for waiting, answer in group._waiting.pop(index):
            waiting.answer(answer)


RULES = {
    "reads need a lease": ("confirm_reads", confirm_reads),
    "answers wait for the commit": ("write", write),
}

if __name__ == "__main__":
    rule = sys.argv.pop(1)
    with patch.object(Group, *RULES[rule]):
        runpy.run_module("node", run_name="__main__")
