"""Checkpoint files: written whole or not at all, read without running code."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from deqops._atomic import write_atomically
from deqops._errors import ModelFileError
from deqops._files import require_plain

_FORMAT = "deqops-checkpoint-3"
_KEYS = {"format", "identity", "loss", "model", "optimiser", "best"}


def write_checkpoint(path: Path, saved: dict[str, Any]) -> None:
    """Write a checkpoint; an interruption leaves the previous one.

    Raises:
        OSError: the folder cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, **saved}, buffer)
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint with torch's restricted unpickler, which does not notice changed bytes: the archive's sums do.

    Raises:
        OSError: it cannot be read.
        ModelFileError: it is damaged, or not a checkpoint of this format.
    """
    require_plain(path)
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            whole = archive.testzip() is None
        saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True) if whole else None
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:  # what a damaged file trips over in the unpickler is not documented
        raise ModelFileError(f"{path}: damaged checkpoint; remove it to train from the start") from error
    if saved is None:
        raise ModelFileError(f"{path}: damaged checkpoint; remove it to train from the start")
    if not isinstance(saved, dict) or saved.get("format") != _FORMAT or set(saved) != _KEYS:
        raise ModelFileError(f"{path}: not a checkpoint of this version; remove it to train from the start")
    del saved["format"]
    return saved
