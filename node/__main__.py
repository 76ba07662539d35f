"""`python -m node --config FILE`: one node process."""

from __future__ import annotations

import sys

from geodyne.process import main
from node.groups import StateLost
from node.serve import serve
from node.storage.port import StorageError

if __name__ == "__main__":
    sys.exit(main("node", lambda config: serve, (StorageError, StateLost), sys.argv[1:]))
