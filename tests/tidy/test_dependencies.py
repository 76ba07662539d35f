"""Dependencies are few, justified, pinned by hash, and stay out of where they do not belong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> set[tuple[str, str]]:
    return {(normal(name), version) for name, version in PIN.findall((REPOSITORY / lock).read_text())}


def wanted(group: str | None) -> set[tuple[str, str]]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    lines = project["project"]["dependencies"] if group is None else project["dependency-groups"][group]
    return {(normal(name), version.rstrip(";")) for name, version in (PIN.findall(line)[0] for line in lines)}


def test_lock_files_hold_what_pyproject_asks_for() -> None:
    assert wanted(None) <= pins("requirements.lock")
    assert wanted("build") <= pins("requirements-build.lock")
    for group in (None, "build", "check", "test"):
        assert wanted(group) <= pins("requirements-dev.lock")
    assert pins("requirements.lock") | pins("requirements-build.lock") <= pins("requirements-dev.lock")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes_and_no_line_names_a_host(lock: str) -> None:
    text = (REPOSITORY / lock).read_text()
    entries = re.split(r"\n(?=[A-Za-z])", text.strip())
    assert len(entries) > 5
    for entry in entries:
        assert PIN.match(entry), entry[:60]
        assert "--hash=sha256:" in entry, entry[:60]
    assert not re.search(r"https?://|--index|--find-links|--extra|--trusted", text)


def test_every_dependency_is_justified_in_its_line() -> None:
    lines = (REPOSITORY / "pyproject.toml").read_text().splitlines()
    pinned = [line for line in lines if re.match(r'^\s+"[A-Za-z0-9._-]+==', line)]
    assert len(pinned) > 10
    assert [line for line in pinned if "#" not in line] == []


def test_the_development_server_runs_without_grpc_and_botocore(tmp_path: Path) -> None:
    arguments = ["dev", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with open(tmp_path / "imports", "wb") as imports:
        server = subprocess.Popen(
            [sys.executable, "-P", "-X", "importtime", "-m", "geodyne.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=imports,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        assert server.stdout is not None
        ready = next((line for line in server.stdout if "http://" in line), "")
        server.terminate()
        server.communicate(timeout=10)
    lines = (tmp_path / "imports").read_text().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert ready
    assert server.returncode == 0
    assert {"node.compose", "router.frontend"} <= imported
    assert {name for name in imported if name.split(".")[0] in {"grpc", "boto3", "botocore", "yaml"}} == set()
