"""An unmodified SDK against the front end: signatures, checksums, errors, and a body that is too large."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import boto3
import orjson
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from geodyne.errors import ApiError
from router.auth.sigv4 import Credential, SignatureVerifier
from router.http.dynamodb import DynamoDb, execute_locally, health_answer
from router.http.server import HttpServer

ANA = Credential("AKIAANA", "secret", "token", "ana")


class GetItem(NamedTuple):
    name: str = "GetItem"

    async def handler(self, body: dict[str, Any], context: Any) -> bytes:
        if body["TableName"] == "none":
            raise ApiError("ResourceNotFoundException", "Requested resource not found")
        return orjson.dumps({"Item": body["Key"]})


def with_client(scenario: Callable[[Any], None], secret: str = ANA.secret_access_key) -> None:
    async def run() -> None:
        gates = DynamoDb(
            {"DynamoDB_20120810": {"GetItem": GetItem()}},
            execute_locally(lambda request_id, principal: None),
            verifier=SignatureVerifier(["eu-west-1"], {"AKIAANA": ANA}.get),
            wall_s=time.time,
            monotonic_s=time.monotonic,
        )
        server = HttpServer(gates.handle, direct_get={b"/": health_answer("eu-west-1")})
        port = await server.start("127.0.0.1", 0)
        client = boto3.client(
            "dynamodb",
            region_name="eu-west-1",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id=ANA.access_key_id,
            aws_secret_access_key=secret,
            aws_session_token=ANA.session_token,
            config=Config(retries={"total_max_attempts": 1}),
        )
        try:
            await asyncio.to_thread(scenario, client)
        finally:
            client.close()
            await server.stop(1)

    asyncio.run(run())


def test_boto3_gets_answers_and_errors_in_its_own_terms() -> None:
    def scenario(client: Any) -> None:
        key = {"pk": {"S": "ä" * 100}}
        for _ in range(3):
            response = client.get_item(TableName="t", Key=key)
            assert response["Item"] == key
            assert len(response["ResponseMetadata"]["RequestId"]) == 52
        with pytest.raises(client.exceptions.ResourceNotFoundException, match="Requested resource not found"):
            client.get_item(TableName="none", Key=key)
        with pytest.raises(ClientError, match="UnknownOperationException"):
            client.list_backups()
        with pytest.raises(ClientError) as caught:
            client.get_item(TableName="t", Key={"pk": {"S": "x" * 17 * 1024 * 1024}})
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413

    with_client(scenario)


def test_boto3_with_a_wrong_secret_is_refused() -> None:
    def scenario(client: Any) -> None:
        with pytest.raises(ClientError, match="InvalidSignatureException"):
            client.get_item(TableName="t", Key={"pk": {"S": "a"}})

    with_client(scenario, secret="wrong")
