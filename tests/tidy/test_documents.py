"""What documents say of files, settings and metrics is so, and leaves none of them out."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from geodyne.settings import ProcessConfig
from router.api.registry import OPERATIONS, STREAM_OPERATIONS
from tests.deploy.exported import exported_series

REPOSITORY = Path(__file__).parents[2]
PARTS = ("node", "router", "replication", "delivery")
QUOTED = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*\.(?:py|proto|md|toml|yml)")
FOLDER = re.compile(r"(?:[\w-]+/)+")
FIRST_CELL = re.compile(r"^\| `([a-z_]+)` \|", re.MULTILINE)
HISTOGRAM = re.compile(r"_(bucket|sum|count)$")
DESIGN_LINES_MAX = 80


@pytest.fixture(scope="module")
def files() -> list[str]:
    """All files of the repository that git does not ignore, from its root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (REPOSITORY / name).is_file()]


def named_paths(text: str) -> Iterator[str]:
    for quoted in QUOTED.findall(text):
        if FILE.fullmatch(quoted) or FOLDER.fullmatch(quoted):
            yield quoted


def exists(path: str, files: list[str]) -> bool:
    """From the root, or from some folder: a part's page need not repeat the part's name."""
    pattern = re.escape(path).replace(r"\*", "[^/]*") + ("" if path.endswith("/") else "$")
    found = re.compile(rf"(?:^|/){pattern}")
    return any(found.search(name) for name in files)


def test_files_that_documents_name_exist(files: list[str]) -> None:
    lost = [
        f"{document}: {path}"
        for document in files
        if document.endswith(".md")
        for path in named_paths((REPOSITORY / document).read_text(encoding="utf-8"))
        if not exists(path, files)
    ]
    assert lost == []


def test_the_check_for_named_files_sees_one_that_is_gone(files: list[str]) -> None:
    paths = list(named_paths("see `node/gone.py`, `node/`, `gone/`, `test_*.py` and `a / b`"))
    assert [path for path in paths if not exists(path, files)] == ["node/gone.py", "gone/"]


@pytest.mark.parametrize("part", PARTS)
def test_each_part_has_a_short_page_about_its_design(part: str) -> None:
    page = (REPOSITORY / part / "DESIGN.md").read_text(encoding="utf-8")
    assert page.count("\n") <= DESIGN_LINES_MAX
    for module in sorted((REPOSITORY / part).glob("*.py")):
        assert module.stem.startswith("__") or f"`{module.name}`" in page, module.name


def test_every_metric_is_documented_and_no_other() -> None:
    exported = {HISTOGRAM.sub("", name) for name in exported_series() if name.startswith("geodyne_")}
    documented = FIRST_CELL.findall((REPOSITORY / "docs/metrics.md").read_text(encoding="utf-8"))
    assert sorted(documented) == sorted(exported)


def test_every_member_of_a_launch_file_is_documented_and_no_other() -> None:
    # What does not count for equality is not in the file: its own path.
    members = {"format", *(field.name for field in fields(ProcessConfig) if field.compare)}
    documented = FIRST_CELL.findall((REPOSITORY / "docs/settings.md").read_text(encoding="utf-8"))
    assert sorted(documented) == sorted(members)


def test_every_operation_that_is_built_is_documented_and_no_other() -> None:
    page = (REPOSITORY / "docs/compatibility.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([A-Z]\w+)` \|", page, re.MULTILINE) == sorted(OPERATIONS)
    assert all(f"`{name}`" in page for name in STREAM_OPERATIONS)
