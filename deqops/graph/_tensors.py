"""Tensors from raw bytes: dtype, sizes, strides and offset checked against the bytes that are there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deqops._errors import ModelFileError
from deqops.graph._archive import Archive
from deqops.graph._json import get, parse_json

# The numbers by which torch.export names dtypes.
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
}
_MAX_BYTES = 32 * 2**30
_MAX_GROWTH = 2**26  # bytes by which expanded tensors (stride 0) may exceed what the file stores, in all
_STRIDED = 7


def dtype_of(number: object) -> torch.dtype:
    """The dtype of an exported dtype number."""
    if isinstance(number, bool) or not isinstance(number, int) or number not in DTYPES:
        raise ModelFileError(f"model file: dtype number {number!r:.40} is not supported")
    return DTYPES[number]


def read_tensors(archive: Archive, folder: str, config_name: str) -> dict[str, Tensor]:
    """The tensors that a weights or constants configuration lists, by name."""
    config = parse_json(archive.read(f"data/{folder}/{config_name}"), config_name)
    tensors: dict[str, Tensor] = {}
    shared: dict[str, bytearray] = {}
    needed = 0
    for name, entry in get(config, "config", dict).items():
        tensors[str(name)] = _read(archive, folder, str(name), entry, shared)
        needed += tensors[str(name)].nbytes
        if needed > _MAX_GROWTH and needed > _MAX_GROWTH + sum(map(len, shared.values())):
            raise ModelFileError(f"model file: tensor {name!r:.80} and others need far more memory than the file has")
    return tensors


def _read(archive: Archive, folder: str, name: str, entry: object, shared: dict[str, bytearray]) -> Tensor:
    if get(entry, "use_pickle", bool):
        raise ModelFileError(f"model file: tensor {name!r:.80} is pickled, which could run code; export it plainly")
    path, meta = get(entry, "path_name", str), get(entry, "tensor_meta", dict)
    if "/" in path or not path:
        raise ModelFileError(f"model file: tensor {name!r:.80} names no plain entry")
    if path not in shared:
        shared[path] = bytearray(archive.read(f"data/{folder}/{path}", _MAX_BYTES))
    return _tensor(name, shared[path], meta)


def _tensor(name: str, data: bytearray, meta: dict[str, object]) -> Tensor:
    dtype = dtype_of(meta.get("dtype"))
    if meta.get("layout") != _STRIDED:
        raise ModelFileError(f"model file: tensor {name!r:.80} is not strided")
    sizes, strides = _numbers(name, meta.get("sizes")), _numbers(name, meta.get("strides"))
    (offset,) = _numbers(name, [meta.get("storage_offset")])
    if len(sizes) != len(strides):
        raise ModelFileError(f"model file: tensor {name!r:.80} has {len(sizes)} sizes and {len(strides)} strides")
    item = dtype.itemsize
    if math.prod(max(size, 1) for size in sizes) >= 2**48:
        raise ModelFileError(f"model file: tensor {name!r:.80} has sizes out of all proportion")
    if math.prod(sizes) == 0:
        return torch.empty(sizes, dtype=dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if (last + 1) * item > len(data) or len(data) % item:
        raise ModelFileError(f"model file: tensor {name!r:.80} reaches beyond its {len(data)} bytes")
    if math.prod(sizes) * item > len(data) + _MAX_GROWTH:
        raise ModelFileError(f"model file: tensor {name!r:.80} is far larger than its {len(data)} bytes")
    flat = torch.frombuffer(data, dtype=torch.uint8 if dtype == torch.bool else dtype)
    values = torch.as_strided(flat, sizes, strides, offset).clone(memory_format=torch.contiguous_format)
    if dtype != torch.bool:
        return values
    if bool((values > 1).any()):
        raise ModelFileError(f"model file: tensor {name!r:.80} holds bytes that are no booleans")
    return values.bool()


def _numbers(name: str, entries: object) -> list[int]:
    """Sizes, strides or offsets, each {"as_int": n} with n >= 0."""
    if not isinstance(entries, list) or len(entries) > 64:
        raise ModelFileError(f"model file: tensor {name!r:.80} has no proper sizes")
    numbers = []
    for entry in entries:
        value = entry.get("as_int") if isinstance(entry, dict) else None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**48:
            raise ModelFileError(f"model file: tensor {name!r:.80} has a size, stride or offset that is no number")
        numbers.append(value)
    return numbers
