"""Keeping a document as a file: whole or not at all, and durable."""

from __future__ import annotations

import os
from pathlib import Path
from threading import get_ident


def keep(directory: Path, name: str, body: bytes) -> None:
    """Write `body` to the file `name`, a path below `directory`, in place of one that is there. Blocks; durable when it
    returns, with the folders from `directory` down to the file. Raises OSError.

    Several threads may keep the same name at once: each writes a file of its own, and the last one stays. A process
    that is killed may leave one that ends in ".new"."""
    target = directory / name
    fresh = target.with_name(f"{target.name}.{get_ident()}.new")
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(fresh, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, target)
    # All of them, whoever made them: the process that did may have died before they were durable.
    for folder in target.parents:
        _sync(folder)
        if folder == directory:
            return


def _sync(folder: Path) -> None:
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)
