"""Tensors inside a certificate file: base64 in the JSON, or a sibling `.safetensors` named by its hash."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deqops._atomic import write_atomically
from deqops._errors import ModelFileError

INLINE_BYTES = 2**20
LARGEST_BYTES = 2**31


def encoded(tensors: dict[str, Tensor], folder: Path | None) -> dict[str, Any]:
    """The "witnesses" object; tensors over 1 MiB go to files in `folder` where one is given."""
    return {name: _encode(name, tensor, folder) for name, tensor in sorted(tensors.items())}


def decoded(entries: dict[str, Any], folder: Path | None) -> dict[str, Tensor]:
    """The tensors of a "witnesses" object.

    Raises:
        ModelFileError: a wrong size, hash, dtype or encoding, or a missing sibling file.
    """
    return {name: _decode(name, entry, folder) for name, entry in entries.items()}


def _encode(name: str, tensor: Tensor, folder: Path | None) -> dict[str, Any]:
    values = tensor.detach().to(torch.float64).contiguous()
    data = values.numpy().astype("<f8").tobytes()
    entry: dict[str, Any] = {
        "dtype": "float64",
        "shape": list(values.shape),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    if folder is None or len(data) <= INLINE_BYTES:
        return entry | {"data": base64.b64encode(data).decode("ascii")}
    return entry | {"file": _write_sibling(name, values, folder)}


def _write_sibling(name: str, values: Tensor, folder: Path) -> str:
    from safetensors.torch import save

    content = save({name: values})
    file = f"{hashlib.sha256(content).hexdigest()}.safetensors"
    write_atomically(folder / file, content)
    return file


def _decode(name: str, entry: Any, folder: Path | None) -> Tensor:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise ModelFileError(f"certificate: witness {name!r} has no valid shape")
    if entry.get("dtype") != "float64" or not isinstance(entry.get("sha256"), str):
        raise ModelFileError(f"certificate: witness {name!r} must be float64 with a sha256")
    size = 8 * torch.Size(shape).numel()
    if size > LARGEST_BYTES:
        raise ModelFileError(f"certificate: witness {name!r} is larger than {LARGEST_BYTES} bytes")
    data = _inline(name, entry["data"]) if "data" in entry else _sibling(name, entry.get("file"), folder)
    if len(data) != size or hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ModelFileError(f"certificate: witness {name!r} does not match its shape and sha256")
    flat = torch.frombuffer(bytearray(data), dtype=torch.float64) if size else torch.empty(0, dtype=torch.float64)
    return flat.reshape(shape)


def _inline(name: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ModelFileError(f"certificate: witness {name!r} is not base64") from error


def _sibling(name: str, file: Any, folder: Path | None) -> bytes:
    from safetensors import SafetensorError
    from safetensors.torch import load

    if folder is None or not isinstance(file, str) or not re.fullmatch(r"[0-9a-f]{64}\.safetensors", file):
        raise ModelFileError(f"certificate: witness {name!r} names no usable sibling file")
    path = folder / file
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_BYTES + 2**20:
            raise ModelFileError(f"certificate: {path} is no plain file or too large")
        tensor = load(path.read_bytes())[name]
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelFileError(f"certificate: cannot read witness {name!r} from {path}: {error}") from error
    return tensor.contiguous().numpy().tobytes() if tensor.dtype == torch.float64 else b""
