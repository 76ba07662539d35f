"""Generated cases are the same in every run: a change is judged by what it does, not by chance.

`pytest --hypothesis-profile=default` draws new ones.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None)
settings.load_profile("repeatable")
