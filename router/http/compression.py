"""gzip on the wire: bodies that clients sent compressed, and answers to those that ask for it.

A signature and `x-amz-crc32` are both over the bytes as sent, so neither direction touches them.
"""

from __future__ import annotations

import re
import zlib

from geodyne.errors import ApiError
from geodyne.limits import BODY_BYTES_MAX
from router.http.values import HttpResponse

INFLATED_BYTES_MAX = BODY_BYTES_MAX
DEFLATED_BYTES_MIN = 1024  # smaller answers gain nothing: they are one packet either way
DEFLATED_BYTES_MAX = 2 * 1024 * 1024  # larger ones go as they are: compressing would hold up all other requests
LEVEL = 1

_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to ask for the gzip format and no other
_ENCODED = (b"content-encoding", b"gzip")
_accepts_gzip = re.compile(
    rb"(?:^|,)[ \t]*(?:x-)?gzip[ \t]*(?:;[ \t]*q=(?:0\.0*[1-9]\d*|1(?:\.0*)?)[ \t]*)?(?:,|$)", re.IGNORECASE
).search


def is_gzip(encoding: bytes) -> bool:
    """Whether a Content-Encoding says gzip. Any other is left to fail as the JSON that it is not."""
    return encoding.strip().lower() in (b"gzip", b"x-gzip")


def inflate(body: bytes) -> bytes:
    """The content of a gzip body of one member.

    Raises SerializationException for what is not complete gzip, and RequestEntityTooLargeException once the content
    exceeds INFLATED_BYTES_MAX: no more than that is ever inflated, whatever the body promises.
    """
    inflater = zlib.decompressobj(_GZIP)
    try:
        content = inflater.decompress(body, INFLATED_BYTES_MAX + 1)
    except zlib.error:
        raise ApiError("SerializationException", None) from None
    if len(content) > INFLATED_BYTES_MAX:
        raise ApiError("RequestEntityTooLargeException", "Request size exceeded the maximum of 16 MB")
    # One member only: following a chain of empty ones would take time in the square of the body's length.
    if not inflater.eof or inflater.unused_data:
        raise ApiError("SerializationException", None)
    return content


def deflated(response: HttpResponse, accepted: bytes) -> HttpResponse:
    """The answer compressed, when that is worth it and the Accept-Encoding `accepted` names gzip."""
    if not DEFLATED_BYTES_MIN <= len(response.body) <= DEFLATED_BYTES_MAX or not _accepts_gzip(accepted):
        return response
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    body = deflater.compress(response.body) + deflater.flush()
    return response._replace(body=body, headers=(*response.headers, _ENCODED))
