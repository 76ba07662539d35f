"""What a leader knows about one follower."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum

from geodyne.peermessages import Appended
from node.raft.settings import Settings


class Mode(IntEnum):
    """How a follower is fed.

    PROBE      its log's end is not known: one append at a time
    REPLICATE  it follows: appends are sent without waiting, within the window
    SNAPSHOT   it needs entries that are compacted: nothing is sent until a snapshot is installed or has failed
    """

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Progress:
    """One follower's position.

    match           last index known to be durable there (by its present process) and equal to the leader's log
    next            the first index that the next append carries
    commit_sent     the commit index that the follower learns once everything in flight has arrived
    confirmed       (incarnation, support epoch) under which it last confirmed this leader's term; never goes back
    newcomer        it said that it is none of the group's members yet: nothing of it counts
    presumed        nothing of this replica has been heard: it was added in this term, and what is still under way may
                    be of a replica that was destroyed. It is taken for a newcomer
    admitted_at     this process of a newcomer becomes a member once this entry is committed and it has it; 0: none.
                    Of one that is presumed: the entry that added it; who acknowledges that has been there since
    reachable       False after the peer was lost: nothing is sent until it is heard of again
    retry_at_ms     when to ask again if no answer comes; None when no answer is awaited
    """

    __slots__ = (
        "admitted_at",
        "commit_sent",
        "confirmed",
        "inflight",
        "inflight_bytes",
        "match",
        "mode",
        "newcomer",
        "next",
        "presumed",
        "reachable",
        "retry_at_ms",
        "retry_wait_ms",
    )

    def __init__(self, next_index: int, settings: Settings, added_at: int = 0) -> None:
        """`added_at`: the entry that added this follower in this term; 0: it was there when the term began."""
        self.match = 0
        self.next = next_index
        self.mode = Mode.PROBE
        self.inflight: deque[tuple[int, int]] = deque()  # (last index, bytes) of each unanswered append, oldest first
        self.inflight_bytes = 0
        self.commit_sent = 0
        self.confirmed = (0, 0)
        self.newcomer = self.presumed = added_at > 0
        self.admitted_at = added_at
        self.reachable = True
        self.retry_at_ms: int | None = None
        self.retry_wait_ms = settings.retry_ms

    def has_room(self, settings: Settings) -> bool:
        return len(self.inflight) < settings.inflight_appends_max and self.inflight_bytes < settings.inflight_bytes_max

    def admits(self, committed: int) -> int:
        """The incarnation that is to be told that it is a member now; 0: none is."""
        heard = self.newcomer and not self.presumed
        return self.confirmed[0] if heard and 0 < self.admitted_at <= min(committed, self.match) else 0

    def standing(self, message: Appended, propose: Callable[[], int]) -> bool:
        """Take in whether the sender says that it is a newcomer. True when it counts from now on and did not before.

        A newcomer's word that it is a member is believed only with the entry that admitted it: without it, the word
        may be that of a replica that was there before.
        """
        if message.newcomer:
            if self.presumed or not self.newcomer:
                self.match = self.admitted_at = 0  # of what was acknowledged before, nothing may be left
                self.newcomer, self.presumed = True, False
            if not self.admitted_at:
                self.admitted_at = propose()
            return False
        if not self.newcomer or (self.admitted_at and not (message.success and message.match >= self.admitted_at)):
            return False
        self.newcomer = self.presumed = False
        return True

    def restarted(self) -> None:
        """A new process: it may have been given an empty disk."""
        self.match = 0
        if not self.presumed:
            self.admitted_at = 0

    def sent(self, last_index: int, size: int, commit_index: int, now_ms: int) -> None:
        """An append that ends at `last_index` has left."""
        self.inflight.append((last_index, size))
        self.inflight_bytes += size
        self.commit_sent = min(commit_index, last_index)
        if self.mode is Mode.REPLICATE:
            self.next = last_index + 1
        if self.retry_at_ms is None:
            self.retry_at_ms = now_ms + self.retry_wait_ms

    def accepted(self, match: int, now_ms: int, settings: Settings) -> bool:
        """A successful answer. True when it moved `match`.

        Each append is answered once and in order, so an answer settles the appends before it and one that ends
        exactly at `match`: an empty append behind it, sent for its commit index, has its own answer.
        """
        inflight = self.inflight
        while inflight and inflight[0][0] < match:
            self.inflight_bytes -= inflight.popleft()[1]
        if inflight and inflight[0][0] == match:
            self.inflight_bytes -= inflight.popleft()[1]
        moved = match > self.match
        if moved:
            self.match = match
            self.next = max(self.next, match + 1)
        if self.mode is Mode.PROBE and not inflight:
            self.mode = Mode.REPLICATE
        self.retry_wait_ms = settings.retry_ms
        self.retry_at_ms = now_ms + self.retry_wait_ms if inflight else None
        return moved

    def probe(self, next_index: int) -> None:
        """Forget what is in flight and ask from `next_index` on (never below what is known to match)."""
        self.mode = Mode.PROBE
        self.next = max(next_index, self.match + 1)
        self.inflight.clear()
        self.inflight_bytes = 0
        self.commit_sent = 0
        self.retry_at_ms = None

    def start_over(self) -> None:
        """What is in flight is lost. Where the follower's end is not known yet, the question stays the same: going
        back to the start could ask for a snapshot that it does not need."""
        self.probe(self.match + 1 if self.mode is Mode.REPLICATE else self.next)

    def await_snapshot(self) -> None:
        """What it needs next is compacted."""
        self.probe(self.next)
        self.mode = Mode.SNAPSHOT

    def back_off(self, now_ms: int, settings: Settings) -> None:
        """No answer came: wait twice as long before the next question."""
        self.retry_wait_ms = min(2 * self.retry_wait_ms, settings.retry_ms_max)
        self.retry_at_ms = now_ms + self.retry_wait_ms
