"""AWS Signature Version 4: decides whether a request was signed by a known credential, and signs requests. Pure.

Source of the scheme: AWS General Reference, "Signature Version 4 signing process"; of order and wording of the
refusals: captures of DynamoDB's answers. Both forms are accepted: the Authorization header and the presigned
query string.

A client repeats everything in its Authorization header but the signature, so what is derived from that text (its
parts and the day's signing key) is kept once a request with it has been verified. Only verified texts are kept:
nobody without a credential can push others out.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote_to_bytes

from geodyne.errors import ApiError
from router.auth.dates import basic_date, parse_date

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
SKEW_S_MAX = 15 * 60
EXPIRES_S_MAX = 7 * 24 * 3600  # of a presigned request
SCOPES_MAX = 1024  # verified Authorization texts and signing keys kept
UNSIGNED = b"UNSIGNED-PAYLOAD"

_SPACES = re.compile(rb"\s+")
_QUERY_REQUIRED = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date")
_INVALID_TOKEN = "The security token included in the request is invalid."  # noqa: S105
_EXPIRED_TOKEN = "The security token included in the request is expired"  # noqa: S105
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"
    " and signing method. Consult the service documentation for details."
)


class Credential(NamedTuple):
    """A key pair. `session_token` is set for temporary credentials; a request must then carry it.

    `expires_s`, seconds since the epoch, is when temporary credentials end; None: never.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    profile: str = "default"
    expires_s: int | None = None

    def __repr__(self) -> str:
        """Without the secrets: values end up in logs."""
        return f"Credential({self.access_key_id!r}, profile={self.profile!r})"


class SignedParts(Protocol):
    """The parts of a request that a signature covers: header names lower-cased, the rest as it came."""

    @property
    def method(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def query(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[bytes, bytes]: ...
    @property
    def body(self) -> bytes: ...


class _Post(NamedTuple):
    """A request of our own, to be signed."""

    headers: Mapping[bytes, bytes]
    body: bytes
    method: bytes = b"POST"
    path: bytes = b"/"
    query: bytes = b""


class Principal(NamedTuple):
    """Who signed, and for which region."""

    access_key_id: str
    profile: str
    region: str


class _Scope(NamedTuple):
    """What the unchanging part of an Authorization header says, with the key that follows from it."""

    credential: Credential
    region: str
    date: bytes  # YYYYMMDD
    text: bytes  # date/region/service/aws4_request
    signed: tuple[bytes, ...]  # header names
    key: bytes
    principal: Principal


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidSignatureException", message)


def _incomplete(message: str) -> ApiError:
    return ApiError("IncompleteSignatureException", message)


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of one day, region and service."""
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    for part in (region, service, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def canonical_path(path: bytes) -> bytes:
    """The path without dot segments and repeated slashes, percent-encoded once more (all services but S3)."""
    if path in (b"/", b""):
        return b"/"
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    tail = "/" if path.endswith(b"/") and kept else ""
    return ("/" + quote(b"/".join(kept), safe="/-_.~") + tail).encode()


def canonical_query(query: bytes, leave_out: bytes = b"") -> bytes:
    """Parameters decoded, encoded the one way and sorted; `leave_out` is a name that is not part of it."""
    if not query:
        return b""
    pairs = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if part and name != leave_out:
            pairs.append((quote(unquote_to_bytes(name), safe="-_.~"), quote(unquote_to_bytes(value), safe="-_.~")))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs]).encode()


def canonical_request(request: SignedParts, signed: Iterable[bytes], payload: bytes, leave_out: bytes = b"") -> bytes:
    """The text whose hash is signed. `signed` are the header names that count; `payload` is the body's hash in hex."""
    headers = request.headers
    parts = [request.method, canonical_path(request.path), canonical_query(request.query, leave_out)]
    for name in signed:
        value = headers.get(name, b"").strip()
        if b"  " in value or b"\t" in value:
            value = _SPACES.sub(b" ", value)
        parts.append(name + b":" + value)
    parts += (b"", b";".join(signed), payload)
    return b"\n".join(parts)


def string_to_sign(date: bytes, scope: bytes, canonical: bytes) -> bytes:
    """`date` is the full time in basic format, `scope` date/region/service/terminator."""
    return b"AWS4-HMAC-SHA256\n%b\n%b\n%b" % (date, scope, sha256(canonical).hexdigest().encode())


class SignatureVerifier:
    """Verifies requests to one service in any of `regions`. Keeps caches; all else is an argument."""

    def __init__(
        self, regions: Iterable[str], credentials: Callable[[str], Credential | None], service: str = "dynamodb"
    ) -> None:
        self._regions = frozenset(regions)
        self._credentials = credentials
        self._service = service
        self._scopes: dict[bytes, _Scope] = {}
        self._keys: dict[tuple[Credential, str, str], bytes] = {}
        self._dates: dict[bytes, tuple[int, bytes]] = {}

    def verify(self, request: SignedParts, now_s: float) -> Principal:
        """Return who signed. Raises ApiError in DynamoDB's order of checks and with its wording.

        `now_s` is seconds since the epoch.
        """
        headers, query = request.headers, request.query
        authorization = headers.get(b"authorization")
        if query and b"X-Amz-Algorithm=" in query:
            if authorization is not None:
                raise _invalid(
                    "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."
                )
            return self._verify_query(request, now_s)
        if authorization is None or not authorization.lstrip().startswith(b"AWS4-"):
            raise ApiError("MissingAuthenticationTokenException", "Request is missing Authentication Token")
        prefix, _, signature = authorization.rpartition(b"Signature=")
        known = self._scopes.get(prefix)
        if known is None or len(signature) != 64:
            parts, date_text = _header_parts(authorization, headers)
            scope, signature = self._scope(parts), parts["Signature"].encode()
        else:
            scope, date_text = known, headers.get(b"x-amz-date") or _header_date(authorization, headers)
        date_s, date = self._date(date_text)
        _check_skew(date_s, date, now_s, SKEW_S_MAX)
        if date[:8] != scope.date:
            raise _date_mismatch(scope, date)
        self._check_credential(scope, headers.get(b"x-amz-security-token"), now_s)
        canonical = canonical_request(request, scope.signed, _payload(request))
        _compare(scope, date, canonical, signature)
        if known is None:
            if len(self._scopes) >= SCOPES_MAX:
                self._scopes.clear()
            self._scopes[prefix] = scope
        return scope.principal

    def _verify_query(self, request: SignedParts, now_s: float) -> Principal:
        values: dict[str, str] = {}
        for part in request.query.split(b"&"):
            name, _, value = part.partition(b"=")
            values[_text(unquote_to_bytes(name))] = _text(unquote_to_bytes(value))
        missing = [
            f"AWS query-string parameters must include '{name}'. " for name in _QUERY_REQUIRED if not values.get(name)
        ]
        if missing:
            raise _incomplete("".join(missing) + "Re-examine the query-string parameters.")
        parts = {
            "Algorithm": values["X-Amz-Algorithm"],
            "Credential": values["X-Amz-Credential"],
            "SignedHeaders": values["X-Amz-SignedHeaders"],
        }
        scope = self._scope(parts)
        date_s, date = self._date(values["X-Amz-Date"].encode())
        expires_s = _expires(values.get("X-Amz-Expires"))
        _check_skew(date_s, date, now_s, expires_s)
        if date[:8] != scope.date:
            raise _date_mismatch(scope, date)
        token = values.get("X-Amz-Security-Token")
        self._check_credential(scope, None if token is None else token.encode(), now_s)
        canonical = canonical_request(request, scope.signed, _payload(request), leave_out=b"X-Amz-Signature")
        _compare(scope, date, canonical, values["X-Amz-Signature"].encode())
        return scope.principal

    def _scope(self, parts: Mapping[str, str]) -> _Scope:
        """Check algorithm, signed headers and credential scope, and derive the key. An unknown key id is let pass
        here, with an empty key: the date is checked first."""
        if parts["Algorithm"] != ALGORITHM:
            raise _incomplete(f"Unsupported AWS 'algorithm': '{parts['Algorithm']}'.")
        elements = parts["Credential"].split("/")
        if len(elements) != 5:
            raise _incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term,"
                f" got '{parts['Credential']}'"
            )
        key_id, date, region, service, terminator = elements
        signed = tuple(parts["SignedHeaders"].encode().lower().split(b";"))
        if b"host" not in signed:
            raise _invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
        faults = []
        if region not in self._regions:
            faults.append(f"Credential should be scoped to a valid region, not '{region}'. ")
        if service != self._service:
            faults.append(f"Credential should be scoped to correct service: '{self._service}'. ")
        if terminator != TERMINATOR:
            faults.append(f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'. ")
        if faults:
            raise _invalid("".join(faults))
        credential = self._credentials(key_id) or Credential(key_id, "")
        text = "/".join(elements[1:]).encode()
        key = self._key(credential, date, region) if credential.secret_access_key else b""
        principal = Principal(key_id, credential.profile, region)
        return _Scope(credential, region, date.encode(), text, signed, key, principal)

    def _key(self, credential: Credential, date: str, region: str) -> bytes:
        key = self._keys.get((credential, date, region))
        if key is None:
            if len(self._keys) >= SCOPES_MAX:
                self._keys.clear()
            key = signing_key(credential.secret_access_key, date, region, self._service)
            self._keys[credential, date, region] = key
        return key

    def _check_credential(self, scope: _Scope, token: bytes | None, now_s: float) -> None:
        """The key id is known and still means the secret of the scope; the session token is its own and valid."""
        credential = self._credentials(scope.credential.access_key_id)
        if credential is None or (credential is not scope.credential and credential != scope.credential):
            raise ApiError("UnrecognizedClientException", _INVALID_TOKEN)
        expected = credential.session_token
        if (expected is None) != (token is None) or not compare_digest((expected or "").encode(), token or b""):
            raise ApiError("UnrecognizedClientException", _INVALID_TOKEN)
        if credential.expires_s is not None and now_s >= credential.expires_s:
            raise ApiError("ExpiredTokenException", _EXPIRED_TOKEN)

    def _date(self, text: bytes) -> tuple[int, bytes]:
        """Seconds since the epoch, and the date in basic format. Many requests carry the same second."""
        known = self._dates.get(text)
        if known is None:
            seconds = parse_date(text)
            if seconds is None:
                raise _incomplete(
                    f"Date must be in ISO-8601 'basic format'. Got '{_text(text)}'."
                    " See http://en.wikipedia.org/wiki/ISO_8601"
                )
            if len(self._dates) >= SCOPES_MAX:
                self._dates.clear()
            known = self._dates[text] = (seconds, basic_date(seconds))
        return known


def sign(
    credential: Credential,
    region: str,
    headers: Mapping[bytes, bytes],
    body: bytes,
    now_s: float,
    *,
    key: bytes | None = None,
    service: str = "dynamodb",
) -> list[tuple[bytes, bytes]]:
    """The headers to add to a POST to `/` with `headers` (lower-cased names, `host` among them; all are signed).

    `key` is the day's signing key where the caller keeps it.
    """
    date = basic_date(int(now_s))
    added = [(b"x-amz-date", date)]
    if credential.session_token is not None:
        added.append((b"x-amz-security-token", credential.session_token.encode()))
    everything = dict(headers)
    everything.update(added)
    signed = sorted(everything)
    signed_text = b";".join(signed)
    scope = b"%b/%b/%b/aws4_request" % (date[:8], region.encode(), service.encode())
    payload = sha256(body).hexdigest().encode()
    canonical = canonical_request(_Post(everything, body), signed, payload)
    if key is None:
        key = signing_key(credential.secret_access_key, date[:8].decode(), region, service)
    signature = hmac.digest(key, string_to_sign(date, scope, canonical), "sha256").hex()
    authorization = b"AWS4-HMAC-SHA256 Credential=%b/%b, SignedHeaders=%b, Signature=%b" % (
        credential.access_key_id.encode(),
        scope,
        signed_text,
        signature.encode(),
    )
    added.append((b"authorization", authorization))
    return added


def _text(value: bytes) -> str:
    """For messages and comparisons: any bytes may come in."""
    return value.decode("utf-8", "replace")


def _header_parts(authorization: bytes, headers: Mapping[bytes, bytes]) -> tuple[dict[str, str], bytes]:
    """Algorithm, Credential, SignedHeaders and Signature of the header, and the text of the request's date."""
    text = _text(authorization).strip()
    algorithm, _, rest = text.partition(" ")
    parts = {"Algorithm": algorithm}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        parts[name] = value.strip()
    missing = [
        f"Authorization header requires '{name}' parameter. "
        for name in ("Credential", "Signature", "SignedHeaders")
        if not parts.get(name)
    ]
    date_text = headers.get(b"x-amz-date") or headers.get(b"date")
    if not date_text:
        missing.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
    if missing or not date_text:
        raise _incomplete("".join(missing) + f"Authorization={text}")
    return parts, date_text


def _header_date(authorization: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    return _header_parts(authorization, headers)[1]


def _expires(text: str | None) -> int:
    if text is None:
        return SKEW_S_MAX
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and 1 <= int(text) <= EXPIRES_S_MAX):
        raise _incomplete(f"X-Amz-Expires must be between 1 and {EXPIRES_S_MAX} seconds, got '{text}'.")
    return int(text)


def _check_skew(date_s: int, date: bytes, now_s: float, expires_s: int) -> None:
    """At most 15 minutes ahead of our clock, at most `expires_s` behind it."""
    if now_s - expires_s <= date_s <= now_s + SKEW_S_MAX:
        return
    now = basic_date(int(now_s)).decode()
    if date_s < now_s:
        limit = basic_date(int(now_s) - expires_s).decode()
        window = f"{expires_s // 60} min." if expires_s % 60 == 0 else f"{expires_s} sec."
        raise _invalid(f"Signature expired: {date.decode()} is now earlier than {limit} ({now} - {window})")
    limit = basic_date(int(now_s) + SKEW_S_MAX).decode()
    raise _invalid(
        f"Signature not yet current: {date.decode()} is still later than {limit} ({now} + {SKEW_S_MAX // 60} min.)"
    )


def _date_mismatch(scope: _Scope, date: bytes) -> ApiError:
    return _invalid(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:"
        f" '{_text(scope.date)}' != '{date[:8].decode()}', from '{date.decode()}'."
    )


def _payload(request: SignedParts) -> bytes:
    """The hash of the body as we received it, unless the client says, inside what it signed, that it left it out."""
    if request.headers.get(b"x-amz-content-sha256") == UNSIGNED:
        return UNSIGNED
    return sha256(request.body).hexdigest().encode()


def _compare(scope: _Scope, date: bytes, canonical: bytes, signature: bytes) -> None:
    to_sign = string_to_sign(date, scope.text, canonical)
    expected = hmac.digest(scope.key, to_sign, "sha256").hex().encode()
    if not compare_digest(expected, signature):
        raise _invalid(
            f"{_MISMATCH}\n\nThe Canonical String for this request should have been\n'{_text(canonical)}'"
            f"\n\nThe String-to-Sign should have been\n'{_text(to_sign)}'\n"
        )
