"""Exit codes, and the error that carries one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DONE = 0
"""Certified, verified, or done."""
FAILED = 1
"""Refuted, rejected, or not converged."""
UNKNOWN = 2
"""Neither proven nor refuted."""
USAGE = 64
BAD_DATA = 65
MISSING_FILE = 66
MISSING_TOOL = 69
CANNOT_CREATE = 73
CANNOT_WRITE = 74
INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot go on: one line that says what to do, and the exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` into exit code 73 (cannot create it) or 74 (writing broke off)."""
    if path.is_dir():
        raise CommandError(CANNOT_CREATE, f"cannot write {path}: it is a folder; give a file name")
    if not path.parent.is_dir():
        raise CommandError(CANNOT_CREATE, f"cannot write {path}: {path.parent} is not a folder; create it first")
    try:
        yield
    except (
        FileNotFoundError,
        NotADirectoryError,
        PermissionError,
        IsADirectoryError,
        FileExistsError,
    ) as error:
        reason = error.strerror or type(error).__name__
        raise CommandError(CANNOT_CREATE, f"cannot write {path}: {reason}; choose another place") from error
    except OSError as error:
        raise CommandError(
            CANNOT_WRITE, f"cannot write {path}: {error.strerror}; free space or choose another place"
        ) from error
