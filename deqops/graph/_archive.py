"""A zip archive from a stranger: bounded, flat names under one folder, nothing executed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

from deqops._errors import ModelFileError
from deqops._files import require_plain

MAX_ENTRIES = 100_000
MAX_TOTAL = 64 * 2**30
MAX_JSON = 256 * 2**20
MAX_RATIO = 200

# What zipfile raises, besides its own errors, for headers that make no sense.
_DAMAGE = (ValueError, OverflowError, NotImplementedError, EOFError, struct.error)


class Archive:
    """The entries of a model file below its one top folder.

    Args:
        source: a path, or the file's bytes.

    Raises:
        ModelFileError: not a plain file, not a zip file, damaged, too large, with doubled or outward-pointing names.
        FileNotFoundError: no such file.
    """

    def __init__(self, source: Path | bytes) -> None:
        data = io.BytesIO(source) if isinstance(source, bytes) else source
        if isinstance(data, Path):
            require_plain(data)
        try:
            self._zip = zipfile.ZipFile(data)
            entries = self._zip.infolist()
        except UnicodeDecodeError:
            raise ModelFileError("model file: an entry's name is not text") from None
        except (zipfile.BadZipFile, zipfile.LargeZipFile, *_DAMAGE) as error:
            raise ModelFileError(f"model file: it is no intact zip archive ({error}); was it cut short?") from None
        self._entries = _checked(entries)

    def __contains__(self, name: str) -> bool:
        """Whether there is an entry of this name."""
        return name in self._entries

    def read(self, name: str, limit: int = MAX_JSON) -> bytes:
        """An entry's content, at most `limit` bytes."""
        info = self._entries.get(name)
        if info is None:
            raise ModelFileError(f"model file: it has no entry {name!r}; export it with deqops.export")
        if info.file_size > limit:
            raise ModelFileError(f"model file: entry {name!r} is larger than {limit} bytes")
        try:
            with self._zip.open(info) as stream:
                content = stream.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, *_DAMAGE) as error:
            raise ModelFileError(f"model file: entry {name!r} is damaged ({error})") from None
        if len(content) != info.file_size:
            raise ModelFileError(f"model file: entry {name!r} has not the size it declares")
        return content

    def close(self) -> None:
        """Close the file."""
        self._zip.close()


def _checked(entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    if len(entries) > MAX_ENTRIES:
        raise ModelFileError(f"model file: more than {MAX_ENTRIES} entries")
    if sum(entry.file_size for entry in entries) > MAX_TOTAL:
        raise ModelFileError(f"model file: it unpacks to more than {MAX_TOTAL} bytes")
    found: dict[str, zipfile.ZipInfo] = {}
    tops = set()
    for entry in entries:
        top, _, rest = entry.filename.partition("/")
        parts = entry.filename.split("/")
        if not rest or entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename:
            raise ModelFileError(f"model file: entry name {entry.filename!r:.80} is not allowed")
        if entry.file_size > 2**20 and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
            raise ModelFileError(f"model file: entry {rest!r:.80} is packed suspiciously tightly")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelFileError(f"model file: entry {rest!r:.80} is packed in an unusual way; store it plainly")
        if rest in found:
            raise ModelFileError(f"model file: entry {rest!r:.80} occurs twice")
        tops.add(top)
        found[rest] = entry
    if len(tops) != 1:
        raise ModelFileError("model file: it must have exactly one top folder")
    return found
