"""Signatures, with botocore as the signer, and the refusals in DynamoDB's wording."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from unittest import mock

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.errors import ApiError
from router.auth import sigv4
from router.auth.dates import basic_date, parse_date
from router.auth.sigv4 import Credential, Principal, SignatureVerifier, sign
from router.http.values import HttpRequest

NOW = datetime(2026, 11, 23, 18, 50, 15, tzinfo=UTC)
NOW_S = NOW.timestamp()
ANA = Credential("AKIAEXAMPLEANA000000", "secret/of+ana", None, "ana")
TEMPORARY = Credential("ASIAEXAMPLETEMPORARY", "secret-of-temporary", "token/of=temporary", "temporary")
KNOWN = {credential.access_key_id: credential for credential in (ANA, TEMPORARY)}
BODY = b'{"TableName":"t","Key":{"pk":{"S":"a"}}}'


class QueryAuthWithBody(SigV4QueryAuth):  # type: ignore[misc]
    """botocore moves a POST's body into the query; here the body stays and is what the payload hash covers."""

    def __init__(self, *arguments: Any, body: bytes) -> None:
        super().__init__(*arguments)
        self.body = body

    def payload(self, request: Any) -> str:
        return sha256(self.body).hexdigest()


def signed(
    credential: Credential = ANA,
    *,
    region: str = "us-east-1",
    service: str = "dynamodb",
    body: bytes = BODY,
    url: str = "http://127.0.0.1:8000/",
    at: datetime = NOW,
    extra: dict[str, str] | None = None,
    presign: int | None = None,
) -> HttpRequest:
    """A request as botocore signs it."""
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": "DynamoDB_20120810.GetItem",
        **(extra or {}),
    }
    keys = Credentials(credential.access_key_id, credential.secret_access_key, credential.session_token)
    request = AWSRequest("POST", url, headers=headers, data=None if presign else body)
    with mock.patch("botocore.auth.get_current_datetime", return_value=at.replace(tzinfo=None)):
        if presign is None:
            SigV4Auth(keys, service, region).add_auth(request)
        else:
            QueryAuthWithBody(keys, service, region, presign, body=body).add_auth(request)
    prepared = request.prepare()
    received = {name.lower().encode(): _bytes(value) for name, value in prepared.headers.items()}
    received[b"host"] = b"127.0.0.1:8000"
    target = prepared.url.removeprefix("http://127.0.0.1:8000").encode()
    path, _, query = target.partition(b"?")
    return HttpRequest(b"POST", path, query, received, body, "")


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def with_header(request: HttpRequest, name: bytes, value: bytes | None) -> HttpRequest:
    headers = {key: text for key, text in request.headers.items() if key != name}
    if value is not None:
        headers[name] = value
    return request._replace(headers=headers)


def verifier(*regions: str) -> SignatureVerifier:
    return SignatureVerifier(regions or ("us-east-1",), KNOWN.get)


def refusal(request: HttpRequest, now_s: float = NOW_S, of: SignatureVerifier | None = None) -> tuple[str, str]:
    with pytest.raises(ApiError) as caught:
        (of or verifier()).verify(request, now_s)
    return caught.value.kind.code, caught.value.message or ""


def test_a_request_signed_by_botocore_is_accepted_also_the_second_time() -> None:
    checker = verifier()
    for body in (BODY, b"", b"{}" * 5000):
        assert checker.verify(signed(body=body), NOW_S) == Principal(ANA.access_key_id, "ana", "us-east-1")


def test_a_presigned_request_is_accepted_until_it_expires() -> None:
    request = signed(presign=60)
    assert verifier().verify(request, NOW_S + 60).profile == "ana"
    assert refusal(request, NOW_S + 61) == (
        "InvalidSignatureException",
        "Signature expired: 20261123T185015Z is now earlier than 20261123T185016Z (20261123T185116Z - 1 min.)",
    )


def test_a_presigned_request_covers_the_body() -> None:
    request = signed(presign=60)
    assert refusal(request._replace(body=b"{}"))[0] == "InvalidSignatureException"


def test_temporary_credentials_need_their_own_session_token() -> None:
    request = signed(TEMPORARY)
    assert verifier().verify(request, NOW_S).profile == "temporary"
    assert verifier().verify(signed(TEMPORARY, presign=60), NOW_S).profile == "temporary"
    expected = ("UnrecognizedClientException", "The security token included in the request is invalid.")
    assert refusal(with_header(request, b"x-amz-security-token", b"other")) == expected
    assert refusal(with_header(request, b"x-amz-security-token", None)) == expected
    assert refusal(with_header(signed(), b"x-amz-security-token", b"unexpected")) == expected


def test_temporary_credentials_end_at_their_time() -> None:
    ending = TEMPORARY._replace(expires_s=int(NOW_S) + 10)
    checker = SignatureVerifier(["us-east-1"], {ending.access_key_id: ending}.get)
    expired = ("ExpiredTokenException", "The security token included in the request is expired")
    for request in (signed(TEMPORARY), signed(TEMPORARY, presign=60)):
        assert checker.verify(request, NOW_S + 9).profile == "temporary"
        assert refusal(request, NOW_S + 10, checker) == expired
    other = with_header(signed(TEMPORARY), b"x-amz-security-token", b"other")
    assert refusal(other, NOW_S + 10, checker)[0] == "UnrecognizedClientException"


def test_an_unknown_key_id_is_told_from_a_wrong_secret() -> None:
    stranger = Credential("AKIASTRANGER", "x")
    assert refusal(signed(stranger))[0] == "UnrecognizedClientException"
    code, message = refusal(signed(ANA._replace(secret_access_key="x")))
    assert code == "InvalidSignatureException"
    assert message.startswith("The request signature we calculated does not match the signature you provided.")


def test_any_change_of_what_was_signed_is_noticed_also_with_a_warm_cache() -> None:
    checker = verifier()
    request = signed()
    checker.verify(request, NOW_S)
    for changed in (
        request._replace(body=BODY + b" "),
        request._replace(method=b"PUT"),
        request._replace(path=b"/x"),
        request._replace(query=b"a=b"),
        with_header(request, b"x-amz-target", b"DynamoDB_20120810.PutItem"),
        with_header(request, b"x-amz-date", b"20261123T185016Z"),
        with_header(request, b"authorization", request.headers[b"authorization"][:-64] + b"0" * 64),
        with_header(request, b"authorization", request.headers[b"authorization"][:-64] + b"\xff" * 64),
    ):
        assert refusal(changed, of=checker)[0] == "InvalidSignatureException"
    assert refusal(with_header(request, b"x-amz-date", None), of=checker)[0] == "IncompleteSignatureException"


def test_a_removed_or_changed_credential_stops_working_at_once() -> None:
    known = dict(KNOWN)
    checker = SignatureVerifier(["us-east-1"], known.get)
    request = signed()
    checker.verify(request, NOW_S)
    known[ANA.access_key_id] = ANA._replace(secret_access_key="new")
    assert refusal(request, of=checker)[0] == "UnrecognizedClientException"
    checker = SignatureVerifier(["us-east-1"], known.get)
    assert refusal(request, of=checker)[0] == "InvalidSignatureException"
    del known[ANA.access_key_id]
    assert refusal(request, of=checker)[0] == "UnrecognizedClientException"


def test_spaces_in_signed_headers_are_trimmed_and_collapsed() -> None:
    request = signed(extra={"X-Amz-Meta": "a   b    c"})
    assert verifier().verify(request, NOW_S)
    assert verifier().verify(with_header(request, b"x-amz-meta", b"  a b  c "), NOW_S)
    assert refusal(with_header(request, b"x-amz-meta", b"a bc"))[0] == "InvalidSignatureException"


def test_commas_without_spaces_and_another_order_of_parts_are_accepted() -> None:
    request = signed()
    text = request.headers[b"authorization"]
    assert verifier().verify(with_header(request, b"authorization", text.replace(b", ", b",")), NOW_S)
    algorithm, _, parts = text.partition(b" ")
    swapped = algorithm + b" " + b", ".join(reversed(parts.split(b", ")))
    checker = verifier()
    assert checker.verify(with_header(request, b"authorization", swapped), NOW_S)
    assert checker.verify(with_header(request, b"authorization", swapped), NOW_S)


def test_a_date_header_stands_in_for_x_amz_date() -> None:
    request = signed(extra={"Date": "Mon, 23 Nov 2026 18:50:15 GMT"})
    with_date = with_header(
        with_header(request, b"x-amz-date", None),
        b"date",
        request.headers.get(b"date", b"Mon, 23 Nov 2026 18:50:15 GMT"),
    )
    checker = verifier()
    assert checker.verify(with_date, NOW_S)
    assert checker.verify(with_date, NOW_S)


def test_queries_and_paths_are_canonicalised_as_botocore_does() -> None:
    for url in ("/?b=2&a=1", "/a%20b/../c//d/", "/?x=%2F~&x=a&empty", "/ä/ö?ü=1"):
        quoted = url.encode().decode("latin-1") if url.isascii() else "/%C3%A4/%C3%B6?%C3%BC=1"
        assert verifier().verify(signed(url="http://127.0.0.1:8000" + quoted), NOW_S)


def test_an_unsigned_payload_is_accepted_only_where_the_client_signed_that() -> None:
    request = signed()
    assert refusal(with_header(request, b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"))[0] == "InvalidSignatureException"
    unsigned = signed(extra={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    headers = {k: v for k, v in unsigned.headers.items() if k not in (b"authorization", b"x-amz-date")}
    date = basic_date(int(NOW_S))
    headers[b"x-amz-date"] = date
    names = sorted(headers)
    canonical = sigv4.canonical_request(unsigned._replace(headers=headers), names, sigv4.UNSIGNED)
    to_sign = sigv4.string_to_sign(date, b"20261123/us-east-1/dynamodb/aws4_request", canonical)
    key = sigv4.signing_key(ANA.secret_access_key, "20261123", "us-east-1", "dynamodb")
    headers[b"authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={ANA.access_key_id}/20261123/us-east-1/dynamodb/aws4_request,"
        f"SignedHeaders={b';'.join(names).decode()},Signature={hmac.digest(key, to_sign, 'sha256').hex()}"
    ).encode()
    assert verifier().verify(unsigned._replace(headers=headers, body=b"anything"), NOW_S)


def test_the_refusals_come_in_dynamodbs_order_and_words() -> None:
    good = signed()
    text = good.headers[b"authorization"].decode()
    missing = ("MissingAuthenticationTokenException", "Request is missing Authentication Token")
    assert refusal(with_header(good, b"authorization", None)) == missing
    assert refusal(with_header(good, b"authorization", b"Basic abc")) == missing
    assert refusal(good._replace(query=b"X-Amz-Algorithm=AWS4-HMAC-SHA256")) == (
        "InvalidSignatureException",
        "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
    )
    bare = with_header(with_header(good, b"authorization", b"AWS4-HMAC-SHA256 Nothing=1"), b"x-amz-date", None)
    assert refusal(bare) == (
        "IncompleteSignatureException",
        "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. "
        "Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a "
        "'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256 Nothing=1",
    )
    assert refusal(with_header(good, b"x-amz-date", b"23 November")) == (
        "IncompleteSignatureException",
        "Date must be in ISO-8601 'basic format'. Got '23 November'. See http://en.wikipedia.org/wiki/ISO_8601",
    )
    for old, new, code, part in (
        (
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA1",
            "IncompleteSignatureException",
            "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA1'.",
        ),
        (
            "/aws4_request",
            "",
            "IncompleteSignatureException",
            "Credential must have exactly 5 slash-delimited elements",
        ),
        ("/aws4_request", "/aws5", "InvalidSignatureException", "valid terminator: 'aws4_request', not 'aws5'"),
        (
            "/us-east-1/",
            "/mars/",
            "InvalidSignatureException",
            "Credential should be scoped to a valid region, not 'mars'. ",
        ),
        (
            "/dynamodb/",
            "/s3/",
            "InvalidSignatureException",
            "Credential should be scoped to correct service: 'dynamodb'. ",
        ),
        ("/20261123/", "/20261122/", "InvalidSignatureException", "Date in Credential scope does not match YYYYMMDD"),
        ("host;", "", "InvalidSignatureException", "'Host' or ':authority' must be a 'SignedHeader'"),
    ):
        changed = with_header(good, b"authorization", text.replace(old, new).encode())
        found = refusal(changed)
        assert found[0] == code
        assert part in found[1]


def test_a_date_more_than_fifteen_minutes_away_is_refused_in_both_directions() -> None:
    request = signed()
    assert verifier().verify(request, NOW_S + 900)
    assert verifier().verify(request, NOW_S - 900)
    assert refusal(request, NOW_S + 901) == (
        "InvalidSignatureException",
        "Signature expired: 20261123T185015Z is now earlier than 20261123T185016Z (20261123T190516Z - 15 min.)",
    )
    assert refusal(request, NOW_S - 901) == (
        "InvalidSignatureException",
        "Signature not yet current: 20261123T185015Z is still later than 20261123T185014Z (20261123T183514Z + 15 min.)",
    )


def test_incomplete_presigned_requests_are_told_what_is_missing() -> None:
    request = HttpRequest(b"POST", b"/", b"X-Amz-Algorithm=AWS4-HMAC-SHA256", {b"host": b"h"}, b"", "")
    code, message = refusal(request)
    assert code == "IncompleteSignatureException"
    assert "AWS query-string parameters must include 'X-Amz-Credential'. " in message
    assert message.endswith("Re-examine the query-string parameters.")
    presigned = signed(presign=60)
    changed = presigned._replace(query=presigned.query.replace(b"X-Amz-Expires=60", b"X-Amz-Expires=-1"))
    assert refusal(changed)[0] == "IncompleteSignatureException"


def test_the_global_endpoint_accepts_every_region_of_the_cluster() -> None:
    checker = verifier("us-east-1", "eu-west-1")
    assert checker.verify(signed(region="eu-west-1"), NOW_S).region == "eu-west-1"
    assert checker.verify(signed(region="us-east-1"), NOW_S).region == "us-east-1"
    assert refusal(signed(region="mars"), of=checker)[0] == "InvalidSignatureException"


def test_what_we_sign_we_accept() -> None:
    headers = {b"host": b"127.0.0.1:8000", b"content-type": b"application/x-amz-json-1.0", b"x-amz-target": b"T.Get"}
    for credential in (ANA, TEMPORARY):
        added = sign(credential, "us-east-1", headers, BODY, NOW_S)
        request = HttpRequest(b"POST", b"/", b"", {**headers, **dict(added)}, BODY, "")
        assert verifier().verify(request, NOW_S).access_key_id == credential.access_key_id


def test_secrets_do_not_show_in_a_credentials_text() -> None:
    assert "secret" not in f"{ANA!r} {ANA} {TEMPORARY!r}".lower()
    assert "token" not in repr(TEMPORARY)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [b"authorization", b"x-amz-date", b"date", b"host", b"x-amz-security-token", b"x-amz-content-sha256"]
        ),
        st.binary(max_size=40)
        | st.sampled_from([b"AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=0"]),
    ),
    st.binary(max_size=60)
    | st.just(b"X-Amz-Algorithm=%ff&X-Amz-Date=%00&X-Amz-Credential=a/b/us-east-1/dynamodb/aws4_request"),
    st.binary(max_size=30),
)
def test_no_input_makes_the_check_fail_in_another_way_than_a_refusal(
    headers: dict[bytes, bytes], query: bytes, path: bytes
) -> None:
    with pytest.raises(ApiError):
        verifier().verify(HttpRequest(b"POST", path, query, headers, b"", ""), NOW_S)


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=0, max_value=253402300799))
def test_dates_survive_writing_and_reading(seconds: int) -> None:
    assert parse_date(basic_date(seconds)) == seconds


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"20261323T185015Z",
        b"20261123T185015",
        b"20261123T185015Z ",
        b"Mon, 31 Feb 2026 18:50:15 GMT",
        b"00000000T000000Z",
    ],
)
def test_what_is_not_a_date_is_no_date(text: bytes) -> None:
    assert parse_date(text) is None
