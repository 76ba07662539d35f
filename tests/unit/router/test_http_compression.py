"""gzip in both directions: what is compressed, what is inflated, and where both end."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from geodyne.errors import ApiError
from router.http import compression
from router.http.compression import DEFLATED_BYTES_MAX, DEFLATED_BYTES_MIN, INFLATED_BYTES_MAX, deflated, inflate
from router.http.values import HttpResponse

MEGABYTE = 1024 * 1024


def refusal(body: bytes) -> tuple[str, str | None]:
    with pytest.raises(ApiError) as caught:
        inflate(body)
    return caught.value.kind.code, caught.value.message


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 100_000])
def test_what_gzip_made_is_inflated(content: bytes) -> None:
    assert inflate(gzip.compress(content)) == content


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\x1f\x8b",
        gzip.compress(b"{}", mtime=0)[:-1],
        gzip.compress(b"{}", mtime=0) + b"x",
        gzip.compress(b"{}", mtime=0) + gzip.compress(b"{}", mtime=0),
        zlib.compress(b"{}"),
        gzip.compress(b"{}", mtime=0)[:-8] + b"\0" * 8,
    ],
)
def test_what_is_not_one_complete_gzip_member_is_a_serialization_exception(body: bytes) -> None:
    assert refusal(body) == ("SerializationException", None)


def test_no_more_is_inflated_than_a_request_may_hold() -> None:
    assert len(inflate(gzip.compress(bytes(INFLATED_BYTES_MAX), 1))) == INFLATED_BYTES_MAX
    bomb = gzip.compress(bytes(8 * INFLATED_BYTES_MAX), 9)
    tracemalloc.start()
    try:
        assert refusal(bomb)[0] == "RequestEntityTooLargeException"
        assert tracemalloc.get_traced_memory()[1] < 4 * INFLATED_BYTES_MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [
        (b"gzip", True),
        (b"gzip, deflate, br", True),
        (b"br;q=1.0, GZIP;q=0.5", True),
        (b"deflate,x-gzip", True),
        (b"identity", False),
        (b"", False),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000, br", False),
        (b"gzipped", False),
        (b"*", False),
    ],
)
def test_an_answer_is_compressed_only_for_who_names_gzip(accepted: bytes, asked: bool) -> None:
    response = HttpResponse(200, b"a" * 5000, headers=((b"x-more", b"1"),))
    found = deflated(response, accepted)
    assert ((b"content-encoding", b"gzip") in found.headers) == asked
    assert (gzip.decompress(found.body) if asked else found.body) == response.body
    assert found.headers[0] == (b"x-more", b"1")


@pytest.mark.parametrize("size", [0, DEFLATED_BYTES_MIN - 1, DEFLATED_BYTES_MAX + 1])
def test_small_answers_and_those_that_would_hold_up_others_go_as_they_are(size: int) -> None:
    response = HttpResponse(200, bytes(size))
    assert deflated(response, b"gzip") is response


@pytest.mark.parametrize("encoding", [b"gzip", b" GZIP ", b"x-gzip"])
def test_a_content_encoding_that_is_gzip_is_seen(encoding: bytes) -> None:
    assert compression.is_gzip(encoding)


@pytest.mark.parametrize("encoding", [b"", b"identity", b"deflate", b"gzip, gzip", b"br"])
def test_another_content_encoding_is_not_gzip(encoding: bytes) -> None:
    assert not compression.is_gzip(encoding)
