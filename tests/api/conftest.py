"""One endpoint for the whole suite, and one table of each key schema that the tests share under keys of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.service import ENDPOINT_VARIABLE, Item, Service, endpoint


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="session")
def service(directory: Path) -> Iterator[Service]:
    with endpoint(directory) as url:
        service = Service(url)
        yield service
        service.close()


@pytest.fixture(scope="session")
def trigger(directory: Path, service: Service) -> Callable[..., tuple[int, str, str]]:
    """`geodyne trigger ...` on our own endpoint: exit code, output, errors."""
    if ENDPOINT_VARIABLE in os.environ:
        pytest.skip("functions are registered by the owner of an endpoint")

    def run(*words: str) -> tuple[int, str, str]:
        where = ["--data-dir", str(directory / "data")]
        command = [sys.executable, "-m", "geodyne.cli", "trigger", *words, *where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="session")
def make_table(service: Service) -> Iterator[Callable[..., str]]:
    """Makes tables and deletes them at the end of the session."""
    made: list[str] = []

    def make(hash_type: str = "S", range_type: str | None = None, **more: Any) -> str:
        name = service.create(service.unique("api"), hash_type, range_type, **more)
        made.append(name)
        return name

    yield make
    for name in made:
        service.call("DeleteTable", {"TableName": name})


@pytest.fixture(scope="session")
def table(make_table: Callable[..., str]) -> str:
    """Partition key "pk", a string; no sort key."""
    return make_table()


@pytest.fixture(scope="session")
def sorted_table(make_table: Callable[..., str]) -> str:
    """Keys "pk" and "sk", strings."""
    return make_table("S", "S")


@pytest.fixture(scope="session")
def sorted_by_number(make_table: Callable[..., str]) -> str:
    """A string "pk" and a number "sk"."""
    return make_table("S", "N")


@pytest.fixture(scope="session")
def sorted_by_binary(make_table: Callable[..., str]) -> str:
    """A string "pk" and a binary "sk"."""
    return make_table("S", "B")


@pytest.fixture
def key(service: Service) -> Item:
    """A key of `table` that no other test uses."""
    return {"pk": {"S": service.unique()}}
