"""A function that keeps the records of its batches: one compressed object a batch, in a directory or an S3-style store.

An object holds a batch's records as lines of JSON, as functions get them, and is named by table, stream and the batch's
first and last record: a batch that is delivered again takes the place of its object. Batches that are cut differently
after a restart have other names, and may hold some records twice; `eventID` tells. So nothing takes the place of an
object that holds more: neither a shorter batch, nor the late writing of one that was given up waiting for.
"""

from __future__ import annotations

import asyncio
import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import orjson

from delivery.files import keep
from delivery.verdict import NotReached, Reply, Returned
from geodyne.streams import parse_stream_arn
from geodyne.triggers.functions import FunctionSpec

CONNECT_S_MAX = 5.0
READ_S_MAX = 20.0
WRITES_MAX = 8  # under way at once; further ones wait


class ArchiveError(Exception):
    """An object was not kept; the text says why."""


class ArchiveObject(NamedTuple):
    name: str
    body: bytes


class Store(Protocol):
    """Called on threads. Objects are kept whole, and durable when `put` returns."""

    def put(self, kept: ArchiveObject) -> None:
        """Raises ArchiveError."""

    def close(self) -> None: ...


def archive_object(event: bytes) -> ArchiveObject | None:
    """The object of a batch, the same whenever the same batch comes; None for a batch without records."""
    records: list[dict[str, Any]] = orjson.loads(event)["Records"]
    if not records:
        return None
    first, last = records[0], records[-1]
    stream = parse_stream_arn(first["eventSourceARN"])
    place = f"{stream.table}/{stream.label}" if stream is not None else "unknown"
    # Partitions number their records by themselves: the event's id tells those of the same number apart.
    span = f"{first['dynamodb']['SequenceNumber']}-{last['dynamodb']['SequenceNumber']}"
    name = f"{place}/{span}-{first['eventID']}.json.gz"
    lines = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
    return ArchiveObject(name, gzip.compress(lines, mtime=0))


class DirectoryStore:
    """Implements Store with files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, kept: ArchiveObject) -> None:
        try:
            keep(self._directory, kept.name, kept.body)
        except OSError as error:
            raise ArchiveError(f"{self._directory / kept.name}: {error.strerror}") from None

    def close(self) -> None:
        """Files are closed already."""


class ObjectStore:
    """Implements Store with an S3-compatible endpoint, over botocore; credentials are those of the process's AWS
    environment. `endpoint` "" leaves the choice to botocore. Raises ArchiveError when botocore cannot be used."""

    def __init__(self, bucket: str, prefix: str, endpoint: str, region: str) -> None:
        try:
            import botocore.session
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise ArchiveError(f"botocore is not installed: {error}") from None
        self._bucket = bucket
        self._prefix = prefix
        self._errors = (BotoCoreError, ClientError)
        config = Config(
            connect_timeout=CONNECT_S_MAX,
            read_timeout=READ_S_MAX,
            retries={"total_max_attempts": 1},
            max_pool_connections=WRITES_MAX,
            request_checksum_calculation="when_required",  # not every store takes what is newer than that
            # Stores elsewhere are reached by address, without names of buckets in the host's.
            s3={"addressing_style": "path"} if endpoint else None,
        )
        try:
            session = botocore.session.get_session()
            self._client = session.create_client("s3", region_name=region, endpoint_url=endpoint or None, config=config)
        except (BotoCoreError, ValueError) as error:
            raise ArchiveError(str(error)) from None

    def put(self, kept: ArchiveObject) -> None:
        key = f"{self._prefix}/{kept.name}" if self._prefix else kept.name
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=kept.body, ContentType="application/x-ndjson", ContentEncoding="gzip"
            )
        except self._errors as error:
            raise ArchiveError(str(error)) from None

    def close(self) -> None:
        self._client.close()


def open_store(url: str, region: str) -> Store:
    """The store of an archive's URL (geodyne.triggers.functions). Raises ArchiveError."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return DirectoryStore(Path(unquote(parts.path)))
    return ObjectStore(parts.netloc, parts.path.strip("/"), parts.query.removeprefix("endpoint="), region)


class ArchiveFunction:
    """Implements delivery.functions.Function. A batch that was not kept was not reached: it is tried again until it is,
    whatever the mapping says of retries."""

    def __init__(self, spec: FunctionSpec, *, region: str) -> None:
        self._url = spec.url
        self._region = region
        self._store: Store | None = None
        self._opening = Lock()
        self._threads = ThreadPoolExecutor(WRITES_MAX, "archive")

    async def call(self, event: bytes, request_id: str) -> Reply:
        loop = asyncio.get_running_loop()
        try:
            # Off the loop's thread: to compress, to wait for a disk or a store.
            await loop.run_in_executor(self._threads, self._keep, event)
        except ArchiveError as error:
            return NotReached(str(error))
        return Returned(None)

    def _keep(self, event: bytes) -> None:
        kept = archive_object(event)
        if kept is None:
            return
        with self._opening:
            if self._store is None:
                self._store = open_store(self._url, self._region)
        self._store.put(kept)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._store is not None:
            self._store.close()
