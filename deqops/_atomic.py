"""Files appear complete or not at all."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary sibling of `path` to write to; it takes `path`'s place when the block ends without error.

    An error or an interruption inside the block removes the temporary file and leaves `path` as it was. A symbolic
    link stays: the file that it leads to is replaced.

    Raises:
        FileExistsError: there is a device, a pipe or a socket, which a file must not take the place of.
        OSError: the folder cannot be written.
    """
    target = file_behind(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def file_behind(path: Path | str) -> Path:
    """The plain file that writing to `path` writes, links followed; it need not exist yet.

    Raises:
        IsADirectoryError: it is a folder.
        FileExistsError: it is a device, a pipe or a socket, or a link that leads back to itself.
    """
    target = Path(os.path.realpath(path))
    for place in (path, target):  # a link in /proc leads to a pipe that has no path
        mode = _mode(place)
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        if mode is not None and not stat.S_ISREG(mode):
            raise FileExistsError(
                errno.EEXIST, "it is not a plain file but a device, a pipe, a socket or an endless link", str(path)
            )
    return target


def _mode(path: Path | str) -> int | None:
    """What is there, links followed where they lead anywhere; None for nothing."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return os.lstat(path).st_mode


def _flush(path: Path) -> None:
    """Wait until the bytes are on disk, so that a crash cannot leave an empty file under the final name."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
