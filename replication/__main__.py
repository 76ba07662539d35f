"""`python -m replication --config FILE`: the replicator process of a region."""

from __future__ import annotations

import sys

from geodyne.process import main
from replication.compose import serve

if __name__ == "__main__":
    sys.exit(main("replication", lambda config: serve, (), sys.argv[1:]))
