"""Generated cases are the same in every run: a change is judged by what it does, not by chance.

`pytest --hypothesis-profile=default` draws new ones. How `pytest -n` shares the tests out: tests/sharing.py.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from xdist.remote import Producer

from tests.sharing import Sharing, in_the_order_of_pieces

settings.register_profile("repeatable", derandomize=True, database=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # set by xdist in its workers
        items[:] = in_the_order_of_pieces(items)


@pytest.hookimpl(optionalhook=True)  # there is none with `-p no:xdist`
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    return Sharing(config, log)
