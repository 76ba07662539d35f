"""A consumer of a stream in the manner of the Kinesis adapter: it mirrors a table from nothing but the records.

It takes no record on trust: each must say of its item what the records before left of it, so that one that is missing,
doubled or out of its order is seen at once. A shard is read only after its parent has been read to the end.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from tests.cluster.clusters import canonical

FORGETS: Final = 0.05  # how often the reader of a shard starts anew from its checkpoint
PAGE: Final = 50  # records; small, so that shards take many pages
_PASSING: Final = frozenset({"InternalServerError", "ServiceUnavailable", "ExpiredIteratorException"})


class Shard:
    """How far a shard has been read: `checkpoint` is the number of the last record that was taken."""

    def __init__(self, parent: str | None) -> None:
        self.parent = parent
        self.iterator: str | None = None
        self.checkpoint: str | None = None
        self.ended = False


class Mirror:
    """`items` is the table by key, as canonical text, after `records` records of the stream."""

    def __init__(self, client: Any, arn: str, seed: int = 1) -> None:
        self.client = client
        self.arn = arn
        self.items: dict[str, str] = {}
        self.shards: dict[str, Shard] = {}
        self.records = 0
        self.interruptions = 0
        self._seen: set[str] = set()  # ids of events
        self._random = Random(seed)

    def step(self, number: int) -> None:
        """Look for shards, then read one page of each that may be read."""
        try:
            self._discover()
        except (ClientError, BotoCoreError) as error:
            self._pass(error)
        for name in sorted(self.shards):
            shard = self.shards[name]
            if not shard.ended and self._may_be_read(shard):
                self._read(name, shard)

    @property
    def ended(self) -> bool:
        return all(shard.ended for shard in self.shards.values())

    def _may_be_read(self, shard: Shard) -> bool:
        return shard.parent is None or self.shards[shard.parent].ended

    def _discover(self) -> None:
        start: dict[str, str] = {}
        while True:
            page = self.client.describe_stream(StreamArn=self.arn, Limit=3, **start)["StreamDescription"]
            for shard in page["Shards"]:
                parent = shard.get("ParentShardId")
                assert parent is None or parent in self.shards, f"{shard['ShardId']} came before its parent"
                self.shards.setdefault(shard["ShardId"], Shard(parent))
            if "LastEvaluatedShardId" not in page:
                return
            start = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}

    def _read(self, name: str, shard: Shard) -> None:
        try:
            if shard.iterator is None or self._random.random() < FORGETS:
                shard.iterator = self._iterator(name, shard)
            page = self.client.get_records(ShardIterator=shard.iterator, Limit=PAGE)
        except (ClientError, BotoCoreError) as error:
            self._pass(error)
            shard.iterator = None
            return
        for record in page["Records"]:
            self._take(shard, record)
        shard.iterator = page.get("NextShardIterator")
        shard.ended = shard.iterator is None

    def _iterator(self, name: str, shard: Shard) -> str:
        where: dict[str, str] = {"ShardIteratorType": "TRIM_HORIZON"}
        if shard.checkpoint is not None:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": shard.checkpoint}
        iterator: str = self.client.get_shard_iterator(StreamArn=self.arn, ShardId=name, **where)["ShardIterator"]
        return iterator

    def _take(self, shard: Shard, record: dict[str, Any]) -> None:
        assert record["eventID"] not in self._seen, f"doubled: {record}"
        self._seen.add(record["eventID"])
        change = record["dynamodb"]
        number = change["SequenceNumber"]
        assert shard.checkpoint is None or int(number) > int(shard.checkpoint), f"out of order: {record}"
        shard.checkpoint = number
        key = canonical(change["Keys"])
        old, new = change.get("OldImage"), change.get("NewImage")
        assert self.items.get(key) == (None if old is None else canonical(old)), f"{self.items.get(key)}: {record}"
        event = {(True, False): "INSERT", (False, False): "MODIFY", (False, True): "REMOVE"}[old is None, new is None]
        assert record["eventName"] == event
        if new is None:
            del self.items[key]
        else:
            self.items[key] = canonical(new)
        self.records += 1

    def _pass(self, error: Exception) -> None:
        """A region that has just lost a leader or a router may answer so; anything else is a failure."""
        if isinstance(error, ClientError) and error.response["Error"]["Code"] not in _PASSING:
            raise error
        self.interruptions += 1
