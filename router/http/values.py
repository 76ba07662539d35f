"""Requests and responses as the rest of the router sees them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import orjson

from geodyne.errors import ApiError

AMZ_JSON = b"application/x-amz-json-1.0"
PLAIN_TEXT = b"text/plain"

Peer = tuple[str, int]


class HttpRequest(NamedTuple):
    """One complete request.

    `headers` maps lower-cased names to values; repeated headers are joined with a comma, which is also how
    a signature sees them. `path` and `query` are as they came, undecoded, without the question mark. `peer` is the
    other end of the connection, host and port; nothing where there is none.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    request_id: str
    peer: Peer = ("", 0)


class HttpResponse(NamedTuple):
    """`headers` are sent in addition to those of every response; `request_id` replaces the server's own.

    An empty `content_type` is not sent at all.
    """

    status: int
    body: bytes
    content_type: bytes = AMZ_JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    request_id: str = ""


Handler = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]]
DirectAnswer = Callable[[HttpRequest], HttpResponse]


def error_response(error: ApiError, content_type: bytes = AMZ_JSON) -> HttpResponse:
    """An error in DynamoDB's form: `__type`, the text under the kind's own member name, then the details."""
    kind = error.kind
    body: dict[str, Any] = {"__type": f"{kind.prefix}#{kind.code}"}
    if error.message is not None:
        body[kind.message_key] = error.message
    if error.details:
        body.update(error.details)
    return HttpResponse(kind.status, orjson.dumps(body), content_type)
