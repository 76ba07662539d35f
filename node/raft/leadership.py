"""What a replica has only while it leads: its followers' progress, its lease, its quorum, a transfer under way.

Made when an election is won and dropped with the role, so nothing of one term can leak into the next.
"""

from __future__ import annotations

from typing import NamedTuple

from geodyne.peermessages import Append, Appended, Entry, RaftMessage, TimeoutNow
from node.raft.change import CAUGHT_UP_ENTRIES, Step, next_step
from node.raft.configuration import Configuration
from node.raft.liveness import NEVER_MS, Liveness
from node.raft.log import RaftLog
from node.raft.progress import Mode, Progress
from node.raft.quorum import reached_by_majority
from node.raft.settings import Settings

FOREVER_MS = 1 << 62  # later than any time


class _Part(NamedTuple):
    """A set of voters of which a quorum has a majority."""

    followers: tuple[str, ...]
    leads: bool  # the leader is one of them


class Leadership:
    """One term of one group's leader. `log` and `liveness` are the replica's and its node's own."""

    __slots__ = (
        "_before",
        "_check_at_ms",
        "_configuration",
        "_fill_due",
        "_followers",
        "_lease_until_ms",
        "_liveness",
        "_log",
        "_need_snapshot",
        "_newcomers",
        "_node_id",
        "_notice_at_ms",
        "_parts",
        "_progress",
        "_settings",
        "_transfer_until_ms",
        "committed",
        "first_index",
        "group",
        "term",
        "transfer_to",
    )

    def __init__(
        self,
        *,
        settings: Settings,
        node_id: str,
        group: int,
        term: int,
        configuration: Configuration,
        log: RaftLog,
        liveness: Liveness,
        committed: int,
        before: list[tuple[str, RaftMessage]],
        need_snapshot: list[str],
        now_ms: int,
    ) -> None:
        """The log's next entry will be this term's first. What is to be sent is added to `before` and
        `need_snapshot` (effects.Effects)."""
        self._settings = settings
        self._log = log
        self._liveness = liveness
        self._before = before
        self._need_snapshot = need_snapshot
        self._node_id = node_id
        self._count(configuration)
        self._progress = {
            peer: Progress(log.last_index + 1, settings) for peer in configuration.members if peer != node_id
        }
        self._fill_due = True
        self._lease_until_ms = NEVER_MS
        self._newcomers = False  # some follower is one
        self._notice_at_ms: int | None = None
        self._check_at_ms = now_ms + settings.election_ms_max if self._followers else None
        self._transfer_until_ms = 0
        self.committed = committed
        self.group = group
        self.term = term
        self.first_index = log.last_index + 1
        self.transfer_to = ""

    # --- membership ---------------------------------------------------------------------------------------

    def _count(self, configuration: Configuration) -> None:
        """Of whom a majority is needed: of each part of the configuration. A leader that is in none of them goes on
        leading, to the end of the change, and counts for nothing."""
        node_id = self._node_id
        self._configuration = configuration
        self._followers = tuple([voter for voter in configuration.voting if voter != node_id])
        self._parts = tuple(
            [_Part(tuple([one for one in part if one != node_id]), node_id in part) for part in configuration.parts]
        )

    def reconfigured(self, configuration: Configuration, index: int, now_ms: int) -> None:
        """The entry at `index`, just proposed, puts this configuration in force. What is known of a lease was found
        out with another quorum: it is used no more."""
        self._count(configuration)
        known = self._progress
        self._progress = {
            peer: known.get(peer) or Progress(index, self._settings, added_at=index)
            for peer in configuration.members
            if peer != self._node_id
        }
        self._newcomers = any(one.newcomer for one in self._progress.values())
        self._lease_until_ms = NEVER_MS
        self._fill_due = True
        if not self._followers:
            self._check_at_ms = None
        self._doubt(now_ms, self._settings.election_ms_max)

    def next_step(self, target: Configuration, now_ms: int) -> Step | Configuration:
        return next_step(self._configuration, target, self._node_id, lambda peer: self.caught_up(peer, now_ms))

    def caught_up(self, peer: str, now_ms: int) -> bool:
        """True for a live member that follows as fast as this node leads."""
        progress = self._progress.get(peer)
        return (
            progress is not None
            and progress.reachable
            and not progress.newcomer
            and progress.mode is Mode.REPLICATE
            and progress.match + CAUGHT_UP_ENTRIES >= self._log.last_index
            and self._confirmed(peer, progress)
            and self._liveness.alive(peer, now_ms)
        )

    # --- the log ------------------------------------------------------------------------------------------

    def propose(self, payload: bytes) -> int:
        """Add an entry of this term; its index. It travels with the next `fill`."""
        index = self._log.last_index + 1
        self._log.extend(Entry(index, self.term, payload))
        self._fill_due = True
        return index

    def advance_commit(self, now_ms: int) -> bool:
        """Move `committed` to what a majority has. True when it moved.

        An entry counts where it is durable: on this node only after its own fsync. And only an entry of the own
        term commits by counting; those before it commit with it (Raft, section 5.4.2).
        """
        index = self._matched(self._parts[0])
        if len(self._parts) > 1:
            index = min(index, self._matched(self._parts[1]))
        if index <= self.committed or index < self.first_index:
            return False
        self.committed = index
        if self._notice_at_ms is None and self._progress:
            self._notice_at_ms = now_ms + self._settings.commit_notice_ms
        if self._newcomers:
            self._fill_due = True  # one of them may be a member now
        return True

    def _matched(self, part: _Part) -> int:
        """Up to which entry a majority of the part has all."""
        progress = self._progress
        matches = [0 if (one := progress[peer]).newcomer else one.match for peer in part.followers]
        if part.leads:
            matches.append(self._log.persisted_index)
        return reached_by_majority(matches)

    def appended(self, peer: str, message: Appended, now_ms: int) -> bool:
        """A follower's answer in this term. True when what it has durable grew."""
        progress = self._progress.get(peer)
        if progress is None or message.match > self._log.last_index:
            return False
        pair = (message.incarnation, message.support_epoch)
        if pair[0] < progress.confirmed[0]:
            return False  # late, of a process that is no more
        if pair[0] > progress.confirmed[0] > 0:
            progress.restarted()
        progress.reachable = True
        progress.confirmed = max(progress.confirmed, pair)
        joined = False
        if progress.newcomer or message.newcomer:
            joined = progress.standing(message, self._propose_admission)
            self._newcomers = any(one.newcomer for one in self._progress.values())
        if not message.success:
            self._rejected(progress, message)
            return False
        moved = progress.accepted(message.match, now_ms, self._settings)
        if progress.mode is Mode.SNAPSHOT and progress.match >= self._log.offset_index:
            progress.probe(progress.match + 1)
        if progress.next <= self._log.last_index or peer == self.transfer_to:
            self._fill_due = True
        elif progress.commit_sent < self.committed and self._notice_at_ms is None:
            self._notice_at_ms = now_ms + self._settings.commit_notice_ms
        if progress.admits(self.committed):
            self._fill_due = True
        return moved or joined

    def _propose_admission(self) -> int:
        """The entry that makes a newcomer a member; 0: not now."""
        return 0 if self.transfer_to else self.propose(b"")

    def _rejected(self, progress: Progress, message: Appended) -> None:
        """Go back past everything that cannot match: a whole term at a time, on both sides. What a newcomer has is
        what it says now, whatever was acknowledged under its name."""
        if progress.mode is Mode.SNAPSHOT:
            return
        if progress.newcomer:
            progress.match = min(progress.match, message.match)
        retry = max(progress.match, self._log.conflict_before(message.match, message.conflict_term)) + 1
        if retry < progress.next:  # else it answers an append that was given up already
            progress.probe(retry)
            self._fill_due = True

    # --- sending ------------------------------------------------------------------------------------------

    def fill(self, now_ms: int) -> None:
        """Send every follower what it lacks and has room for.

        A group's only voter has won its election by itself, so its term is not known to be durable before its
        first entry is; it tells learners nothing until then, or a crash could make it use the term twice.
        """
        if not self._fill_due or (not self._followers and self._log.persisted_index < self.first_index):
            return
        self._fill_due = False
        last = self._log.last_index
        shared: Append | None = None
        for peer, progress in self._progress.items():
            if not progress.reachable:
                continue
            if progress.mode is Mode.PROBE:
                if progress.retry_at_ms is None:
                    self._send(peer, progress, None, now_ms)
                continue
            while progress.mode is Mode.REPLICATE and progress.next <= last and progress.has_room(self._settings):
                shared = self._send(peer, progress, shared, now_ms)
            if progress.newcomer and not progress.inflight and progress.admits(self.committed):
                self._send(peer, progress, None, now_ms, empty=True)
            self._finish_transfer(peer, progress)

    def _send(
        self, peer: str, progress: Progress, shared: Append | None, now_ms: int, empty: bool = False
    ) -> Append | None:
        """Send one append from `progress.next` on; `shared` is used again if it is just that. Returns what was sent."""
        previous = progress.next - 1
        if previous < self._log.offset_index:
            progress.await_snapshot()
            self._need_snapshot.append(peer)
            return shared
        if shared is None or empty or shared.prev_index != previous:
            last = self._log.last_index
            entries = (
                ()
                if empty or previous == last
                else self._log.entries(previous + 1, last, self._settings.append_bytes_max)
            )
            shared = Append(self.group, self.term, previous, self._log.term(previous), entries, self.committed)
        size = sum([len(entry.payload) for entry in shared.entries])
        progress.sent(previous + len(shared.entries), size, self.committed, now_ms)
        admits = progress.admits(self.committed)
        self._before.append((peer, shared._replace(admits=admits) if admits else shared))
        return shared

    # --- events of the node -------------------------------------------------------------------------------

    def peer_connected(self, peer: str, now_ms: int) -> None:
        """A new stream: what was in flight on the old one is gone, and so may be the last news of the commit index."""
        progress = self._progress.get(peer)
        if progress is None:
            return
        if progress.mode is not Mode.SNAPSHOT:
            progress.start_over()
        progress.retry_wait_ms = self._settings.retry_ms
        self.peer_renewed(peer, now_ms)

    def peer_renewed(self, peer: str, now_ms: int) -> None:
        """The peer is heard of again or acknowledges under another pair: ask it to confirm this term under that."""
        progress = self._progress.get(peer)
        if progress is None:
            return
        progress.reachable = True
        if progress.mode is Mode.PROBE:
            self._fill_due = True
        elif progress.mode is Mode.REPLICATE and not progress.inflight and not self._confirmed(peer, progress):
            progress.start_over()
            self._fill_due = True
        self._doubt(now_ms, self._settings.election_ms_max)

    def peer_lost(self, peer: str, now_ms: int) -> None:
        """Send it nothing until it is heard of; and look whether there still is a quorum."""
        progress = self._progress.get(peer)
        if progress is None:
            return
        if progress.mode is not Mode.SNAPSHOT:
            progress.start_over()
        progress.reachable = False
        self._doubt(now_ms, self._settings.election_ms_max - self._settings.election_ms_min)

    def snapshot_sent(self, peer: str, index: int) -> bool:
        """The peer has installed a snapshot of the state at `index`. True when what it has durable grew."""
        progress = self._progress.get(peer)
        if progress is None or index > self._log.last_index:
            return False
        moved = index > progress.match
        progress.match = max(progress.match, index)
        progress.probe(progress.match + 1)
        self._fill_due = True
        return moved

    def snapshot_failed(self, peer: str, now_ms: int) -> None:
        """After a wait, ask again where the peer's log ends: it may have refused because it is further on. A peer
        that is lost is asked when it is heard of again."""
        progress = self._progress.get(peer)
        if progress is not None and progress.mode is Mode.SNAPSHOT:
            progress.probe(self._log.last_index + 1)
            progress.back_off(now_ms, self._settings)

    def reassure(self, peer: str) -> None:
        """The peer asked for votes: it does not know that this node leads."""
        progress = self._progress.get(peer)
        if progress is not None and progress.mode is not Mode.SNAPSHOT:
            progress.reachable = True
            progress.start_over()
            self._fill_due = True

    # --- time ---------------------------------------------------------------------------------------------

    def deadline_ms(self) -> int | None:
        """When `tick` is next due; None when every follower has everything and knows it, or cannot be reached."""
        deadline = self._check_at_ms
        if self._notice_at_ms is not None and (deadline is None or self._notice_at_ms < deadline):
            deadline = self._notice_at_ms
        if self.transfer_to and (deadline is None or self._transfer_until_ms < deadline):
            deadline = self._transfer_until_ms
        for progress in self._progress.values():
            retry = progress.retry_at_ms
            if retry is not None and progress.reachable and (deadline is None or retry < deadline):
                deadline = retry
        return deadline

    def tick(self, now_ms: int) -> bool:
        """Do what is due. False when this node must stop leading: no quorum, or a transfer that failed."""
        if self.transfer_to and now_ms >= self._transfer_until_ms:
            return False
        if self._check_at_ms is not None and now_ms >= self._check_at_ms:
            if now_ms - self._quorum_acked_ms() >= self._settings.election_ms_max:
                return False
            self._check_at_ms = None
            self._doubt(now_ms, self._settings.election_ms_max - self._settings.election_ms_min)
        if self._notice_at_ms is not None and now_ms >= self._notice_at_ms:
            self._notice(now_ms)
        for peer, progress in self._progress.items():
            if progress.retry_at_ms is None or now_ms < progress.retry_at_ms or not progress.reachable:
                continue
            progress.start_over()
            if not self._liveness.alive(peer, now_ms):
                progress.reachable = False  # a dead follower must not keep the group awake
                continue
            progress.back_off(now_ms, self._settings)
            self._send(peer, progress, None, now_ms, empty=True)
        return True

    def _notice(self, now_ms: int) -> None:
        """Tell the commit index to the followers that no append has told it."""
        self._notice_at_ms = None
        for peer, progress in self._progress.items():
            behind = progress.commit_sent < self.committed and progress.next > self._log.last_index
            if behind and progress.reachable and progress.mode is Mode.REPLICATE and progress.has_room(self._settings):
                self._send(peer, progress, None, now_ms, empty=True)

    # --- lease and quorum ---------------------------------------------------------------------------------

    def lease_valid(self, now_ms: int) -> bool:
        """True while no other node can be elected: a majority acknowledged, under the pair with which it confirmed
        this term, a heartbeat sent less than a lease ago. What was true of a time stays true of it, so the end
        that was last computed is used up before it is computed again."""
        if self.transfer_to:
            return False
        if now_ms < self._lease_until_ms:
            return True
        self._lease_until_ms = self._quorum_acked_ms() + self._settings.lease_held_ms
        return now_ms < self._lease_until_ms

    def confirmed_since(self, start_ms: int) -> bool:
        """True when a majority acknowledged a heartbeat sent at or after `start_ms` while it followed this term, so
        that this node was the leader, and the only one, at some time after it."""
        return not self.transfer_to and self._quorum_acked_ms() >= start_ms

    def _quorum_acked_ms(self) -> int:
        """The latest time such that a quorum, this node included, acknowledged a heartbeat sent then or later."""
        acked = self._acked_ms(self._parts[0])
        return acked if len(self._parts) == 1 else min(acked, self._acked_ms(self._parts[1]))

    def _acked_ms(self, part: _Part) -> int:
        acked_ms = self._liveness.acked_ms
        times = [
            NEVER_MS if (one := self._progress[peer]).newcomer else acked_ms(peer, *one.confirmed)
            for peer in part.followers
        ]
        if part.leads:
            times.append(FOREVER_MS)
        return reached_by_majority(times)

    def _doubt(self, now_ms: int, patience_ms: int) -> None:
        """Unless a quorum acknowledged lately, look again in a while, and stop leading if it still has not."""
        if self._check_at_ms is None and now_ms - self._quorum_acked_ms() >= self._settings.election_ms_min:
            self._check_at_ms = now_ms + patience_ms

    def _confirmed(self, peer: str, progress: Progress) -> bool:
        return progress.confirmed == self._liveness.acked_pair(peer)

    # --- transfer -----------------------------------------------------------------------------------------

    def can_take_over(self, peer: str, now_ms: int) -> bool:
        """True for a live voter that has everything and stays."""
        progress = self._progress.get(peer)
        return (
            progress is not None
            and peer in self._configuration.voters
            and progress.reachable
            and not progress.newcomer
            and progress.mode is Mode.REPLICATE
            and progress.match == self._log.last_index
            and self._liveness.alive(peer, now_ms)
        )

    def behind(self) -> list[str]:
        """The voters whose acknowledgements come late or not at all: out of reach, or still being sent what is old."""
        last = self._log.last_index
        return [
            peer
            for peer in self._followers
            if not (one := self._progress[peer]).reachable
            or one.newcomer
            or one.mode is not Mode.REPLICATE
            or one.next <= last
        ]

    def transfer(self, to: str, now_ms: int) -> bool:
        """Start handing over (thesis, section 3.10). From here on, to the end of this term, there is no lease and
        no confirmation: whoever is asked may vote for `to` at once. False when `to` is not a voter within reach, or
        one that goes."""
        progress = self._progress.get(to)
        if self.transfer_to or to not in self._configuration.voters or progress is None or not progress.reachable:
            return False
        if progress.newcomer:
            return False
        self.transfer_to = to
        self._lease_until_ms = NEVER_MS
        self._transfer_until_ms = now_ms + self._settings.transfer_ms
        self._finish_transfer(to, progress)
        return True

    def _finish_transfer(self, peer: str, progress: Progress) -> None:
        if peer == self.transfer_to and progress.match == self._log.last_index:
            self._before.append((peer, TimeoutNow(self.group, self.term)))

    def check_invariants(self) -> None:
        assert set(self._progress) == set(self._configuration.members) - {self._node_id}
        for peer, progress in self._progress.items():
            assert progress.match < progress.next <= self._log.last_index + 1, peer
            assert progress.match <= self._log.last_index, peer
            assert progress.inflight_bytes == sum(size for _, size in progress.inflight), peer
            assert len(progress.inflight) <= self._settings.inflight_appends_max + 1, peer
            assert progress.mode is not Mode.SNAPSHOT or not progress.inflight, peer
