"""What ends a command with one readable line."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2  # argparse's own
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count


class CommandError(Exception):
    """A failure that the user can act on: one line of text, no stack trace, exit code 1."""
