"""Reads of many rows: pages of a Query or Scan, and raw rows. They read SQLite, a chunk of rows a turn.

Must hold: a strong read sees everything that was committed when it arrived. SQLite may be behind that (entries that
this node's own log does not hold durably yet are not applied, and nothing is while a snapshot is begun), so such a
read is held until the state has got there; what it then finds goes out after the lease check, as every strong read.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from geodyne.messages import Answer, DigestRows, Moved, NotLeader, Range, ReadRows, Refused
from geodyne.model.indexkeys import item_key_of
from node.digests import digest_rows
from node.engine.ranges import PageBuilder
from node.feed.pages import read_rows
from node.storage.port import GroupDamaged, Row
from node.storage.sqlite import StateStore

if TYPE_CHECKING:
    from node.group import Asker, Group
    from node.service import NodeService

logger = logging.getLogger("geodyne.node")


class _Scan:
    """A read under construction. `index`: what must be applied before it may look; 0 for an eventual one."""

    __slots__ = ("asker", "builder", "call", "index", "partition", "term")

    def __init__(self, call: Range | ReadRows | DigestRows, asker: Asker, group: Group) -> None:
        self.call = call
        self.asker = asker
        self.builder = PageBuilder(call) if isinstance(call, Range) else None
        self.partition = group.partition
        self.term = group.raft.term
        self.index = group.raft.commit_index if call.strong else 0


class Scans:
    """All such reads of one node."""

    def __init__(self, service: NodeService, store: StateStore, apply_all: Callable[[Group], None]) -> None:
        """`apply_all` applies what a group can apply now."""
        self._service = service
        self._store = store
        self._apply_all = apply_all
        self._ready: deque[_Scan] = deque()
        self._held: dict[int, list[_Scan]] = {}  # by partition

    def __bool__(self) -> bool:
        """True while a step would do something."""
        return bool(self._ready)

    def add(self, call: Range | ReadRows | DigestRows, asker: Asker, group: Group) -> None:
        self._ready.append(_Scan(call, asker, group))

    def news(self, partition: int) -> None:
        """The group has applied something, changed its role or is gone: what it holds up looks again."""
        held = self._held.pop(partition, None)
        if held is not None:
            self._ready += held
            self._service.wake()

    def step(self) -> None:
        """One chunk for each read that can go on."""
        for _ in range(len(self._ready)):
            scan = self._ready.popleft()
            try:
                if not self._step(scan):
                    self._ready.append(scan)
            except GroupDamaged as error:
                scan.asker.answer(self._service.healing.answer(error))
            except Exception:  # a page reads only: nothing to undo
                logger.exception("page failed")
                scan.asker.answer(Refused("InternalServerError", "Internal server error"))

    def _step(self, scan: _Scan) -> bool:
        """True when the read has been answered or is held."""
        call = scan.call
        group = self._service.groups.get(scan.partition)
        if group is None:
            catalog = self._service.catalog
            elsewhere = catalog.elsewhere(scan.partition, scan.call.epoch)
            scan.asker.answer(elsewhere or Moved(scan.partition, catalog.revision))
            return True
        if group.damaged:
            scan.asker.answer(NotLeader(scan.partition, "" if group.leading else group.raft.leader))
            return True
        if call.strong and (group.raft.term != scan.term or not group.leading):
            scan.asker.answer(group.not_leader())
            return True
        self._apply_all(group)
        if group.state.applied_index < scan.index:
            self._held.setdefault(scan.partition, []).append(scan)
            return True
        if scan.builder is None:
            self._finish(scan, group)
            return True
        return self._step_page(scan, scan.builder, group)

    def _step_page(self, scan: _Scan, builder: PageBuilder, group: Group) -> bool:
        call = scan.call
        assert isinstance(call, Range)
        low, high = call.low, call.high
        if builder.last_key is not None:
            if call.reverse:
                high = min(high, builder.last_key)
            else:
                low = max(low, builder.last_key + b"\x00")
        wanted = builder.rows_wanted()
        found = self._add_to_page(call, builder, group, low, high, wanted) if low < high else 0
        if not builder.full and found == wanted:
            return False
        self._finish(scan, group)
        return True

    def _add_to_page(
        self, call: Range, builder: PageBuilder, group: Group, low: bytes, high: bytes, wanted: int
    ) -> int:
        """Hand the builder what is next in [low, high); returns how much was found, at most `wanted`."""
        if not call.slot:
            rows = self._store.range(call.partition, low, high, call.reverse, wanted)
            builder.add(rows)
            return len(rows)
        index = group.local_indexes.index(call.slot) if group.local_indexes is not None else None
        if index is None:
            return 0  # a replica that has not heard of the index yet has no rows either

        def item_of(key: bytes) -> Row:
            row = self._store.get(call.partition, item_key_of(index.schema, key))
            assert row is not None  # entries change in the transaction of their rows
            return row

        entries = self._store.entries(call.partition, call.slot, low, high, call.reverse, wanted)
        builder.add_entries(entries, item_of)
        return len(entries)

    def _finish(self, scan: _Scan, group: Group) -> None:
        call = scan.call
        answer: Answer
        if isinstance(call, ReadRows):
            answer = read_rows(self._store, call)
        elif isinstance(call, DigestRows):
            answer = digest_rows(self._store, call)
        else:
            assert scan.builder is not None
            answer = scan.builder.page()
        if call.strong:
            group.answer_read(scan.asker, answer)
            self._service.confirm_soon(group)
        else:
            scan.asker.answer(answer)
