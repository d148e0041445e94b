"""The command line: `deqops demo | train | solve | certify | check | report | info`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ._exit import INTERRUPTED

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its commands are imported here, where an interrupt is an exit code.

    Args:
        arguments: None for the process's own.

    Returns:
        The exit code; every expected failure has printed one line to stderr.
    """
    try:
        from ._main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("deqops: interrupted before anything was done\n")
        return INTERRUPTED
    return run(arguments)
