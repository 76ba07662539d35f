"""Consensus messages for partitions that the catalog of this node has not told it of yet."""

from __future__ import annotations

from collections import deque
from typing import Final

from geodyne.peermessages import Append, PeerMessage, SnapshotChunk

MESSAGES_MAX: Final = 1024
BYTES_MAX: Final = 16 << 20


class EarlyMessages:
    """They are kept for the moment at which the replica is made, the newest of them: what is dropped is to its sender
    a lost message. A peer may name partitions that there will never be."""

    def __init__(self, messages_max: int = MESSAGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._kept: deque[tuple[str, int, PeerMessage]] = deque()
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self.bytes = 0  # of what the messages carry

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, peer: str, partition: int, message: PeerMessage) -> None:
        self._kept.append((peer, partition, message))
        self.bytes += _size(message)
        while len(self._kept) > self._messages_max or self.bytes > self._bytes_max:
            self.bytes -= _size(self._kept.popleft()[2])

    def take(self, partition: int) -> list[tuple[str, PeerMessage]]:
        """What came for this partition, in order, with the peer it came from; it is not kept any longer."""
        taken = [(peer, message) for peer, of, message in self._kept if of == partition]
        if taken:
            self._keep([entry for entry in self._kept if entry[1] != partition])
        return taken

    def forget(self, peer: str) -> None:
        """Its stream is over."""
        self._keep([entry for entry in self._kept if entry[0] != peer])

    def _keep(self, entries: list[tuple[str, int, PeerMessage]]) -> None:
        self._kept = deque(entries)
        self.bytes = sum(_size(message) for _, _, message in entries)


def _size(message: PeerMessage) -> int:
    if isinstance(message, Append):
        return sum(len(entry.payload) for entry in message.entries)
    return len(message.data) if isinstance(message, SnapshotChunk) else 0
