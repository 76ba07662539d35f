"""Regions with one rule of safety switched off, for the tests that show that the simulation notices.

Each is a context in which every node of every simulated region breaks that rule and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from geodyne.catalog import PartitionRecord
from geodyne.messages import Answer, Found, ListShards, Request, Write, WriteId
from geodyne.peermessages import Appended, Entry, HeartbeatAck, Vote, VoteRequest
from geodyne.sim import storage
from node import groups, transfer
from node.calls import Calls
from node.failing import StorageFailure
from node.feed.streams import list_shards
from node.group import Asker, Group
from node.groups import Groups
from node.healing import Healing
from node.membership import Membership
from node.raft.configuration import Configuration
from node.raft.core import Raft
from node.raft.effects import Effects
from node.raft.leadership import Leadership
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from node.raft.quorum import majority
from node.service import NodeService
from node.storage import sqlite, sqlite_entries, sqlite_snapshots, wal_format
from node.storage.roster import Roster
from node.storage.sqlite_entries import EntryChanges
from node.storage.sqlite_snapshots import Import
from node.storage.wal import Wal
from node.storage.wal_sync import SyncJob, make_durable
from node.window import Window

Mutation = Callable[[], AbstractContextManager[Any]]
LATER = 1 << 60


# --- the log and the disk -----------------------------------------------------------------------------------


def disk_lies() -> AbstractContextManager[Any]:
    """What is reported durable is not."""

    def submit(syncer: storage._TimedSyncer, job: SyncJob) -> None:
        asyncio.get_running_loop().call_soon(lambda: syncer._disk.dead or syncer._landed(None))

    return patch.object(storage._TimedSyncer, "submit", submit)


def perform_changed(change: Callable[[NodeService, Effects], Effects]) -> AbstractContextManager[Any]:
    real = NodeService._perform

    def perform(service: NodeService, group: Group, effects: Effects, durable: list[Any]) -> None:
        real(service, group, change(service, effects), durable)

    return patch.object(NodeService, "_perform", perform)


def answers_do_not_wait(kind: type) -> AbstractContextManager[Any]:
    """Messages of this kind leave before what they promise is durable."""

    def change(service: NodeService, effects: Effects) -> Effects:
        early = tuple(one for one in effects.after if isinstance(one[1], kind))
        rest = tuple(one for one in effects.after if not isinstance(one[1], kind))
        return effects._replace(before=(*effects.before, *early), after=rest)

    return perform_changed(change)


def hard_states_are_not_written() -> AbstractContextManager[Any]:
    return perform_changed(lambda service, effects: effects._replace(hard_state=None))


def votes_are_not_written() -> AbstractContextManager[Any]:
    real = Wal.set_hard_state
    return patch.object(Wal, "set_hard_state", lambda log, group, term, vote: real(log, group, term, ""))


def entries_are_written_before_the_term() -> AbstractContextManager[Any]:
    """Of one turn: so that a torn write keeps the entries and loses the term."""
    real = NodeService._perform

    def perform(service: NodeService, group: Group, effects: Effects, durable: list[Any]) -> None:
        if effects.entries and effects.hard_state is not None:
            hard_state = effects.hard_state
            real(service, group, effects._replace(hard_state=None), durable)
            service._log.set_hard_state(group.partition, hard_state.term, hard_state.vote)
        else:
            real(service, group, effects, durable)

    return patch.object(NodeService, "_perform", perform)


def leader_counts_itself_at_once() -> AbstractContextManager[Any]:
    real = NodeService._perform

    def perform(service: NodeService, group: Group, effects: Effects, durable: list[Any]) -> None:
        real(service, group, effects, durable)
        if effects.entries and group.leading:
            group.raft.persisted(effects.entries[-1].index, effects.entries[-1].term)
            service._touched.add(group)

    return patch.object(NodeService, "_perform", perform)


def state_runs_ahead() -> AbstractContextManager[Any]:
    return patch.object(Group, "_appliable_index", property(lambda group: group.raft.commit_index))


def log_is_cut_too_far() -> AbstractContextManager[Any]:
    """The log is cut through what is applied, whatever of that a checkpoint has made durable."""
    real = Group.applied

    def applied(group: Group, batch: Any) -> None:
        real(group, batch)
        log = group.raft.log
        through = min(group.state.applied_index, log.persisted_index)
        if through > log.offset_index:
            term = log.term(through)
            group.raft.compact(through)
            logs[group.raft.node_id].compact(group.partition, through, term)

    logs: dict[str, Any] = {}
    real_start = NodeService.start

    def start(service: NodeService) -> None:
        logs[service.node_id] = service._log
        real_start(service)

    return both(patch.object(Group, "applied", applied), patch.object(NodeService, "start", start))


@contextmanager
def both(*contexts: AbstractContextManager[Any]) -> Iterator[None]:
    with contexts[0], contexts[1]:
        yield


# --- elections and commits ----------------------------------------------------------------------------------


def no_pre_vote() -> AbstractContextManager[Any]:
    return patch.object(Raft, "_campaign", lambda raft, now_ms: raft._stand(now_ms, transfer=False))


def pre_votes_change_the_term() -> AbstractContextManager[Any]:
    real = Raft._on_vote_request

    def on_vote_request(raft: Raft, sender: str, request: VoteRequest, now_ms: int) -> None:
        real(raft, sender, request, now_ms)
        if request.pre and raft._after == [] and raft._before and request.term > raft.term:
            answer = raft._before[-1][1]
            if isinstance(answer, Vote) and answer.granted:
                raft._become_follower(request.term, "", now_ms)

    return patch.object(Raft, "_on_vote_request", on_vote_request)


def voters_do_not_compare_logs() -> AbstractContextManager[Any]:
    real = Raft._on_vote_request

    def on_vote_request(raft: Raft, sender: str, request: VoteRequest, now_ms: int) -> None:
        real(raft, sender, request._replace(last_term=LATER), now_ms)

    return patch.object(Raft, "_on_vote_request", on_vote_request)


def voters_vote_again() -> AbstractContextManager[Any]:
    real = Raft._on_vote_request

    def on_vote_request(raft: Raft, sender: str, request: VoteRequest, now_ms: int) -> None:
        if not request.pre and request.term == raft.term and raft._leadership is None:
            raft._vote = ""
        real(raft, sender, request, now_ms)

    return patch.object(Raft, "_on_vote_request", on_vote_request)


def older_terms_commit_by_counting() -> AbstractContextManager[Any]:
    real = Leadership.advance_commit

    def advance_commit(leadership: Leadership, now_ms: int) -> bool:
        first_index, leadership.first_index = leadership.first_index, 0
        try:
            return real(leadership, now_ms)
        finally:
            leadership.first_index = first_index

    return patch.object(Leadership, "advance_commit", advance_commit)


def followers_do_not_match_terms() -> AbstractContextManager[Any]:
    def holds(log: RaftLog, index: int, term: int) -> bool:
        return log.offset_index <= index <= log.last_index

    return patch.object(RaftLog, "holds", holds)


def followers_keep_what_contradicts() -> AbstractContextManager[Any]:
    """A follower's own entries stay where the leader has others."""
    real = RaftLog.append

    def append(log: RaftLog, entries: Sequence[Entry]) -> int:
        return real(log, [entry for entry in entries if entry.index > log.last_index])

    return patch.object(RaftLog, "append", append)


def newcomers_count() -> AbstractContextManager[Any]:
    return patch.object(Roster, "trusted", lambda roster, partition, voters: True)


# --- leases -------------------------------------------------------------------------------------------------


def leases_never_end() -> AbstractContextManager[Any]:
    return patch.object(Leadership, "lease_valid", lambda term, now_ms: True)


def leases_count_from_receipt() -> AbstractContextManager[Any]:
    real = Liveness.on_heartbeat_ack

    def on_heartbeat_ack(liveness: Liveness, peer: str, ack: HeartbeatAck, now_ms: int) -> None:
        real(liveness, peer, ack._replace(sent_at_ms=now_ms), now_ms)

    return patch.object(Liveness, "on_heartbeat_ack", on_heartbeat_ack)


def restarted_nodes_vote_at_once() -> AbstractContextManager[Any]:
    return patch.object(Liveness, "may_vote", lambda liveness, now_ms: True)


def live_leaders_are_not_protected() -> AbstractContextManager[Any]:
    """A replica votes against a leader that it has promised not to."""
    return patch.object(Raft, "_bound", lambda raft, now_ms: raft._leadership is not None)


def support_is_never_withdrawn() -> AbstractContextManager[Any]:
    return patch.object(Liveness, "withdraw", lambda liveness, peer: None)


# --- answers ------------------------------------------------------------------------------------------------


def reads_see_what_is_not_committed() -> AbstractContextManager[Any]:
    def look_up(group: Group, key: bytes) -> Found:
        pending = group._overlay.newest(key)
        row = pending.row if pending is not None else group._store.get(group.partition, key)
        return Found(None, 0) if row is None or row.value is None else Found(row.value, row.size)

    return patch.object(Group, "look_up", look_up)


def reads_do_not_look_at_the_lease() -> AbstractContextManager[Any]:
    def confirm_reads(group: Group, now_ms: Callable[[], int]) -> bool:
        reads, group._reads = group._reads, []
        for asker, answer in reads:
            asker.answer(answer)
        return False

    return patch.object(Group, "confirm_reads", confirm_reads)


def reads_are_confirmed_by_any_round() -> AbstractContextManager[Any]:
    """A heartbeat round that began before the read arrived will do."""
    return patch.object(
        Raft,
        "confirmed_since",
        lambda raft, start_ms: raft._leadership is not None and raft._leadership._quorum_acked_ms() > 0,
    )


def what_a_duty_builds_waits_for_the_turn() -> AbstractContextManager[Any]:
    """By then the node may lead no more, and cannot propose it."""
    real = Group.keep_feed

    def keep_feed(group: Group, *parts: Any) -> None:
        group.seal()
        with patch.object(Group, "seal", lambda group: None):
            real(group, *parts)

    return patch.object(Group, "keep_feed", keep_feed)


def shards_are_listed_without_a_look_at_the_lease() -> AbstractContextManager[Any]:
    def listed(calls: Calls, call: ListShards, request: Request, asker: Asker) -> None:
        group = calls._for_leader(call, request, asker)
        if group is not None:
            calls._service.apply_all(group)
            asker.answer(list_shards(group.state, call))

    return patch.object(Calls, "_list_shards", listed)


def writes_are_answered_before_they_are_committed() -> AbstractContextManager[Any]:
    real = Group.write

    def write(group: Group, call: Write, write_id: WriteId | None, asker: Asker, wall_us: int) -> None:
        real(group, call, write_id, asker, wall_us)
        for index in list(group._waiting):
            for waiting, answer in group._waiting.pop(index):
                waiting.answer(answer)

    return patch.object(Group, "write", write)


def refusals_do_not_wait() -> AbstractContextManager[Any]:
    def answer_after(group: Group, index: int, asker: Asker, answer: Answer) -> None:
        asker.answer(answer)

    return patch.object(Group, "_answer_after", answer_after)


def leaders_serve_before_they_know_what_is_committed() -> AbstractContextManager[Any]:
    return patch.object(Raft, "ready_to_serve", property(lambda raft: raft._leadership is not None))


def resent_writes_are_done_again() -> AbstractContextManager[Any]:
    return patch.object(Group, "_answered_before", lambda group, write_id, asker: False)


def the_window_is_forgotten_at_restarts() -> AbstractContextManager[Any]:
    return patch.object(groups, "_window", lambda *parts: Window())


def snapshots_come_without_the_window() -> AbstractContextManager[Any]:
    return patch.object(Import, "window", property(lambda importing: b""))


def snapshots_come_without_entries() -> AbstractContextManager[Any]:
    return patch.object(transfer, "_indexes_of", lambda state: None)


def old_entries_stay() -> AbstractContextManager[Any]:
    real = EntryChanges.change
    return patch.object(EntryChanges, "change", lambda changes, key, old, new: real(changes, key, None, new))


def sizes_of_collections_are_forgotten() -> AbstractContextManager[Any]:
    return patch.object(EntryChanges, "_count", lambda changes, entries, sizes, sign: 0)


# --- members ------------------------------------------------------------------------------------------------


def joint_configurations_count_the_new_half() -> AbstractContextManager[Any]:
    return patch.object(Configuration, "parts", property(lambda configuration: (configuration.voters,)))


def learners_count() -> AbstractContextManager[Any]:
    """Towards a commit, and newcomers with them."""

    def matched(leadership: Leadership, part: Any) -> int:
        matches = [one.match for one in leadership._progress.values()] + [leadership._log.persisted_index]
        return sorted(matches, reverse=True)[majority(len(part.followers) + part.leads) - 1]

    return patch.object(Leadership, "_matched", matched)


def replicas_go_before_the_move_is_done() -> AbstractContextManager[Any]:
    """As soon as a move has begun, the catalog's word counts, whatever consensus says."""
    return both(
        patch.object(PartitionRecord, "holders", property(lambda record: record.target or record.voters)),
        patch.object(Groups, "_may_give_up", lambda held, partition, record: True),
    )


def replicas_that_come_back_are_trusted() -> AbstractContextManager[Any]:
    """What a node gave up leaves no mark, and what it holds again counts at once."""
    real = Groups.hold

    def hold(held: Groups, *arguments: Any, original: bool = True, **more: Any) -> None:
        real(held, *arguments, original=True, **more)

    def give_up(held: Groups, partition: int) -> None:
        held._let_go(partition)
        held._log.destroy(partition)
        held._when_durable(lambda: held._store.destroy(partition))

    return patch.multiple(Groups, _give_up=give_up, hold=hold)


def dropped_replicas_leave_no_mark() -> AbstractContextManager[Any]:
    """What a node gave up is gone from its log."""

    def give_up(held: Groups, partition: int) -> None:
        held._let_go(partition)
        held._log.destroy(partition)
        held._going.add(partition)
        held._when_durable(lambda: held._gone(partition))

    return patch.object(Groups, "_give_up", give_up)


def restarted_nodes_give_up_what_their_logs_know() -> AbstractContextManager[Any]:
    """A start goes by the catalog alone, which may be older than what a replica's own log says."""
    return patch.object(Groups, "_may_know_more", lambda held, partition, record: False)


def moves_are_never_reported() -> AbstractContextManager[Any]:
    return patch.object(Membership, "_report", lambda membership, group, now_ms: None)


# --- disks that fail and rot --------------------------------------------------------------------------------


def snapshots_are_not_fsynced() -> AbstractContextManager[Any]:
    """The log is reset to a snapshot that the disk may not have."""
    real = sqlite.StateStore.install

    async def install(store: sqlite.StateStore, *arguments: Any) -> None:
        vars(store)["_synchronous"] = nullcontext
        try:
            await real(store, *arguments)
        finally:
            vars(store).pop("_synchronous", None)

    return patch.object(sqlite.StateStore, "install", install)


def failed_fsyncs_are_successes() -> AbstractContextManager[Any]:
    def told(disk: Any, job: SyncJob) -> None:
        make_durable(disk, job)

    return patch.object(storage, "make_durable", told)


def failed_fsyncs_are_tried_again() -> AbstractContextManager[Any]:
    real = storage._TimedSyncer._done

    def done(syncer: storage._TimedSyncer) -> None:
        if syncer._disk.trouble.sync_error and not syncer._disk.dead:
            assert syncer._job is not None
            make_durable(syncer._disk, syncer._job)
            syncer.submit(syncer._job)
        else:
            real(syncer)

    return patch.object(storage._TimedSyncer, "_done", done)


def last_words_count_what_was_not_written() -> AbstractContextManager[Any]:
    """A leader whose disk has failed goes on counting itself for what it has in memory."""
    real = StorageFailure._tell

    def tell(failure: StorageFailure, group: Group) -> None:
        log = group.raft.log
        group.raft.persisted(log.last_index, log.last_term)
        real(failure, group)

    return patch.object(StorageFailure, "_tell", tell)


def damage_in_the_log_is_taken_for_its_end() -> AbstractContextManager[Any]:
    return patch.object(wal_format, "mark_behind", lambda data, position, nonce: None)


@contextmanager
def checksums_are_not_looked_at() -> Iterator[None]:
    with (
        patch.object(sqlite, "row_matches", lambda *parts: True),
        patch.object(sqlite_entries, "row_matches", lambda *parts: True),
        patch.object(sqlite_snapshots, "row_matches", lambda *parts: True),
    ):
        yield


def snapshots_are_taken_of_damaged_rows() -> AbstractContextManager[Any]:
    return patch.object(sqlite_snapshots, "row_matches", lambda *parts: True)


def damage_is_not_healed() -> AbstractContextManager[Any]:
    return patch.object(Healing, "found", lambda healing, partition, what: None)


MUTATIONS: dict[str, Mutation] = {
    "nothing is fsynced": disk_lies,
    "followers acknowledge before they have fsynced": lambda: answers_do_not_wait(Appended),
    "votes leave before they are durable": lambda: answers_do_not_wait(Vote),
    "a leader counts itself before its fsync": leader_counts_itself_at_once,
    "terms and votes are not written": hard_states_are_not_written,
    "votes are not written": votes_are_not_written,
    "entries are written before their term": entries_are_written_before_the_term,
    "the state runs ahead of the log": state_runs_ahead,
    "the log is cut before a checkpoint": log_is_cut_too_far,
    "nobody asks for pre-votes": no_pre_vote,
    "a pre-vote changes the term": pre_votes_change_the_term,
    "voters do not compare logs": voters_do_not_compare_logs,
    "voters vote twice": voters_vote_again,
    "entries of older terms commit by counting": older_terms_commit_by_counting,
    "followers do not match the term before": followers_do_not_match_terms,
    "followers keep what contradicts the leader": followers_keep_what_contradicts,
    "newcomers count": newcomers_count,
    "leases never end": leases_never_end,
    "leases count from the acknowledgement's receipt": leases_count_from_receipt,
    "restarted nodes vote at once": restarted_nodes_vote_at_once,
    "live leaders are voted against": live_leaders_are_not_protected,
    "support is never withdrawn": support_is_never_withdrawn,
    "reads see what is not committed": reads_see_what_is_not_committed,
    "reads do not look at the lease": reads_do_not_look_at_the_lease,
    "reads are confirmed by an earlier round": reads_are_confirmed_by_any_round,
    "what a duty builds waits for the turn": what_a_duty_builds_waits_for_the_turn,
    "shards are listed without a look at the lease": shards_are_listed_without_a_look_at_the_lease,
    "writes are answered before they are committed": writes_are_answered_before_they_are_committed,
    "refusals do not wait for what they rest on": refusals_do_not_wait,
    "leaders serve before they know what is committed": leaders_serve_before_they_know_what_is_committed,
    "resent writes are done again": resent_writes_are_done_again,
    "the window is forgotten at restarts": the_window_is_forgotten_at_restarts,
    "snapshots come without the window": snapshots_come_without_the_window,
    "snapshots come without local entries": snapshots_come_without_entries,
    "entries of a local index stay": old_entries_stay,
    "the sizes of item collections are forgotten": sizes_of_collections_are_forgotten,
    "joint configurations count the new half only": joint_configurations_count_the_new_half,
    "learners count": learners_count,
    "replicas go before the move is done": replicas_go_before_the_move_is_done,
    "replicas that come back are trusted": replicas_that_come_back_are_trusted,
    "dropped replicas leave no mark": dropped_replicas_leave_no_mark,
    "a restarted node gives up what its log knows": restarted_nodes_give_up_what_their_logs_know,
    "moves are never reported": moves_are_never_reported,
    "snapshots are not fsynced": snapshots_are_not_fsynced,
    "a failed fsync is taken for a success": failed_fsyncs_are_successes,
    "a failed fsync is tried again": failed_fsyncs_are_tried_again,
    "last words count what was not written": last_words_count_what_was_not_written,
    "damage in the log is taken for its torn end": damage_in_the_log_is_taken_for_its_end,
    "checksums of rows are not looked at": checksums_are_not_looked_at,
    "snapshots are taken of damaged rows": snapshots_are_taken_of_damaged_rows,
    "damage is not healed": damage_is_not_healed,
}
