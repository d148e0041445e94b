"""States and inputs on disk: `.safetensors` with `state` (or `state.a.b` for a tree), `input_0`, ..."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deqops._atomic import write_atomically
from deqops._errors import InputError, ModelFileError
from deqops._files import require_plain

_FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_ROOT = re.compile(r"state|input_(0|[1-9][0-9]{0,3})")


@dataclass(frozen=True, eq=False)
class TensorFile:
    """A state and the inputs that belong to it.

    Attributes:
        state: a tensor, or tuples and dicts of tensors.
        inputs: one tensor or tree per input of the operator.
    """

    state: Any
    inputs: tuple[Any, ...]


def write_tensors(path: Path | str, state: Any, inputs: tuple[Any, ...] = ()) -> None:
    """Write a state and its inputs; the file appears complete or not at all.

    Raises:
        InputError: a leaf is not a tensor of a plain dtype, or a key is not a string without dots.
        OSError: the folder cannot be written.
    """
    from safetensors.torch import save

    tensors = _named("state", state)
    for number, value in enumerate(inputs):
        tensors |= _named(f"input_{number}", value)
    write_atomically(path, save(tensors))


def read_tensors(path: Path | str) -> TensorFile:
    """Read a state and its inputs. Runs no code of the file's.

    Keys with a common prefix make a dict (`state.a`, `state.b`), or a tuple where they are 0, 1, 2, ...

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: the file is damaged, or not a safetensors file.
        InputError: the state or an input is missing, a key is unknown, or a value is NaN or infinite.
    """
    tensors = _load(Path(path))
    roots: dict[str, dict[tuple[str, ...], Tensor]] = {}
    for key, tensor in tensors.items():
        _check_tensor(path, key, tensor)
        root, *labels = key.split(".")
        if not _ROOT.fullmatch(root) or not all(labels):
            raise InputError(f"{path}: unknown key {key!r}; the keys are state, input_0, input_1, ...")
        roots.setdefault(root, {})[tuple(labels)] = tensor
    if "state" not in roots:
        raise InputError(f"{path}: no key 'state' (an example state, or where to start); add it")
    names = [f"input_{number}" for number in range(len(roots) - 1)]
    missing = [name for name in names if name not in roots]
    if missing:
        raise InputError(f"{path}: {missing[0]!r} is missing; number the inputs 0, 1, 2, ... without a gap")
    trees = {name: _tree(f"{path}: {name}", leaves) for name, leaves in roots.items()}
    return TensorFile(trees["state"], tuple(trees[name] for name in names))


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    require_plain(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ModelFileError(f"{path}: not a whole .safetensors file ({reason}); was it cut short?") from None


def _check_tensor(path: Path | str, key: str, tensor: Tensor) -> None:
    if tensor.dtype not in _FLOATING and tensor.dtype not in _WHOLE:
        raise InputError(f"{path}: {key} has dtype {tensor.dtype}; convert it to a plain real dtype")
    if tensor.dtype in _FLOATING and not bool(tensor.isfinite().all()):
        raise InputError(f"{path}: {key} holds NaN or infinity; clean it")


def _tree(name: str, leaves: Mapping[tuple[str, ...], Tensor]) -> Any:
    """Nested dicts and tuples from dotted paths."""
    if () in leaves:
        if len(leaves) > 1:
            raise InputError(f"{name} is both a tensor and a tree; keep one of the two")
        return leaves[()]
    groups: dict[str, dict[tuple[str, ...], Tensor]] = {}
    for path, tensor in leaves.items():
        groups.setdefault(path[0], {})[path[1:]] = tensor
    children = {label: _tree(f"{name}.{label}", group) for label, group in groups.items()}
    numbers = [str(number) for number in range(len(children))]
    if set(children) == set(numbers):
        return tuple(children[number] for number in numbers)
    return children


def _named(name: str, value: Any) -> dict[str, Tensor]:
    """Each leaf of a tree under its dotted name."""
    if isinstance(value, Tensor):
        if value.dtype not in _FLOATING and value.dtype not in _WHOLE:
            raise InputError(f"{name}: dtype {value.dtype} cannot be stored; convert it to a plain real dtype")
        return {name: value.detach().cpu().contiguous().clone()}
    if isinstance(value, tuple | list):
        items = [(str(number), item) for number, item in enumerate(value)]
    elif isinstance(value, dict) and all(isinstance(key, str) and key and "." not in key for key in value):
        items = list(value.items())
    else:
        raise InputError(f"{name}: got {type(value).__name__}; pass tensors in tuples, lists or dicts with plain keys")
    return {key: leaf for label, item in items for key, leaf in _named(f"{name}.{label}", item).items()}
