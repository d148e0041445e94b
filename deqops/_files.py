"""Reading only what is a plain file."""

from __future__ import annotations

from pathlib import Path

from deqops._errors import ModelFileError


def require_plain(path: Path) -> None:
    """Refuse what is no plain file: a folder has no content, and a pipe or a device may never end.

    Raises:
        FileNotFoundError: there is nothing at this path.
        ModelFileError: it is a folder, a pipe, a socket or a device.
    """
    if path.is_file():
        return
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    raise ModelFileError(f"{path}: not a plain file; save the content to a file and give that")
