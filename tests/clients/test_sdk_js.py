"""The AWS SDK for JavaScript v3: `js/sdk.test.mjs` is run once, and each of its tests is a test here."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from tests.clients.nodejs import FOLDER, NODE, require_clients

pytestmark = pytest.mark.cluster

RUN_S_MAX = 240.0
SUITE = FOLDER / "sdk.test.mjs"
NAMES = re.findall(r'^test\("([^"]+)"', SUITE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """What the suite's tests reported, by their names."""
    require_clients()
    command = [str(NODE), "--test", "--test-reporter=./reporter.mjs", "--test-reporter-destination=stdout", SUITE.name]
    done = subprocess.run(
        command,
        cwd=FOLDER,
        env=request.getfixturevalue("environment"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert found, done.stdout + done.stderr
    return {result["name"]: result for result in found}


def test_the_suite_has_tests() -> None:
    assert len(NAMES) > 5


@pytest.mark.parametrize("name", NAMES)
def test_with_the_sdk_for_javascript(name: str, results: dict[str, dict[str, Any]]) -> None:
    assert name in results, results
    assert results[name]["passed"], results[name]["error"]
