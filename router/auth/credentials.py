"""Key pairs from INI files in the form of AWS's credentials file, and a generator of them.

A profile with `aws_session_token` holds temporary credentials; `aws_credential_expiration` (ISO 8601, as
`aws configure export-credentials` prints it) says when they end.
"""

from __future__ import annotations

import configparser
import os
import secrets
import string
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from router.auth.sigv4 import Credential


class CredentialsError(Exception):
    """The file cannot be used. The text is one line that names file, profile and cause."""


def load(path: Path) -> dict[str, Credential]:
    """Read all profiles, by access key id. Raises CredentialsError."""
    parser = configparser.RawConfigParser(default_section="\0none")
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise CredentialsError(f"cannot read credentials file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CredentialsError(f"credentials file {path} is not UTF-8 text") from error
    except configparser.Error as error:
        # Only the place: the library's text quotes the line, which may hold a secret.
        line = getattr(error, "lineno", None)
        place = f", line {line}" if line is not None else ""
        raise CredentialsError(f"credentials file {path} is not a valid INI file{place}") from None
    found: dict[str, Credential] = {}
    for profile in parser.sections():
        credential = _profile(path, profile, parser)
        if credential.access_key_id in found:
            raise CredentialsError(
                f"credentials file {path}: profile [{profile}] repeats the key id of another profile"
            )
        found[credential.access_key_id] = credential
    if not found:
        raise CredentialsError(f"credentials file {path} has no profile")
    return found


def _profile(path: Path, profile: str, parser: configparser.RawConfigParser) -> Credential:
    values = parser[profile]
    for name in ("aws_access_key_id", "aws_secret_access_key"):
        if not values.get(name, "").strip():
            raise CredentialsError(f"credentials file {path}: profile [{profile}] lacks {name}")
    token = values.get("aws_session_token", "").strip() or None
    expiration = values.get("aws_credential_expiration", "").strip()
    if expiration and token is None:
        raise CredentialsError(
            f"credentials file {path}: profile [{profile}] has aws_credential_expiration without aws_session_token"
        )
    return Credential(
        values["aws_access_key_id"].strip(),
        values["aws_secret_access_key"].strip(),
        token,
        profile,
        _expiration(path, profile, expiration) if expiration else None,
    )


def _expiration(path: Path, profile: str, text: str) -> int:
    """Seconds since the epoch; a time without an offset is UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise CredentialsError(
            f"credentials file {path}: profile [{profile}] has an aws_credential_expiration that is not ISO 8601"
        ) from None


def generate(path: Path, profile: str = "default") -> Credential:
    """Write a new file with one random pair, readable by its owner alone. Raises CredentialsError if it exists."""
    letters = string.ascii_uppercase + string.digits
    credential = Credential(
        "AKIA" + "".join(secrets.choice(letters) for _ in range(16)), secrets.token_urlsafe(30), None, profile
    )
    text = (
        f"[{profile}]\naws_access_key_id = {credential.access_key_id}\n"
        f"aws_secret_access_key = {credential.secret_access_key}\n"
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CredentialsError(f"cannot write credentials file {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return credential


def first(credentials: Iterable[Credential]) -> Credential:
    """The pair that the cluster's own processes sign with: profile `default`, else the first of the file."""
    ordered = list(credentials)
    return next((credential for credential in ordered if credential.profile == "default"), ordered[0])
