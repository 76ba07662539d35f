"""Values of replication to bytes and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.messages import Change
from geodyne.model.version import make
from geodyne.peermessages import Hello
from geodyne.rpc.codecparts import CodecError
from geodyne.wire import replication_v1_pb2 as wire
from replication.codec import DestinationMessage, decode_destination, decode_source, encode_destination, encode_source
from replication.values import Command, Operation, Outcome, Receipt, Result, Ship, Watermark, change_bytes

VERSION = make(5, b"east")
changes = st.builds(
    Change,
    st.binary(min_size=1, max_size=20),
    st.builds(make, st.integers(0, (1 << 64) - 1), st.sampled_from([b"a", b"eu-west-1"])),
    st.none() | st.binary(max_size=20),
    st.integers(0, 9),
    st.none() | st.binary(max_size=12),
)


@given(st.lists(changes, max_size=4))
@settings(max_examples=50)
def test_a_ship_is_the_same_after_the_wire(items: list[Change]) -> None:
    ship = Ship(7, "orders", "id-1", tuple(items), sum(map(change_bytes, items)))
    assert decode_source(encode_source([ship])) == [ship]


def test_a_tombstone_differs_from_an_empty_image() -> None:
    ship = Ship(1, "t", "i", (Change(b"k", VERSION, None, 0), Change(b"l", VERSION, b"", 0)), 2 + 2 * len(VERSION))
    assert decode_source(encode_source([ship])) == [ship]


@pytest.mark.parametrize(
    ("key", "version"), [(b"", VERSION), (b"k", b""), (b"k", VERSION[:8]), (b"k", VERSION + b"\xff")]
)
def test_a_change_without_key_or_version_is_a_codec_error(key: bytes, version: bytes) -> None:
    """Once it is in a log, nobody can read on."""
    with pytest.raises(CodecError):
        decode_source(encode_source([Ship(1, "t", "i", (Change(key, version, b"{}", 2),), 4)]))


@pytest.mark.parametrize("definition", ["[]", "5", '"name"', "null"])
def test_a_command_whose_definition_is_no_object_is_a_codec_error(definition: str) -> None:
    batch = wire.SourceBatch()
    batch.commands.add(id=1, operation="OPERATION_ENSURE", table="t", definition_json=definition.encode())
    with pytest.raises(CodecError):
        decode_source(batch.SerializeToString())


def test_hellos_stand_alone() -> None:
    hello = Hello("cluster", "region", "process", 1 << 62, 1)
    assert decode_source(encode_source(hello)) == hello
    assert decode_destination(encode_destination(hello)) == hello


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_a_watermark_is_the_same_after_the_wire_whatever_its_times(us: int, arrived_us: int) -> None:
    said = [Watermark("orders", "id-1", us, arrived_us), Watermark("users", "id-2", arrived_us, us)]
    assert decode_source(encode_source(said)) == said


def test_commands_and_answers_are_the_same_after_the_wire() -> None:
    commands = [
        Command(1, Operation.ENSURE, "t", "i", {"name": "t", "range_key": None}, {"a": "ACTIVE", "b": "CREATING"}),
        Command(2, Operation.FORGET, "t", "i", {}, {}, "b"),
        Command(3, Operation.ITEMS, "t", "i", {"low": "00", "high": "ff"}),
    ]
    assert decode_source(encode_source(commands)) == commands
    answers: list[DestinationMessage] = [
        Receipt(3, Outcome.APPLIED, 2),
        Receipt(4, Outcome.HELD, 0, 5_000, "from the future"),
        Result(5, True, "ACTIVE", {"a": "ACTIVE"}),
        Result(7, True, "ACTIVE", {}, body={"marks": {"a": 1 << 60}, "items": [["00", "01", ""]], "next": None}),
        Result(6, False, error_code="ResourceInUseException", error_message="Table already exists: t"),
    ]
    assert decode_destination(encode_destination(answers)) == answers


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x1a\x02\x10\x63"])
def test_bytes_that_are_no_batch_are_a_codec_error(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_source(data)


def test_an_unknown_outcome_is_a_codec_error() -> None:
    data = encode_destination([Receipt(1, Outcome.APPLIED)]).replace(b"\x10\x01", b"\x10\x63")
    with pytest.raises(CodecError, match="99"):
        decode_destination(data)
