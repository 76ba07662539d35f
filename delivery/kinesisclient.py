"""A Kinesis-compatible endpoint, over botocore.

botocore waits for its sockets, so each call is made on one of a few threads. Credentials are those of the process's AWS
environment. Nothing is imported before a client is opened: a region without destinations needs no botocore.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from delivery.kinesisrecords import DataRecord

CALLS_MAX = 8  # under way at once; further ones wait
CONNECT_S_MAX = 5.0
READ_S_MAX = 10.0
# The request can never be taken as it is: repeating it is useless.
_UNFIT = frozenset({"ValidationException", "InvalidArgumentException", "SerializationException", "413"})
NOT_FOUND = "ResourceNotFoundException"

Value = TypeVar("Value")


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
            from botocore.parsers import ResponseParserError
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
        self._unread = ResponseParserError
        try:
            session = botocore.session.get_session()
            self._client = session.create_client("kinesis", region_name=region, endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as error:
            raise KinesisError(str(error)) from None
        self._threads = ThreadPoolExecutor(CALLS_MAX, "kinesis")

    async def status(self, stream: str) -> str:
        def told(answer: Any) -> str:
            return str(answer["StreamDescription"]["StreamStatus"])

        return await self._call("describe_stream", told, StreamName=stream, Limit=1)

    async def put(self, stream: str, records: Sequence[DataRecord]) -> list[str]:
        def told(answer: Any) -> list[str]:
            outcomes = answer["Records"]
            if len(outcomes) != len(records):
                raise KinesisError(f"the answer tells of {len(outcomes)} records, not of {len(records)}")
            return [str(outcome.get("ErrorCode") or "") for outcome in outcomes]

        entries = [{"Data": record.data, "PartitionKey": record.partition_key} for record in records]
        return await self._call("put_records", told, StreamName=stream, Records=entries)

    async def _call(self, operation: str, told: Callable[[Any], Value], **parameters: Any) -> Value:
        """What `told` makes of the answer, on a thread."""
        method = getattr(self._client, operation)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: told(method(**parameters)))
        except self._answers as error:
            said = error.response.get("Error", {})
            code = str(said.get("Code", ""))
            message = f"{code}: {said.get('Message', '')}"
            raise KinesisError(message, code=code, unfit=code in _UNFIT) from None
        except self._errors as error:
            raise KinesisError(str(error)) from None
        except (LookupError, TypeError, AttributeError, ValueError, self._unread) as error:
            # Something answers there that is no Kinesis: neither does botocore check the forms of answers.
            raise KinesisError(f"the answer is none of Kinesis: {error!r}") from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()
