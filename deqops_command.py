"""The console command `deqops`. It stands outside of the package, whose import loads torch and may be interrupted."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line: `deqops.cli.main`, an interrupt of the imports included."""
    try:
        from deqops.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("deqops: interrupted before anything was done\n")
        return 130
    return run()
