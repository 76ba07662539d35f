"""How `geodyne trigger` reaches a `geodyne dev`: a control socket, named in a file of the data directory.

control.json    only while the process runs: its pid and the socket's path
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from geodyne.cli.control import ControlServer
from geodyne.cli.datadir import write_private
from geodyne.cli.errors import CommandError

FILE = "control.json"
TRIGGER_COMMAND = "trigger"
LIST_REGIONS = "ListRegions"  # an operation on no region: their names
Administration = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class DevControl:
    """Serves the operator's calls about triggers. `administer` is router.lambdaapi.administration's."""

    def __init__(self, data_dir: Path, region: str, administer: Administration) -> None:
        self._file = data_dir / FILE
        self._region = region
        self._administer = administer
        self._server = ControlServer(self._on_command)

    async def start(self) -> None:
        """Raises OSError when the file or the socket cannot be made."""
        path = await self._server.start()
        write_private(self._file, {"control": str(path), "pid": os.getpid()})

    async def stop(self) -> None:
        self._file.unlink(missing_ok=True)
        await self._server.stop()

    async def _on_command(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("command") != TRIGGER_COMMAND:
            raise CommandError("this is `geodyne dev`, not a cluster: it knows `geodyne trigger` only")
        if request.get("region") not in (None, self._region):
            raise CommandError(f"there is no region {request['region']}; there is {self._region}")
        if request.get("operation") == LIST_REGIONS:
            return {"result": {"regions": [self._region]}}
        return answered(await self._administer({"operation": request.get("operation"), "body": request.get("body")}))


def answered(reply: dict[str, Any]) -> dict[str, Any]:
    """An operator's answer for the control socket, whose own `error` has no code beside it."""
    return {"refused": reply["error"], "code": reply.get("code", "")} if "error" in reply else reply


def control_of(data_dir: Path) -> str | None:
    """The socket of the `geodyne dev` that runs on a data directory; None when none does."""
    try:
        found = json.loads((data_dir / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    control = found.get("control") if isinstance(found, dict) else None
    # One that was killed left its file behind.
    return control if isinstance(control, str) and os.path.exists(control) else None
