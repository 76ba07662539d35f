"""Where the invocation records of batches go that were given up: a local directory or an HTTP endpoint.

A destination that does not take a record is asked again until it does: the lane waits meanwhile, and says so. A record
may arrive more than once, under the same name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from delivery.events import FailureDocument
from delivery.files import keep
from delivery.httpcalls import HttpFailure, post_json
from geodyne.triggers.urls import shown

POST_S_MAX = 10.0


class DestinationError(Exception):
    """The destination did not take a record; the text says why."""


class Destination(Protocol):
    async def put(self, document: FailureDocument) -> None:
        """Returns when the record is kept. Raises DestinationError."""


class DirectoryDestination:
    """One file a record, under the names that Lambda gives objects in S3. Durable when `put` returns."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, document: FailureDocument) -> None:
        try:
            # Off the loop's thread: an fsync may take long. Bounded by the lanes, each of which waits for its own.
            await asyncio.to_thread(keep, self._directory, document.name, document.body)
        except OSError as error:
            raise DestinationError(f"{self._directory}: {error.strerror}") from None


class HttpDestination:
    """POSTs each record; any 2xx takes it."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def put(self, document: FailureDocument) -> None:
        try:
            answer = await post_json(self._url, document.body, {"X-Geodyne-Name": document.name}, POST_S_MAX)
        except HttpFailure as failure:
            raise DestinationError(f"{shown(self._url)}: {failure}") from None
        if not 200 <= answer.status < 300:
            raise DestinationError(f"{shown(self._url)}: status {answer.status}")


def open_destination(text: str) -> Destination | None:
    """The destination that a mapping names (geodyne.triggers.mapping.DESTINATION_SCHEMES); None for none."""
    if not text:
        return None
    return _OPENERS[urlsplit(text).scheme](text)


_OPENERS: Mapping[str, Callable[[str], Destination]] = {
    "file": lambda text: DirectoryDestination(Path(unquote(urlsplit(text).path))),
    "http": HttpDestination,
    "https": HttpDestination,
}
