"""`python -m delivery --config FILE`: the process of a region that calls the functions of its triggers."""

from __future__ import annotations

import sys

from geodyne.process import Serve, main
from geodyne.settings import ProcessConfig


def choose(_config: ProcessConfig) -> Serve:
    from delivery.compose import serve  # gRPC comes with it, and geodyne.process before gRPC

    return serve


if __name__ == "__main__":
    sys.exit(main("delivery", choose, (), sys.argv[1:]))
