"""The programs of the processes: what must have happened by the time that they load gRPC."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Looks at the environment at the moment at which gRPC is first asked for, then loads all that the process would.
PROBE = """
import importlib, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            seen.append(os.environ.get("GRPC_ENABLE_FORK_SUPPORT"))
seen = []
sys.meta_path.insert(0, Watch())
for name in sys.argv[1:]:
    importlib.import_module(name)
print(seen[0])
"""


@pytest.mark.parametrize(
    "modules",
    [
        ("node.__main__",),
        ("router.__main__", "router.serve"),
        ("replication.__main__",),
        ("delivery.__main__", "delivery.compose"),
    ],
)
def test_grpc_is_told_that_forks_are_none_of_its_business_before_it_is_loaded(modules: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, *modules], capture_output=True, text=True, check=False)
    assert done.stdout == "0\n", done.stderr
