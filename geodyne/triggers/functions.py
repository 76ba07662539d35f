"""Functions that mappings deliver to: a Python callable in processes of its own, an HTTP endpoint, or an archive.

What the catalog keeps of one is `to_record`; readers ignore members that they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from geodyne.triggers.urls import UrlError, check_http_url

PYTHON = "python"
HTTP = "http"
ARCHIVE = "archive"
TIMEOUT_S_DEFAULT = 3.0  # Lambda's
TIMEOUT_S_MAX = 900.0  # Lambda's
MEMORY_MB_MIN = 128  # Lambda's smallest, and its default
MEMORY_MB_MAX = 10_240
VARIABLES_BYTES_MAX = 4096  # of all environment variables, as Lambda has it


_archive_matches = re.compile(
    r"file:///[^?#]+|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?(\?endpoint=https?://[^?#]+)?"
).fullmatch


class FunctionError(ValueError):
    """A function that cannot be described so. The text is for its owner."""


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One function. `handler` is `module:function` below `directory`; `url` is where an HTTP function listens, or an
    archive keeps its objects: file:///DIRECTORY or s3://BUCKET/PREFIX, the latter perhaps with ?endpoint=URL."""

    name: str
    kind: str  # PYTHON, HTTP or ARCHIVE
    directory: str = ""
    handler: str = ""
    url: str = ""
    timeout_s: float = TIMEOUT_S_DEFAULT
    memory_mb: int = MEMORY_MB_MIN
    environment: Mapping[str, str] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """JSON-compatible members."""
        return {**asdict(self), "environment": dict(self.environment)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FunctionSpec:
        """The inverse of `to_record`; members of later versions are ignored."""
        return cls(**{member.name: record[member.name] for member in fields(cls) if member.name in record})


def check(spec: FunctionSpec) -> None:
    """Raises FunctionError for a description that cannot work."""
    if not 0 < spec.timeout_s <= TIMEOUT_S_MAX:
        raise FunctionError(f"the time limit is more than 0 and at most {TIMEOUT_S_MAX:.0f} seconds")
    if spec.kind == HTTP:
        try:
            check_http_url(spec.url)
        except UrlError as error:
            raise FunctionError(str(error)) from None
        return
    if spec.kind == ARCHIVE:
        if not _archive_matches(spec.url):
            raise FunctionError("the URL of an archive is file:///DIRECTORY or s3://BUCKET/PREFIX[?endpoint=URL]")
        return
    if spec.kind != PYTHON:
        raise FunctionError(f"a function is of kind {PYTHON}, {HTTP} or {ARCHIVE}, not {spec.kind!r}")
    module, _, function = spec.handler.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
        raise FunctionError(f"a handler is written module:function, not {spec.handler!r}")
    if not spec.directory.startswith("/"):
        raise FunctionError("the directory of a function is an absolute path")
    if not MEMORY_MB_MIN <= spec.memory_mb <= MEMORY_MB_MAX:
        raise FunctionError(f"the memory limit is from {MEMORY_MB_MIN} to {MEMORY_MB_MAX} MB")
    if sum(len(name) + len(value) for name, value in spec.environment.items()) > VARIABLES_BYTES_MAX:
        raise FunctionError(f"environment variables have at most {VARIABLES_BYTES_MAX} bytes together")
