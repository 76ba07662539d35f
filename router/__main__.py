"""`python -m router --config FILE`: a regional router, or the global endpoint, as the launch file's role says."""

from __future__ import annotations

import sys

from geodyne.process import Serve, main
from geodyne.settings import ProcessConfig
from geodyne.topology import ROLE_GLOBAL
from router.auth.credentials import CredentialsError
from router.routebook import RouteBookError


def choose(config: ProcessConfig) -> Serve:
    if config.role == ROLE_GLOBAL:
        from router.serve_global import serve

        return serve
    from router.serve import serve as serve_region

    return serve_region


if __name__ == "__main__":
    sys.exit(main("router", choose, (CredentialsError, RouteBookError), sys.argv[1:]))
