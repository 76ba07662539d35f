"""Cross-origin requests of browsers (the Fetch standard's CORS protocol), as the service answers them.

Any origin may ask: what protects the data is the signature, and no cookie is ever read.
"""

from __future__ import annotations

from router.http.values import HttpRequest, HttpResponse

PREFLIGHT_KEPT_S = 172800  # how long a browser may rely on a preflight's answer

_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_EXPOSED = (
    b"access-control-expose-headers",
    b"x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date",
)
_KEPT = (b"access-control-max-age", str(PREFLIGHT_KEPT_S).encode())


def is_preflight(request: HttpRequest) -> bool:
    return request.method == b"OPTIONS" and b"origin" in request.headers


def preflight_answer(request: HttpRequest) -> HttpResponse:
    """Allows what the browser asks about: the method and the headers of the request that is to follow."""
    headers = [_ANY_ORIGIN]
    for asked, allowed in (
        (b"access-control-request-headers", b"access-control-allow-headers"),
        (b"access-control-request-method", b"access-control-allow-methods"),
    ):
        value = request.headers.get(asked)
        if value:
            headers.append((allowed, value))
    headers.append(_KEPT)
    return HttpResponse(200, b"", b"", tuple(headers))


def shared(response: HttpResponse) -> HttpResponse:
    """The answer to a request that named its origin."""
    return response._replace(headers=(*response.headers, _ANY_ORIGIN, _EXPOSED))
