"""The Lambda API asks for signatures as DynamoDB does, for a service of its own, and refuses in its own form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.cluster.clusters import Keys, dynamodb
from tests.cluster.devservers import DevServer
from tests.cluster.triggers import create_streamed_table

pytestmark = pytest.mark.cluster

MAPPINGS = "/2015-03-31/event-source-mappings"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with DevServer(tmp_path_factory.mktemp("lambda-signatures") / "data", "--auth", "on") as server:
        yield server


def functions(server: DevServer, keys: Keys) -> Any:
    return dynamodb(server.endpoint, "us-east-1", keys, service="lambda", retries={"total_max_attempts": 1})


def test_a_signed_request_is_answered(server: DevServer) -> None:
    client = functions(server, server.keys)
    assert client.list_event_source_mappings()["EventSourceMappings"] == []
    arn = create_streamed_table(server.client(), "signed")
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="Function not found"):
        client.create_event_source_mapping(EventSourceArn=arn, FunctionName="none", StartingPosition="LATEST")
    client.close()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda keys: keys._replace(secret_access_key="another"), "InvalidSignatureException"),
        (lambda keys: keys._replace(access_key_id="AKIANOBODY"), "UnrecognizedClientException"),
    ],
)
def test_a_wrongly_signed_request_is_refused_under_the_name_that_clients_know(
    server: DevServer, wrong: Any, code: str
) -> None:
    client = functions(server, wrong(server.keys))
    for call in (
        client.list_event_source_mappings,
        lambda: client.create_event_source_mapping(EventSourceArn="arn", FunctionName="f", StartingPosition="LATEST"),
    ):
        with pytest.raises(ClientError) as refused:
            call()
        response = refused.value.response
        assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (code, 403)
        assert server.keys.secret_access_key not in str(response)
    client.close()


@pytest.mark.parametrize(
    ("service", "spoil", "code"),
    [
        ("dynamodb", None, "InvalidSignatureException"),
        ("lambda", "body", "InvalidSignatureException"),
        ("lambda", "query", "InvalidSignatureException"),
        (None, None, "MissingAuthenticationTokenException"),
    ],
)
def test_the_refusal_has_its_name_in_a_header_and_its_text_in_the_body(
    server: DevServer, service: str | None, spoil: str | None, code: str
) -> None:
    url, body = server.endpoint + MAPPINGS, b'{"BatchSize": 1}'
    signed = AWSRequest("POST", url, data=body, headers={"Content-Type": "application/json"})
    if service is not None:
        SigV4Auth(Credentials(*server.keys), service, "us-east-1").add_auth(signed)
    url += "?MaxItems=1" if spoil == "query" else ""
    sent = Request(url, body + b" " if spoil == "body" else body, dict(signed.headers.items()), method="POST")
    with pytest.raises(HTTPError) as refused:
        urlopen(sent, timeout=30)
    with refused.value as answer:
        shown = json.loads(answer.read())
    assert (answer.code, answer.headers["x-amzn-ErrorType"]) == (403, code)
    assert shown["Type"] == "User"
    assert set(shown) <= {"Type", "Message", "message"}
    assert "__type" not in shown
