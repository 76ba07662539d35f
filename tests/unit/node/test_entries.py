from __future__ import annotations

import pytest

from geodyne.messages import WriteId, Written
from geodyne.peermessages import Entry
from geodyne.wire import log_v1_pb2 as log
from node.entries import Effect, EntryBuilder, decode, promises, promising
from node.storage.port import Row

EFFECT = Effect(b"k", Row(b"{}", b"v", 2), b"v", 1, 2, WriteId(1, 2, 1), Written(0, 2, b"{}"))


def test_what_a_follower_reads_is_what_the_leader_made() -> None:
    builder = EntryBuilder(1, 5)
    builder.add(EFFECT, b"old")
    builder.add(EFFECT._replace(row=Row(None, b"v", 0), write_id=None, outcome=None), None)
    builder.add(EFFECT._replace(row=None), None)
    payload = builder.payload.SerializeToString()
    assert decode(Entry(1, 1, payload)) == builder.decided(1, 1, len(payload))


@pytest.mark.parametrize("us", [1, 1 << 60, (1 << 64) - 1])
def test_a_promise_is_seen_without_decoding_and_read_with_the_rest(us: int) -> None:
    builder = EntryBuilder(1, 5)
    builder.add(EFFECT, b"old")
    builder.payload.arrived.add(region="eu-west-1", us=7)
    builder.payload.collected.add(key=b"l", version=b"w")
    plain = builder.payload.SerializeToString()
    assert not promises(plain)
    assert not promises(b"")
    assert promises(promising(us, plain))
    builder.payload.safe_us = us
    assert decode(Entry(1, 1, promising(us, plain))).payload == builder.payload
    assert log.EntryPayload.FromString(promising(us, b"")) == log.EntryPayload(safe_us=us)


@pytest.mark.parametrize(
    "bad", [EFFECT._replace(row=Row(b"{}", b"v", -1)), EFFECT._replace(write_id=WriteId(-1, 2, 1))]
)
def test_an_effect_that_cannot_be_encoded_leaves_the_entry_as_it_was(bad: Effect) -> None:
    builder = EntryBuilder(1, 5)
    builder.add(EFFECT, None)
    before = builder.payload.SerializeToString()
    with pytest.raises(ValueError, match=r"[Vv]alue|range"):
        builder.add(bad, None)
    assert builder.payload.SerializeToString() == before
    assert len(builder.effects) == 1
