"""The rules of STYLE.md that a program can check."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("geodyne", "node", "router", "replication", "delivery")
MODULE_LINES_MAX = 700
FUNCTION_LINES_MAX = 90
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "managers", "manager", "misc", "common"}
LEFT_OPEN = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(" + "|".join(("ro" + "ot", "wo" + "rk", "ho" + "me")) + r")/\w")


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            if not file.name.endswith("_pb2.py"):
                yield file


def python_files() -> Iterator[Path]:
    yield from modules()
    yield from sorted((REPOSITORY / "tests").rglob("*.py"))


def shown(file: Path) -> str:
    return str(file.relative_to(REPOSITORY))


def tracked_texts() -> Iterator[tuple[Path, str]]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        file = REPOSITORY / name
        if file.is_file():
            try:
                yield file, file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_modules_fit_in_the_head() -> None:
    long = {shown(file): lines for file in python_files() if (lines := file.read_text().count("\n")) > MODULE_LINES_MAX}
    assert long == {}


def test_functions_fit_a_screen() -> None:
    long = [
        f"{shown(file)}:{node.lineno} {node.name}"
        for file in python_files()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_module_names_say_what_is_inside() -> None:
    assert [shown(file) for file in modules() if file.stem in VAGUE_NAMES or file.parent.name in VAGUE_NAMES] == []


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {file.parent for file in modules()}
    assert [shown(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        shown(file) for file in modules() if (tree := ast.parse(file.read_text())).body and not ast.get_docstring(tree)
    ]
    assert silent == []


def test_no_error_is_swallowed_whole() -> None:
    def swallows(handler: ast.ExceptHandler) -> bool:
        everything = handler.type is None or (
            isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
        )
        return everything and all(isinstance(statement, ast.Pass | ast.Continue) for statement in handler.body)

    found = [
        f"{shown(file)}:{node.lineno}"
        for file in python_files()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ExceptHandler) and swallows(node)
    ]
    assert found == []


def test_nothing_imports_a_programs_entry_point() -> None:
    found = [
        f"{shown(file)}:{node.lineno}"
        for file in modules()
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").endswith("__main__"))
        or (isinstance(node, ast.Import) and any(alias.name.endswith("__main__") for alias in node.names))
    ]
    assert found == []


def test_nothing_is_left_open() -> None:
    found = [
        f"{shown(file)}: {match[0]}"
        for file in python_files()
        if (match := LEFT_OPEN.search(file.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_no_file_names_a_place_that_only_one_machine_has() -> None:
    found = [f"{shown(file)}: {match[0]}" for file, text in tracked_texts() if (match := MACHINE_PATH.search(text))]
    assert found == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{shown(file)}: {target}"
        for file, text in tracked_texts()
        if file.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if "://" not in target and not (file.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("text", ["# " + "TO" + "DO later", "x = 1  # " + "FIX" + "ME"])
def test_the_check_for_things_left_open_sees_them(text: str) -> None:
    assert LEFT_OPEN.search(text)
