"""What a node does when its disk fails it: it says so, gives away what it leads, and starts anew from what is on disk.

A failed fsync is never tried again: the kernel may have dropped what it could not write, and would report success for
it. So memory counts for nothing from then on. No turn runs any more, nothing is answered and no heartbeat goes out. To
give leadership away takes no disk: a leader tells a voter that has everything to stand at once (TimeoutNow), and what
it still hears meanwhile is who has everything. Whatever would rest on this node's own log is not sent.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from geodyne.peermessages import Append, Appended, PeerMessage, TimeoutNow
from node.storage.port import DiskUnusable, StateFailed

if TYPE_CHECKING:
    from node.group import Group
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.storage")

LAST_WORDS_S = 0.1  # for messages that give leadership away; the others notice a silent node only after a second
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNUSABLE = (*_NO_SPACE, errno.EROFS, errno.EIO)
_HINTS = {
    errno.ENOSPC: "free space on this file system: the node joins again by itself",
    errno.EDQUOT: "raise the quota: the node joins again by itself",
    errno.EFBIG: "raise the limit of file sizes: the node joins again by itself",
    errno.EROFS: "make the file system writable: the node joins again by itself",
}
_HINT = "if it happens again, replace the disk: the node is rebuilt from the others in an empty directory"


def hint(error: BaseException) -> str:
    """What the operator can do."""
    cause = _system_error(error)
    return _HINTS.get(cause.errno or 0, _HINT) if cause is not None else _HINT


def unusable(error: BaseException) -> bool:
    """Whether the disk takes no writes, so that the same may work later."""
    cause = _system_error(error)
    return isinstance(error, DiskUnusable | StateFailed) or (cause is not None and cause.errno in _UNUSABLE)


def _system_error(error: BaseException) -> OSError | None:
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__
    return found


class StorageFailure:
    """The end of one node's process, once its log or its state could not be written."""

    def __init__(self, service: NodeService, fatal: Callable[[str], None]) -> None:
        self._service = service
        self._fatal = fatal
        self._end: asyncio.TimerHandle | None = None
        self.reason = ""

    def happened(self, what: str, error: BaseException) -> None:
        """Told once; may come in the middle of a turn, which must then end without any effect."""
        if self.reason:
            return
        service = self._service
        self.reason = f"{what} cannot be written: {error}"
        logger.critical(
            "storage failed; this node gives away what it leads and starts anew from its disk",
            extra={"reason": self.reason, "hint": hint(error)},
        )
        service.metrics.storage_failures.inc()
        service.stop()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the loop has ended: nobody is left to be told
            self._fatal(self.reason)
            return
        loop.call_soon(self._give_away)
        self._end = loop.call_later(LAST_WORDS_S, self._fatal, self.reason)

    def cancel(self) -> None:
        """The node is stopped from outside."""
        if self._end is not None:
            self._end.cancel()

    def _give_away(self) -> None:
        service, now_ms = self._service, self._service.now_ms()
        for group in service.groups:
            if not group.leading:
                continue
            raft = group.raft
            peers = [peer for peer in raft.voters if peer != service.node_id and service.network.connected(peer)]
            ready = sorted(peers, key=lambda peer: raft.can_take_over(peer, now_ms), reverse=True)
            any(raft.transfer(peer, now_ms) for peer in ready)
            self._tell(group)

    def hear(self, peer: str, messages: Sequence[PeerMessage]) -> None:
        """What arrives while leadership is given away: only who has which entries is of interest."""
        if not self.reason:
            return
        for message in messages:
            if isinstance(message, Appended):
                group = self._service.groups.get(message.group)
                if group is not None and group.leading and message.term == group.raft.term:
                    group.raft.step(peer, message, self._service.now_ms())
                    self._tell(group)

    def _tell(self, group: Group) -> None:
        for peer, message in group.raft.take_effects().before:
            if isinstance(message, Append | TimeoutNow):  # neither says anything of this node's own log
                self._service.network.send(peer, message)
