"""Values as the Python code that makes them again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LONGEST = 400
"""Entries of a tensor that are written out; a longer one is described."""


def code_of(value: Any) -> str:
    """Code that makes the value, exactly."""
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, tuple | list):
        inside = ", ".join(code_of(item) for item in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {code_of(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _tensor(value: Tensor) -> str:
    plain = value.detach().cpu()
    if plain.numel() > LONGEST:
        return f"...  # a tensor of shape {tuple(plain.shape)} and {plain.dtype}"
    if plain.numel() and bool((plain == plain.reshape(-1)[0]).all()) and plain.numel() > 1:
        return f"torch.full({tuple(plain.shape)}, {plain.reshape(-1)[0].item()!r}, dtype={plain.dtype})"
    suffix = (
        "" if plain.dtype in (torch.int64, torch.float32, torch.bool) and plain.numel() else f", dtype={plain.dtype}"
    )
    return f"torch.tensor({plain.tolist()!r}{suffix})"
