"""SHA-256 digests of tensors, independent of device, strides and the machine's byte order."""

from __future__ import annotations

import hashlib
import json
import sys

import torch


def dtype_name(dtype: torch.dtype) -> str:
    """The dtype's name without torch's prefix: "float32"."""
    return str(dtype).removeprefix("torch.")


def tensor_digest(tensor: torch.Tensor) -> str:
    """SHA-256 over a tensor's dtype name, shape and contiguous little-endian bytes.

    Args:
        tensor: any strided tensor, on any device.

    Returns:
        64 hexadecimal digits. Equal for tensors that hold the same bits in the same order.
    """
    header = json.dumps([dtype_name(tensor.dtype), list(tensor.shape)], separators=(",", ":"))
    digest = hashlib.sha256(header.encode("ascii") + b"\n")
    digest.update(little_endian_bytes(tensor))
    return digest.hexdigest()


def little_endian_bytes(tensor: torch.Tensor) -> memoryview:
    """The elements' bytes in row-major order, little-endian."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    raw = plain.view(torch.uint8)
    if sys.byteorder == "big":
        raw = raw.reshape(-1, plain.element_size()).flip(1).reshape(-1).contiguous()
    return memoryview(raw.numpy().data).cast("B")
