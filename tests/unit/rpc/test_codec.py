import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne import messages as m
from geodyne import peermessages as pm
from geodyne.rpc import codec, peercodec, weights
from geodyne.wire import node_v1_pb2 as pb

HELLO = pm.Hello("c", "us-east-1", "us-east-1/node-a", 2**64 - 1, codec.STREAM_FORMAT)
CHANGE = m.Change(b"k", b"\0" * 8 + b"eu", b'{"pk":{"S":"a"}}', 4, b"\0" * 8 + b"us")
TOMBSTONE = m.Change(b"k", b"\0" * 8 + b"eu", None, 0)

CALLS = [
    m.Write(1, 2, m.WriteKind.PUT, b"k", b'{"pk":{"S":"a"}}', 4),
    m.Write(
        2**40, 0, m.WriteKind.UPDATE, b"", b"", 0, "#a = :b", "SET #a = :b", {"#a": "x"}, {":b": {"N": "1"}},
        m.ReturnValues.UPDATED_NEW, True,
    ),
    m.Write(1, 2, m.WriteKind.DELETE, b"k", b"", 0, "", ""),
    m.Write(1, 2, m.WriteKind.DELETE, b"k", b"", 0, capacity=True),
    m.Get(1, 2, b"k", True),
    m.Get(0, 0, b"", False),
    m.Range(1, 2, b"a", b"z", None, False, 0, 1 << 20, True),
    m.Range(1, 2, b"a", b"z", b"", True, 7, 1, False, "f", "p", {"#a": "x"}, {":b": {"S": "é"}}, True),
    m.Range(1, 2, b"a", b"z", None, False, 0, 1, True, slot=5, fetch=True),
    m.ApplyChanges(1, 2, (CHANGE, TOMBSTONE)),
    m.ReadRows(1, 2, b"", 1 << 20, False),
    m.DigestRows(1, 2, b"", b"z"),
    m.DigestRows(1, 2, b"a", b"z", True),
    m.Renew(1, 2, (m.RowDigest(b"a", b"v", b""), m.RowDigest(b"b", b"w", b""))),
    m.ApplyIndex(9, 1, 3, 7, 2, (m.IndexEntry(b"k", 5, b"{}", 3), m.IndexEntry(b"l", 0, None, 0))),
    m.ReadFeed(1, 2, "replica/eu-west-1", -1, 1 << 20, 10_000, "us-east-1"),
    m.ReadFeed(1, 2, "replica/eu-west-1", 7, 1 << 20, 10_000, "us-east-1", 1 << 60),
    m.ListShards(1, 2, "2026-11-24T03:44:12.123"),
    m.ReadStream(1, 2, "2026-11-24T03:44:12.123", 1_800_000_000_000_000, -2, 1_000, 1 << 20),
    m.ReadStream(1, 2, "label", 0, 1 << 60, 0, 1, 10_000, 1_800_000_000_000_001, "trigger/x"),
    m.AdvanceCursor(1, 2, "replica/eu-west-1", 1 << 60),
    m.AdvanceCursor(1, 2, "replica/eu-west-1", 0, 1 << 60, (("eu-west-1", 1 << 61), ("ap-south-1", 1))),
    m.Prepare(1, 2, b"t" * 16, 2**64 - 1, b"d", (m.Write(0, 0, m.WriteKind.CHECK, b"k", b"", 0, "a = b"),), True),
    m.Finish(1, 2, b"t" * 16, 3, True),
    m.ReadTogether(1, 2, (b"a", b"b")),
    m.Control("create_table", {"definition": {"name": "t"}}),
    m.Watch(-1, -1, 10_000),
    m.Watch(7, 3, 10_000, 0),
]  # fmt: skip

ANSWERS = [
    m.Written(0, 0),
    m.Written(4, 5, b"{}"),
    m.Written(4, 5, None, (("i", 2), ("j", 400)), 0),
    m.Prepared((m.Written(0, 7), m.Written(4, 0)), True),
    m.PrepareRefused((None, m.Refused("TransactionConflict", "x", b"{}", 3))),
    m.Images((m.Image(None, 0, b"s", True), m.Image(b"{}", 2, b"", False))),
    m.Found(None, 0),
    m.Found(b"", 7),
    m.Page((), 0, 0, 0, None),
    m.Page((b"a", b"b"), 2, 5, 1 << 33, b""),
    m.Page((b"a",), 1, 3, 7, None, 301),
    m.Applied(0),
    m.Rows((), None),
    m.Digested(0, b"\0" * 16, None),
    m.Digested(1, b"d" * 16, b"", (m.RowDigest(b"a", b"v", b"d"), m.RowDigest(b"b", b"w", b""))),
    m.Rows((CHANGE, TOMBSTONE), b"k"),
    m.FeedPage((), 0, 0, False),
    m.FeedPage((), 7, 7, False, 1 << 60, 1 << 40),
    m.FeedPage((m.FeedRecord(1 << 50, CHANGE, b"old"), m.FeedRecord(2, TOMBSTONE, None, old_size=0)), 3, 4, True),
    m.Shards((m.ShardSpan(1_000, 0, 0), m.ShardSpan(1 << 60, 1 << 50, None)), 7),
    m.StreamPage((m.FeedRecord(7, TOMBSTONE, b"{}", 1_800_000_000_000_001, True, 409_600),), 9, True, False),
    m.ControlDone(7, {}),
    m.Watched(3, True, (("table/t", {"name": "t"}), ("table/u", None)), 2, ((0, 5), (7, 1))),
    m.Watched(0, False, (), 0, ()),
    m.Watched(0, False, (), 0, ((7, 1),), 4, (m.Count(7, 0, 3, 1 << 40), m.Count(7, 2, 0, 0))),
    m.Refused("ConditionalCheckFailedException", "The conditional request failed", b"{}", 3),
    m.Refused("", "", None, 0),
    m.NotLeader(0, ""),
    m.Moved(1, 2),
    m.Unknown(1, "b"),
    m.Busy(""),
]

PEER_MESSAGES = [
    pm.Heartbeat(2**63, 0),
    pm.HeartbeatAck(1, 2, 3),
    pm.VoteRequest(1, 2, 3, 4, True, False),
    pm.Vote(0, 0, False, False),
    pm.Append(1, 2, 0, 0, (), 0),
    pm.Append(1, 9, 4, 7, (pm.Entry(5, 8, b""), pm.Entry(6, 9, b"x")), 4),
    pm.Appended(1, 2, True, 3, 4, 5, 6),
    pm.Appended(1, 2, True, 3, 4, 5, 6, newcomer=True),
    pm.Append(1, 2, 3, 4, (), 3, admits=1 << 50),
    pm.Introduction(1 << 50, 0),
    pm.Introduction(1 << 50, 1 << 49, 1 << 51),
    pm.TimeoutNow(0, 0),
    pm.SnapshotChunk(1, 2, 3, 4, 0, b"", True),
    pm.SnapshotAck(1, 2, 3, 4, True, False, 5, 6),
    pm.Leads(1, ((1, 2, 3),)),
    pm.Leads(0, ()),
    pm.SnapshotWanted(7, 3),
    pm.ScrubDigest(7, 12, b"digest", False),
    pm.ScrubDigest(7, 12, b"other", True),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_request_survives_the_wire(call):
    request = m.Request(1, call, m.WriteId(2**64 - 1, 2, 1), 5_000, "ABC")
    bare = m.Request(0, call, None, 0)
    assert codec.decode_client_batch(codec.encode_client_batch([request, bare])) == [request, bare]


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_response_survives_the_wire(answer):
    response = m.Response(2**63, answer)
    assert codec.decode_node_batch(codec.encode_node_batch([response])) == [response]


@pytest.mark.parametrize("message", PEER_MESSAGES)
def test_a_peer_message_survives_the_wire(message):
    assert peercodec.decode_peer_batch(peercodec.encode_peer_batch([message, message])) == [message, message]


def test_every_message_has_a_codec():
    assert set(codec._PUT_CALL) == set(m.Call.__args__) == {type(c) for c in CALLS}
    assert set(codec._PUT_ANSWER) == set(m.Answer.__args__) == {type(a) for a in ANSWERS}
    assert set(peercodec._PUT_PEER) == set(pm.PeerMessage.__args__) == {type(p) for p in PEER_MESSAGES}


@pytest.mark.parametrize(
    ("encode", "decode"),
    [
        (codec.encode_client_batch, codec.decode_client_batch),
        (codec.encode_node_batch, codec.decode_node_batch),
        (peercodec.encode_peer_batch, peercodec.decode_peer_batch),
    ],
)
def test_hello_begins_every_stream(encode, decode):
    assert decode(encode(HELLO)) == HELLO
    assert decode(encode([])) == []


@pytest.mark.parametrize("decode", [codec.decode_client_batch, codec.decode_node_batch, peercodec.decode_peer_batch])
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=80))
def test_arbitrary_bytes_decode_or_raise_codec_error(decode, data):
    with contextlib.suppress(codec.CodecError):
        decode(data)


def unknown_kinds():
    client, node, peer = pb.ClientBatch(), pb.NodeBatch(), pb.PeerBatch()
    client.requests.add().id = 3
    node.responses.add().id = 3
    peer.messages.add()
    return [
        (codec.decode_client_batch, client.SerializeToString()),
        (codec.decode_node_batch, node.SerializeToString()),
        (peercodec.decode_peer_batch, peer.SerializeToString()),
    ]


@pytest.mark.parametrize(("decode", "data"), unknown_kinds())
def test_a_message_of_an_unknown_kind_is_a_clear_error(decode, data):
    with pytest.raises(codec.CodecError, match="of a kind that this version does not know"):
        decode(data)


def test_values_outside_the_tables_are_codec_errors():
    batch = pb.ClientBatch()
    batch.requests.add().write.kind = 99
    with pytest.raises(codec.CodecError):
        codec.decode_client_batch(batch.SerializeToString())
    with pytest.raises(codec.CodecError):
        codec.encode_client_batch([m.Request(-1, m.Get(1, 1, b"", True), None, 1)])
    with pytest.raises(codec.CodecError):
        peercodec.encode_peer_batch([pm.Hello("c", "r", "p", 1, 1), pm.TimeoutNow(1, 1)])  # type: ignore[list-item]


def test_entries_with_a_gap_are_not_encoded_and_uneven_columns_not_decoded():
    with pytest.raises(codec.CodecError, match="without a gap"):
        peercodec.encode_peer_batch([pm.Append(1, 2, 4, 1, (pm.Entry(6, 1, b""),), 0)])
    batch = pb.PeerBatch()
    batch.messages.add().append.entry_terms.append(1)
    with pytest.raises(codec.CodecError, match="1 terms for 0 entries"):
        peercodec.decode_peer_batch(batch.SerializeToString())


def test_json_that_is_no_object_is_refused():
    batch = pb.ClientBatch()
    batch.requests.add().control.body_json = b"[1]"
    with pytest.raises(codec.CodecError):
        codec.decode_client_batch(batch.SerializeToString())


@pytest.mark.parametrize("call", CALLS)
def test_the_weight_of_a_request_bounds_its_bytes(call):
    request = m.Request(1, call, m.WriteId(1, 2, 1), 5_000, "A" * 52)
    assert weights.request_bytes(request) >= len(codec.encode_client_batch([request])) // 2


@pytest.mark.parametrize("size", [0, 1_000, 400_000])
def test_weights_grow_with_the_payload(size):
    data = b"x" * size
    change = m.Change(b"k", b"v" * 20, data, size)
    assert weights.request_bytes(m.Request(1, m.Write(1, 1, m.WriteKind.PUT, b"k", data, size), None, 1)) >= size
    assert weights.request_bytes(m.Request(1, m.ApplyChanges(1, 1, (change, change)), None, 1)) >= 2 * size
    assert weights.peer_message_bytes(pm.Append(1, 1, 0, 0, (pm.Entry(1, 1, data),), 0)) >= size
    assert weights.peer_message_bytes(pm.SnapshotChunk(1, 1, 1, 1, 1, data, False)) >= size
    for answer in (
        m.Found(data, size),
        m.Refused("", "", data),
        m.Written(0, 0, data),
        m.Page((data,), 1, 1, size, None),
        m.Rows((change,), None),
        m.FeedPage((m.FeedRecord(1, change, data),), 1, 1, False),
    ):
        assert weights.response_bytes(m.Response(1, answer)) >= size
