"""The witness arrays of a certificate: base64 inside it, or a sibling `.safetensors` file.

Each is decoded once, compared with its SHA-256 and size, and must be finite; a sibling is opened by its plain
name without following links; a witness that nothing refers to is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._refusal import Rejected

Array = NDArray[np.float64]

INLINE_BYTES = 2**20
LARGEST_BYTES = 2**31


class Witnesses:
    """The "witnesses" object of a document.

    Args:
        entries: the JSON value.
        folder: where sibling files lie, or None.
    """

    def __init__(self, entries: Any, folder: Path | None) -> None:
        if not isinstance(entries, dict):
            raise Rejected("witnesses: must be an object")
        self._folder = folder
        self._arrays = {name: self._decode(name, entry) for name, entry in entries.items()}
        self._used: set[str] = set()

    def arrays(self, names: Any, where: str) -> tuple[Array, ...]:
        """The arrays of a list of names."""
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Rejected(f"{where}: must be a list of witness names")
        missing = [name for name in names if name not in self._arrays]
        if missing:
            raise Rejected(f"{where}: there is no witness {missing[0]!r}")
        self._used.update(names)
        return tuple(self._arrays[name] for name in names)

    def refuse_unused(self) -> None:
        """Refuse witnesses that nothing referred to."""
        odd = set(self._arrays) - self._used
        if odd:
            raise Rejected(f"witnesses: {sorted(odd)[0]!r} belongs to nothing in the certificate")

    def _decode(self, name: str, entry: Any) -> Array:
        where = f"witnesses.{name}"
        keys = set(entry) if isinstance(entry, dict) else set()
        if keys not in ({"dtype", "shape", "sha256", "data"}, {"dtype", "shape", "sha256", "file"}):
            raise Rejected(f"{where}: must hold dtype, shape, sha256 and either data or file")
        shape = entry["shape"]
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n <= 2**40 for n in shape):
            raise Rejected(f"{where}.shape: must be a list of sizes")
        size = 8 * math.prod(shape)
        if entry["dtype"] != "float64" or size > LARGEST_BYTES or len(shape) > 16:
            raise Rejected(f"{where}: must be float64 of at most {LARGEST_BYTES} bytes")
        data = self._inline(where, entry["data"]) if "data" in entry else self._sibling(name, entry["file"], size)
        if len(data) != size or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise Rejected(f"{where}: the bytes do not match its shape and sha256")
        array = np.frombuffer(data, dtype="<f8").reshape(shape)
        if not np.isfinite(array).all():
            raise Rejected(f"{where}: holds NaN or infinity")
        return array

    def _inline(self, where: str, text: Any) -> bytes:
        try:
            data = base64.b64decode(text.encode("ascii"), validate=True)
        except (AttributeError, ValueError):
            raise Rejected(f"{where}.data: must be base64") from None
        if self._folder is not None and len(data) > INLINE_BYTES:
            raise Rejected(f"{where}.data: a witness inside a file has at most {INLINE_BYTES} bytes")
        return data

    def _sibling(self, name: str, file: Any, size: int) -> bytes:
        where = f"witnesses.{name}.file"
        if self._folder is None:
            raise Rejected(f"{where}: a certificate without a file has no siblings; check the file")
        if not isinstance(file, str) or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}\.safetensors", file):
            raise Rejected(f"{where}: must be a plain name that ends in .safetensors")
        content = _read_regular(self._folder / file, where)
        return _tensor_bytes(content, name, where)


def _read_regular(path: Path, where: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_BYTES + INLINE_BYTES:
                raise Rejected(f"{where}: {path.name} is not a regular file of admissible size")
            return stream.read()
    except OSError as error:
        raise Rejected(f"{where}: cannot read {path.name} ({error.strerror}); links are not followed") from None


def _tensor_bytes(content: bytes, name: str, where: str) -> bytes:
    """The bytes of one tensor of a safetensors file: 8 bytes of header size, a JSON header, the data."""
    length = int.from_bytes(content[:8], "little")
    try:
        if length > INLINE_BYTES:
            raise ValueError("the header is too large")
        entry = json.loads(content[8 : 8 + length])[name]
        start, stop = entry["data_offsets"]
        if entry["dtype"] != "F64" or type(start) is not int or type(stop) is not int or not 0 <= start <= stop:
            raise ValueError("no float64 tensor")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Rejected(f"{where}: is no safetensors file with float64 tensor {name!r} ({error})") from None
    return content[8 + length + start : 8 + length + stop]
