"""`python -m delivery --config FILE`: the process of a region that calls the functions of its triggers."""

from __future__ import annotations

import sys

from delivery.compose import serve
from geodyne.process import main

if __name__ == "__main__":
    sys.exit(main("delivery", lambda config: serve, (), sys.argv[1:]))
