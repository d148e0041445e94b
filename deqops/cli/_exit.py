"""Exit codes, and the error that carries one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deqops._atomic import file_behind

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


def require_place(output: Path | None, *inputs: Path | None) -> None:
    """Refuse an output that could not be written, or would replace an input, before the work for it is done.

    Args:
        output: where the result will go; None for nowhere.
        inputs: the files that the command reads; None for one that was not given.

    Raises:
        CommandError: (73) no file can be made there; (64) it is one of the inputs.
    """
    if output is None:
        return
    try:
        target = file_behind(output)
    except OSError as error:
        hint = "give a file name" if isinstance(error, IsADirectoryError) else "remove it or choose another place"
        raise CommandError(CANNOT_CREATE, f"cannot write {output}: {error.strerror}; {hint}") from error
    if not target.parent.is_dir():
        raise CommandError(CANNOT_CREATE, f"cannot write {output}: {target.parent} is not a folder; create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        message = f"cannot write {output}: no permission to write in {target.parent}; choose another place"
        raise CommandError(CANNOT_CREATE, message)
    for path in inputs:
        if path is not None and path.exists() and target.exists() and target.samefile(path):
            message = f"-o {output} is the input {path}, which would be overwritten; choose another file"
            raise CommandError(USAGE, message)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` into exit code 73 (cannot create it) or 74 (writing broke off)."""
    require_place(path)
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
