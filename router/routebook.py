"""The routing policies in force: those of the launch file, and over them what was changed at run time.

Changes are kept in a file, so that they outlive the process; each is durable before it is in force. A file that cannot
be understood keeps the endpoint from starting: a table that was pinned must not be served from elsewhere unnoticed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from geodyne.routing import NAME_CHARACTERS_MAX, TABLE_POLICIES_MAX, Policy, Routing, RoutingError, policy_from

FORMAT: Final = 1


class RouteBookError(Exception):
    """The file of changes cannot be used; the text is one line."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What was decided at run time. `policy` None: the endpoint's is that of the launch file."""

    policy: Policy | None = None
    tables: Mapping[str, Policy] = field(default_factory=dict)

    def over(self, routing: Routing) -> Routing:
        return replace(routing, policy=self.policy or routing.policy, tables={**routing.tables, **self.tables})

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "policy": None if self.policy is None else self.policy.to_json(),
            "tables": {table: policy.to_json() for table, policy in self.tables.items()},
        }


class RouteBook:
    """`routing` is what is in force. `file` None: changes last as long as the process."""

    def __init__(self, configured: Routing, regions: Sequence[str], file: Path | None) -> None:
        """Raises RouteBookError."""
        self._configured = configured
        self._regions = tuple(regions)
        self._file = file
        self._changing = asyncio.Lock()
        self.changes = _read(file, self._regions) if file is not None else Changes()
        self.routing = self.changes.over(configured)

    @property
    def durable(self) -> bool:
        """Changes outlive the process."""
        return self._file is not None

    async def put(self, table: str | None, policy: Any) -> Policy:
        """Give a table, or with None the endpoint, a policy in its JSON form. Raises RoutingError, OSError."""
        decided = policy_from(policy, self._regions)
        async with self._changing:
            if table is None:
                await self._take(replace(self.changes, policy=decided))
            else:
                _check_name(table)
                await self._take(replace(self.changes, tables={**self.changes.tables, table: decided}))
        return decided

    async def reset(self, table: str | None) -> Policy:
        """Back to what the launch file says; returns what is in force then. Raises OSError."""
        async with self._changing:
            if table is None:
                await self._take(replace(self.changes, policy=None))
            else:
                others = {name: policy for name, policy in self.changes.tables.items() if name != table}
                await self._take(replace(self.changes, tables=others))
        return self.routing.tables.get(table, self.routing.policy) if table is not None else self.routing.policy

    def source(self, table: str | None) -> str:
        """Where a policy in force comes from: "run time" or "configuration"."""
        changed = self.changes.policy is not None if table is None else table in self.changes.tables
        return "run time" if changed else "configuration"

    async def _take(self, changes: Changes) -> None:
        if len(changes.tables) > TABLE_POLICIES_MAX:
            raise RoutingError(f"at most {TABLE_POLICIES_MAX} tables have policies of their own")
        if self._file is not None:
            await asyncio.to_thread(_write, self._file, changes)
        self.changes = changes
        self.routing = changes.over(self._configured)


def _check_name(table: str) -> None:
    if not 0 < len(table) <= NAME_CHARACTERS_MAX:
        raise RoutingError(f"a table's name has 1 to {NAME_CHARACTERS_MAX} characters")


def _read(file: Path, regions: Sequence[str]) -> Changes:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Changes()
    except OSError as error:
        raise RouteBookError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise RouteBookError(f"{file}: not a JSON file: {error}") from None
    try:
        if data["format"] != FORMAT:
            raise RouteBookError(f"{file}: format {data['format']!r} is not known; this version reads format {FORMAT}")
        policy = data["policy"]
        return Changes(
            None if policy is None else policy_from(policy, regions),
            {str(table): policy_from(one, regions) for table, one in data["tables"].items()},
        )
    except RoutingError as error:
        raise RouteBookError(f"{file}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise RouteBookError(f"{file}: not a file of routing policies: {error!r}") from None


def _write(file: Path, changes: Changes) -> None:
    """In one step, and so that a loss of power does not bring the old one back. Raises OSError."""
    fresh = file.with_name(file.name + ".new")
    with open(fresh, "w", encoding="utf-8") as out:
        json.dump(changes.to_json(), out, indent=1)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    os.replace(fresh, file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
