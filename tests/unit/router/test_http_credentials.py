"""Credentials files: what is read, what is refused, and that no secret leaks into an error."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from router.auth.credentials import CredentialsError, first, generate, load


def test_all_profiles_of_an_aws_credentials_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text(
        "[other]\naws_access_key_id = B\naws_secret_access_key = se%cret\naws_session_token = T\n"
        "[default]\naws_access_key_id=A\naws_secret_access_key=x\nregion = us-east-1\n"
    )
    found = load(path)
    assert found["B"] == ("B", "se%cret", "T", "other", None)
    assert found["A"] == ("A", "x", None, "default", None)
    assert first(found.values()).access_key_id == "A"


@pytest.mark.parametrize("text", ["2026-11-23T20:00:00Z", "2026-11-23T20:00:00+00:00", "2026-11-23T20:00:00",
                                  "2026-11-23T22:00:00+02:00"])  # fmt: skip
def test_temporary_credentials_may_say_when_they_end(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials"
    path.write_text(
        "[a]\naws_access_key_id = A\naws_secret_access_key = x\naws_session_token = T\n"
        f"aws_credential_expiration = {text}\n"
    )
    assert load(path)["A"].expires_s == 1_795_464_000


def test_a_generated_pair_is_private_random_and_readable(tmp_path: Path) -> None:
    one, other = generate(tmp_path / "one"), generate(tmp_path / "other")
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600
    assert load(tmp_path / "one") == {one.access_key_id: one}
    assert one.secret_access_key != other.secret_access_key
    with pytest.raises(CredentialsError, match="cannot write"):
        generate(tmp_path / "one")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "has no profile"),
        ("[a]\naws_access_key_id = X\n", r"\[a\] lacks aws_secret_access_key"),
        ("[a]\naws_secret_access_key = hidden\n", r"\[a\] lacks aws_access_key_id"),
        (
            "[a]\naws_access_key_id=X\naws_secret_access_key=hidden\naws_credential_expiration=2026-11-23T20:00:00Z",
            "without aws_session_token",
        ),
        (
            "[a]\naws_access_key_id=X\naws_secret_access_key=hidden\naws_session_token=T\naws_credential_expiration=soon",
            "not ISO 8601",
        ),
        ("hidden = x\n", "not a valid INI file, line 1"),
        ("[a]\nhidden\n", "not a valid INI file"),
        (
            "[a]\naws_access_key_id=X\naws_secret_access_key=hidden\n[b]\naws_access_key_id=X\naws_secret_access_key=y",
            "repeats",
        ),
    ],
)
def test_a_bad_file_is_explained_in_one_line_without_its_secrets(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "credentials"
    path.write_text(text)
    with pytest.raises(CredentialsError, match=part) as caught:
        load(path)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="cannot read"):
        load(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CredentialsError, match="UTF-8"):
        load(tmp_path / "binary")
