"""Clients that go on and on in threads of their own, and remember what they saw."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

JOIN_S_MAX = 60.0
SHARED_KEYS: Final = 60


class Traffic:
    """Calls `step(number)` without pause from entering the block to leaving it. Its first error is raised then."""

    def __init__(self, name: str, step: Callable[[int], None], join_s_max: float = JOIN_S_MAX) -> None:
        self.name = name
        self.steps = 0
        self.gap_s_max = 0.0  # longest time between two completed steps
        self._step = step
        self._join_s_max = join_s_max
        self._error: BaseException | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
        else:
            self._ending.set()
            self._thread.join(self._join_s_max)

    def end(self) -> None:
        """Before the end of the block, where something else goes on. Raises what the client saw."""
        self._ending.set()
        self._thread.join(self._join_s_max)
        self.check()
        assert not self._thread.is_alive(), f"{self.name} did not end within {self._join_s_max:.0f} s"

    def check(self) -> bool:
        """Raise what the client saw, if it saw an error; True otherwise, so that it can stand in a condition."""
        if self._error is not None:
            raise AssertionError(f"{self.name} saw an error after {self.steps} steps: {self._error!r}") from self._error
        return True

    def _run(self) -> None:
        last = time.monotonic()
        try:
            while not self._ending.is_set():
                self._step(self.steps)
                self.steps += 1
                now = time.monotonic()
                self.gap_s_max = max(self.gap_s_max, now - last)
                last = now
        except BaseException as error:  # handed to the thread that waits: it fails the test
            self._error = error


def stalls() -> Traffic:
    """Does next to nothing: its longest gap is how long this machine kept one of the clients' threads from running."""
    return Traffic("stalls", lambda number: time.sleep(0.001))


class Attempts:
    """Counts what a boto3 client was answered by attempt, retries included: HTTP status or name of the exception."""

    def __init__(self, client: Any) -> None:
        self.seen: Counter[str] = Counter()
        client.meta.events.register("needs-retry.dynamodb", self._note)

    def _note(self, response: Any = None, caught_exception: Any = None, **_: Any) -> None:
        """None leaves the decision to the SDK."""
        if caught_exception is not None:
            self.seen[type(caught_exception).__name__] += 1
        elif response is not None:
            self.seen[str(response[0].status_code)] += 1

    @property
    def failed(self) -> dict[str, int]:
        return {what: count for what, count in self.seen.items() if what != "200"}


class RegionWriter:
    """Overwrites and deletes a small set of keys that writers of other regions share, so that their changes meet, and
    puts rows that nobody else touches. `own` has those by name, with the Unix time at which they were answered."""

    def __init__(self, client: Any, table: str, region: str, seed: int) -> None:
        self.client = client
        self.table = table
        self.region = region
        self.own: dict[str, float] = {}
        self._random = random.Random(seed)

    def step(self, number: int) -> None:
        key = {"pk": {"S": f"shared-{self._random.randrange(SHARED_KEYS)}"}}
        if self._random.random() < 0.25:
            self.client.delete_item(TableName=self.table, Key=key)
        else:
            value = {"by": {"S": self.region}, "n": {"N": str(number)}, "b": {"B": self._random.randbytes(64)}}
            self.client.put_item(TableName=self.table, Item={**key, **value})
        own = f"{self.region}-{number}"
        self.client.put_item(TableName=self.table, Item={"pk": {"S": own}, "n": {"N": str(number)}})
        self.own[own] = time.time()
