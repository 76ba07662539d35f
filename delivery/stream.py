"""A partition's stream as delivery reads it, over calls on the region."""

from __future__ import annotations

from delivery.ports import Region, StreamUnavailable
from geodyne.errors import ApiError
from geodyne.messages import AdvanceCursor, Answer, Applied, Call, ListShards, ReadStream, Refused, Shards, StreamPage

READ_SLACK_MS = 5_000  # beyond the time that a node may hold a read: an election, a resend
TRIES_MAX = 2  # of a call, before the stream counts as away
CALL_TIMEOUT_MS = 5_000


class RegionStream:
    """Implements delivery.ports.PartitionStream."""

    def __init__(self, region: Region, *, partition: int, epoch: int, label: str, bookmark: str) -> None:
        self._region = region
        self._partition = partition
        self._epoch = epoch
        self._label = label
        self._bookmark = bookmark

    async def read(self, after: int, *, limit: int, max_bytes: int, wait_ms: int) -> StreamPage:
        call = ReadStream(
            self._partition, self._epoch, self._label, 0, after, limit, max_bytes, wait_ms, consumer=self._bookmark
        )
        # One that was sent again waits anew at the new leader, and so runs out of time on a stream that is well.
        answer = await self._call(call, wait_ms + READ_SLACK_MS, call._replace(wait_ms=0))
        if not isinstance(answer, StreamPage):
            raise _unexpected(answer)
        return answer

    async def commit(self, sequence: int) -> None:
        call = AdvanceCursor(self._partition, self._epoch, self._bookmark, sequence)
        answer = await self._call(call, CALL_TIMEOUT_MS)
        if not isinstance(answer, Applied):
            raise _unexpected(answer)

    async def shards(self) -> Shards:
        answer = await self._call(ListShards(self._partition, self._epoch, self._label), CALL_TIMEOUT_MS)
        if not isinstance(answer, Shards):
            raise _unexpected(answer)
        return answer

    async def _call(self, call: Call, timeout_ms: int, again: Call | None = None) -> Answer:
        """The answer to `call`, or, when the region gives that up, to `again`: an election during a start may take
        longer than the region holds a call."""
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                return await self._region.call(call, timeout_ms=timeout_ms)
            except ApiError as error:
                if not tries_left:
                    raise StreamUnavailable(error.reason) from None
                call, timeout_ms = again or call, CALL_TIMEOUT_MS
        raise AssertionError("the last try returns or raises")


def _unexpected(answer: Answer) -> StreamUnavailable:
    if isinstance(answer, Refused):
        return StreamUnavailable(f"{answer.code}: {answer.message}")
    return StreamUnavailable(type(answer).__name__)
