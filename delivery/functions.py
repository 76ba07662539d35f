"""What is called: implemented by delivery.worker, delivery.httpcalls and delivery.archive."""

from __future__ import annotations

from typing import Protocol

from delivery.verdict import Reply


class Function(Protocol):
    """A function that can be called; several calls may be under way."""

    async def call(self, event: bytes, request_id: str) -> Reply:
        """Never raises for what the function does."""

    async def close(self) -> None: ...
