"""The Lambda API's operations on event source mappings, over the catalog's own rules, as HTTP requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.errors import ApiError
from geodyne.messages import Answer, Control, ControlDone, Refused, Watched
from geodyne.rpc.catalogview import CatalogView
from geodyne.triggers.functions import HTTP, FunctionSpec
from node.catalog.machine import Catalog, Surroundings, evaluate
from node.catalog.placement import rings_by_zone
from router.api.context import Api
from router.auth.sigv4 import Credential, SignatureVerifier
from router.http.dynamodb import DynamoDb, execute_locally
from router.http.lambdafront import BODY_BYTES_MAX, LambdaFront
from router.http.values import HttpRequest, HttpResponse
from router.lambdaapi.administration import administration
from tests.unit.router.fake_region import NOW_MS, Ready

REGION = "us-east-1"
ACCOUNT = "000000000000"
LABEL = "2026-06-01T00:00:00.000"
ARN = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/things/stream/{LABEL}"
FUNCTION_ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
PATH = "/2015-03-31/event-source-mappings"
NOBODY = "00000000-0000-4000-8000-000000000000"
DEFINITION = {
    "name": "things",
    "hash_key": "pk",
    "hash_type": "S",
    "range_key": None,
    "range_type": None,
    "stream_view": "KEYS_ONLY",
}
CREATE = {"EventSourceArn": ARN, "FunctionName": "f", "StartingPosition": "LATEST"}
INVALID = "InvalidParameterValueException"
ANA = Credential("AKIAANA", "secret", None, "ana")


class Metadata:
    """The metadata group's rules, and a router's copy of the catalog. `forced` answers the next call."""

    def __init__(self) -> None:
        self.rules = Catalog()
        self.catalog = CatalogView()
        self.forced: ApiError | None = None
        self.ids = 0
        self.run("create_table", definition=DEFINITION)
        for name in ("f", "g"):
            self.run("put_function", function=FunctionSpec(name, HTTP, url="http://h").to_record())

    def run(self, operation: str, **body: Any) -> dict[str, Any]:
        around = Surroundings(REGION, NOW_MS, rings_by_zone({"n": "a"}), self._new_id, lambda _ms: LABEL)
        changes, answer = evaluate(self.rules, operation, body, around)
        if changes:
            self.rules.apply(self.rules.revision + 1, changes)
            self.catalog.apply(Watched(self.rules.revision, False, tuple(changes), 0, (), 0, ()))
        return answer

    def _new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:08d}-0000-4000-8000-000000000000"

    def call(self, call: Control, *, timeout_ms: int, request_id: str = "") -> Awaitable[Answer]:
        if self.forced is not None:
            return Ready(self.forced)
        try:
            answer = self.run(call.operation, **call.body)
        except ApiError as error:
            return Ready(Refused(error.kind.code, error.message or ""))
        return Ready(ControlDone(self.rules.revision, answer))

    async def wait_revision(self, revision: int, timeout_ms: int) -> None:
        assert self.catalog.revision >= revision

    def settle(self) -> None:
        """All changes of mappings take effect."""
        for uuid, mapping in list(self.rules.mappings.items()):
            self.run("mapping_settled", name=uuid, revision=mapping["revision"])


class Service:
    """A router's door before it."""

    def __init__(self, *, checked: bool = False, region: str = REGION) -> None:
        self.metadata = Metadata()
        api = Api(self.metadata, region=region, now_ms=lambda: NOW_MS)  # type: ignore[arg-type]
        verifier = SignatureVerifier([REGION], {"AKIAANA": ANA}.get, "lambda") if checked else None
        self.front = DynamoDb(
            {},
            execute_locally(api.context),
            verifier=None,
            wall_s=lambda: NOW_MS / 1000,
            monotonic_s=lambda: 0.0,
            beside=LambdaFront(api.context, verifier=verifier, wall_s=lambda: NOW_MS / 1000),
        )
        self.administer = administration(api.context)

    def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[bytes, bytes] | None = None
    ) -> HttpResponse:
        bare, _, query = path.encode().partition(b"?")
        request = HttpRequest(method.encode(), bare, query, headers or {}, body, "ID")
        return asyncio.run(self.front.handle(request))

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        response = self.send(method, path, b"" if body is None else json.dumps(body).encode())
        return response.status, orjson.loads(response.body)

    def create(self, **more: Any) -> dict[str, Any]:
        status, answer = self.ask("POST", PATH, {**CREATE, **more})
        assert status == 202, answer
        return answer

    def made(self, **more: Any) -> str:
        """The UUID of a mapping that can be changed."""
        uuid = str(self.create(**more)["UUID"])
        self.metadata.settle()
        return uuid

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str, str]:
        """Status, name and text of the error."""
        response = self.send(method, path, b"" if body is None else json.dumps(body).encode())
        answer = orjson.loads(response.body)
        name = dict(response.headers)[b"x-amzn-ErrorType"].decode()
        assert answer["Type"] == ("Service" if response.status >= 500 else "User")
        return response.status, name, answer.get("message", answer.get("Message"))

    def operator(self, operation: str, **body: Any) -> dict[str, Any]:
        return asyncio.run(self.administer({"operation": operation, "body": body}))  # type: ignore[arg-type]


def test_a_new_mapping_is_shown_whole_with_the_defaults_of_the_service() -> None:
    created = Service().create()
    uuid = created["UUID"]
    assert created == {
        "UUID": uuid,
        "StartingPosition": "LATEST",
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "EventSourceArn": ARN,
        "FunctionArn": FUNCTION_ARN,
        "LastModified": NOW_MS / 1000,
        "LastProcessingResult": "No records processed",
        "State": "Creating",
        "StateTransitionReason": "User action",
        "DestinationConfig": {"OnFailure": {}},
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "EventSourceMappingArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{uuid}",
    }


SETTINGS: dict[str, Any] = {
    "BatchSize": 10,
    "MaximumBatchingWindowInSeconds": 5,
    "ParallelizationFactor": 2,
    "MaximumRecordAgeInSeconds": 60,
    "BisectBatchOnFunctionError": True,
    "MaximumRetryAttempts": 0,
    "TumblingWindowInSeconds": 30,
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "FilterCriteria": {"Filters": [{"Pattern": '{"eventName": ["INSERT"]}'}]},
    "DestinationConfig": {"OnFailure": {"Destination": "http://h"}},
}


def test_every_setting_can_be_given_changed_and_taken_back() -> None:
    service = Service()
    uuid = service.made(**SETTINGS)
    shown = service.ask("GET", f"{PATH}/{uuid}")[1]
    assert {name: shown[name] for name in SETTINGS} == SETTINGS
    status, changed = service.ask("PUT", f"{PATH}/{uuid}", {"BatchSize": 11, "FunctionName": "g"})
    assert (status, changed["State"]) == (202, "Updating")
    assert changed["FunctionArn"] == FUNCTION_ARN[:-1] + "g"
    assert {name: changed[name] for name in SETTINGS} == {**SETTINGS, "BatchSize": 11}
    service.metadata.settle()
    none = {"FilterCriteria": {}, "DestinationConfig": {}, "FunctionResponseTypes": [], "MaximumRetryAttempts": -1}
    _, cleared = service.ask("PUT", f"{PATH}/{uuid}", none)
    assert "FilterCriteria" not in cleared
    assert (cleared["DestinationConfig"], cleared["FunctionResponseTypes"]) == ({"OnFailure": {}}, [])
    assert cleared["MaximumRetryAttempts"] == -1


def test_a_mapping_is_disabled_enabled_and_deleted() -> None:
    service = Service()
    uuid = service.made()
    for body, between, then in (
        ({"Enabled": False}, "Disabling", "Disabled"),
        ({"Enabled": True}, "Enabling", "Enabled"),
    ):
        assert service.ask("PUT", f"{PATH}/{uuid}", body)[1]["State"] == between
        assert service.refused("DELETE", f"{PATH}/{uuid}")[:2] == (400, "ResourceInUseException")
        service.metadata.settle()
        assert service.ask("GET", f"{PATH}/{uuid}")[1]["State"] == then
    status, deleted = service.ask("DELETE", f"{PATH}/{uuid}")
    assert (status, deleted["State"]) == (202, "Deleting")
    service.metadata.settle()
    assert service.refused("GET", f"{PATH}/{uuid}") == (
        404,
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )


@pytest.mark.parametrize(
    "name",
    ["f", FUNCTION_ARN, f"{ACCOUNT}:function:f", f"{ACCOUNT}:f", "function:f", f"{FUNCTION_ARN}:$LATEST"],
)
def test_a_function_may_be_named_in_every_form(name: str) -> None:
    assert Service().create(FunctionName=name)["FunctionArn"] == FUNCTION_ARN


@pytest.mark.parametrize(
    "name",
    [
        "none",
        f"{FUNCTION_ARN}:PROD",
        f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:f",
        f"arn:aws:lambda:{REGION}:111111111111:function:f",
    ],
)
def test_a_function_that_is_not_there_is_not_found(name: str) -> None:
    status, code, message = Service().refused("POST", PATH, {**CREATE, "FunctionName": name})
    assert (status, code) == (404, "ResourceNotFoundException")
    assert message.startswith("Function not found: ")


@pytest.mark.parametrize(
    "arn",
    [
        ARN.replace("things", "other"),
        ARN.replace("2026-06-01", "2026-06-02"),
        ARN.replace(REGION, "eu-west-1"),
        ARN.replace(ACCOUNT, "111111111111"),
    ],
)
def test_a_stream_that_is_not_there_is_not_found(arn: str) -> None:
    assert Service().refused("POST", PATH, {**CREATE, "EventSourceArn": arn}) == (
        400,
        INVALID,
        f"Stream not found: {arn}",
    )


@pytest.mark.parametrize("region", ["seattle", "eu-central", "rack2"])
def test_regions_may_have_names_that_aws_has_not(region: str) -> None:
    service = Service(region=region)
    arn, function = ARN.replace(REGION, region), FUNCTION_ARN.replace(REGION, region)
    for name in ("f", function, function.removeprefix("arn:aws:lambda:")):
        created = service.create(EventSourceArn=arn, FunctionName=name)
        assert (created["EventSourceArn"], created["FunctionArn"]) == (arn, function)
        service.metadata.settle()
        assert service.ask("GET", f"{PATH}?{urlencode({'EventSourceArn': arn})}")[1]["EventSourceMappings"]
        assert service.ask("DELETE", f"{PATH}/{created['UUID']}")[0] == 202
        service.metadata.settle()


def test_the_same_stream_and_function_conflict_and_the_error_names_the_mapping_that_there_is() -> None:
    service = Service()
    uuid = service.made()
    assert service.refused("POST", PATH, CREATE) == (
        409,
        "ResourceConflictException",
        f'The event source arn (" {ARN} ") and function (" f ") provided mapping already exists. '
        f"Please update or delete the existing mapping with UUID {uuid}",
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"BatchSize": 0},
            "Value '0' at 'batchSize' failed to satisfy constraint: Member must have value greater than",
        ),
        (
            {"BatchSize": 10_001},
            "'batchSize' failed to satisfy constraint: Member must have value less than or equal to",
        ),
        ({"MaximumBatchingWindowInSeconds": 301}, "'maximumBatchingWindowInSeconds'"),
        ({"ParallelizationFactor": 11}, "'parallelizationFactor'"),
        ({"MaximumRecordAgeInSeconds": 604_801}, "'maximumRecordAgeInSeconds'"),
        ({"MaximumRecordAgeInSeconds": 59}, "MaximumRecordAgeInSeconds must be -1 or at least 60."),
        ({"MaximumRetryAttempts": -2}, "'maximumRetryAttempts'"),
        ({"TumblingWindowInSeconds": 901}, "'tumblingWindowInSeconds'"),
        ({"StartingPosition": None}, "Value null at 'startingPosition' failed to satisfy constraint: Member must not"),
        ({"StartingPosition": "FIRST"}, "Member must satisfy enum value set: [TRIM_HORIZON, LATEST, AT_TIMESTAMP]"),
        ({"StartingPosition": "AT_TIMESTAMP"}, "AT_TIMESTAMP is not supported"),
        ({"StartingPositionTimestamp": 1.0}, "StartingPositionTimestamp is not supported"),
        ({"EventSourceArn": None}, "Value null at 'eventSourceArn'"),
        ({"EventSourceArn": "stream"}, "'eventSourceArn' failed to satisfy constraint: Member must satisfy regular"),
        ({"EventSourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"}, "Unrecognized event source"),
        ({"FunctionName": None}, "Value null at 'functionName'"),
        ({"FunctionName": "a b"}, "'functionName' failed to satisfy constraint: Member must satisfy regular"),
        ({"FunctionName": "f" * 257}, "Member must have length less than or equal to 256"),
        ({"FunctionResponseTypes": ["All"]}, "[ReportBatchItemFailures]"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "Invalid filter pattern definition."),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{}"}] * 6}}, "more than 5 filters"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "x" * 4097}]}}, "less than or equal to 4096"),
        (
            {"DestinationConfig": {"OnSuccess": {"Destination": "https://x"}}},
            "OnSuccess destinations are not supported",
        ),
        ({"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:x"}}}, "Destination must begin with one of"),
        ({"DestinationConfig": {"OnFailure": {"Destination": "https://" + "x" * 350}}}, "longer than 350"),
        ({"DestinationConfig": {"OnFailure": {"Destination": "http://u:secret@h"}}}, "name or password"),
        ({"Topics": ["t"]}, "Topics is not supported for DynamoDB stream event sources."),
        ({"Queues": ["q"]}, "Queues is not supported for"),
        ({"SelfManagedEventSource": {}}, "SelfManagedEventSource is not supported for"),
        ({"ScalingConfig": {"MaximumConcurrency": 2}}, "ScalingConfig is not supported for"),
        ({"KMSKeyArn": "arn:aws:kms:x"}, "KMSKeyArn is not supported."),
        ({"MetricsConfig": {"Metrics": ["EventCount"]}}, "MetricsConfig is not supported."),
        ({"Tags": {"a": "b"}}, "Tags is not supported."),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: dict[str, Any], text: str) -> None:
    service = Service()
    status, code, message = service.refused("POST", PATH, {**CREATE, **change})
    assert (status, code) == (400, INVALID)
    assert text in message
    assert service.ask("GET", PATH)[1] == {"EventSourceMappings": []}


def test_all_violations_are_named_at_once() -> None:
    message = Service().refused("POST", PATH, {"BatchSize": 0, "FunctionName": "f"})[2]
    assert message.startswith("3 validation errors detected: Value '0' at 'batchSize'")
    assert message.count("; Value ") == 2


@pytest.mark.parametrize(
    "change",
    [
        {"BatchSize": "10"},
        {"BatchSize": True},
        {"Enabled": 1},
        {"FunctionName": 7},
        {"FilterCriteria": []},
        {"FilterCriteria": {"Filters": [1]}},
        {"FunctionResponseTypes": "ReportBatchItemFailures"},
        {"DestinationConfig": {"OnFailure": "x"}},
    ],
)
def test_a_member_of_another_type_is_a_serialization_error(change: dict[str, Any]) -> None:
    assert Service().refused("POST", PATH, {**CREATE, **change})[:2] == (400, "SerializationException")


def test_a_file_is_a_destination_for_operators_only() -> None:
    """A key for the database gives no right to write files on its hosts."""
    service = Service()
    to_file = {"DestinationConfig": {"OnFailure": {"Destination": "file:///var/failed"}}}
    assert service.refused("POST", PATH, {**CREATE, **to_file})[:2] == (400, INVALID)
    uuid = service.operator("CreateEventSourceMapping", **CREATE, **to_file)["result"]["UUID"]
    service.metadata.settle()
    changed = service.ask("PUT", f"{PATH}/{uuid}", {"BatchSize": 3, **to_file})
    assert (changed[0], changed[1]["DestinationConfig"]) == (202, to_file["DestinationConfig"]), "it may be kept"
    service.metadata.settle()
    to_another = {"DestinationConfig": {"OnFailure": {"Destination": "file:///etc"}}}
    assert service.refused("PUT", f"{PATH}/{uuid}", to_another)[:2] == (400, INVALID)


def test_over_the_api_a_destination_is_what_the_owner_has_registered_as_an_http_function() -> None:
    """Delivery reaches what a client does not: metadata services, the pages of other processes."""
    service = Service()
    for url in ("http://169.254.169.254/latest", "http://127.0.0.1:9001/admin/members", "http://h/other", "http://H"):
        body = {**CREATE, "DestinationConfig": {"OnFailure": {"Destination": url}}}
        status, code, text = service.refused("POST", PATH, body)
        assert (status, code) == (400, INVALID)
        assert "registered HTTP function" in text
    registered = {"DestinationConfig": {"OnFailure": {"Destination": "http://h"}}}
    uuid = service.made(**registered)
    elsewhere = {"DestinationConfig": {"OnFailure": {"Destination": "http://elsewhere/x?token=1"}}}
    assert service.refused("PUT", f"{PATH}/{uuid}", elsewhere)[:2] == (400, INVALID)
    assert "result" in service.operator("UpdateEventSourceMapping", UUID=uuid, **elsewhere)
    service.metadata.settle()
    assert service.ask("PUT", f"{PATH}/{uuid}", elsewhere)[0] == 202, "it may be kept"


def test_lists_are_cut_into_pages_and_filtered() -> None:
    service = Service()
    first, second = service.made(), service.made(FunctionName="g")
    page = service.ask("GET", f"{PATH}/?MaxItems=1")[1]
    assert [one["UUID"] for one in page["EventSourceMappings"]] == [first]
    rest = service.ask("GET", f"{PATH}/?{urlencode({'Marker': page['NextMarker']})}")[1]
    assert [one["UUID"] for one in rest["EventSourceMappings"]] == [second]
    assert "NextMarker" not in rest

    def listed(**query: str) -> list[str]:
        return [one["UUID"] for one in service.ask("GET", f"{PATH}?{urlencode(query)}")[1]["EventSourceMappings"]]

    assert listed() == listed(EventSourceArn=ARN) == [first, second]
    assert listed(FunctionName="g") == listed(FunctionName=FUNCTION_ARN[:-1] + "g", EventSourceArn=ARN) == [second]
    assert listed(EventSourceArn=ARN.replace("things", "other")) == []


@pytest.mark.parametrize("query", ["MaxItems=0", "MaxItems=x", "MaxItems=10001", "Marker=%FF", "EventSourceArn=x"])
def test_a_list_refuses_what_is_out_of_range(query: str) -> None:
    assert Service().refused("GET", f"{PATH}?{query}")[:2] == (400, INVALID)


def test_the_state_of_stream_and_function_is_told_as_the_last_result() -> None:
    service = Service()
    uuid = service.made()

    def result() -> str:
        return str(service.ask("GET", f"{PATH}/{uuid}")[1]["LastProcessingResult"])

    service.metadata.run("mapping_result", uuid=uuid, result="OK")
    assert result() == "OK"
    service.metadata.run("delete_function", name="f", force=True)
    assert result() == f"PROBLEM: Function not found: {FUNCTION_ARN}"
    table = service.metadata.rules.tables["things"]
    service.metadata.run("activate", name="things", revision=table.revision)
    service.metadata.run("delete_table", name="things")
    service.metadata.run("forget", name="things", id=table.id)
    assert result() == "PROBLEM: Stream not found"


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (ApiError("ServiceUnavailable", "no leader"), 503, "ServiceException"),
        (ApiError("InternalServerError", "unknown"), 500, "ServiceException"),
        (ApiError("LimitExceededException", "many"), 429, "TooManyRequestsException"),
    ],
)
def test_a_region_that_does_not_answer_is_an_error_that_clients_repeat(error: ApiError, status: int, name: str) -> None:
    service = Service()
    service.metadata.forced = error
    assert service.refused("POST", PATH, CREATE)[:2] == (status, name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/2015-03-31/functions/"),
        ("POST", "/2015-03-31/functions/f/invocations"),
        ("DELETE", PATH),
        ("PATCH", f"{PATH}/{NOBODY}"),
        ("GET", f"{PATH}/{NOBODY}/x"),
        ("GET", "/2015-03-31/../event-source-mappings"),
        ("GET", "/2015-03-31//event-source-mappings"),
    ],
)
def test_what_is_not_implemented_of_lambda_says_so(method: str, path: str) -> None:
    assert Service().refused(method, path)[:2] == (404, "UnknownOperationException")


@pytest.mark.parametrize("uuid", ["x", "x" * 37, "%00", "%FF%FE", "..%2F..%2Fetc"])
def test_what_is_no_uuid_is_refused(uuid: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        body = {} if method == "PUT" else None
        assert Service().refused(method, f"{PATH}/{uuid}", body)[:2] == (400, INVALID)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b'{"a":' * 600])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    response = Service().send("POST", PATH, body)
    assert response.status == 400


def test_a_body_or_query_that_is_too_long_is_refused() -> None:
    service = Service()
    long = b'{"FunctionName": "' + b"f" * BODY_BYTES_MAX + b'"}'
    assert service.send("POST", PATH, long).status == 413
    assert service.send("GET", f"{PATH}?Marker={'x' * 20_000}").status == 413
    assert service.send("GET", PATH + "?" + "a=1&" * 40).status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    body=st.dictionaries(st.sampled_from([*CREATE, *SETTINGS, "Enabled", "Topics", "Tags", "x"]), JSON),
    over=st.sampled_from([{}, CREATE]),
)
@settings(max_examples=150, deadline=None)
def test_no_body_ends_in_an_error_of_our_own(body: dict[str, Any], over: dict[str, Any]) -> None:
    service = Service()
    response = service.send("POST", PATH, orjson.dumps({**over, **body}, option=orjson.OPT_NON_STR_KEYS))
    assert response.status in (202, 400, 404), response.body


def signed(service: str, region: str = REGION, path: str = PATH) -> dict[bytes, bytes]:
    request = AWSRequest("GET", f"http://h{path}", headers={"Host": "h", "X-Amz-Date": "20260528T202640Z"})
    SigV4Auth(Credentials("AKIAANA", "secret"), service, region).add_auth(request)
    return {name.lower().encode(): value.encode() for name, value in request.headers.items()}


def test_signatures_are_checked_for_the_service_lambda() -> None:
    service = Service(checked=True)
    for headers, name in (
        ({}, "MissingAuthenticationTokenException"),
        ({b"authorization": b"AWS4-HMAC-SHA256 nonsense"}, "IncompleteSignatureException"),
        (signed("dynamodb"), "InvalidSignatureException"),
    ):
        response = service.send("GET", PATH, headers=headers)
        assert response.status == 403
        assert dict(response.headers)[b"x-amzn-ErrorType"] == name.encode()
        assert set(json.loads(response.body)) == {"Type", "Message"}


def test_a_request_signed_for_lambda_is_lambdas_wherever_it_goes() -> None:
    headers = signed("lambda", path="/")
    response = Service().send("GET", "/", headers=headers)
    assert dict(response.headers)[b"x-amzn-ErrorType"] == b"UnknownOperationException"
    assert Service().send("GET", "/").headers == (), "anybody else gets DynamoDB's answer"


def test_requests_are_counted_by_operation() -> None:
    service = Service()
    service.create()
    service.ask("GET", f"{PATH}/{NOBODY}")
    codes = {name: metrics.codes for name, metrics in service.front.metrics.operations.items()}
    assert codes["CreateEventSourceMapping"]["OK"] == 1
    assert codes["GetEventSourceMapping"]["ResourceNotFoundException"] == 1


def test_an_operator_registers_functions_and_names_a_table_in_place_of_its_stream() -> None:
    service = Service()
    python = {"name": "p", "kind": "python", "directory": "/srv", "handler": "m:h"}
    assert service.operator("PutFunction", **python)["result"]["function"]["handler"] == "m:h"
    made = service.operator(
        "CreateEventSourceMapping", TableName="things", FunctionName="p", StartingPosition="TRIM_HORIZON"
    )["result"]
    assert made["EventSourceArn"] == ARN
    assert service.operator("DeleteFunction", name="p")["code"] == "ResourceInUseException"
    names = [one["name"] for one in service.operator("ListFunctions")["result"]["functions"]]
    assert names == ["f", "g", "p"]
    assert service.operator("GetEventSourceMapping", UUID=made["UUID"])["result"] == made
    assert service.operator("ListEventSourceMappings", FunctionName="p")["result"]["EventSourceMappings"] == [made]


@pytest.mark.parametrize(
    ("operation", "body", "text"),
    [
        ("Invoke", {}, "operation must be one of"),
        ("PutFunction", {}, "this is not the description of a function"),
        ("PutFunction", {"name": "a b", "kind": "http", "url": "http://h"}, "a function's name is 1 to 64 letters"),
        ("PutFunction", {"name": "a", "kind": "http", "url": "ftp://h"}, "begins with http"),
        ("PutFunction", {"name": "a", "kind": "http", "url": "http://h", "timeout_s": "x"}, "not the description"),
        ("PutFunction", {"name": "a", "kind": "http", "url": "http://" + "h" * 40_000}, "at most 32768 bytes"),
        ("DeleteFunction", {"name": "none"}, "There is no function none"),
        ("CreateEventSourceMapping", {"TableName": "none"}, "There is no table none"),
        ("GetEventSourceMapping", {"UUID": NOBODY}, "does not exist"),
    ],
)
def test_an_operator_is_told_what_is_wrong(operation: str, body: dict[str, Any], text: str) -> None:
    assert text in Service().operator(operation, **body)["error"]
