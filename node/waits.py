"""Long polls: calls that wait for news. One coarse timer expires them; nothing runs while nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from geodyne.messages import Answer, Response

WAITS_MAX = 100_000

CATALOG_TOPIC = -1  # what waits for the catalog rather than for a partition


class Wait(NamedTuple):
    """`attempt(late)` answers if it can, or must when late; None: keep waiting."""

    reply: Callable[[Response], None]
    id: int
    attempt: Callable[[bool], Answer | None]
    until_ms: int


class Waits:
    """Waiting calls by topic (a partition's feed, the catalog)."""

    def __init__(self) -> None:
        self._by_topic: dict[int, list[Wait]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, topic: int, wait: Wait) -> None:
        """Answer at once if possible, else keep the call."""
        answer = wait.attempt(self._count >= WAITS_MAX)
        if answer is not None:
            wait.reply(Response(wait.id, answer))
            return
        self._by_topic.setdefault(topic, []).append(wait)
        self._count += 1

    def news(self, topic: int) -> None:
        """Something changed: every wait of the topic tries again."""
        waits = self._by_topic.pop(topic, None)
        if waits is not None:
            self._retry(topic, waits, None)

    def expire(self, now_ms: int) -> None:
        for topic in list(self._by_topic):
            waits = self._by_topic[topic]
            if any(wait.until_ms <= now_ms for wait in waits):
                del self._by_topic[topic]
                self._retry(topic, waits, now_ms)

    def _retry(self, topic: int, waits: list[Wait], now_ms: int | None) -> None:
        kept = []
        for wait in waits:
            answer = wait.attempt(now_ms is not None and wait.until_ms <= now_ms)
            if answer is None:
                kept.append(wait)
            else:
                wait.reply(Response(wait.id, answer))
        self._count -= len(waits) - len(kept)
        if kept:
            self._by_topic[topic] = kept
