"""The gates of a DynamoDB request, in the order in which DynamoDB applies them.

What happens behind the last gate is an argument: a regional router executes the operation, the global endpoint
forwards the request. Both see a parsed body and a verified principal.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from geodyne.errors import ApiError
from router.auth.sigv4 import Principal, SignatureVerifier
from router.http.compression import deflated, inflate, is_gzip
from router.http.crossorigin import is_preflight, preflight_answer, shared
from router.http.requestmetrics import SUCCESS, OperationMetrics, RequestMetrics
from router.http.values import AMZ_JSON, HttpRequest, HttpResponse, error_response

log = logging.getLogger("geodyne.request")

_PLAIN_JSON = b"application/json"
_UNKNOWN_OPERATION = HttpResponse(404, b"<UnknownOperationException/>\n", b"application/xml")
_PREFLIGHT = "preflight"  # the code under which metrics count it
_ANYBODY = Principal("", "anonymous", "")  # signatures are not checked


class Operation(Protocol):
    """What the gates need to know of an operation. `router.api.registry` has them."""

    @property
    def name(self) -> str: ...


class Call(NamedTuple):
    """A request that passed the gates. `content_type` is the one to answer in."""

    operation: Any
    body: dict[str, Any]
    principal: Principal
    content_type: bytes
    http: HttpRequest


Execute = Callable[[Call], Awaitable[HttpResponse]]


class Beside(Protocol):
    """Another service at the same port: router.http.lambdafront."""

    @property
    def operations(self) -> Iterable[str]: ...

    def owns(self, request: HttpRequest) -> bool: ...

    async def handle(self, request: HttpRequest) -> tuple[HttpResponse, str, str]:
        """The response, the operation's name ("": none) and the code that metrics count."""


class _Target(NamedTuple):
    operation: Operation
    metrics: OperationMetrics


class DynamoDb:
    """The front end: `handle` is the handler of an HttpServer.

    `services` maps a target prefix ("DynamoDB_20120810") to its operations by name. `verifier` None turns
    the signature check off. `wall_s` and `monotonic_s` are clocks in seconds. What is `beside`'s is handed to it.
    """

    def __init__(
        self,
        services: Mapping[str, Mapping[str, Operation]],
        execute: Execute,
        *,
        verifier: SignatureVerifier | None,
        wall_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        beside: Beside | None = None,
    ) -> None:
        self._beside = beside
        self._execute = execute
        self._verifier = verifier
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        names = [name for operations in services.values() for name in operations]
        self.metrics = RequestMetrics([*names, *(beside.operations if beside is not None else ())])
        self._targets = {
            f"{prefix}.{name}".encode(): _Target(operation, self.metrics.operations[name])
            for prefix, operations in services.items()
            for name, operation in operations.items()
        }

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer any request; never raises. Unexpected errors are logged and answered without details."""
        began_s = self._monotonic_s()
        target = self._targets.get(request.headers.get(b"x-amz-target", b""))
        if target is None and self._beside is not None and self._beside.owns(request) and not is_preflight(request):
            return await self._handle_beside(self._beside, request, began_s)
        metrics = target.metrics if target is not None else self.metrics.unknown
        content_type = AMZ_JSON
        self.metrics.in_flight += 1
        try:
            echo = _content_type(request)
            if echo is None:
                response, code = _outside_the_protocol(request)
            else:
                content_type = echo
                response = await self._execute(self._checked(request, target, content_type))
                code = SUCCESS if response.status == 200 else str(response.status)
        except ApiError as error:
            response = error_response(error, content_type)
            code = error.kind.code
        except Exception:
            log.exception("request failed", extra={"request_id": request.request_id, "operation": metrics.name})
            response = error_response(ApiError("InternalServerError", "Internal server error"), content_type)
            code = "InternalServerError"
        finally:
            self.metrics.in_flight -= 1
        metrics.observe(code, self._monotonic_s() - began_s)
        headers = request.headers
        if b"accept-encoding" in headers:
            response = deflated(response, headers[b"accept-encoding"])
        return shared(response) if b"origin" in headers and code != _PREFLIGHT else response

    async def _handle_beside(self, beside: Beside, request: HttpRequest, began_s: float) -> HttpResponse:
        self.metrics.in_flight += 1
        try:
            response, operation, code = await beside.handle(request)
        finally:
            self.metrics.in_flight -= 1
        self.metrics.operations.get(operation, self.metrics.unknown).observe(code, self._monotonic_s() - began_s)
        return shared(response) if b"origin" in request.headers else response

    def _checked(self, request: HttpRequest, target: _Target | None, content_type: bytes) -> Call:
        """JSON, then the operation, then the signature. Raises ApiError at the first of them that is wrong."""
        principal = None
        text = request.body
        if b"content-encoding" in request.headers and is_gzip(request.headers[b"content-encoding"]):
            # The signature covers the bytes as sent: nobody without a key makes a small body large in here.
            principal = self._principal(request)
            text = inflate(text)
        body = _parse(text)
        if target is None:
            raise ApiError("UnknownOperationException", None)
        if principal is None:
            principal = self._principal(request)
        return Call(target.operation, body, principal, content_type, request)

    def _principal(self, request: HttpRequest) -> Principal:
        verifier = self._verifier
        return _ANYBODY if verifier is None else verifier.verify(request, self._wall_s())


def execute_locally(context: Callable[[str, Principal], Any]) -> Execute:
    """Behind the gates of a regional router: the operation's own handler.

    `context(request_id, principal)` makes what `handler(body, context)` takes; the handler returns the
    answer's JSON.
    """

    async def execute(call: Call) -> HttpResponse:
        answer: bytes = await call.operation.handler(call.body, context(call.http.request_id, call.principal))
        return HttpResponse(200, answer, call.content_type)

    return execute


def health_answer(region: str) -> Callable[[HttpRequest], HttpResponse]:
    """What DynamoDB answers to GET /."""
    response = HttpResponse(200, f"healthy: dynamodb.{region}.amazonaws.com ".encode(), b"text/plain")
    return lambda request: shared(response) if b"origin" in request.headers else response


def _outside_the_protocol(request: HttpRequest) -> tuple[HttpResponse, str]:
    """Answer and metrics code of what is no POST of JSON."""
    if is_preflight(request):
        return preflight_answer(request), _PREFLIGHT
    return _UNKNOWN_OPERATION, "UnknownOperationException"


def _content_type(request: HttpRequest) -> bytes | None:
    """The content type to answer in, or None when this is not a request of the protocol."""
    if request.method != b"POST":
        return None
    content_type = request.headers.get(b"content-type", b"")
    if content_type == AMZ_JSON:
        return AMZ_JSON
    essence = content_type.partition(b";")[0].strip().lower()
    if essence == AMZ_JSON:
        return AMZ_JSON
    return _PLAIN_JSON if essence == _PLAIN_JSON else None


def _parse(body: bytes) -> dict[str, Any]:
    """A JSON object, or SerializationException without a message, which is all that DynamoDB says here."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ApiError("SerializationException", None) from None
    if type(parsed) is not dict:
        raise ApiError("SerializationException", None)
    return parsed
