"""A Kinesis-compatible endpoint, over botocore.

botocore waits for its sockets, so each call is made on one of a few threads. Credentials are those of the process's AWS
environment. Nothing is imported before a client is opened: a region without destinations needs no botocore.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from delivery.kinesisrecords import DataRecord

CALLS_MAX = 8  # under way at once; further ones wait
CONNECT_S_MAX = 5.0
READ_S_MAX = 10.0
# The request can never be taken as it is: repeating it is useless.
_UNFIT = frozenset({"ValidationException", "InvalidArgumentException", "SerializationException", "413"})
NOT_FOUND = "ResourceNotFoundException"


class KinesisError(Exception):
    """The request was not taken. `unfit`: because of what is in it; `code` is the service's word, "" without answer."""

    def __init__(self, message: str, *, code: str = "", unfit: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.unfit = unfit


class KinesisClient(Protocol):
    async def status(self, stream: str) -> str:
        """The StreamStatus of the data stream of that name. Raises KinesisError."""

    async def put(self, stream: str, records: Sequence[DataRecord]) -> list[str]:
        """PutRecords: for each record the error code, "" for one that was taken. Raises KinesisError."""

    def close(self) -> None: ...


def stream_name(stream_arn: str) -> str:
    return stream_arn.rpartition("/")[2]


class BotocoreClient:
    """Implements KinesisClient. Repeats nothing by itself. Raises KinesisError when botocore is not installed."""

    def __init__(self, endpoint: str, region: str) -> None:
        try:
            import botocore.session
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise KinesisError(f"botocore is not installed: {error}") from None
        config = Config(
            connect_timeout=CONNECT_S_MAX,
            read_timeout=READ_S_MAX,
            retries={"total_max_attempts": 1},
            max_pool_connections=CALLS_MAX,
        )
        self._errors = BotoCoreError
        self._answers = ClientError
        try:
            session = botocore.session.get_session()
            self._client = session.create_client("kinesis", region_name=region, endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as error:
            raise KinesisError(str(error)) from None
        self._threads = ThreadPoolExecutor(CALLS_MAX, "kinesis")

    async def status(self, stream: str) -> str:
        answer = await self._call("describe_stream", StreamName=stream, Limit=1)
        return str(answer["StreamDescription"]["StreamStatus"])

    async def put(self, stream: str, records: Sequence[DataRecord]) -> list[str]:
        entries = [{"Data": record.data, "PartitionKey": record.partition_key} for record in records]
        answer = await self._call("put_records", StreamName=stream, Records=entries)
        outcomes = answer.get("Records", ())
        if len(outcomes) != len(records):
            raise KinesisError(f"the answer tells of {len(outcomes)} records, not of {len(records)}")
        return [str(outcome.get("ErrorCode") or "") for outcome in outcomes]

    async def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        method = getattr(self._client, operation)
        loop = asyncio.get_running_loop()
        try:
            answer: dict[str, Any] = await loop.run_in_executor(self._threads, lambda: method(**parameters))
        except self._answers as error:
            told = error.response.get("Error", {})
            code = str(told.get("Code", ""))
            message = f"{code}: {told.get('Message', '')}"
            raise KinesisError(message, code=code, unfit=code in _UNFIT) from None
        except self._errors as error:
            raise KinesisError(str(error)) from None
        return answer

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()
