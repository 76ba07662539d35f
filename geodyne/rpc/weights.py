"""About how many bytes a message adds to a batch: cheap estimates, for the bounds on batches and queues.

They err on the high side for what is usual and may be far off for rare documents; the writer of a stream checks the
real size of what it encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from geodyne import messages as m
from geodyne import peermessages as pm

FIXED_BYTES: Final = 96  # what a message weighs beside its payload; an estimate that errs on the high side


def request_bytes(request: m.Request) -> int:
    """About how many bytes a request adds to a batch; cheap, for bounds on batches and queues."""
    call = request.call
    if type(call) is m.Write:
        return _write_bytes(call)
    if type(call) is m.Prepare:
        return FIXED_BYTES + sum(map(_write_bytes, call.items))
    if type(call) is m.ReadTogether:
        return FIXED_BYTES + sum(len(key) + FIXED_BYTES for key in call.keys)
    if type(call) is m.ApplyChanges:
        return FIXED_BYTES + sum(len(c.key) + len(c.image or b"") + FIXED_BYTES for c in call.changes)
    if type(call) is m.ApplyIndex:
        return FIXED_BYTES + sum(len(e.key) + len(e.image or b"") + FIXED_BYTES for e in call.entries)
    if type(call) is m.Renew:
        return FIXED_BYTES + sum(len(row.key) + FIXED_BYTES for row in call.rows)
    return FIXED_BYTES * 4


def response_bytes(response: m.Response) -> int:
    """About how many bytes a response adds to a batch."""
    answer = response.answer
    kind = type(answer)
    if kind is m.Found or kind is m.Refused:
        return FIXED_BYTES + len(answer.item or b"")  # type: ignore[union-attr]
    if kind is m.Written:
        return FIXED_BYTES + len(answer.attributes or b"")  # type: ignore[union-attr]
    if isinstance(answer, m.Images):
        return FIXED_BYTES + sum(FIXED_BYTES + len(image.item or b"") for image in answer.images)
    if isinstance(answer, m.PrepareRefused):
        return FIXED_BYTES + sum(FIXED_BYTES + len(r.item or b"") for r in answer.reasons if r is not None)
    if isinstance(answer, m.Prepared):
        return FIXED_BYTES * (1 + len(answer.outcomes))
    if isinstance(answer, m.Page):
        return FIXED_BYTES + sum(map(len, answer.items)) + 4 * len(answer.items)
    if isinstance(answer, m.Digested):
        return FIXED_BYTES + sum(len(row.key) + FIXED_BYTES for row in answer.listed)
    if isinstance(answer, m.Rows):
        return FIXED_BYTES + sum(map(_change_bytes, answer.rows))
    if isinstance(answer, (m.FeedPage, m.StreamPage)):
        return FIXED_BYTES + sum(_change_bytes(r.change) + len(r.old_image or b"") for r in answer.records)
    if isinstance(answer, m.Shards):
        return FIXED_BYTES + 32 * len(answer.shards)
    if isinstance(answer, m.Watched):
        return FIXED_BYTES + 4096 * len(answer.records) + 24 * (len(answer.leads) + len(answer.counts))
    return FIXED_BYTES


def peer_message_bytes(message: pm.PeerMessage) -> int:
    """About how many bytes a peer message adds to a batch."""
    if type(message) is pm.Append:
        return FIXED_BYTES + sum([len(entry.payload) + 8 for entry in message.entries])
    if type(message) is pm.SnapshotChunk:
        return FIXED_BYTES + len(message.data)
    if type(message) is pm.Leads:
        return FIXED_BYTES + 24 * len(message.leads)
    return FIXED_BYTES


def _write_bytes(call: m.Write) -> int:
    size = FIXED_BYTES + len(call.item) + len(call.key) + _text_bytes(call.condition) + _text_bytes(call.update)
    return size + _values_bytes(call.values) if call.values else size


def _change_bytes(change: m.Change) -> int:
    return FIXED_BYTES + len(change.key) + len(change.image or b"")


def _values_bytes(values: Mapping[str, m.AttributeValue]) -> int:
    """Exact enough for strings, numbers and binary; documents count as if they were small."""
    size = 0
    for value in values.values():
        for content in value.values():
            size += 2 * FIXED_BYTES + (len(content) if isinstance(content, str) else 0)
    return size


def _text_bytes(text: str | None) -> int:
    return 0 if text is None else 4 * len(text)
