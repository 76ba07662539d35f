"""The bytes of a stream between nodes; otherwise like geodyne.rpc.codec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from geodyne import peermessages as pm
from geodyne.rpc.codec import BAD_VALUES
from geodyne.rpc.codecparts import CodecError, hello_of, put_hello
from geodyne.wire import node_v1_pb2 as pb

# Kinds of messages that peers of an earlier format would break the stream over: the format from which on each is sent.
SINCE: Final[dict[type, int]] = {}


def encode_peer_batch(batch: pm.Hello | Sequence[pm.PeerMessage]) -> bytes:
    """A batch from node to node. Raises CodecError."""
    out = pb.PeerBatch()
    try:
        if isinstance(batch, pm.Hello):
            put_hello(out.hello, batch)
            return out.SerializeToString()
        add = out.messages.add
        for message in batch:
            _PUT_PEER[type(message)](add(), message)
        return out.SerializeToString()
    except BAD_VALUES as error:
        raise CodecError(f"cannot encode a peer batch: {error!r}") from error


def decode_peer_batch(data: bytes) -> pm.Hello | list[pm.PeerMessage]:
    """The inverse of encode_peer_batch. Raises CodecError."""
    try:
        batch = pb.PeerBatch.FromString(data)
        if batch.HasField("hello"):
            return hello_of(batch.hello)
        messages = []
        for one in batch.messages:
            kind = one.WhichOneof("message")
            if kind is None:
                raise CodecError("a peer message is of a kind that this version does not know")
            messages.append(_PEER[kind](one))
        return messages
    except CodecError:
        raise
    except BAD_VALUES as error:
        raise CodecError(f"not a peer batch: {error!r}") from error


def _put_heartbeat(to: pb.PeerMessage, message: pm.Heartbeat) -> None:
    out = to.heartbeat
    out.incarnation, out.sent_at_ms = message


def _heartbeat(one: pb.PeerMessage) -> pm.Heartbeat:
    return pm.Heartbeat(one.heartbeat.incarnation, one.heartbeat.sent_at_ms)


def _put_heartbeat_ack(to: pb.PeerMessage, message: pm.HeartbeatAck) -> None:
    out = to.heartbeat_ack
    out.incarnation, out.sent_at_ms, out.support_epoch, out.wall_us, out.held_ms = message


def _heartbeat_ack(one: pb.PeerMessage) -> pm.HeartbeatAck:
    h = one.heartbeat_ack
    return pm.HeartbeatAck(h.incarnation, h.sent_at_ms, h.support_epoch, h.wall_us, h.held_ms)


def _put_vote_request(to: pb.PeerMessage, message: pm.VoteRequest) -> None:
    out = to.vote_request
    out.group, out.term, out.last_index, out.last_term, out.pre, out.transfer = message


def _vote_request(one: pb.PeerMessage) -> pm.VoteRequest:
    v = one.vote_request
    return pm.VoteRequest(v.group, v.term, v.last_index, v.last_term, v.pre, v.transfer)


def _put_vote(to: pb.PeerMessage, message: pm.Vote) -> None:
    out = to.vote
    out.group, out.term, out.granted, out.pre, out.resigned = message


def _vote(one: pb.PeerMessage) -> pm.Vote:
    v = one.vote
    return pm.Vote(v.group, v.term, v.granted, v.pre, v.resigned)


def _put_append(to: pb.PeerMessage, message: pm.Append) -> None:
    entries = message.entries
    if entries and (
        entries[0].index != message.prev_index + 1 or entries[-1].index != message.prev_index + len(entries)
    ):
        raise CodecError(f"entries of group {message.group} do not follow index {message.prev_index} without a gap")
    out = to.append
    out.group = message.group
    out.term = message.term
    out.prev_index = message.prev_index
    out.prev_term = message.prev_term
    out.commit = message.commit
    if message.admits:
        out.admits = message.admits
    if entries:
        out.entry_terms.extend([entry.term for entry in entries])
        out.entry_payloads.extend([entry.payload for entry in entries])


def _append(one: pb.PeerMessage) -> pm.Append:
    a = one.append
    first = a.prev_index + 1
    terms, payloads = a.entry_terms, a.entry_payloads
    if len(terms) != len(payloads):
        raise CodecError(f"{len(terms)} terms for {len(payloads)} entries of group {a.group}")
    entries = tuple(map(pm.Entry, range(first, first + len(terms)), terms, payloads))
    return pm.Append(a.group, a.term, a.prev_index, a.prev_term, entries, a.commit, a.admits)


def _put_appended(to: pb.PeerMessage, message: pm.Appended) -> None:
    out = to.appended
    (
        out.group,
        out.term,
        out.success,
        out.match,
        out.conflict_term,
        out.incarnation,
        out.support_epoch,
        out.newcomer,
    ) = message


def _appended(one: pb.PeerMessage) -> pm.Appended:
    a = one.appended
    return pm.Appended(a.group, a.term, a.success, a.match, a.conflict_term, a.incarnation, a.support_epoch, a.newcomer)


def _put_timeout_now(to: pb.PeerMessage, message: pm.TimeoutNow) -> None:
    to.timeout_now.group, to.timeout_now.term = message


def _timeout_now(one: pb.PeerMessage) -> pm.TimeoutNow:
    return pm.TimeoutNow(one.timeout_now.group, one.timeout_now.term)


def _put_snapshot_chunk(to: pb.PeerMessage, message: pm.SnapshotChunk) -> None:
    out = to.snapshot_chunk
    out.group, out.term, out.snapshot_index, out.snapshot_term, out.number, out.data, out.done = message


def _snapshot_chunk(one: pb.PeerMessage) -> pm.SnapshotChunk:
    s = one.snapshot_chunk
    return pm.SnapshotChunk(s.group, s.term, s.snapshot_index, s.snapshot_term, s.number, s.data, s.done)


def _put_snapshot_ack(to: pb.PeerMessage, message: pm.SnapshotAck) -> None:
    out = to.snapshot_ack
    (
        out.group,
        out.term,
        out.snapshot_index,
        out.number,
        out.installed,
        out.refused,
        out.incarnation,
        out.support_epoch,
    ) = message


def _snapshot_ack(one: pb.PeerMessage) -> pm.SnapshotAck:
    s = one.snapshot_ack
    return pm.SnapshotAck(
        s.group, s.term, s.snapshot_index, s.number, s.installed, s.refused, s.incarnation, s.support_epoch
    )


def _put_leads(to: pb.PeerMessage, message: pm.Leads) -> None:
    out = to.leads
    out.version = message.version
    for partition, term, revision in message.leads:
        lead = out.leads.add()
        lead.partition, lead.term, lead.definition_revision = partition, term, revision


def _leads(one: pb.PeerMessage) -> pm.Leads:
    leads = tuple([(lead.partition, lead.term, lead.definition_revision) for lead in one.leads.leads])
    return pm.Leads(one.leads.version, leads)


def _put_introduction(to: pb.PeerMessage, message: pm.Introduction) -> None:
    out = to.introduction
    out.directory, out.knows, out.incarnation = message


def _introduction(one: pb.PeerMessage) -> pm.Introduction:
    return pm.Introduction(one.introduction.directory, one.introduction.knows, one.introduction.incarnation)


def _put_snapshot_wanted(to: pb.PeerMessage, message: pm.SnapshotWanted) -> None:
    out = to.snapshot_wanted
    out.group, out.term = message


def _snapshot_wanted(one: pb.PeerMessage) -> pm.SnapshotWanted:
    return pm.SnapshotWanted(one.snapshot_wanted.group, one.snapshot_wanted.term)


def _put_scrub_digest(to: pb.PeerMessage, message: pm.ScrubDigest) -> None:
    out = to.scrub_digest
    out.group, out.index, out.digest, out.differs = message


def _scrub_digest(one: pb.PeerMessage) -> pm.ScrubDigest:
    s = one.scrub_digest
    return pm.ScrubDigest(s.group, s.index, s.digest, s.differs)


_PUT_PEER: Final[dict[type, Callable[[pb.PeerMessage, Any], None]]] = {
    pm.Heartbeat: _put_heartbeat,
    pm.HeartbeatAck: _put_heartbeat_ack,
    pm.VoteRequest: _put_vote_request,
    pm.Vote: _put_vote,
    pm.Append: _put_append,
    pm.Appended: _put_appended,
    pm.TimeoutNow: _put_timeout_now,
    pm.SnapshotChunk: _put_snapshot_chunk,
    pm.SnapshotAck: _put_snapshot_ack,
    pm.Leads: _put_leads,
    pm.SnapshotWanted: _put_snapshot_wanted,
    pm.ScrubDigest: _put_scrub_digest,
    pm.Introduction: _put_introduction,
}
_PEER: Final[dict[str, Callable[[pb.PeerMessage], pm.PeerMessage]]] = {
    "heartbeat": _heartbeat,
    "heartbeat_ack": _heartbeat_ack,
    "vote_request": _vote_request,
    "vote": _vote,
    "append": _append,
    "appended": _appended,
    "timeout_now": _timeout_now,
    "snapshot_chunk": _snapshot_chunk,
    "snapshot_ack": _snapshot_ack,
    "leads": _leads,
    "snapshot_wanted": _snapshot_wanted,
    "scrub_digest": _scrub_digest,
    "introduction": _introduction,
}
