"""The gates of a request of the Lambda API: path, body, signature. What is behind them: `router.lambdaapi`.

It shares the port with DynamoDB. A request is Lambda's when its path begins with a date, as all of Lambda's do, or when
it is signed for Lambda.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote

import orjson

from geodyne.errors import ApiError
from router.api.context import Context
from router.auth.sigv4 import Principal, SignatureVerifier
from router.http.requestmetrics import SUCCESS
from router.http.values import HttpRequest, HttpResponse
from router.lambdaapi import mappings
from router.lambdaapi.errors import FAILED, MALFORMED, TOO_LARGE, UNKNOWN, LambdaError, answer

log = logging.getLogger("geodyne.request")

BODY_BYTES_MAX: Final = 256 * 1024
QUERY_BYTES_MAX: Final = 16 * 1024
QUERY_PARAMETERS_MAX: Final = 32
OPERATIONS: Final = (
    "CreateEventSourceMapping",
    "GetEventSourceMapping",
    "ListEventSourceMappings",
    "UpdateEventSourceMapping",
    "DeleteEventSourceMapping",
)
_JSON: Final = b"application/json"
_SIGNED_FOR_LAMBDA: Final = b"/lambda/aws4_request"
_dated = re.compile(rb"/20\d\d-\d\d-\d\d/").match
_mappings_path = re.compile(rb"/2015-03-31/event-source-mappings(?:/([^/]+))?/?").fullmatch
_ANYBODY: Final = Principal("", "anonymous", "")  # signatures are not checked


class Answered(NamedTuple):
    """A response; which operation it is of ("" when none), and the code under which metrics count it."""

    response: HttpResponse
    operation: str
    code: str


class ContextOf(Protocol):
    def __call__(self, request_id: str, principal: Principal) -> Context: ...


class LambdaFront:
    """`context` makes what operations take. `verifier` None turns the signature check off."""

    operations = OPERATIONS

    def __init__(self, context: ContextOf, *, verifier: SignatureVerifier | None, wall_s: Callable[[], float]) -> None:
        self._context = context
        self._verifier = verifier
        self._wall_s = wall_s

    def owns(self, request: HttpRequest) -> bool:
        """The request is for Lambda, not for DynamoDB."""
        return _dated(request.path) is not None or _SIGNED_FOR_LAMBDA in request.headers.get(b"authorization", b"")

    async def handle(self, request: HttpRequest) -> Answered:
        """Answer a request that it owns; never raises."""
        operation, uuid = _operation(request)
        try:
            status, body = await self._perform(request, operation, uuid)
        except (LambdaError, ApiError) as error:
            return _refused(operation, error)
        except Exception:
            log.exception("request failed", extra={"request_id": request.request_id, "operation": operation})
            return _refused(operation, LambdaError(FAILED, "Internal server error"))
        return Answered(HttpResponse(status, orjson.dumps(body), _JSON), operation, SUCCESS)

    async def _perform(self, request: HttpRequest, operation: str, uuid: str) -> tuple[int, dict[str, Any]]:
        """(status, answer). Raises LambdaError, ApiError."""
        principal = _ANYBODY if self._verifier is None else self._verifier.verify(request, self._wall_s())
        context = self._context(request.request_id, principal)
        match operation:
            case "CreateEventSourceMapping":
                return 202, await mappings.create(_body(request), context)
            case "UpdateEventSourceMapping":
                return 202, await mappings.update(uuid, _body(request), context)
            case "DeleteEventSourceMapping":
                return 202, await mappings.delete(uuid, context)
            case "GetEventSourceMapping":
                return 200, mappings.get(uuid, context)
            case "ListEventSourceMappings":
                return 200, mappings.list_(_query(request), context)
        raise LambdaError(UNKNOWN, "Only the operations on event source mappings are implemented of the Lambda API")


def _operation(request: HttpRequest) -> tuple[str, str]:
    """The operation's name, "" for what is not implemented, and the UUID in the path."""
    found = _mappings_path(request.path)
    if found is None:
        return "", ""
    if found[1] is None:
        return {b"POST": "CreateEventSourceMapping", b"GET": "ListEventSourceMappings"}.get(request.method, ""), ""
    named = {
        b"GET": "GetEventSourceMapping",
        b"PUT": "UpdateEventSourceMapping",
        b"DELETE": "DeleteEventSourceMapping",
    }
    return named.get(request.method, ""), unquote(found[1].decode("latin-1"), errors="replace")


def _body(request: HttpRequest) -> dict[str, Any]:
    if len(request.body) > BODY_BYTES_MAX:
        raise LambdaError(TOO_LARGE, f"Request must be smaller than {BODY_BYTES_MAX} bytes")
    try:
        body = orjson.loads(request.body or b"{}")
    except orjson.JSONDecodeError:
        raise LambdaError(MALFORMED, "Could not parse request body into json") from None
    if not isinstance(body, dict):
        raise LambdaError(MALFORMED, "Could not parse request body into json: it is not an object")
    return body


def _query(request: HttpRequest) -> dict[str, str]:
    if len(request.query) > QUERY_BYTES_MAX:
        raise LambdaError(TOO_LARGE, f"The query must be shorter than {QUERY_BYTES_MAX} bytes")
    try:
        pairs = parse_qsl(request.query.decode("latin-1"), max_num_fields=QUERY_PARAMETERS_MAX)
    except ValueError:
        raise LambdaError(MALFORMED, f"There are more than {QUERY_PARAMETERS_MAX} query parameters") from None
    return dict(pairs)


def _refused(operation: str, error: LambdaError | ApiError) -> Answered:
    status, code, body = answer(error)
    headers = ((b"x-amzn-ErrorType", code.encode()),)
    return Answered(HttpResponse(status, body, _JSON, headers), operation, code)
