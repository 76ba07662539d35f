"""Values of `replication.values` to protobuf bytes and back, one batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
from google.protobuf.message import DecodeError

from geodyne.messages import Change
from geodyne.model import version as versions
from geodyne.peermessages import Hello
from geodyne.rpc.codecparts import CodecError, hello_of, put_hello
from geodyne.wire import replication_v1_pb2 as wire
from replication.packing import Unpacker
from replication.values import (
    COMPARING,
    Arrived,
    Command,
    Operation,
    Outcome,
    Receipt,
    Result,
    Ship,
    Watermark,
    change_bytes,
)

SourceMessage = Ship | Command | Watermark
DestinationMessage = Receipt | Result | Arrived

SHIP_OVERHEAD_BYTES = 200  # ids, names, a reason
CHANGE_OVERHEAD_BYTES = 16


def encode_source(messages: Hello | Sequence[SourceMessage]) -> bytes:
    """One SourceBatch."""
    batch = wire.SourceBatch()
    if isinstance(messages, Hello):
        put_hello(batch.hello, messages)
        return batch.SerializeToString()
    for message in messages:
        if isinstance(message, Ship):
            _put_ship(batch.ships.add(), message)
        elif isinstance(message, Watermark):
            table, table_id, us, arrived_us = message
            batch.watermarks.add(table=table, table_id=table_id, us=us, arrived_us=arrived_us)
        else:
            batch.commands.add(
                id=message.id,
                operation=f"OPERATION_{message.operation.name}",
                table=message.table,
                table_id=message.table_id,
                definition_json=orjson.dumps(message.definition),
                members=_members(message.members),
                region=message.region,
            )
    return batch.SerializeToString()


def decode_source(data: bytes, unpacker: Unpacker | None = None) -> Hello | list[SourceMessage]:
    """The hello of a SourceBatch, else its commands, ships and watermarks. `unpacker` is that of the stream it came on;
    without one nothing may be packed. Raises CodecError."""
    batch = wire.SourceBatch()
    _parse(batch, data)
    if batch.packed or batch.unpacked_bytes:
        if unpacker is None:
            raise CodecError("a batch is packed where none may be")
        return decode_source(unpacker.unpack(batch.packed, batch.unpacked_bytes))
    if batch.HasField("hello"):
        return hello_of(batch.hello)
    messages: list[SourceMessage] = []
    messages.extend(_command(command) for command in batch.commands)
    messages.extend(_ship(ship) for ship in batch.ships)
    messages.extend(Watermark(w.table, w.table_id, w.us, w.arrived_us) for w in batch.watermarks)
    return messages


def encode_destination(messages: Hello | Sequence[DestinationMessage]) -> bytes:
    """One DestinationBatch."""
    batch = wire.DestinationBatch()
    if isinstance(messages, Hello):
        put_hello(batch.hello, messages)
        return batch.SerializeToString()
    for message in messages:
        if isinstance(message, Receipt):
            batch.receipts.add(
                id=message.id,
                outcome=f"OUTCOME_{message.outcome.name}",
                applied=message.applied,
                retry_after_ms=message.retry_after_ms,
                reason=message.reason,
            )
        elif isinstance(message, Arrived):
            batch.arrived = max(batch.arrived, message.id)
        else:
            batch.results.add(
                id=message.id,
                present=message.present,
                status=message.status,
                members=_members(message.members),
                error_code=message.error_code,
                error_message=message.error_message,
                body_json=orjson.dumps(message.body) if message.body else b"",
            )
    return batch.SerializeToString()


def decode_destination(data: bytes) -> Hello | list[DestinationMessage]:
    """The hello of a DestinationBatch, else its receipts and results. Raises CodecError."""
    batch = wire.DestinationBatch()
    _parse(batch, data)
    if batch.HasField("hello"):
        return hello_of(batch.hello)
    messages: list[DestinationMessage] = [_receipt(receipt) for receipt in batch.receipts]
    messages.extend(map(_result, batch.results))
    if batch.arrived:
        messages.append(Arrived(batch.arrived))
    return messages


def source_message_bytes(message: SourceMessage) -> int:
    """About what a message takes on the wire."""
    if isinstance(message, Ship):
        return message.size + SHIP_OVERHEAD_BYTES + CHANGE_OVERHEAD_BYTES * len(message.changes)
    if isinstance(message, Command) and message.operation in COMPARING:
        return SHIP_OVERHEAD_BYTES + len(orjson.dumps(message.definition))
    return SHIP_OVERHEAD_BYTES


def destination_message_bytes(message: DestinationMessage) -> int:
    """About what a message takes on the wire."""
    if isinstance(message, Result) and message.body:
        return SHIP_OVERHEAD_BYTES + len(orjson.dumps(message.body))
    return SHIP_OVERHEAD_BYTES


def _parse(batch: wire.SourceBatch | wire.DestinationBatch, data: bytes) -> None:
    try:
        batch.ParseFromString(data)
    except DecodeError as error:
        raise CodecError(f"not a batch of the replication protocol: {error}") from None


def _put_ship(target: wire.Ship, ship: Ship) -> None:
    target.id = ship.id
    target.table = ship.table
    target.table_id = ship.table_id
    add = target.changes.add
    for key, version, image, size, base in ship.changes:
        add(key=key, version=version, image=image, size=size, base=base)  # None: the field is absent


def _ship(ship: wire.Ship) -> Ship:
    changes = []
    weight = 0
    for c in ship.changes:
        if not c.key or not versions.well_formed(c.version):
            raise CodecError(f"a change of table {ship.table} has no key or no version")
        image = c.image if c.HasField("image") else None
        change = Change(c.key, c.version, image, c.size, c.base if c.HasField("base") else None)
        weight += change_bytes(change)
        changes.append(change)
    return Ship(ship.id, ship.table, ship.table_id, tuple(changes), weight)


def _receipt(receipt: wire.Receipt) -> Receipt:
    try:
        outcome = Outcome(receipt.outcome)
    except ValueError:
        raise CodecError(f"unknown outcome {receipt.outcome}") from None
    return Receipt(receipt.id, outcome, receipt.applied, receipt.retry_after_ms, receipt.reason)


def _result(r: wire.Result) -> Result:
    try:
        body = orjson.loads(r.body_json or b"{}")
    except ValueError as error:
        raise CodecError(f"malformed result: {error}") from None
    members = {member.region: member.status for member in r.members}
    return Result(r.id, r.present, r.status, members, r.error_code, r.error_message, body)


def _command(command: wire.Command) -> Command:
    try:
        operation = Operation(int(command.operation))
        definition = orjson.loads(command.definition_json or b"{}")
    except ValueError as error:
        raise CodecError(f"malformed command: {error}") from None
    if not isinstance(definition, dict):
        raise CodecError("malformed command: its definition is no object")
    members = {member.region: member.status for member in command.members}
    return Command(command.id, operation, command.table, command.table_id, definition, members, command.region)


def _members(members: Mapping[str, str]) -> list[wire.Member]:
    return [wire.Member(region=region, status=status) for region, status in members.items()]
